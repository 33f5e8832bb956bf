#!/usr/bin/env bash
# A slice of TPU VMs that you create, and delete, yourself.
#   tpu_vm.sh [--dry-run] create        ask for the chips
#   tpu_vm.sh [--dry-run] setup         send this commit, install it on all
#   tpu_vm.sh [--dry-run] run [flags]   train on all workers, in the background
#   tpu_vm.sh [--dry-run] status        none, running, or: ended CODE
#   tpu_vm.sh [--dry-run] logs [N]      follow worker N (0)
#   tpu_vm.sh [--dry-run] stop          end the run; it saves first
#   tpu_vm.sh [--dry-run] delete NAME   give the chips back; the bucket stays
# Names are in launch/names.env; a second `run` goes on where the first ended.
set -euo pipefail
# shellcheck source=launch/steps.sh
. "$(dirname "$0")/steps.sh"
need PROJECT BUCKET

WHERE=("--project=$PROJECT" "--zone=$ZONE")
TPU=(gcloud compute tpus tpu-vm)

# on WORKER COMMAND…: what all or one of the workers shall do.
on() {
  local which=$1
  shift
  run "${TPU[@]}" ssh "$RUN" "${WHERE[@]}" "--worker=$which" --command="$*"
}

command=${1:-}
shift || usage
case $command in
  create)
    spot=()
    if $SPOT; then spot=(--spot); fi
    run "${TPU[@]}" create "$RUN" "${WHERE[@]}" \
      --accelerator-type="$ACCELERATOR" --version="$RUNTIME" \
      ${spot[@]+"${spot[@]}"}
    ;;
  setup)
    pack
    run "${TPU[@]}" scp "$PACK" "$RUN:wideseek_jax.tar.gz" "${WHERE[@]}" \
      --worker=all
    on all tar xzf wideseek_jax.tar.gz '&&' "$(worker setup tpu)"
    ;;
  run)
    on all "$(worker start "$@")"
    echo "follow it: bash launch/tpu_vm.sh logs" >&2
    ;;
  status) on 0 "$(worker status)" ;;
  logs) on "${1:-0}" "$(worker logs)" ;;
  stop) on all "$(worker stop)" ;;
  delete)
    confirm "$RUN" "${1:-}"
    run "${TPU[@]}" delete "$RUN" "${WHERE[@]}"
    ;;
  *) usage ;;
esac
