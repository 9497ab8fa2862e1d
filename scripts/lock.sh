#!/usr/bin/env bash
# Write constraints.txt anew from what pip chooses today in an empty environment, and requirements.lock, the
# hashes of what the image installs of it:
#   scripts/lock.sh [REQUIREMENT ...]
# Requirements such as torch==2.13.0 hold packages back. PYTHON names the interpreter (python3); the oldest
# that pyproject.toml allows gives pins that every newer one can install, and the image's gives its hashes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"${PYTHON:-python3}" -m venv "$scratch/venv"
python=$scratch/venv/bin/python
"$python" -m pip install --quiet --upgrade pip
"$python" -m pip install --quiet "$@" \
  '.[server,otel,quota,postgres,ray,spark,dask,mlflow,tensorboard,wandb]' --group dev --group engines --group trackers
{
  echo '# What was tested. Ranges are in pyproject.toml; make installs these.'
  # pip pins itself too, so that it resolves alike everywhere; torch's +cpu or +cu130 is the machine's choice.
  "$python" -m pip freeze --all --exclude lossd --exclude setuptools --exclude wheel | sed -E 's/\+[a-z0-9.]+$//'
} >"$scratch/constraints.txt"

"${PYTHON:-python3}" -m venv "$scratch/tools"
"$scratch/tools/bin/python" -m pip install --quiet pip-tools
for extra in cpu server; do
  "$scratch/tools/bin/pip-compile" --quiet --generate-hashes --extra "$extra" --extra otel --extra quota \
    --extra postgres --strip-extras \
    --unsafe-package torch --constraint "$scratch/constraints.txt" \
    --no-header --no-annotate --no-emit-index-url --no-emit-options \
    --output-file "$scratch/$extra.txt" pyproject.toml
  sed -i '/^$/,$d' "$scratch/$extra.txt" # without the warning about torch
done
{
  echo '# What the images install, each file by its hash: written by scripts/lock.sh from constraints.txt.'
  cat "$scratch/cpu.txt"
  echo '# What torch needs beside it. torch is not here: its builds differ by machine, and come from an index that the'
  echo '# builder chooses.'
  # The server's entries less those above: a line that is not indented begins one.
  awk '/^[^ ]/ {mine = !(FNR == NR) && !($0 in above)} FNR == NR {above[$0]; next} mine' "$scratch/cpu.txt" "$scratch/server.txt"
} >"$scratch/requirements.lock"
cp "$scratch/constraints.txt" "$scratch/requirements.lock" .
