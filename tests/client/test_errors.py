import asyncio
import pickle
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

import lossd_client
from certificates import make_certificate
from client.cli.scripted import ALIVE, scripted
from client.conftest import Ask
from client.playback import Answer, Playback
from lossd_client import LossClient, Request, Response, Timeout, errors
from lossd_client._http.httpx_transport import HttpxTransport, own_error
from lossd_client.testing import AsyncFakeTransport

X, Y = np.zeros((2, 3)), np.zeros((2, 3))

# The contract's statuses and a code of each.
KINDS = [
    (400, "malformed_npy", "InvalidRequest"),
    (401, "unauthorized", "Unauthorized"),
    (403, "forbidden", "Unauthorized"),
    (404, "not_found", "NotFound"),
    (405, "method_not_allowed", "NotFound"),
    (406, "not_acceptable", "InvalidRequest"),
    (408, "upload_too_slow", "DeadlineExceeded"),
    (413, "body_too_large", "TooLarge"),
    (415, "dtype_not_allowed", "InvalidRequest"),
    (422, "shape_mismatch", "InvalidRequest"),
    (429, "rate_limited", "Throttled"),
    (431, "headers_too_large", "TooLarge"),
    (500, "internal_error", "ServerError"),
    (503, "overloaded", "Unavailable"),
    (504, "deadline_exceeded", "DeadlineExceeded"),
    (507, "out_of_memory", "ServerError"),
]


@pytest.mark.parametrize(("status", "code", "kind"), KINDS)
@pytest.mark.parametrize("method", ["bce", "info"])
def test_statuses(ask: Ask, playback: Playback, status: int, code: str, kind: str, method: str) -> None:
    playback.answer = Answer.of_problem(status, code)
    with pytest.raises(lossd_client.StatusError) as caught:
        ask(playback.url, method, *([X, Y] if method == "bce" else []))
    error = caught.value
    assert type(error) is getattr(lossd_client, kind)
    assert (error.status, error.code, error.detail) == (status, code, "do it so")
    assert (error.request_id, error.retryable, error.errors) == ("r-3", False, ())


def test_all_that_the_server_says(ask: Ask, playback: Playback) -> None:
    items = [{"pointer": "/targets/17/3", "detail": "1.7 is outside [0, 1]"}]
    playback.answer = Answer.of_problem(422, "target_out_of_range", errors=items)
    with pytest.raises(lossd_client.InvalidRequest) as caught:
        ask(playback.url, "bce", X, Y)
    assert caught.value.errors == (lossd_client.ErrorItem("/targets/17/3", "1.7 is outside [0, 1]"),)
    assert str(caught.value) == (
        "422 target_out_of_range: do it so\n  /targets/17/3: 1.7 is outside [0, 1]\n  request id r-3"
    )


@pytest.mark.parametrize(
    ("header", "seconds"), [("2", 2.0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0), ("soon", None), ("inf", None)]
)
def test_when_to_come_again(ask: Ask, playback: Playback, header: str, seconds: float | None) -> None:
    problem = Answer.of_problem(429, "rate_limited", retryable=True)
    playback.answer = Answer(problem.body, problem.media_type, 429, {"Retry-After": header})
    with pytest.raises(lossd_client.Throttled) as caught:
        ask(playback.url, "bce", X, Y)
    assert caught.value.retryable
    assert caught.value.retry_after == seconds


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (302, "StatusError", False),
        (402, "InvalidRequest", False),
        (502, "ServerError", True),
        (408, "DeadlineExceeded", False),
        (429, "Throttled", False),
        (503, "Unavailable", False),
        (504, "DeadlineExceeded", False),
    ],
)
@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b"<html>Bad gateway</html>", "text/html"),
        (b"", ""),
        (b"<html>", "application/problem+json"),
        (b"[1]", "application/problem+json"),
        (b'{"code": 7, "retryable": "x", "errors": [1, {}]}', "application/problem+json"),
    ],
)
def test_proxies_pages(
    ask: Ask, playback: Playback, status: int, kind: str, retryable: bool, body: bytes, media_type: str
) -> None:
    playback.answer = Answer(body, media_type, status, {"X-Request-Id": "p-1"})
    with pytest.raises(lossd_client.StatusError) as caught:
        ask(playback.url, "bce", X, Y)
    error = caught.value
    assert type(error) is getattr(lossd_client, kind)
    assert (error.status, error.code, error.retryable) == (status, None, retryable)
    assert error.request_id == "p-1"
    assert str(error).startswith(f"{status}: the answer (")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            Answer(b"<html>nginx", "text/html", 413),
            "raise its limit .client_max_body_size in nginx.*request_bytes",
        ),
        (
            Answer(b"", "text/html", 308, {"Location": "https://u:hush@far.example/x/bce?tensors=a"}),
            r"it leads on to https://\[secure\]@far.example/x/bce, .* set base_url to https://\[secure\]@far.example/x$",
        ),
        (Answer(b"", "", 302, {"Location": "/login?next=x"}), "it leads on to /login, .* a login before it"),
        (Answer(b"<html>The plain HTTP request was sent to HTTPS port", "text/html", 400), "speaks https"),
        (
            Answer(b"Client sent an HTTP request to an HTTPS server.\n", "text/plain", 400),
            "begins with https://",
        ),
        (Answer(b"", "", 407), "HTTPS_PROXY"),
    ],
)
def test_what_stands_before_the_server_is_named(
    ask: Ask, playback: Playback, answer: Answer, message: str
) -> None:
    playback.answer = answer
    with pytest.raises(lossd_client.StatusError) as caught:
        ask(playback.url, "bce", X, Y)
    assert re.search(message, caught.value.detail)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "code", "advice"),
    [
        (
            (np.zeros((4, 1)), np.zeros(4)),
            "shape_mismatch",
            "logits (4, 1), targets (4,): reshape one: targets[:, None]",
        ),
        ((np.zeros(4), np.zeros((4, 1))), "shape_mismatch", "reshape one: targets[:, 0]"),
        ((np.zeros((2, 1, 3)), np.zeros((2, 3))), "shape_mismatch", "reshape one: targets.reshape(2, 1, 3)"),
        (
            (X, np.zeros(2, int)),
            "shape_mismatch",
            "if the targets are class ids, give targets_format='index'",
        ),
        (
            (np.ones((2, 3)), np.full((2, 3), -3.5)),
            "target_out_of_range",
            "swapped? the order is bce(logits, targets)",
        ),
    ],
)
def test_the_client_names_a_likely_mistake(
    ask: Ask, base_url: str, given: tuple[object, ...], code: str, advice: str
) -> None:
    with pytest.raises(lossd_client.InvalidRequest) as caught:
        ask(base_url, "bce", *given)
    assert caught.value.code == code
    assert advice in caught.value.detail


@pytest.mark.parametrize("method", ["ready", "info", "bce"])
def test_a_base_url_that_goes_too_far(ask: Ask, base_url: str, method: str) -> None:
    for route in ("bce", "readyz"):
        with pytest.raises(lossd_client.NotFound) as caught:
            ask(f"{base_url}/{route}", method, *((X, Y) if method == "bce" else ()))
        assert caught.value.detail.endswith(f"; base_url ends before /{route}")
    with pytest.raises(lossd_client.NotFound) as caught:
        ask(f"{base_url}/elsewhere", method, *((X, Y) if method == "bce" else ()))
    assert "base_url" not in caught.value.detail


@pytest.mark.parametrize("options", [{}, {"request_bytes": 24}])
@pytest.mark.parametrize(
    ("ids", "more", "said"),
    [
        ([1, 3], {}, "from 1 to 3"),
        ([0, 3], {}, "from 0 to 3"),
        ([1, 0, 3], {"background_index": 0}, "from 1 to 3"),
        ([1, -1, 3], {"ignore_index": -1}, "from 1 to 3"),
    ],
)
def test_ids_that_may_count_from_1(
    ask: Ask, base_url: str, ids: list[int], more: dict[str, Any], said: str, options: dict[str, Any]
) -> None:
    with pytest.raises(lossd_client.InvalidRequest) as caught:
        ask(base_url, "bce", np.zeros((len(ids), 3)), ids, targets_format="index", options=options, **more)
    detail = caught.value.detail
    assert (
        f"here the ids go {said}: if 0 is a background, subtract 1 from all and give background_index=-1"
        in detail
    )
    for remedy in ("subtract 1", "background_index=3", "ignore_index=3"):  # the server's
        assert remedy in detail


def test_ids_far_beyond_are_left_to_the_server(ask: Ask, base_url: str) -> None:
    with pytest.raises(lossd_client.InvalidRequest) as caught:
        ask(base_url, "bce", np.zeros((2, 3)), [1, 255], targets_format="index")
    assert "here the ids go" not in caught.value.detail


class Newer(HttpxTransport):
    """The transport of a client of a later version, with a parameter that this server does not know."""

    def send(self, request: Request, timeout: Timeout) -> Response:
        return super().send(replace(request, query=(*request.query, ("axes", "0"))), timeout)


@pytest.mark.parametrize(
    ("method", "args"), [("bce", (X, Y)), ("report", ("bce", X, Y)), ("score_stream", ("bce", [(X, Y)]))]
)
def test_a_parameter_that_an_older_server_does_not_know(base_url: str, method: str, args: Any) -> None:  # noqa: ANN401
    """No other parameter is proposed, which would give another loss."""
    with LossClient(base_url, transport=Newer) as client:
        with pytest.raises(lossd_client.InvalidRequest) as caught:
            getattr(client, method)(*args)
        assert caught.value.detail == (
            "bce has no parameter 'axes': the server is too old for it; upgrade it to this client's version "
            "of lossd (`lossd doctor` shows both)"
        )


def test_errors_survive_pickling() -> None:
    error = lossd_client.InvalidRequest(
        422, "bad_shape", "d", "r", False, (errors.ErrorItem("/a", "b"),), 1.5
    )
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert again.args == error.args
    assert (str(again), again.retry_after) == (str(error), 1.5)


def test_nobody_listens(ask: Ask) -> None:
    with socket.socket() as taken:  # bound, not listening
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(lossd_client.ConnectionFailed, match=re.escape(url)):
            ask(url, "bce", X, Y)


def test_https_where_there_is_none(ask: Ask, base_url: str) -> None:
    url = base_url.replace("http:", "https:")
    with pytest.raises(
        lossd_client.ConnectionFailed, match=rf"if the server speaks http, base_url is {base_url}$"
    ) as caught:
        ask(url, "bce", X, Y)
    assert not caught.value.retryable


def test_http_where_there_is_https(ask: Ask, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*make_certificate(tmp_path, "a"))
    with scripted(ALIVE, context) as url, pytest.raises(lossd_client.ConnectionFailed) as caught:
        ask(url.replace("https:", "http:"), "bce", X, Y)
    assert str(caught.value).endswith("; if the server speaks https, base_url begins with https://")


def test_http_where_a_server_says_that_it_awaits_tls(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def alert() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b"\x15\x03\x01\x00\x02\x02\x46")  # TLS: protocol_version

        thread = threading.Thread(target=alert)
        thread.start()
        with pytest.raises(lossd_client.ConnectionFailed, match=r"base_url begins with https://$"):
            ask(f"http://127.0.0.1:{listening.getsockname()[1]}", "bce", X, Y)
        thread.join()


def test_an_answer_that_breaks_off(ask: Ask, playback: Playback) -> None:
    playback.answer = Answer(b"{", declared=100)
    with pytest.raises(lossd_client.ConnectionFailed) as caught:
        ask(playback.url, "bce", X, Y)
    assert caught.value.connected


def test_an_answer_that_does_not_come(ask: Ask, playback: Playback) -> None:
    playback.hold.clear()
    with pytest.raises(lossd_client.TimedOut):
        ask(playback.url, "bce", X, Y, options={"timeout": 0.2})


@pytest.mark.parametrize("url", ["http://a b", "http://nowhere.invalid"])
def test_hosts_that_are_none(ask: Ask, url: str) -> None:
    with pytest.raises(lossd_client.ConnectionFailed):
        ask(url, "bce", X, Y)


@pytest.mark.parametrize("host", ["a..b", "a" * 70])
def test_hosts_that_no_name_server_takes(host: str) -> None:
    with (
        lossd_client.LossClient(f"http://{host}") as client,
        pytest.raises(lossd_client.ConnectionFailed, match=re.escape(host)) as caught,
    ):
        client.bce(X, Y)
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("HTTP_PROXY", "foo://u:hush@somewhere:1", r"foo://\[secure\]@somewhere:1"),
        ("HTTP_PROXY", "socks5://somewhere:1", "socks5://somewhere:1.*socksio"),
        ("HTTP_PROXY", "http://somewhere:bad", "http://somewhere:bad"),
        ("SSL_CERT_FILE", "/nowhere/certificates.pem", "/nowhere/certificates.pem"),
    ],
)
def test_an_environment_that_cannot_be_obeyed(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(lossd_client.ConnectionFailed, match=message) as caught:
        ask("http://elsewhere", "bce", X, Y)
    assert not caught.value.retryable
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("method", ["bce", "info"])
def test_an_answer_nested_too_deep(ask: Ask, playback: Playback, method: str) -> None:
    for playback.answer in (
        Answer(b"[" * 100_000),
        Answer(b'{"loss": ' + b"[" * 100_000),
        Answer(b'{"sum": 0, "count": 1e999, "loss": 0' if method == "bce" else b"1"),
    ):
        with pytest.raises(lossd_client.BadAnswer):
            ask(playback.url, method, *([X, Y] if method == "bce" else []))
    playback.answer = Answer(b"[" * 100_000, "application/problem+json", 422)
    with pytest.raises(lossd_client.InvalidRequest):
        ask(playback.url, method, *([X, Y] if method == "bce" else []))


def test_a_client_that_another_thread_closes(playback: Playback) -> None:
    playback.answer = Answer.of_problem(503, "overloaded", retryable=True)
    with lossd_client.LossClient(playback.url, retry=lossd_client.Retry(first_wait=0.2)) as client:
        closer = threading.Timer(0.1, client.close)
        closer.start()
        with pytest.raises(RuntimeError, match=r"^the client is closed$"):
            client.bce(X, Y)
        closer.join()


def test_what_gives_the_body_may_raise_what_it_likes(playback: Playback) -> None:
    def broken() -> Iterator[bytes]:
        yield b"1"
        raise kind("own")

    request = lossd_client.Request("POST", "/bce", stream=broken, base_url=playback.url)
    transport = HttpxTransport()
    for kind in (UnicodeError, httpx.ReadError, RuntimeError):
        with pytest.raises(kind, match=r"^own$"):
            transport.send(request, lossd_client.Timeout())
    transport.close()


def test_a_second_event_loop_is_told_at_once() -> None:
    client = lossd_client.AsyncLossClient(transport=AsyncFakeTransport)
    other = client.with_options(retry=None)
    assert asyncio.run(client.ready())
    for each in (client, other):
        for method in (each.info, each.ready):
            with pytest.raises(RuntimeError, match="belongs to the event loop in which it is first used"):
                asyncio.run(method())


def test_a_password_does_not_show(ask: Ask) -> None:
    with socket.socket() as taken:  # bound, not listening
        taken.bind(("127.0.0.1", 0))
        url = f"http://me:hush@127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(lossd_client.ConnectionFailed) as caught:
            ask(url, "bce", X, Y)
    assert "hush" not in str(caught.value)
    with lossd_client.LossClient(url) as client:
        assert "hush" not in repr(client)
        assert "hush" in client.base_url
    for bad in (
        "http://me:hush@host/?a",
        "http://me:hush@host:x",
        "http://me:hush/x@host",
        "ftp://me:hush@h",
    ):
        with pytest.raises(ValueError, match="base_url") as refused:
            lossd_client.LossClient(bad)
        assert "hush" not in str(refused.value)


def _tree(kind: type[Exception]) -> Iterator[type[Exception]]:
    yield kind
    for sub in kind.__subclasses__():
        yield from _tree(sub)


def _of_httpx() -> list[type[Exception]]:
    exported = (getattr(httpx, name) for name in httpx.__all__)
    tops = {item for item in exported if isinstance(item, type) and issubclass(item, Exception)}
    return sorted({sub for top in tops for sub in _tree(top)}, key=lambda kind: kind.__name__)


@pytest.mark.parametrize("foreign", _of_httpx(), ids=lambda kind: kind.__name__)
def test_every_exception_of_httpx_becomes_one_of_ours(
    foreign: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    raised: Any = foreign.__new__(foreign)  # their constructors differ

    def fail(*args: object, **kwargs: object) -> None:
        raise raised

    monkeypatch.setattr(httpx.Client, "stream", fail)
    client = lossd_client.LossClient()
    try:
        with pytest.raises(lossd_client.LossdError) as caught:
            client.ready()
    finally:
        client.close()
    assert type(caught.value) is type(own_error(raised, ""))
    if issubclass(foreign, httpx.TimeoutException):
        assert isinstance(caught.value, lossd_client.TimedOut)
    elif issubclass(foreign, httpx.TransportError | httpx.InvalidURL):
        assert isinstance(caught.value, lossd_client.ConnectionFailed)


def test_the_tree_is_the_drawn_one() -> None:
    drawn = re.findall(r"[├└]── (\w+)", errors.__doc__ or "")
    assert sorted(drawn) == sorted({kind.__name__ for kind in _tree(errors.LossdError)} - {"LossdError"})


@pytest.mark.parametrize(
    ("foreign", "retryable"),
    [
        (httpx.ConnectError, True),
        (httpx.ConnectTimeout, True),  # nothing was sent yet
        (httpx.ReadError, True),
        (httpx.WriteError, True),
        (httpx.RemoteProtocolError, True),
        (httpx.ReadTimeout, False),
        (httpx.WriteTimeout, False),
        (httpx.PoolTimeout, False),
        (httpx.LocalProtocolError, False),
        (httpx.UnsupportedProtocol, False),
        (httpx.DecodingError, False),
    ],
)
def test_which_of_them_may_pass(foreign: type[Exception], retryable: bool) -> None:
    assert own_error(foreign("x"), "").retryable is retryable


def test_a_certificate_that_is_not_trusted_will_not_be_in_a_second() -> None:
    error = httpx.ConnectError("x")
    error.__cause__ = ssl.SSLCertVerificationError("self-signed")
    assert not own_error(error, "").retryable


@pytest.mark.parametrize(
    ("loss", "inputs", "targets", "code"),
    [
        ("box", np.zeros((3, 4)), np.zeros(3), "shape_mismatch"),
        ("squared", np.ones((2, 3)), np.full((2, 3), np.inf), "target_out_of_range"),
    ],
)
def test_a_mistake_that_the_loss_does_not_know_is_not_named(
    ask: Ask, base_url: str, loss: str, inputs: NDArray[Any], targets: NDArray[Any], code: str
) -> None:
    with pytest.raises(lossd_client.InvalidRequest) as caught:
        ask(base_url, loss, inputs, targets)
    assert caught.value.code == code
    assert "targets_format" not in caught.value.detail
    assert "swapped?" not in caught.value.detail
