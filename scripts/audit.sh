#!/usr/bin/env bash
# Look for published advisories about every package in constraints.txt: scripts/audit.sh
# The package index must have an advisory service, which mirrors of it seldom have; a package that it does not know
# fails the audit, too. PYTHON names the interpreter (python3).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Advisories that do not concern lossd, each with the reason above it: --ignore-vuln ID
ignored=()

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"${PYTHON:-python3}" -m venv "$scratch/tools"
"$scratch/tools/bin/python" -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1
# Without --strict, packages that the service does not know would pass.
if ! "$scratch/tools/bin/pip-audit" --strict --disable-pip --no-deps "${ignored[@]}" --requirement constraints.txt; then
  echo "Update what has an advisory (make lock), or write in scripts/audit.sh why it does not concern lossd." >&2
  echo "'not found' of each package means that the index in use has no advisory service." >&2
  exit 1
fi
