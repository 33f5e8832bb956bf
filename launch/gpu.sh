#!/usr/bin/env bash
# A machine with GPUs that you reach by ssh and that is there already.
#   gpu.sh [--dry-run] setup         send this commit, install it
#   gpu.sh [--dry-run] run [flags]   train, in the background
#   gpu.sh [--dry-run] status        none, running, or: ended CODE
#   gpu.sh [--dry-run] logs          follow the run
#   gpu.sh [--dry-run] stop          end the run; it saves first
# GPU_HOST=user@host and the other names are in launch/names.env. Without a
# bucket, weights and data are copied there by hand and runs lie in ~/bucket.
set -euo pipefail
# shellcheck source=launch/steps.sh
. "$(dirname "$0")/steps.sh"
need GPU_HOST
MULTIHOST=false

command=${1:-}
shift || usage
case $command in
  setup)
    pack
    run scp "$PACK" "$GPU_HOST:wideseek_jax.tar.gz"
    run ssh "$GPU_HOST" \
      "tar xzf wideseek_jax.tar.gz && $(worker setup cuda)"
    ;;
  run) run ssh "$GPU_HOST" "$(worker start "$@")" ;;
  status | logs | stop) run ssh "$GPU_HOST" "$(worker "$command")" ;;
  *) usage ;;
esac
