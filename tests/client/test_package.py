import ast
import subprocess
import sys
from pathlib import Path

import lossd_client

FOLDER = Path(lossd_client.__file__).parent


def test_all_is_complete_and_sorted() -> None:
    public = [
        name
        for name, item in vars(lossd_client).items()
        if not name.startswith("_") and not isinstance(item, type(sys))
    ]
    assert sorted(lossd_client.__all__) == sorted(public)
    groups = [name.isupper() for name in lossd_client.__all__]  # constants, then the rest
    assert lossd_client.__all__ == sorted(lossd_client.__all__, key=lambda name: (not name.isupper(), name))
    assert groups[0]


def test_the_version_is_the_distributions() -> None:
    from importlib.metadata import version

    assert lossd_client.__version__ == version("lossd")


HEAVY = ("torch", "fastapi", "pandas", "rich", "pyarrow", "lossd", "pydantic", "typer", "ml_dtypes")


def _run(code: str) -> list[str]:
    code = f"import sys, time, numpy\n{code}\nprint([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_the_import_is_quick_and_light() -> None:
    code = "start = time.perf_counter(); import lossd_client; print(time.perf_counter() - start)"
    runs = (_run(code) for _ in range(8))  # this machine may be busy
    assert any(float(seconds) < 0.35 and loaded == "[]" for seconds, loaded in runs)


def test_scoring_imports_nothing_heavy_either() -> None:
    code = (
        "from lossd_client import LossClient\n"
        "from lossd_client.testing import FakeTransport\n"
        "with LossClient(transport=FakeTransport, request_bytes=100) as client:\n"
        "    client.bce(numpy.zeros((9, 3)), [[0, 1, 0]] * 9)\n"
        "    client.score_batches('focal', [([0.0], [1])])\n"
    )
    assert _run(code) == ["[]"]


def test_httpx_and_torch_are_in_one_file_each_and_the_server_in_none() -> None:
    imported: dict[str, set[str]] = {}
    for path in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                continue
            for name in names:
                imported.setdefault(name.partition(".")[0], set()).add(path.name)
    assert imported["httpx"] == {"_httpx_transport.py"}
    assert imported["torch"] == imported["torchmetrics"] == {"torchmetrics.py"}
    assert "lossd" not in imported
