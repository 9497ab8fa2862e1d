import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import lossd_client
from lossd_client import errors
from lossd_client._calls.parameters import LOSSES

FOLDER = Path(lossd_client.__file__).parent


def test_all_is_complete_and_sorted() -> None:
    public = [
        name
        for name, item in vars(lossd_client).items()
        if not name.startswith("_") and not isinstance(item, type(sys))
    ]
    lazy = {
        "AsyncHttpxTransport",
        "HttpxTransport",
        "Comparison",
        "NotComparable",
        "compare",
    }  # slow to import
    assert sorted(lossd_client.__all__) == sorted({*public, *lazy})
    assert all(hasattr(lossd_client, name) for name in lazy)
    groups = [name.isupper() for name in lossd_client.__all__]  # constants, then the rest
    assert lossd_client.__all__ == sorted(lossd_client.__all__, key=lambda name: (not name.isupper(), name))
    assert groups[0]


METRICS = {"Remote" + ("BCE" if name == "bce" else name.title().replace("_", "")) for name in LOSSES}
PUBLIC = {
    "__init__": set(),
    "async_client": {"AsyncLossClient"},
    "client": {"LossClient"},
    "comparison": {"Change", "Comparison", "NotComparable", "Verdict", "compare"},
    "errors": {
        "BadAnswer",
        "ConnectionFailed",
        "DeadlineExceeded",
        "ErrorItem",
        "InvalidRequest",
        "LossdError",
        "NotFound",
        "ServerError",
        "StatusError",
        "Throttled",
        "TimedOut",
        "TooLarge",
        "Unauthorized",
        "Unavailable",
    },
    "local": {"LocalServer", "free_port"},
    "loggers": {"log"},
    "progress": {"Progress", "progress_bar"},
    "rate_limit": {"Rate", "RateLimit"},
    "raw_response": {"Headers", "RawResponse"},
    "report": {"MissingSectionError", "Report", "ReportMerger"},
    "result": {"LossResult"},
    "retry": {"Retry"},
    "testing": {"AsyncFakeTransport", "FakeTransport"},
    "timeout": {"Timeout"},
    "torchmetrics": {"Normalizer", "RemoteBCE", "RemoteReport", *METRICS},
    "transport": {"AsyncTransport", "Request", "Response", "Transport"},
}


def _defined(path: Path) -> set[str]:
    """The names that a file defines, by classes, functions and assignments."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return {name for name in found if not name.startswith("_")}


def test_public_modules_have_the_names_that_are_meant() -> None:
    modules = {path.stem for path in FOLDER.glob("*.py") if path.stem == "__init__" or path.stem[0] != "_"}
    rooms = {path.parent.name for path in FOLDER.glob("*/__init__.py")}
    packages = {name for name in rooms if name[0] != "_"} - {"cli", "callbacks"}
    callbacks = {
        path.stem: _defined(path) for path in (FOLDER / "callbacks").glob("*.py") if path.stem[0] != "_"
    }
    assert callbacks == {"keras": {"Data", "ValidationReport"}, "lightning": {"ValidationReport"}}
    assert modules | packages == set(PUBLIC)
    for name in modules:
        assert _defined(FOLDER / f"{name}.py") == PUBLIC[name], name
    for name in packages:
        assert set(import_module(f"lossd_client.{name}").__all__) == PUBLIC[name]
        assert all(path.stem[0] == "_" for path in (FOLDER / name).glob("*.py"))


def test_every_error_is_a_lossd_error() -> None:
    of_reports = {"NotComparable"}  # a ValueError: nothing is requested
    exported = {getattr(lossd_client, name) for name in {*lossd_client.__all__} - of_reports}
    kinds = {kind for kind in exported if isinstance(kind, type) and issubclass(kind, BaseException)}
    defined = {getattr(errors, name) for name in PUBLIC["errors"]} - {errors.ErrorItem}
    assert kinds == defined
    assert all(issubclass(kind, errors.LossdError) for kind in kinds)
    assert all(f" {kind.__name__} " in f"{errors.__doc__} ".replace("\n", " ") for kind in kinds)


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


def test_metrics_without_torch_say_what_to_install() -> None:
    code = (
        "sys.modules['torch'] = None\n"
        "try:\n"
        "    import lossd_client.torchmetrics\n"
        "except ModuleNotFoundError as error:\n"
        "    print(error)\n"
    )
    assert _run(code)[0] == "lossd_client.torchmetrics needs torch: pip install 'lossd[torchmetrics]'"


def test_httpx_is_in_one_file_torch_in_one_room_and_the_server_in_none() -> None:
    imported: dict[str, set[str]] = {}
    for path in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                continue
            for name in names:
                imported.setdefault(name.partition(".")[0], set()).add(str(path.relative_to(FOLDER)))
    assert imported["httpx"] == {"_http/httpx_transport.py"}
    saved = "cli/files/torch_file.py"  # the command alone, for a file that torch saved
    assert {name.split("/")[0] for name in imported["torch"] - {saved}} == {"torchmetrics"}
    assert {name.split("/")[0] for name in imported["torchmetrics"]} == {"torchmetrics"}
    assert "lossd" not in imported
