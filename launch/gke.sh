#!/usr/bin/env bash
# A TPU slice on GKE by way of XPK (pip install xpk).
#   gke.sh [--dry-run] create         a cluster with the slice, bucket attached
#   gke.sh [--dry-run] run [flags]    this folder as an image, train on all hosts
#   gke.sh [--dry-run] status         all workloads
#   gke.sh [--dry-run] logs           follow the run
#   gke.sh [--dry-run] stop           end the run
#   gke.sh [--dry-run] delete NAME    the cluster; the bucket stays
# GKE restarts a run that ends, MAX_STARTS times in all, and it goes on from its
# newest checkpoint. Names are in launch/names.env.
set -euo pipefail
# shellcheck source=launch/steps.sh
. "$(dirname "$0")/steps.sh"
need PROJECT BUCKET

WHERE=("--cluster=$CLUSTER" "--project=$PROJECT" "--zone=$ZONE")

command=${1:-}
shift || usage
case $command in
  create)
    spot=--on-demand
    if $SPOT; then spot=--spot; fi
    run xpk cluster create "${WHERE[@]}" --tpu-type="$ACCELERATOR" \
      --num-slices=1 "$spot" --enable-gcsfuse-csi-driver
    run xpk storage attach bucket "${WHERE[@]}" --type=gcsfuse \
      --bucket="$BUCKET" --mount-point=/bucket --readonly=false --size=1 \
      --auto-mount=true --mount-options=implicit-dirs
    ;;
  run)
    steps="export BUCKET_DIR=/bucket $(
      quoted "RUN=$RUN" "CONFIG=$CONFIG" "WEIGHTS=$WEIGHTS" \
        "MULTIHOST=$MULTIHOST"
    ) && bash launch/worker.sh setup tpu && $(
      quoted bash launch/worker.sh train "$@"
    )"
    run xpk workload create "${WHERE[@]}" --workload="$RUN" \
      --tpu-type="$ACCELERATOR" --num-slices=1 --base-docker-image=python:3.11 \
      --script-dir=. --max-restarts="$((MAX_STARTS - 1))" --command="$steps"
    ;;
  status) run xpk workload list "${WHERE[@]}" ;;
  logs)
    run kubectl logs --follow --tail=50 \
      --selector="jobset.sigs.k8s.io/jobset-name=$RUN,batch.kubernetes.io/job-completion-index=0"
    ;;
  stop) run xpk workload delete "${WHERE[@]}" --workload="$RUN" ;;
  delete)
    confirm "$CLUSTER" "${1:-}"
    run xpk cluster delete "${WHERE[@]}"
    ;;
  *) usage ;;
esac
