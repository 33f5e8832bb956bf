#!/usr/bin/env bash
# Sets up a virtual environment beside the code and runs one thing in it.
#   bash launch/local.sh demo [flags]   train the tiny policy, show the gain
#   bash launch/local.sh test [args]    lint and tests (args go to pytest)
#   bash launch/local.sh run MODULE …   python -m MODULE in the environment
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() { sed -n '2,5s/^# *//p' "${BASH_SOURCE[0]}" >&2; exit 2; }

find_python() {
  local name
  for name in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
    if command -v "$name" >/dev/null &&
      "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
      echo "$name"
      return
    fi
  done
  echo 'local.sh: no Python >= 3.11 found; set PYTHON to one' >&2
  exit 1
}

# Installs what is not there yet: a stamp holds what was installed, so that a
# second run starts at once and a changed setup.py or lock is installed again.
setup() {
  local extra=$1 spec stamp
  spec=.${extra:+[$extra]}
  stamp=.venv/installed${extra:+-$extra}
  if [ -f "$stamp" ] && cmp -s <(cat setup.py launch/constraints.txt) "$stamp"
  then return; fi
  echo "Setting up .venv (${extra:-run time} packages, about 2 minutes) …" >&2
  [ -x .venv/bin/python ] || "$(find_python)" -m venv .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --editable "$spec" --constraint launch/constraints.txt
  # The test environment is the run-time one and more.
  cat setup.py launch/constraints.txt | tee .venv/installed >"$stamp"
}

# Compiled programs are kept between runs; nothing else is shared.
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$PWD/.venv/jax_cache}
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0.5

command=${1:-}
shift || usage
case $command in
  demo)
    setup ''
    exec .venv/bin/python -m experiments.demo "$@"
    ;;
  test)
    setup test
    .venv/bin/ruff format --check .
    .venv/bin/ruff check .
    exec .venv/bin/python -m pytest --numprocesses 2 --durations 10 "$@"
    ;;
  run)
    [ $# -gt 0 ] || usage
    setup ''
    exec .venv/bin/python -m "$@"
    ;;
  *) usage ;;
esac
