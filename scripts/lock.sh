#!/usr/bin/env bash
# Write constraints.txt anew from what pip chooses today in an empty environment:
#   scripts/lock.sh [REQUIREMENT ...]
# Requirements such as torch==2.13.0 hold packages back. PYTHON names the interpreter (python3); the oldest
# that pyproject.toml allows gives pins that every newer one can install.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"${PYTHON:-python3}" -m venv "$scratch/venv"
python=$scratch/venv/bin/python
"$python" -m pip install --quiet --upgrade pip
"$python" -m pip install --quiet "$@" '.[server,otel]' --group dev
{
  echo '# What was tested. Ranges are in pyproject.toml; make installs these.'
  # pip pins itself too, so that it resolves alike everywhere; torch's +cpu or +cu130 is the machine's choice.
  "$python" -m pip freeze --all --exclude lossd --exclude setuptools --exclude wheel | sed -E 's/\+[a-z0-9.]+$//'
} >"$scratch/constraints.txt"
cp "$scratch/constraints.txt" constraints.txt
