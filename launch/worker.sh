#!/usr/bin/env bash
# What each worker of a slice, or a GPU host, does; the launch scripts call it.
#   worker.sh setup tpu|cuda   packages, bucket, weights, data
#   worker.sh train [flags]    trains, or goes on where the run was
#   worker.sh start [flags]    the same in the background
#   worker.sh status           none, running, or: ended CODE
#   worker.sh logs             follows what the background run says
#   worker.sh stop             ends it; it saves first
# Everything that must outlive the machine is in the bucket.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/names.env
. launch/names.env

BUCKET_DIR=${BUCKET_DIR:-$HOME/bucket}
LOG=$HOME/$RUN.log PID=$HOME/$RUN.pid CODE=$HOME/$RUN.code
# Started runs find it where the installer puts it.
PATH=$HOME/.local/bin:$PATH

usage() { sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2; exit 2; }

# The images of TPU VMs have older Pythons; uv brings its own.
install_packages() {
  command -v uv >/dev/null ||
    curl -LsSf https://astral.sh/uv/0.9.5/install.sh | sh
  [ -x .venv/bin/python ] || uv venv --quiet --python 3.11 .venv
  uv pip install --quiet --python .venv/bin/python --editable ".[$1]" \
    --constraint launch/constraints.txt
}

mount_bucket() {
  if [ -z "$BUCKET" ] || mountpoint --quiet "$BUCKET_DIR"; then return; fi
  if ! command -v gcsfuse >/dev/null; then
    local packages=https://packages.cloud.google.com/apt
    local key=/usr/share/keyrings/cloud.google.asc
    curl -fsS $packages/doc/apt-key.gpg | sudo tee $key >/dev/null
    echo "deb [signed-by=$key] $packages gcsfuse-$(lsb_release -cs) main" |
      sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
    sudo apt-get update -qq
    sudo apt-get install -qq --yes gcsfuse
  fi
  mkdir -p "$BUCKET_DIR"
  gcsfuse --implicit-dirs "$BUCKET" "$BUCKET_DIR"
}

# Configs name the policy's folder and the data's files as they lie here.
fetch_inputs() {
  local file
  [ -d "$BUCKET_DIR" ] || return 0
  for file in "$BUCKET_DIR/$WEIGHTS" "$BUCKET_DIR"/data/*.jsonl; do
    if [ -e "$file" ]; then
      cp --recursive --update "$file" .
    else
      echo "worker.sh: the bucket has no ${file#"$BUCKET_DIR"/}" >&2
    fi
  done
}

train() {
  local workdir=$BUCKET_DIR/runs/$RUN
  local flags=("--config=$CONFIG" "--workdir=$workdir")
  if $MULTIHOST; then flags+=(--multihost); fi
  # Written when a run begins; its first rollouts are kept before a checkpoint.
  if [ -e "$workdir/config.json" ]; then flags+=(--resume); fi
  if [ -n "$JUDGE_SECRET" ]; then
    WIDESEEK_JUDGE_KEY=$(
      gcloud secrets versions access latest --secret="$JUDGE_SECRET"
    )
    export WIDESEEK_JUDGE_KEY
  fi
  # A slice that replaces another one compiles nothing again.
  export JAX_COMPILATION_CACHE_DIR=$BUCKET_DIR/jax_cache
  exec .venv/bin/python -u -m experiments.train "${flags[@]}" "$@"
}

running() { [ -f "$PID" ] && kill -0 -- "-$(cat "$PID")" 2>/dev/null; }

start() {
  if running; then
    echo "worker.sh: $RUN is running" >&2
    exit 2
  fi
  rm -f "$CODE"
  # A group of its own, which outlives the connection. The shell waits for the
  # end of what it started, whatever ends it, and notes its code.
  # shellcheck disable=SC2016
  CODE=$CODE setsid bash -c '
    trap : TERM INT
    bash launch/worker.sh train "$@"
    echo $? >"$CODE"
  ' start "$@" >>"$LOG" 2>&1 </dev/null &
  echo $! >"$PID"
}

status() {
  if running; then
    echo running
  elif [ -f "$CODE" ]; then
    echo "ended $(cat "$CODE")"
  elif [ -f "$PID" ]; then
    echo ended 137
  else
    echo none
  fi
}

stop() { if running; then kill -TERM -- "-$(cat "$PID")"; fi; }

command=${1:-}
shift || usage
case $command in
  setup)
    install_packages "$1"
    mount_bucket
    fetch_inputs
    ;;
  train | start | status | stop) "$command" "$@" ;;
  logs) exec tail -n 50 -F "$LOG" ;;
  *) usage ;;
esac
