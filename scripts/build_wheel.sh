#!/usr/bin/env bash
# Build the wheel of these sources: scripts/build_wheel.sh OUT_DIR
# The Dockerfile and the wheel check both build it here. PYTHON names the interpreter (python3).
set -euo pipefail

if [[ $# -ne 1 ]]; then
  echo "usage: $0 OUT_DIR" >&2
  exit 2
fi
out=$(realpath -m "$1")
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# pip alone is enough: it fetches the build backend that pyproject.toml names.
"${PYTHON:-python3}" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$out" .
if compgen -G "$out/lossd-*-any.whl" >/dev/null; then
  echo "the wheel has no kernel for CPUs: that takes a C compiler (cc, or what CC names)" >&2
  exit 1
fi
