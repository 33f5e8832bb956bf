#!/usr/bin/env bash
# Several training processes on this machine, each as if it were a host.
#   processes.sh [--dry-run] N [flags]   flags of experiments.train
# They meet at PORT (12321) of this machine and share one --workdir. When one
# fails the others are ended; the code is that of the first that failed. Process
# 0 speaks here, the others into logs/process-I.log.
set -euo pipefail
# shellcheck source=launch/steps.sh
. "$(dirname "$0")/steps.sh"

count=${1:-}
shift || usage
case $count in
  '' | *[!0-9]* | 0) usage ;;
esac

python=.venv/bin/python
[ -x $python ] || python=python
pids=()
# shellcheck disable=SC2317,SC2329 # called by trap
end_all() { [ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true; }
trap end_all EXIT
run mkdir -p logs
for ((id = 0; id < count; id++)); do
  step=("$python" -m experiments.train --multihost
    "--coordinator=127.0.0.1:${PORT:-12321}" "--num_processes=$count"
    "--process_id=$id" "$@")
  quoted "${step[@]}" >&3
  if $DRY_RUN; then continue; fi
  if [ "$id" -eq 0 ]; then
    "${step[@]}" &
  else
    "${step[@]}" >"logs/process-$id.log" 2>&1 &
  fi
  pids+=($!)
done
# As they end, whichever is first.
for ((left = ${#pids[@]}; left > 0; left--)); do
  wait -n || exit $?
done
