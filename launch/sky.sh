#!/usr/bin/env bash
# A TPU slice by way of SkyPilot (pip install 'skypilot[gcp]').
#   sky.sh [--dry-run] run [flags]   a managed job: it is moved when preempted
#   sky.sh [--dry-run] status        all jobs
#   sky.sh [--dry-run] logs          follow the run
#   sky.sh [--dry-run] stop          end the run and give its chips back
# At most MAX_STARTS starts: they are counted in the bucket, beside the run.
# Names are in launch/names.env.
set -euo pipefail
# shellcheck source=launch/steps.sh
. "$(dirname "$0")/steps.sh"
need BUCKET

command=${1:-}
shift || usage
case $command in
  run)
    spot=--no-use-spot
    if $SPOT; then spot=--use-spot; fi
    run sky jobs launch launch/sky.yaml --name="$RUN" --gpus="tpu-$ACCELERATOR" \
      "$spot" --env="RUN=$RUN" --env="CONFIG=$CONFIG" --env="BUCKET=$BUCKET" \
      --env="WEIGHTS=$WEIGHTS" --env="MULTIHOST=$MULTIHOST" \
      --env="MAX_STARTS=$MAX_STARTS" --env="FLAGS=$(quoted "$@")"
    ;;
  status) run sky jobs queue ;;
  logs) run sky jobs logs --name="$RUN" ;;
  stop) run sky jobs cancel --name="$RUN" ;;
  *) usage ;;
esac
