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


def test_the_import_is_quick_and_light() -> None:
    code = (
        "import sys, time; start = time.perf_counter(); import lossd_client;"
        "print(time.perf_counter() - start);"
        "print([m for m in ('torch', 'fastapi', 'lossd', 'pydantic', 'typer') if m in sys.modules])"
    )

    def once() -> tuple[float, str]:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        seconds, loaded = done.stdout.splitlines()
        return float(seconds), loaded

    runs = [once() for _ in range(3)]
    assert {loaded for _, loaded in runs} == {"[]"}
    assert min(seconds for seconds, _ in runs) < 1.0  # 0.15 on a quiet machine; this one may be busy


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
    assert imported["httpx"] == {"transport.py"}
    assert imported["torch"] == imported["torchmetrics"] == {"torchmetrics.py"}
    assert "lossd" not in imported
