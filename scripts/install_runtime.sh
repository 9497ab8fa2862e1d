#!/usr/bin/env bash
# Install lossd's wheel in a new virtual environment, nothing of the sources in it:
#   scripts/install_runtime.sh VENV WHEEL [EXTRAS]
# EXTRAS is "server" unless given; "cpu" is a server without torch; "" is the base install, the client and its
# command.
# The Dockerfile and the wheel check both install here. From the environment:
#   PYTHON           the interpreter to make the environment with (python3)
#   TORCH            which build of torch the server must end up with: cuda, cpu, or any (the default)
#   TORCH_INDEX_URL  a package index to take torch from, and nothing else; torch=cpu needs it, since the
#                    usual index has builds with CUDA only for most machines. PyTorch's install page
#                    names the one with CPU builds.
#   HASHES           1: the server's packages, torch aside, must be files whose hashes requirements.lock has;
#                    for Linux and the Python that it was written with
set -euo pipefail

if [[ $# -lt 2 || $# -gt 3 ]]; then
  echo "usage: $0 VENV WHEEL [EXTRAS]" >&2
  exit 2
fi
venv=$1
wheel=$(realpath "$2")
extras=${3-server}
torch=${TORCH:-any}
index=${TORCH_INDEX_URL:-}
root=$(realpath "$(dirname "${BASH_SOURCE[0]}")/..")
constraints=$root/constraints.txt

case $torch in
  cuda | any) ;;
  cpu)
    if [[ -z $index ]]; then
      echo "TORCH=cpu needs TORCH_INDEX_URL: the index of CPU builds that PyTorch's install page names" >&2
      exit 2
    fi
    ;;
  *)
    echo "TORCH=$torch is not one of cuda, cpu, any" >&2
    exit 2
    ;;
esac

"${PYTHON:-python3}" -m venv "$venv"
pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c "$constraints")
"${pip[@]}" --upgrade pip

if [[ ${HASHES:-} == 1 ]]; then
  case $extras in
    *server*) "${pip[@]}" --require-hashes --requirement "$root/requirements.lock" ;;
    *cpu*) "${pip[@]}" --require-hashes --requirement <(sed '/^# What torch needs/,$d' "$root/requirements.lock") ;;
  esac
fi
if [[ $extras == *server* && -n $index ]]; then
  # --no-deps: everything but torch comes from the usual index, at the versions that were tested.
  "${pip[@]}" --no-deps --index-url "$index" torch
fi
"${pip[@]}" "$wheel${extras:+[$extras]}"

if [[ $extras == *server* && $torch != any ]]; then
  got=$("$venv/bin/python" -c 'import torch; print("cuda" if torch.version.cuda else "cpu")')
  if [[ $got != "$torch" ]]; then
    echo "asked for TORCH=$torch, but the index gave a $got build" >&2
    exit 1
  fi
fi
