#!/usr/bin/env bash
# What the launch scripts share; they source it with their arguments.
# Reads the names, takes --dry-run off the arguments (they are in "$@" after
# that) and defines how a step is run: said first, and in a dry run only said.
set -euo pipefail
SCRIPT=$(cd "$(dirname "$0")" && pwd)/$(basename "$0")
cd "$(dirname "$SCRIPT")/.."
# shellcheck source=launch/names.env
. launch/names.env

DRY_RUN=false
if [ "${1:-}" = --dry-run ]; then
  DRY_RUN=true
  shift
fi

# Commands are said here, also by what runs inside of $(…).
exec 3>&1

# The comment at the head of the script, as help.
usage() { sed -n '2,/^set /s/^# \{0,1\}//p' "$SCRIPT" >&2; exit 2; }

die() { echo "$(basename "$SCRIPT"): $*" >&2; exit 2; }

# Arguments as a shell would have to read them.
quoted() {
  local word words=''
  for word in "$@"; do
    case $word in
      '' | *[!A-Za-z0-9_@%+=:,./-]*) word="'${word//\'/\'\\\'\'}'" ;;
    esac
    words+=" $word"
  done
  printf '%s\n' "${words# }"
}

run() {
  quoted "$@" >&3
  $DRY_RUN || "$@"
}

# ask ANSWER COMMAND…: what the command prints; in a dry run the answer.
ask() {
  local answer=$1
  shift
  if $DRY_RUN; then
    quoted "$@" >&3
    echo "$answer"
  else
    "$@"
  fi
}

# need NAME…: refuses names that are empty.
need() {
  local name
  for name in "$@"; do
    [ -n "${!name}" ] || die "$name is empty: set it in launch/names.env"
  done
}

# confirm NAME GIVEN: what is deleted has to be named.
confirm() {
  [ "$2" = "$1" ] || die "to delete $1, name it: $(basename "$SCRIPT") delete $1"
}

# The commit as one file, $PACK.
PACK=${TMPDIR:-/tmp}/$RUN.tar.gz
pack() {
  [ -z "$(ask '' git status --porcelain --untracked-files=no)" ] ||
    echo 'changes that are not committed are left out' >&2
  run git archive --format=tar.gz --prefix=wideseek_jax/ --output="$PACK" HEAD
}

# A command line for workers: their script with the names that they need.
worker() {
  local names=("RUN=$RUN" "CONFIG=$CONFIG" "BUCKET=$BUCKET")
  names+=("WEIGHTS=$WEIGHTS" "MULTIHOST=$MULTIHOST")
  names+=("JUDGE_SECRET=$JUDGE_SECRET")
  echo "cd wideseek_jax && $(
    quoted env "${names[@]}" bash launch/worker.sh "$@"
  )"
}
