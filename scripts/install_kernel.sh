#!/usr/bin/env bash
# Make ready what a kernel needs: scripts/install_kernel.sh KERNEL VENV CACHE_DIR
# eager needs nothing. compiled needs a C++ compiler, installed here where it is missing and may be, and fills
# the cache directory, so that a worker starts in seconds. The Dockerfile and the tests both run it.
set -euo pipefail

if [[ $# -ne 3 ]]; then
  echo "usage: $0 KERNEL VENV CACHE_DIR" >&2
  exit 2
fi
kernel=$1
venv=$2
cache=$3

case $kernel in
  eager) exit 0 ;;
  compiled) ;;
  *)
    echo "KERNEL=$kernel is not one of eager, compiled" >&2
    exit 2
    ;;
esac

if ! command -v g++ >/dev/null; then
  apt-get update -qq
  apt-get install -qq --no-install-recommends -y g++ >/dev/null
  rm -rf /var/lib/apt/lists/*
fi
mkdir -p "$cache"
"$venv/bin/python" -m lossd.core.compiled "$cache"
# The server runs as another user, who adds to it.
chmod -R a+rwX "$cache"
