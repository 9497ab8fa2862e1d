"""HTTPS by the server itself."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from bench.memory import own
from certificates import make_certificate
from command import app
from faults.asked import pair, pair_body, small_truth
from faults.observe import children, descriptors, ended, port_of, wait_until
from live_server import LiveServer, live_server
from lossd_client import LossClient
from teams_file import make_key, team_table, write_teams

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl command")
NPY = "application/x-npy"


@pytest.fixture(scope="module")
def pair_of_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"), "first")


@pytest.fixture(scope="module")
def secure(
    tmp_path_factory: pytest.TempPathFactory, pair_of_files: tuple[Path, Path]
) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("secure")
    chain, key = pair_of_files
    with live_server(
        folder, tls_certificate=chain, tls_key=key, log_requests="all", header_seconds=3
    ) as server:
        yield server


def serial(server: LiveServer, path: Path) -> str:
    """The name of the certificate that a new connection is shown."""
    context = ssl.create_default_context(cafile=str(path))
    with (
        socket.create_connection(("127.0.0.1", port_of(server)), timeout=10) as raw,
        context.wrap_socket(raw, server_hostname="127.0.0.1") as secured,
    ):
        shown = secured.getpeercert()
    assert shown is not None
    return str(shown["serialNumber"])


def test_all_ways_answer_as_without(secure: LiveServer) -> None:
    truth = small_truth()
    with httpx.Client(base_url=secure.url, verify=secure.verify, timeout=60) as client:
        for name in ("bce", "focal"):
            found = client.post(f"/{name}", content=pair_body(32), headers={"content-type": NPY}).json()
            assert found["loss"] == pytest.approx(truth[name], rel=1e-12)
        x, y = pair(32)
        document = {"logits": x.tolist(), "targets": y.tolist()}
        assert client.post("/bce", json=document).json()["loss"] == pytest.approx(truth["bce"], rel=1e-12)
        large = client.post("/bce", content=pair_body(40_000), headers={"content-type": NPY})
        assert large.json()["count"] == 3_200_000
        array = client.post(
            "/bce?reduction=none", content=pair_body(4000), headers={"accept": NPY, "content-type": NPY}
        )
        assert len(array.content) > 2_560_000
        refused = client.post("/bce?gamma=2", content=pair_body(40_000), headers={"content-type": NPY})
        assert refused.status_code == 422
    assert "listening on https://127.0.0.1" in secure.log.read_text()


def test_the_client_takes_it(
    secure: LiveServer, pair_of_files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(pair_of_files[0]))
    with LossClient(secure.url, timeout=60) as client:
        assert client.bce(*pair(32)).loss == pytest.approx(small_truth()["bce"], rel=1e-12)


@pytest.mark.parametrize(
    ("versions", "taken"),
    [
        ((ssl.TLSVersion.TLSv1_1,) * 2, False),
        ((ssl.TLSVersion.TLSv1_2,) * 2, True),
        ((ssl.TLSVersion.TLSv1_3,) * 2, True),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_nothing_below_tls_1_2(
    secure: LiveServer, versions: tuple[ssl.TLSVersion, ssl.TLSVersion], *, taken: bool
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = versions
    with socket.create_connection(("127.0.0.1", port_of(secure)), timeout=10) as raw:
        if taken:
            context.wrap_socket(raw).close()
        else:
            # Whoever closes first: the alert may be overtaken by the end of the connection.
            with pytest.raises(
                (ssl.SSLError, ConnectionError), match=r"(?i)version|protocol|alert|EOF|reset"
            ):
                context.wrap_socket(raw)


def test_who_does_not_begin_is_not_waited_for(secure: LiveServer) -> None:
    with socket.create_connection(("127.0.0.1", port_of(secure)), timeout=30) as raw:
        assert raw.recv(1) == b""
    with socket.create_connection(("127.0.0.1", port_of(secure)), timeout=30) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        with suppress(ConnectionError):
            assert not raw.recv(1 << 10).startswith(b"HTTP")
    assert "Traceback" not in secure.log.read_text()


def test_who_hangs_up_is_not_computed_for(secure: LiveServer, pair_of_files: tuple[Path, Path]) -> None:
    context = ssl.create_default_context(cafile=str(pair_of_files[0]))
    body = pair_body(40_000)
    raw = socket.create_connection(("127.0.0.1", port_of(secure)), timeout=30)
    secured = context.wrap_socket(raw, server_hostname="127.0.0.1")
    head = f"POST /bce HTTP/1.1\r\nHost: a\r\nX-Request-Id: gone\r\nContent-Type: {NPY}\r\n"
    secured.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:-1])
    time.sleep(0.5)
    secured.close()

    def is_logged() -> bool:
        return any(
            "outcome=disconnected" in line and "gone" in line for line in secure.log.read_text().splitlines()
        )

    wait_until(is_logged, 20, "it has been noticed")


def test_what_is_accepted_is_answered_before_the_end(
    tmp_path: Path, pair_of_files: tuple[Path, Path]
) -> None:
    chain, key = pair_of_files
    answers: list[httpx.Response] = []
    body = pair_body(100_000)  # made here: the server is stopped soon after the thread has started
    with live_server(tmp_path, tls_certificate=chain, tls_key=key) as server:

        def ask() -> None:
            with httpx.Client(verify=server.verify, timeout=60) as client:
                headers = {"content-type": NPY}
                answers.append(client.post(f"{server.url}/bce", content=body, headers=headers))

        caller = threading.Thread(target=ask)
        caller.start()
        time.sleep(0.7)
        assert server.stop() == 0
        caller.join()
    assert [answer.status_code for answer in answers] in ([200], [503])
    assert "Traceback" not in server.log.read_text()


def test_a_new_certificate_is_taken_and_a_bad_one_is_not(tmp_path: Path) -> None:
    chain, key = make_certificate(tmp_path, "first")
    new_chain, new_key = make_certificate(tmp_path, "second")
    first, second = chain.read_bytes(), new_chain.read_bytes()
    trusted = tmp_path / "both.pem"
    trusted.write_bytes(first + second)
    with live_server(tmp_path, tls_certificate=chain, tls_key=key) as server:
        before = serial(server, trusted)
        chain.write_bytes(second)  # whose key is not there yet
        wait_until(lambda: "is not that of the certificate" in server.log.read_text(), 20, "it is said")
        assert serial(server, trusted) == before
        shutil.copy(new_key, key)
        wait_until(lambda: serial(server, trusted) != before, 20, "the new one is in use")
        after = serial(server, trusted)
        key.write_text("nothing")
        wait_until(lambda: "no private key" in server.log.read_text(), 20, "that is said, too")
        time.sleep(2.5)
        assert server.log.read_text().count("no private key") == 1
        assert serial(server, trusted) == after
        server.verify = ssl.create_default_context(cafile=str(trusted))
        assert server.info()["version"]


def front_end_of(server: LiveServer) -> int:
    [front_end] = set(children(server.process.pid)) - {server.worker_pid()}
    return front_end


def test_a_front_end_that_finds_a_bad_certificate_waits_for_a_good_one_or_the_end(tmp_path: Path) -> None:
    chain, key = make_certificate(tmp_path, "first")
    good = chain.read_bytes()
    with live_server(tmp_path, tls_certificate=chain, tls_key=key) as server:

        def spoil(times: int) -> None:
            """Take the certificate away, and have a front end find that, for the first or a later time."""
            chain.write_text("nothing")
            wait_until(lambda: server.log.read_text().count("stays as it was") == times, 20, "it is said")
            os.kill(front_end_of(server), signal.SIGKILL)
            fixed = "until the files are fixed"
            wait_until(lambda: server.log.read_text().count(fixed) == times, 20, "the next one says so")

        spoil(1)
        waiting = children(server.process.pid)
        time.sleep(3.0)  # longer than one that has ended takes to be replaced
        assert children(server.process.pid) == waiting
        chain.write_bytes(good)
        server.wait_until_ready()
        assert server.log.read_text().count("until the files are fixed") == 1
        spoil(2)
        others = children(server.process.pid)
        server.process.kill()
        server.process.wait()
        wait_until(lambda: all(map(ended, others)), 20, "somebody is left")


def test_who_does_not_begin_takes_little_memory_and_nobodys_place(
    tmp_path: Path, pair_of_files: tuple[Path, Path]
) -> None:
    chain, key = pair_of_files
    most = 400
    with (
        live_server(
            tmp_path, tls_certificate=chain, tls_key=key, header_seconds=60, max_connections=most
        ) as server,
        httpx.Client(base_url=server.url, verify=server.verify, timeout=60) as client,
        ExitStack() as stack,
    ):
        headers = {"content-type": NPY}
        assert client.post("/bce", content=pair_body(32), headers=headers).status_code == 200
        front_end = front_end_of(server)
        before, established = own(front_end), descriptors(front_end)
        for _ in range(3 * most):
            stack.enter_context(socket.create_connection(("127.0.0.1", port_of(server)), timeout=10))
        wait_until(lambda: descriptors(front_end) > established + most // 2, 10, "they are accepted")
        assert httpx.get(f"{server.url}/livez", verify=server.verify, timeout=20).status_code == 200
        assert client.post("/bce", content=pair_body(32), headers=headers).status_code == 200
        assert descriptors(front_end) <= established + most + 10
        assert own(front_end) - before < 6 << 20
        assert "Traceback" not in server.log.read_text()


def one_byte_records(context: ssl.SSLContext, port: int, number: int) -> tuple[socket.socket, bytes]:
    """A connection after its handshake, and what it has to send for a record of each byte."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    secured = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    raw = socket.create_connection(("127.0.0.1", port), timeout=20)
    while True:
        try:
            secured.do_handshake()
            break
        except ssl.SSLWantReadError:
            raw.sendall(outgoing.read())
            incoming.write(raw.recv(1 << 14))
    secured.write(b"POST /bce HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
    for _ in range(number):
        secured.write(b"x")
    return raw, outgoing.read()


def test_records_of_one_byte_keep_nobody_waiting(tmp_path: Path, pair_of_files: tuple[Path, Path]) -> None:
    chain, key = pair_of_files
    context = ssl.create_default_context(cafile=str(chain))
    with (
        live_server(tmp_path, tls_certificate=chain, tls_key=key) as server,
        httpx.Client(base_url=server.url, verify=server.verify, timeout=60) as client,
        ExitStack() as stack,
    ):
        assert client.get("/livez").status_code == 200
        flood = [one_byte_records(context, port_of(server), 10_000) for _ in range(40)]  # 9 MB
        for raw, _ in flood:
            stack.enter_context(raw)
            raw.setblocking(False)
        front_end = front_end_of(server)
        before = processor_seconds(front_end)
        for raw, records in flood:
            with suppress(BlockingIOError):
                raw.send(records)
        begun = time.monotonic()
        assert client.get("/livez").status_code == 200
        assert time.monotonic() - begun < 5
        for raw, _ in flood:
            raw.settimeout(20)
            with suppress(ConnectionError):
                while raw.recv(1 << 14):
                    pass
        assert processor_seconds(front_end) - before < 4  # all of it would take 6 and more
        assert "Traceback" not in server.log.read_text()


def processor_seconds(process: int) -> float:
    """The time that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_connections_that_take_all_descriptors_keep_no_key_alive(tmp_path: Path) -> None:
    """Even where they are fewer than the server allows."""
    chain, key = make_certificate(tmp_path, "first")
    kept, revoked = make_key(), make_key()
    path = tmp_path / "teams.toml"
    write_teams(path, team_table("a", kept, revoked))
    with live_server(tmp_path, tls_certificate=chain, tls_key=key, teams=path, header_seconds=60) as server:
        server.key = revoked
        assert server.info()["version"]
        front_end = front_end_of(server)
        most = descriptors(front_end) + 20
        before = resource.prlimit(front_end, resource.RLIMIT_NOFILE)
        resource.prlimit(front_end, resource.RLIMIT_NOFILE, (most, before[1]))
        with ExitStack() as stack:
            for _ in range(100):
                stack.enter_context(socket.create_connection(("127.0.0.1", port_of(server)), timeout=10))
            wait_until(lambda: descriptors(front_end) >= most - 1, 10, "all are taken")
            write_teams(path, team_table("a", kept))
            wait_until(lambda: "reloaded the teams" in server.log.read_text(), 10, "it is revoked")
            time.sleep(0.5)
        wait_until(lambda: descriptors(front_end) < most - 5, 20, "they are gone")
        refused = httpx.get(f"{server.url}/info", headers={"x-api-key": revoked}, verify=server.verify)
        assert refused.status_code == 401
        server.key = kept
        assert server.info()["version"]
        assert "Traceback" not in server.log.read_text()


def test_files_that_cannot_be_used_are_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lossd.engine.supervisor.main.run", None)  # no server starts here
    chain, key = make_certificate(tmp_path, "first")
    _, other = make_certificate(tmp_path, "second")
    locked, broken = tmp_path / "locked.key", tmp_path / "broken.pem"
    command = ["openssl", "pkey", "-in", str(key), "-aes256", "-passout", "pass:secret", "-out", str(locked)]
    subprocess.run(command, check=True, capture_output=True)
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    complaints = {
        "No such file": (tmp_path / "nowhere.pem", key),
        "no certificate (PEM)": (key, key),
        "no private key (PEM)": (chain, chain),
        "is not that of the certificate": (chain, other),
        "the key is encrypted": (chain, locked),
        "no certificate chain and its key": (broken, key),
        "a certificate and its key go together": (chain, ""),
    }
    for complaint, (certificate, its_key) in complaints.items():
        given = {"LOSSD_TLS_CERTIFICATE": str(certificate), "LOSSD_TLS_KEY": str(its_key)}
        done = CliRunner().invoke(app, ["serve", "--port", "0", "--device", "cpu"], env=given)
        assert (done.exit_code, complaint in done.stderr) == (2, True), (complaint, done.stderr)
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("trusted", ["", "192.0.2.0/24", "127.0.0.0/8,192.0.2.7"])
def test_only_trusted_proxies_say_whom_a_request_is_from(tmp_path: Path, trusted: str) -> None:
    claims = {"x-forwarded-for": "10.9.9.9, 198.51.100.4, 192.0.2.7"}
    with live_server(tmp_path, trusted_proxies=trusted, log_requests="all") as server:
        headers = {"content-type": NPY, **claims}
        with httpx.Client(base_url=server.url, headers=headers) as client:
            assert client.post("/bce", content=pair_body(4)).status_code == 200  # by the fast lane
            assert client.post("/bce?reduction=none", content=pair_body(4)).status_code == 200
            assert client.get("/nowhere").status_code == 404
        raw = b"POST /bce HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nX-Forwarded-For: evil one\r\n\r\n"
        with socket.create_connection(("127.0.0.1", port_of(server)), timeout=20) as connection:
            connection.sendall(raw)
            assert connection.recv(1 << 12).startswith(b"HTTP/1.1 4")
    found = [line for line in server.log.read_text().splitlines() if "outcome=" in line]
    clients = [line.partition("client=")[2].split()[0] for line in found]
    proxied = trusted.startswith("127.")
    assert clients == (["198.51.100.4"] * 3 + ["unknown"] if proxied else ["127.0.0.1"] * 4)
