import json
import os
import pty
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from client.playback import SCALAR, Answer, Playback
from command import app

pytestmark = pytest.mark.slow

LOGITS = np.linspace(-3, 3, 6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    np.save(tmp_path / "x.npy", LOGITS)
    np.save(tmp_path / "y.npy", LOGITS > 0)
    return [str(tmp_path / "x.npy"), str(tmp_path / "y.npy")]


def lossd(*args: str) -> Result:
    return CliRunner().invoke(app, list(args))


def test_a_table(files: list[str], playback: Playback) -> None:
    done = lossd("score", *files, "--loss", "focal", "--url", playback.url)
    assert (done.exit_code, done.stderr) == (0, "")
    for shown in ("0.7923818", "2028.497", "2560", "251.0", "gamma=1.5", playback.url):
        assert shown in done.stdout
    np.testing.assert_array_equal(playback.last.tensors["logits"], LOGITS, strict=True)


def test_json_alone_on_standard_output(files: list[str], playback: Playback) -> None:
    done = lossd("score", *files, "--json", "--url", playback.url)
    assert (done.exit_code, done.stderr) == (0, "")
    assert json.loads(done.stdout).items() >= SCALAR.items()


def test_an_array_in_every_form(files: list[str], playback: Playback, tmp_path: Path) -> None:
    losses = np.array([0.5, 1.5, 4.0])
    playback.answer = Answer.of_npy(losses)
    out = tmp_path / "loss.npy"
    done = lossd("score", *files, "--axis", "0", "--url", playback.url, "--out", str(out), "--json")
    assert json.loads(done.stdout)["loss"] == [0.5, 1.5, 4.0]
    np.testing.assert_array_equal(np.load(out), losses, strict=True)
    done = lossd("score", *files, "--axis", "0", "--url", playback.url)
    for shown in ("array of shape (3,)", "0.5", "2.0", "4.0"):
        assert shown in done.stdout


def test_every_option_arrives(files: list[str], playback: Playback, tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", np.ones((2, 1)))
    np.save(tmp_path / "m.npy", LOGITS > -2)
    options = {
        "--loss": "focal",
        "--weight": str(tmp_path / "w.npy"),
        "--mask": str(tmp_path / "m.npy"),
        "--pos-weight": "1,2,3",
        "--gamma": "2",
        "--alpha": "none",
        "--variant": "quality",
        "--reduction": "sum",
        "--normalizer": "positives",
        "--class-axis": "-2",
        "--label-smoothing": "0.1",
        "--ignore-index": "-1",
        "--api-key": "k",
        "--timeout": "5",
    }
    flat = [part for option in options.items() for part in option]
    assert lossd("score", *files, *flat, "--allow-nan", "--url", playback.url).exit_code == 0
    assert dict(playback.last.params) == {
        "gamma": "2.0",
        "alpha": "null",
        "variant": "quality",
        "reduction": "sum",
        "normalizer": "positives",
        "class_axis": "-2",
        "label_smoothing": "0.1",
        "ignore_index": "-1.0",
        "allow_nan": "true",
    }
    assert list(playback.last.tensors) == ["logits", "targets", "weight", "mask", "pos_weight"]
    np.testing.assert_array_equal(playback.last.tensors["mask"], LOGITS > -2, strict=True)
    assert playback.last.headers["authorization"] == "Bearer k"


def test_only_the_options_given_arrive(files: list[str], playback: Playback) -> None:
    for loss in ("bce", "focal"):
        assert lossd("score", *files, "--loss", loss, "--url", playback.url).exit_code == 0
        assert playback.last.query == [("tensors", "logits,targets")]


def test_probabilities(files: list[str], playback: Playback) -> None:
    assert lossd("score", *files, "--probabilities", "--url", playback.url).exit_code == 0
    assert list(playback.last.tensors) == ["probabilities", "targets"]
    np.testing.assert_array_equal(playback.last.tensors["probabilities"], LOGITS, strict=True)


def test_class_ids(files: list[str], playback: Playback, tmp_path: Path) -> None:
    ids = np.array([2, 0], dtype=np.int32)
    np.save(tmp_path / "ids.npy", ids)
    command = ["score", files[0], str(tmp_path / "ids.npy"), "--targets-format", "index"]
    assert lossd(*command, "--url", playback.url).exit_code == 0
    assert dict(playback.last.params) == {"targets_format": "index"}
    np.testing.assert_array_equal(playback.last.tensors["targets"], ids, strict=True)


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        (["--alpha", "0.5"], {"alpha": "0.5"}),
        (["--alpha", "0.5,0.25,1"], {"alpha": "[0.5,0.25,1.0]"}),
        (["--normalizer", "weight"], {"normalizer": "weight"}),
        (["--normalizer", "64"], {"normalizer": "64.0"}),
    ],
)
def test_numbers_and_words(
    files: list[str], playback: Playback, options: list[str], sent: dict[str, str]
) -> None:
    done = lossd("score", *files, "--loss", "focal", *options, "--url", playback.url)
    assert done.exit_code == 0
    assert dict(playback.last.params) == sent


@pytest.mark.parametrize(("axis", "sent"), [("-1", "-1"), ("0,-1", "[0,-1]")])
def test_axes(files: list[str], playback: Playback, axis: str, sent: str) -> None:
    playback.answer = Answer.of_npy(np.ones(2))
    assert lossd("score", *files, "--axis", axis, "--url", playback.url).exit_code == 0
    assert dict(playback.last.params) == {"axis": sent}


def test_pos_weight_is_a_number_or_a_file(files: list[str], playback: Playback, tmp_path: Path) -> None:
    assert lossd("score", *files, "--pos-weight", "2", "--url", playback.url).exit_code == 0
    assert dict(playback.last.params) == {"pos_weight": "2.0"}
    np.save(tmp_path / "p.npy", np.ones(3))
    assert (
        lossd("score", *files, "--pos-weight", str(tmp_path / "p.npy"), "--url", playback.url).exit_code == 0
    )
    assert list(playback.last.tensors) == ["logits", "targets", "pos_weight"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--gamma", "2"], "--loss focal"),
        (["--loss", "dicey"], "dicey"),
        (["--alpha", "none"], "--loss focal"),
        (["--variant", "exp"], "--loss focal"),
        (["--variant", "tanh", "--loss", "focal"], "tanh"),
        (["--alpha", "half", "--loss", "focal"], "neither numbers nor none"),
        (["--normalizer", "sum"], "neither a number nor count, weight, positives"),
        (["--targets-format", "sparse"], "sparse"),
        (["--targets-format", "index"], "targets has dtype bool"),
        (["--label-smoothing", "nan"], "label_smoothing must be finite"),
        (["--mask", "nowhere.npy"], "nowhere.npy"),
        (["--axis", "x"], "0, -1 or 0,1"),
        (["--pos-weight", "nowhere.npy"], "neither numbers nor a file"),
        (["--timeout", "-1"], "timeout must be"),
        (["--url", "localhost"], "must be like http"),
    ],
)
def test_wrong_usage_is_2(files: list[str], options: list[str], message: str) -> None:
    done = lossd("score", *files, *options)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04", "npz", "int", "object"])
def test_a_bad_file_is_2(files: list[str], tmp_path: Path, content: bytes | str) -> None:
    bad = tmp_path / "bad.npy"
    with bad.open("wb") as file:
        if isinstance(content, bytes):
            file.write(content)
        elif content == "npz":
            np.savez(file, x=LOGITS, y=LOGITS)  # which of them?
        else:
            np.save(file, np.array([1, 2], dtype=content))
    done = lossd("score", str(bad), files[1])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")


def test_a_file_that_cannot_be_written_is_2(files: list[str], playback: Playback, tmp_path: Path) -> None:
    done = lossd("score", *files, "--out", str(tmp_path / "no" / "loss.npy"), "--url", playback.url)
    assert done.exit_code == 2
    assert "cannot write" in done.stderr


@pytest.mark.parametrize("by", ["its path", "its URL", "a link", "a hard link", "another way"])
@pytest.mark.parametrize("option", [(), ("--axis", "1")])
def test_an_input_is_never_written_over(
    files: list[str], playback: Playback, tmp_path: Path, by: str, option: tuple[str, ...]
) -> None:
    x, other = Path(files[0]), tmp_path / "other.npy"
    given, out = str(x), x
    if by == "its URL":
        given = f"file://{x}"
    elif by == "a link":
        other.symlink_to(x)
        out = other
    elif by == "a hard link":
        other.hardlink_to(x)
        out = other
    elif by == "another way":
        out = tmp_path / ".." / tmp_path.name / x.name
    before = x.read_bytes()
    done = lossd("score", given, files[1], *option, "--out", str(out), "--url", playback.url)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "which is read: name another file" in done.stderr
    assert x.read_bytes() == before


@pytest.mark.parametrize("option", ["--weight", "--mask", "--pos-weight", "--by"])
def test_nor_is_another_input(files: list[str], playback: Playback, tmp_path: Path, option: str) -> None:
    np.save(tmp_path / "z.npy", np.ones(2))
    z = str(tmp_path / "z.npy")
    done = lossd("score", *files, option, z, "--out", z, "--url", playback.url)
    assert done.exit_code == 2
    assert "which is read: name another file" in done.stderr
    np.testing.assert_array_equal(np.load(z), np.ones(2))


def test_nobody_there_is_3(files: list[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        for command in (["score", *files], ["ping"]):
            done = lossd(*command, "--url", url)
            assert (done.exit_code, done.stdout) == (3, "")
            assert "cannot connect" in done.stderr


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Answer.of_problem(422, "shape_mismatch", errors=[{"pointer": "/[red]", "detail": "x"}]), 1),
        (Answer.of_problem(429, "rate_limited"), 1),
        (Answer.of_problem(500, "internal_error"), 1),
        (Answer(b"<html>", "text/html"), 1),
    ],
)
def test_what_the_server_says(files: list[str], playback: Playback, answer: Answer, code: int) -> None:
    playback.answer = answer
    done = lossd("score", *files, "--json", "--url", playback.url)
    assert (done.exit_code, done.stdout) == (code, "")
    if b"pointer" in answer.body:
        assert "422 shape_mismatch: do it so\n  /[red]: x\n" in done.stderr


def test_ping(playback: Playback) -> None:
    playback.answer = Answer.of_json({"version": "9.9"})
    done = lossd("ping", "--url", playback.url)
    assert (done.exit_code, done.stdout) == (0, f"{playback.url} is ready: lossd 9.9\n")
    playback.answer = Answer(b"{}", status=503)
    assert lossd("ping", "--url", playback.url).exit_code == 1


def test_ping_waits_if_asked(playback: Playback) -> None:
    playback.answer = Answer.of_json({"version": "9.9"})
    playback.answers = [
        Answer(b"{}", status=503),
        Answer(b"", hangs_up=True),
        Answer(b"<html>", "text/html", 502),
    ]
    done = lossd("ping", "--wait", "20", "--url", playback.url)
    assert (done.exit_code, done.stdout, done.stderr) == (0, f"{playback.url} is ready: lossd 9.9\n", "")
    assert len(playback.arrivals) == 5


def test_ping_waits_for_a_server_that_starts() -> None:
    with Playback() as gone:
        url = gone.url
    with ExitStack() as stack:
        starting = threading.Timer(1.0, lambda: stack.enter_context(Playback(int(url.rpartition(":")[2]))))
        starting.start()
        done = lossd("ping", "--wait", "20", "--url", url)
        starting.join()
    assert (done.exit_code, done.stderr) == (0, "")


@pytest.mark.parametrize("seconds", ["0", "1.2"])
def test_ping_that_has_waited_for_nothing_is_3(playback: Playback, seconds: str) -> None:
    began = time.monotonic()
    playback.answer = Answer(b"{}", status=503)
    done = lossd("ping", "--wait", seconds, "--url", playback.url)
    assert (done.exit_code, done.stdout) == (3, "")
    assert f"was not ready within {seconds} s: it is there, but not ready" in done.stderr
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        done = lossd("ping", "--wait", seconds, "--url", f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert done.exit_code == 3
    assert f"was not ready within {seconds} s: cannot connect" in done.stderr
    assert time.monotonic() - began < 8


def test_ping_does_not_wait_for_what_never_comes(playback: Playback) -> None:
    playback.answer = Answer(b"<html>", "text/html", 404)
    done = lossd("ping", "--wait", "60", "--url", playback.url)
    assert (done.exit_code, len(playback.arrivals)) == (1, 1)
    done = lossd("ping", "--wait", "60", "--url", playback.url.replace("http:", "https:"))
    assert done.exit_code == 3
    assert "if the server speaks http" in done.stderr


def test_ping_says_on_a_terminal_what_it_waits_for(playback: Playback) -> None:
    playback.answers = [Answer(b"{}", status=503)] * 3
    playback.answer = Answer.of_json({"version": "9.9"})
    ours, its = pty.openpty()
    command = [sys.executable, "-m", "lossd", "ping", "--wait", "30", "--url", playback.url]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=its, check=False, timeout=60)
    said = os.read(ours, 1 << 16).decode()
    os.close(ours)
    os.close(its)
    assert (done.returncode, done.stdout.decode()) == (0, f"{playback.url} is ready: lossd 9.9\n")
    assert said == f"waiting for {playback.url}: it is there, but not ready\r\n"  # once


def test_a_command_soon_gives_up_where_nobody_is(files: list[str]) -> None:
    began = time.monotonic()
    assert lossd("score", *files, "--url", "http://127.0.0.1:1").exit_code == 3
    assert time.monotonic() - began < 5


def test_no_command_shows_a_password(files: list[str], playback: Playback) -> None:
    url = playback.url.replace("//", "//user:secret@")
    playback.answer = Answer.of_json({"version": "9.9"})
    done = lossd("ping", "--url", url)
    assert (done.exit_code, done.stdout) == (
        0,
        f"{playback.url.replace('//', '//[secure]@')} is ready: lossd 9.9\n",
    )


def test_the_help_names_the_exit_codes() -> None:
    groups = {"teams": ["add", "list", "disable", "enable"], "keys": ["new", "revoke"]}
    commands = [[group, *one] for group, names in groups.items() for one in ([], *([name] for name in names))]
    for command in ([], ["score"], ["ping"], ["doctor"], ["bench"], ["serve"], ["usage"], *commands):
        done = lossd(*command, "--help")
        assert done.exit_code == 0
        assert "Exit codes" in done.stdout


def test_the_version() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from lossd.__main__ import main; main()", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("lossd ")


_WITHOUT = """
import json, sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in sys.argv[1].split(','):
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)
sys.meta_path.insert(0, Missing())
from typer.testing import CliRunner
from lossd.cli import add_commands
from lossd_client.cli import create_app
app = create_app(add_commands)
for command in json.loads(sys.argv[2]):
    done = CliRunner().invoke(app, command)
    print(json.dumps([done.exit_code, done.stdout, done.stderr]))
"""


def _without(modules: Sequence[str], *commands: str) -> list[tuple[int, str, str]]:
    """Run commands where importing the modules fails as if they were not installed.

    Returns:
        The exit code, standard output and standard error of each.
    """
    words = json.dumps([command.split() for command in commands])
    code = [sys.executable, "-c", _WITHOUT, ",".join(modules), words]
    done = subprocess.run(code, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("module", "commands"),
    [
        ("pydantic_settings", ["serve", "usage"]),
        (
            "msgspec",
            [
                "teams list --teams x",
                "teams add a --teams x",
                "teams disable a --teams x",
                "keys new a --teams x",
                "keys revoke a --teams x",
            ],
        ),
    ],
)
def test_without_the_servers_dependencies_it_says_what_to_install(module: str, commands: list[str]) -> None:
    found = _without([module], *commands)
    assert len(found) == len(commands)
    for code, out, err in found:
        assert (code, out) == (2, "")
        assert "pip install 'lossd[cpu]'" in err


SERVERS = ("torch", "fastapi", "starlette", "uvicorn", "pydantic_settings", "msgspec", "orjson", "structlog")


def test_a_client_install_asks_a_server(base_url: str) -> None:
    commands = ["usage --json", "ping", "doctor", "bench --seconds 0.1 --elements 10"]
    found = _without(SERVERS, *(f"{command} --url {base_url}" for command in commands))
    assert [(code, err) for code, _, err in found] == [(0, "")] * 4
    assert json.loads(found[0][1])["server"] == base_url


def test_a_client_install_scores_and_says_that_a_server_can_be_asked_for_usage(files: list[str]) -> None:
    score, usage = _without(SERVERS, f"score {' '.join(files)} --url http://127.0.0.1:1", "usage")
    assert score[0] == 3
    assert "cannot connect" in score[2]
    assert usage[0] == 2
    assert "pip install 'lossd[cpu]'; or ask a server for it, with --url" in usage[2]


def test_files_that_need_more_say_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    (tmp_path / "t.arrows").write_bytes(b"\xff\xff\xff\xff")
    commands = [f"score {tmp_path / name}" for name in ("t.parquet", "t.arrows")]
    found = [*_without(["pyarrow"], *commands), *_without(["fsspec"], "score memory://x.npy")]
    for needs, (code, out, err) in zip(["needs pyarrow"] * 2 + ["need fsspec"], found, strict=True):
        assert (code, out) == (2, "")
        assert f"{needs}: pip install 'lossd[files]'" in err


def test_the_base_install_reads_arrays_and_text(tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", logits=LOGITS, targets=LOGITS > 0)
    (tmp_path / "t.csv").write_text("logits,targets\n0.5,1\n")
    commands = [f"score {tmp_path / name} --url http://127.0.0.1:1" for name in ("t.npz", "t.csv")]
    assert [code for code, _, _ in _without(["pyarrow"], *commands)] == [3, 3]


def test_a_proxy_that_cannot_be_used_is_2(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "socks5://127.0.0.1:1")
    done = lossd("score", *files, "--url", "http://far.invalid")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "SOCKS" in done.stderr


def test_certificates_that_cannot_be_read_are_2(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/certificates.pem")
    done = lossd("score", *files, "--url", "http://far.invalid")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "/nowhere/certificates.pem" in done.stderr
