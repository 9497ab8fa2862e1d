"""Clients in other languages, made from the document, score by a real server as a request by hand does."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from generators.tools import ANNOTATIONS, FOLDER, PROGRAMS, ROOT, generate, generator_jar, require, run
from live_server import LiveServer, live_server
from teams_file import make_key, team_table, write_teams

pytestmark = pytest.mark.timeout(300)

X = [[2.0, -1.5, 0.25], [-3.0, 4.0, 0.0]]
Y = [[1, 0, 0], [0, 1, 1]]
REFUSED = {"logits": X, "targets": [[1, 1.5, 0], [0, 1, 1]]}


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server that asks for a key."""
    folder, key = tmp_path_factory.mktemp("keyed"), make_key()
    write_teams(folder / "teams.toml", team_table("vision", key))
    with live_server(folder, teams=folder / "teams.toml") as server:
        server.key = key
        yield server


@pytest.fixture(scope="module")
def document(keyed: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("document") / "openapi.json"
    path.write_bytes(httpx.get(f"{keyed.url}/openapi.json").content)
    return path


def with_body(media_type: str, folder: Path) -> Path:
    """The document in which losses have one request body, for generators that take the first alone."""
    path = folder / "one-body.json"
    words = (sys.executable, "-m", "lossd", "openapi", "--body", media_type)
    path.write_bytes(subprocess.run(words, check=True, capture_output=True, timeout=60).stdout)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The inputs as files, in every layout."""
    folder = tmp_path_factory.mktemp("files")
    x, y = np.array(X, np.float32), np.array(Y, np.uint8)
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    np.savez(folder / "pair.npz", logits=x, targets=y)
    pair = io.BytesIO()
    np.save(pair, x)
    np.save(pair, y)
    (folder / "pair.npy").write_bytes(pair.getvalue())
    return folder


@pytest.fixture(scope="module")
def by_hand(keyed: LiveServer) -> dict[str, Any]:
    """The figures that each program prints, asked for without any client."""

    def ask(loss: str, **request: object) -> Any:  # noqa: ANN401 # JSON
        return httpx.post(f"{keyed.url}/{loss}", json=request, headers={"x-api-key": str(keyed.key)}).json()

    mean = ask("bce", logits=X, targets=Y)
    report = ask("focal", logits=X, targets=Y, groups=[3, 7], report=["all"], top=1)["report"]
    problem = ask("bce", **REFUSED)
    assert problem["code"] == "target_out_of_range"
    two = ask("focal", logits=X, targets=Y, gamma=2, report="totals")
    return {
        "mean": mean["loss"],
        "sum_terms": mean["sum_terms"],
        "rows": ask("focal", logits=X, targets=Y, gamma=2, alpha=None, axis=1)["loss"],
        "infinite": "Infinity",
        "report_sum": report["totals"]["sum"],
        "report_rows": 2,
        "worst": report["top"]["rows"][0]["index"],
        "worst_loss": report["top"]["rows"][0]["loss"],
        "groups": [[3, 7]],
        "bins": 64,
        **{name: problem[name] for name in ("code", "status", "retryable")},
        "pointer": problem["errors"][0]["pointer"],
        "files": two["loss"],
        "files_count": two["report"]["totals"]["count"],
    }


def same(said: str, by_hand: dict[str, Any], language: str) -> None:
    """Check what a program says, in its last line."""
    found = json.loads(said.strip().rpartition("\n")[2])
    assert found == {**by_hand, "request_id": f"from-{language}"}


def test_typescript(
    keyed: LiveServer, document: Path, files: Path, by_hand: dict[str, Any], tmp_path: Path
) -> None:
    require("node", "openapi-typescript", "tsc")
    run("openapi-typescript", document, "-o", "lossd.d.ts", folder=tmp_path)
    (tmp_path / "score.ts").write_bytes((PROGRAMS / "score.ts").read_bytes())
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "node_modules").symlink_to(FOLDER / "node_modules")
    strict = ("--strict", "--noUncheckedIndexedAccess", "--exactOptionalPropertyTypes")
    run("tsc", *strict, "--target", "es2022", "--module", "nodenext", "score.ts", folder=tmp_path)
    same(run("node", "score.js", keyed.url, keyed.key, files, folder=tmp_path), by_hand, "typescript")
    wrong = (tmp_path / "score.ts").read_text().replace("gamma: 2, alpha", "gama: 2, alpha")
    (tmp_path / "wrong.ts").write_text(wrong)
    with pytest.raises(AssertionError, match="'gama' does not exist in type"):
        run(
            "tsc",
            *strict,
            "--noEmit",
            "--target",
            "es2022",
            "--module",
            "nodenext",
            "wrong.ts",
            folder=tmp_path,
        )


def test_the_typescript_clients_types_are_the_documents(document: Path, tmp_path: Path) -> None:
    """Its answers are what the document says, and the document takes its parameters."""
    require("openapi-typescript", "tsc")
    run("openapi-typescript", document, "-o", "lossd.d.ts", folder=tmp_path)
    for name in ("types.ts", "losses.ts"):
        (tmp_path / name).write_bytes((ROOT / "clients/typescript/src" / name).read_bytes())
    (tmp_path / "agree.ts").write_bytes((PROGRAMS / "agree.ts").read_bytes())
    strict = ("--strict", "--noUncheckedIndexedAccess", "--exactOptionalPropertyTypes", "--noEmit")
    words = ("tsc", *strict, "--target", "es2022", "--module", "nodenext", "agree.ts")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    run(*words, folder=tmp_path)
    for name, right, wrong in (
        ("types.ts", "brier_terms: Terms", "brier_terms: number"),
        ("losses.ts", "readonly gamma?: number;", "readonly gama?: number;"),
    ):
        text = (tmp_path / name).read_text()
        assert right in text
        (tmp_path / name).write_text(text.replace(right, wrong))
    with pytest.raises(AssertionError, match=r"(?s)agree.ts\(.*brier_terms.*agree.ts\(.*gama"):
        run(*words, folder=tmp_path)


OVERRIDES = """\
package_name_override: lossd_openapi
content_type_overrides:
  application/x-npy: application/octet-stream
  application/x-npz: application/octet-stream
  application/vnd.apache.arrow.stream: application/octet-stream
"""


def test_python(
    keyed: LiveServer, document: Path, files: Path, by_hand: dict[str, Any], tmp_path: Path
) -> None:
    require("openapi-python-client")
    (tmp_path / "lossd.yml").write_text(OVERRIDES)
    words = (
        "openapi-python-client",
        "generate",
        "--path",
        document,
        "--config",
        "lossd.yml",
        "--output-path",
        "made",
    )
    assert run(*words, folder=tmp_path) == "Generating made\n"  # and no warning
    sent = set(
        re.findall(
            r'headers\["Content-Type"\] = "([^";]+)',
            (tmp_path / "made/lossd_openapi/api/losses/bce.py").read_text(),
        )
    )
    operation = json.loads(document.read_text())["paths"]["/bce"]["post"]
    assert sent == set(operation["requestBody"]["content"])
    said = run(
        "python",
        PROGRAMS / "score.py",
        keyed.url,
        keyed.key,
        files,
        folder=tmp_path,
        PYTHONPATH=tmp_path / "made",
    )
    same(said, by_hand, "python")


def test_python_without_settings(tmp_path: Path) -> None:
    """Bodies that it knows by itself need no settings."""
    require("openapi-python-client")
    document = with_body("multipart/form-data", tmp_path)
    words = ("openapi-python-client", "generate", "--path", document, "--output-path", "made")
    assert run(*words, folder=tmp_path) == "Generating made\n"


def complaints(said: str) -> set[str]:
    """What openapi-generator complains about, besides what it does of every document."""
    usual = (
        "OpenAPI 3.1 support is still in beta",
        "'scheme' not defined in the spec",
        "Failed to get the schema name: null",
        "Ignoring complex example on request body",
    )
    lines = {line.partition(" - ")[2] for line in said.splitlines() if "WARN" in line or "ERROR" in line}
    return {line for line in lines if not line.startswith(usual)}


GO = "--additional-properties=withGoMod=false,disallowAdditionalPropertiesIfNotPresent=false"


def test_go(keyed: LiveServer, document: Path, files: Path, by_hand: dict[str, Any], tmp_path: Path) -> None:
    require("openapi-generator-cli", "java", "go")
    for name, source in (("lossd", document), ("lossdform", with_body("multipart/form-data", tmp_path))):
        options = (f"--package-name={name}", GO)
        assert complaints(generate(source, "go", tmp_path / name, options)) == set()
    (tmp_path / "go.mod").write_text("module score\n\ngo 1.19\n")
    (tmp_path / "main.go").write_bytes((PROGRAMS / "score.go").read_bytes())
    alone = {"GOFLAGS": "-mod=mod", "GOPROXY": "off", "GOTOOLCHAIN": "local", "GOCACHE": FOLDER / "go"}
    run("go", "build", "-o", "score", ".", folder=tmp_path, **alone)  # needs nothing but Go
    same(run(tmp_path / "score", keyed.url, keyed.key, files, folder=tmp_path), by_hand, "go")


def test_java(
    keyed: LiveServer, document: Path, files: Path, by_hand: dict[str, Any], tmp_path: Path
) -> None:
    require("openapi-generator-cli", "java", "javac")
    if not ANNOTATIONS.exists():
        pytest.skip(f"{ANNOTATIONS} is not installed: .ci/tools installs it")
    for name, source in (("lossd", document), ("lossdnpy", with_body("application/x-npy", tmp_path))):
        packages = (f"--invoker-package={name}", f"--api-package={name}.api", f"--model-package={name}.model")
        options = "--additional-properties=useSingleRequestParameter=true,openApiNullable=false"
        made = generate(source, "java", tmp_path / name, ("--library=native", options, *packages))
        assert complaints(made) == set()
    sources = [PROGRAMS / "Score.java", *tmp_path.glob("lossd*/src/main/**/*.java")]
    (tmp_path / "sources").write_text("\n".join(map(str, sources)))
    classes = f"{generator_jar()}:{ANNOTATIONS}:{tmp_path}"
    run("javac", "-nowarn", "-cp", classes, "-d", tmp_path, "@sources", folder=tmp_path)
    said = run("java", "-cp", classes, "Score", keyed.url, keyed.key, files, folder=tmp_path)
    same(said, by_hand, "java")
