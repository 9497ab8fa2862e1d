#!/usr/bin/env bash
# Write the bill of materials of the image's Python packages, in CycloneDX's JSON:
#   scripts/sbom.sh FILE
# It lists what requirements.lock and, for torch, constraints.txt pin. PYTHON names the interpreter (python3).
set -euo pipefail
file=$(realpath "$1")
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"${PYTHON:-python3}" -m venv "$scratch/tools"
"$scratch/tools/bin/python" -m pip install --quiet --disable-pip-version-check cyclonedx-bom==7.5.0
# cyclonedx-py reads the version only where pyproject.toml has it.
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' service/lossd/__init__.py)
sed "s/^dynamic = \[\"version\"\]$/version = \"$version\"/" pyproject.toml >"$scratch/pyproject.toml"
grep -h '^torch==' constraints.txt | cat requirements.lock - |
  "$scratch/tools/bin/cyclonedx-py" requirements --pyproject "$scratch/pyproject.toml" --output-reproducible -o "$file" -
