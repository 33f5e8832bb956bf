#!/usr/bin/env bash
# A slice of spot chips as a queued resource, made again when it is taken away.
#   queued.sh [--dry-run] run [flags]   wait for chips, train, resume, give back
#   queued.sh [--dry-run] status        state of the request
#   queued.sh [--dry-run] delete NAME   give the chips back; the bucket stays
# `run` stays in the foreground (use tmux). It starts at most MAX_STARTS times,
# waits WAIT_HOURS for chips each time, and ends with the code of the training:
# 0 done (the chips are given back), 2 bad input (they are kept: mend and run
# again), 1 too many starts. Names are in launch/names.env.
set -euo pipefail
# shellcheck source=launch/steps.sh
. "$(dirname "$0")/steps.sh"
need PROJECT BUCKET

WHERE=("--project=$PROJECT" "--zone=$ZONE")
QUEUE=(gcloud compute tpus queued-resources)
POLL_SECONDS=${POLL_SECONDS:-60}

say() { echo "$(date -u +%FT%TZ) $*" >&2; }

tpu_vm() {
  local dry=()
  if $DRY_RUN; then dry=(--dry-run); fi
  bash launch/tpu_vm.sh ${dry[@]+"${dry[@]}"} "$@"
}

# The state of the request; NONE if there is no request, UNKNOWN if nobody
# answers. $1: the answer of a dry run.
state() {
  local found describe=("${QUEUE[@]}" describe "$RUN" "${WHERE[@]}")
  describe+=('--format=value(state.state)')
  if $DRY_RUN; then
    ask "$1" "${describe[@]}"
  elif found=$("${describe[@]}" 2>&1); then
    echo "$found"
  elif [[ $found == *NOT_FOUND* ]]; then
    echo NONE
  else
    echo UNKNOWN
  fi
}

run_status() { tpu_vm status 2>/dev/null | tail -n 1; }

create() {
  local spot=()
  if $SPOT; then spot=(--spot); fi
  run "${QUEUE[@]}" create "$RUN" "${WHERE[@]}" --node-id="$RUN" \
    --accelerator-type="$ACCELERATOR" --runtime-version="$RUNTIME" \
    ${spot[@]+"${spot[@]}"}
}

give_back() {
  say "deletes the queued resource $RUN in $ZONE of $PROJECT"
  run "${QUEUE[@]}" delete "$RUN" "${WHERE[@]}" --force --quiet
}

pause() { $DRY_RUN || sleep "$POLL_SECONDS"; }

# Ends when the chips are there; fails if they are refused or do not come.
await_chips() {
  local polls=$((WAIT_HOURS * 3600 / POLL_SECONDS)) found
  while ((polls-- > 0)); do
    found=$(state ACTIVE)
    case $found in
      ACTIVE) return 0 ;;
      FAILED | SUSPENDING | SUSPENDED | DELETING | NONE) break ;;
    esac
    pause
  done
  say "no chips: the request is $found"
  return 1
}

# Ends with the run, and prints its code, or LOST if the chips went before.
await_end() {
  local status silent=0
  while ((silent < 10)); do
    case $(state ACTIVE) in
      ACTIVE) status=$(run_status) || status='' ;;
      UNKNOWN) status='' ;;
      *) break ;;
    esac
    case $status in
      running) silent=0 ;;
      'ended '*)
        echo "${status#ended }"
        return
        ;;
      *) silent=$((silent + 1)) ;;
    esac
    pause
  done
  echo LOST
}

# One start: chips, code, training. Prints what await_end prints.
one_start() {
  case $(state NONE) in
    ACTIVE | WAITING_FOR_RESOURCES | PROVISIONING | CREATING | ACCEPTED) ;;
    NONE) create >&2 ;;
    UNKNOWN)
      pause
      return
      ;;
    *)
      give_back >&2
      create >&2
      ;;
  esac
  await_chips || return 0
  # A run that goes on since this script was cut off is only watched.
  if $DRY_RUN || [ "$(run_status)" != running ]; then
    tpu_vm setup >&3 || return 0
    tpu_vm run "$@" >&3 || return 0
  fi
  if $DRY_RUN; then
    state ACTIVE >/dev/null
    tpu_vm status >&3
    echo 0
  else
    await_end
  fi
}

run_to_the_end() {
  local start code
  for ((start = 1; start <= MAX_STARTS; start++)); do
    say "start $start of at most $MAX_STARTS"
    code=$(one_start "$@")
    say "$RUN ended: ${code:-did not start}"
    case $code in
      '') pause ;;
      0)
        give_back
        return 0
        ;;
      2)
        say "bad input; the chips stay: bash launch/queued.sh delete $RUN"
        return 2
        ;;
    esac
  done
  say "ended $MAX_STARTS times (MAX_STARTS); see bash launch/tpu_vm.sh logs"
  return 1
}

command=${1:-}
shift || usage
case $command in
  run) run_to_the_end "$@" ;;
  status) state UNKNOWN ;;
  delete)
    confirm "$RUN" "${1:-}"
    give_back
    ;;
  *) usage ;;
esac
