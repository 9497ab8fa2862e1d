"""Requests that two programs could read in two ways: one answer each, and nothing behind them is done."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable

import pytest

from faults.observe import total
from faults.raw import talk
from live_server import LiveServer
from lossd.api.small_requests.heads import read_head

JSON = b'{"logits": [1], "targets": [1]}'
USUAL = b"Host: x\r\nContent-Type: application/json\r\n"
BEHIND = b"POST /bce HTTP/1.1\r\n" + USUAL + b"Content-Length: %d\r\n\r\n" % len(JSON) + JSON
"""What would be smuggled."""
ORDINARY = BEHIND.replace(b"\r\n\r\n", b"\r\nContent-Encoding: identity\r\n\r\n")
"""The same, but that it does not take the fast lane."""


def head(*fields: bytes, line: bytes = b"POST /bce HTTP/1.1", usual: bytes = USUAL) -> bytes:
    return line + b"\r\n" + usual + b"".join(field + b"\r\n" for field in fields) + b"\r\n"


def with_length(*fields: bytes, line: bytes = b"POST /bce HTTP/1.1", usual: bytes = USUAL) -> bytes:
    return head(b"Content-Length: %d" % len(JSON), *fields, line=line, usual=usual) + JSON


def get(target: bytes, *fields: bytes, version: bytes = b"HTTP/1.1") -> bytes:
    return head(*fields, line=b"GET " + target + b" " + version, usual=b"Host: x\r\n")


def host(*fields: bytes, version: bytes = b"HTTP/1.1") -> bytes:
    return head(*fields, line=b"GET /livez " + version, usual=b"")


def chunked(text: bytes, coding: bytes = b"Transfer-Encoding: chunked") -> bytes:
    return head(coding) + text


CHUNKS = b"%x\r\n" % len(JSON) + JSON + b"\r\n0\r\n\r\n"
REFUSED = {
    # hosts
    "no Host": host(),
    "two Hosts": host(b"Host: x", b"Host: y"),
    "the same Host twice": host(b"Host: x", b"Host: x"),
    "two Hosts, HTTP/1.0": host(b"Host: x", b"Host: y", version=b"HTTP/1.0"),
    "a path in Host": host(b"Host: x/livez?"),
    "a query in Host": host(b"Host: x?y"),
    "a user in Host": host(b"Host: x@y"),
    "a list in Host": host(b"Host: x y"),
    "a fragment in Host": host(b"Host: x#"),
    "a backslash in Host": host(b"Host: x\\y"),
    "a Host that is not ASCII": host(b"Host: \xc3\xa4"),
    "a port that is no number": host(b"Host: x:eighty"),
    "two ports": host(b"Host: x:80:80"),
    "half an address": host(b"Host: [::1"),
    # lengths
    "a length and chunks": head(b"Content-Length: %d" % len(CHUNKS), b"Transfer-Encoding: chunked") + CHUNKS,
    "chunks and a length": head(b"Transfer-Encoding: chunked", b"Content-Length: 4") + CHUNKS,
    "two lengths": with_length(b"Content-Length: 5"),
    "the same length twice": with_length(b"Content-Length: %d" % len(JSON)),
    "a list of lengths": head(b"Content-Length: 31, 31") + JSON,
    "a signed length": head(b"Content-Length: +31") + JSON,
    "a negative length": head(b"Content-Length: -31") + JSON,
    "a hexadecimal length": head(b"Content-Length: 0x1f") + JSON,
    "a length with a fraction": head(b"Content-Length: 31.0") + JSON,
    "a length of two numbers": head(b"Content-Length: 3 1") + JSON,
    "an empty length": head(b"Content-Length:") + JSON,
    "a length beyond 64 bits": head(b"Content-Length: 18446744073709551647") + JSON,
    "a length in other digits": head("Content-Length: ३१".encode()) + JSON,
    "a length on the next line": head(b"Content-Length:\r\n 31") + JSON,
    # codings
    "gzip": chunked(CHUNKS, b"Transfer-Encoding: gzip"),
    "gzip and chunked": chunked(CHUNKS, b"Transfer-Encoding: gzip, chunked"),
    "chunked twice": chunked(CHUNKS, b"Transfer-Encoding: chunked, chunked"),
    "chunked on two lines": chunked(CHUNKS, b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
    "identity, then chunked": chunked(CHUNKS, b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked"),
    "chunked, then identity": chunked(CHUNKS, b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
    "identity": chunked(CHUNKS, b"Transfer-Encoding: identity"),
    "something like chunked": chunked(CHUNKS, b"Transfer-Encoding: xchunked"),
    "chunked with a parameter": chunked(CHUNKS, b"Transfer-Encoding: chunked;q=1"),
    "chunked in quotes": chunked(CHUNKS, b'Transfer-Encoding: "chunked"'),
    "chunked behind a tab of another kind": chunked(CHUNKS, b"Transfer-Encoding: \x0bchunked"),
    "chunked on the next line": chunked(CHUNKS, b"Transfer-Encoding:\r\n chunked"),
    "no coding": chunked(CHUNKS, b"Transfer-Encoding:"),
    "chunks on HTTP/1.0": head(b"Transfer-Encoding: chunked", line=b"POST /bce HTTP/1.0") + CHUNKS,
    # lines and names
    "a space before the colon": head(b"Content-Length : 31") + JSON,
    "a tab before the colon": head(b"Transfer-Encoding\t: chunked") + CHUNKS,
    "an offer with a space before the colon": head(b"Connection: upgrade", b"Upgrade : h2c"),
    "a folded line": with_length(b"X-A: b\r\n c"),
    "a line folded by a tab": with_length(b"X-A: b\r\n\tc"),
    "a space before the first name": b"GET /livez HTTP/1.1\r\n Host: x\r\n\r\n",
    "no colon": with_length(b"X-A"),
    "no name": with_length(b": b"),
    "a name with a space": with_length(b"X A: b"),
    "a bare LF after a line": b"POST /bce HTTP/1.1\r\nHost: x\nContent-Length: 0\r\n\r\n",
    "bare LFs": b"GET /livez HTTP/1.1\nHost: x\n\n",
    "a bare LF at the end": b"GET /livez HTTP/1.1\r\nHost: x\r\n\n",
    "a bare CR in a value": with_length(b"X-A: b\rContent-Length: 0"),
    "a bare CR at the end": b"GET /livez HTTP/1.1\r\nHost: x\r\n\rX",
    "two CRs": b"GET /livez HTTP/1.1\r\nHost: x\r\r\n\r\n",
    "a NUL in a value": with_length(b"X-A: b\x00c"),
    "a NUL in a name": with_length(b"X-A\x00: b"),
    "a control character": with_length(b"X-A: \x01"),
    "a DEL": with_length(b"X-A: \x7f"),
    # first lines
    "HTTP/0.9": b"GET /livez\r\n\r\n",
    "HTTP/0.9 by its name": get(b"/livez", version=b"HTTP/0.9"),
    "HTTP/1.2": get(b"/livez", version=b"HTTP/1.2"),
    "HTTP/2.0": get(b"/livez", version=b"HTTP/2.0"),
    "HTTP/2, as it begins": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/3.0": get(b"/livez", version=b"HTTP/3.0"),
    "HTTP/1.10": get(b"/livez", version=b"HTTP/1.10"),
    "a small http": get(b"/livez", version=b"http/1.1"),
    "another protocol": get(b"/livez", version=b"ICE/1.0"),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "a small method": b"get /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "an unknown method": b"BREW /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "a tab behind the method": b"GET\t/livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "a space before the method": b" GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "a space behind the version": b"GET /livez HTTP/1.1 \r\nHost: x\r\n\r\n",
    "a space in the target": get(b"/livez x"),
    "no slash": get(b"livez"),
    "a fragment": get(b"/livez#x"),
    "a fragment behind a query": get(b"/livez?x#y"),
    "a control character in the target": get(b"/livez\x01"),
    "a NUL in the target": get(b"/livez\x00"),
    "a target that is not ASCII": get(b"/livez\xff"),
    "an authority": get(b"x:80"),
    "CONNECT": b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
    "CONNECT to a path": b"CONNECT /livez HTTP/1.1\r\nHost: x\r\n\r\n",
    "a user in an absolute target": get(b"http://u@x/livez"),
    "no host in an absolute target": get(b"http:///livez"),
    "a port that is none in an absolute target": get(b"http://x:99999/livez"),
    "a port alone in an absolute target": get(b"http://:80/livez"),
    "no path in an absolute target": get(b"http://x"),
    "all there is": get(b"*"),
    "another scheme": get(b"ftp://x/livez"),
    # chunks
    "a size in 0x": chunked(b"0x1f\r\n" + JSON + b"\r\n0\r\n\r\n"),
    "a signed size": chunked(b"+1f\r\n" + JSON + b"\r\n0\r\n\r\n"),
    "a negative size": chunked(b"-1f\r\n" + JSON + b"\r\n0\r\n\r\n"),
    "a size with an underscore": chunked(b"1_f\r\n" + JSON + b"\r\n0\r\n\r\n"),
    "a space behind a size": chunked(b"1f \r\n" + JSON + b"\r\n0\r\n\r\n"),
    "a space before a size": chunked(b" 1f\r\n" + JSON + b"\r\n0\r\n\r\n"),
    "no size": chunked(b"\r\n" + JSON + b"\r\n0\r\n\r\n"),
    "a size that is no number": chunked(b"zz\r\n" + JSON + b"\r\n0\r\n\r\n"),
    "a size beyond 64 bits": chunked(b"1000000000000001f\r\n" + JSON + b"\r\n0\r\n\r\n"),
    "a bare LF behind a size": chunked(b"1f\n" + JSON + b"\r\n0\r\n\r\n"),
    "a bare CR behind a size": chunked(b"1f\r" + JSON + b"\r\n0\r\n\r\n"),
    "a bare LF in an extension": chunked(b"1f;a\nb\r\n" + JSON + b"\r\n0\r\n\r\n"),
    "a chunk that is longer than its size": chunked(b"5\r\n" + JSON + b"\r\n0\r\n\r\n"),
    "a bare LF behind a chunk": chunked(b"1f\r\n" + JSON + b"\n0\r\n\r\n"),
    "a bare LF at the end of chunks": chunked(b"1f\r\n" + JSON + b"\r\n0\r\n\n"),
    "thousands of zeros before a length": head(b"Content-Length: " + b"0" * 5000 + b"31") + JSON,
    "a length behind the chunks": chunked(CHUNKS[:-2] + b"Content-Length: 5\r\n\r\n"),
    "a coding behind the chunks": chunked(CHUNKS[:-2] + b"Transfer-Encoding: chunked\r\n\r\n"),
}
TAKEN = {
    "a port": (host(b"Host: x:80"), 200),
    "an address": (host(b"Host: [::1]:80"), 200),
    "an empty Host": (host(b"Host:"), 200),
    "a Host in capitals, with spaces around": (host(b"HOST: \tEXAMPLE.org \t"), 200),
    "no Host on HTTP/1.0": (host(version=b"HTTP/1.0"), 200),
    "an absolute target": (get(b"http://y:80/livez"), 200),
    "an absolute target of HTTPS": (get(b"HTTPS://y/livez"), 200),
    "the options of all there is": (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 204),
    "an empty line before": (b"\r\n" + get(b"/livez"), 200),
    "a path that is quoted": (get(b"/%6Civez"), 200),
    "two slashes": (get(b"//livez"), 404),
    "a slash behind": (get(b"/livez/"), 404),
    "a parameter of a path": (get(b"/livez;x"), 404),
    "dots": (get(b"/x/../livez"), 404),
    "a quoted slash": (get(b"/%2Flivez"), 404),
    "a quoted NUL": (get(b"/livez%00"), 404),
    "a quoted line end": (get(b"/livez%0d%0a"), 404),
    "a URL in a path": (get(b"/http://x/livez"), 404),
    "spaces behind a length": (head(b"Content-Length: 31 ") + JSON, 200),
    "zeros before a length": (head(b"Content-Length: 0031") + JSON, 200),
    "a length of another name": (with_length(b"Content_Length: 5"), 200),
    "chunks": (chunked(CHUNKS), 200),
    "chunks in capitals": (chunked(CHUNKS, b"TRANSFER-ENCODING: Chunked "), 200),
    "an extension": (chunked(CHUNKS.replace(b"f\r\n", b'f;a=b;c="d"\r\n', 1)), 200),
    "zeros before a size": (chunked(b"000" + CHUNKS), 200),
    "trailers": (chunked(CHUNKS[:-2] + b"X-Timeout-Ms: 0\r\nHost: y\r\n\r\n"), 200),
    "an offer in trailers": (chunked(CHUNKS[:-2] + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n"), 200),
}


def ways(whole: bytes) -> list[list[bytes]]:
    """At once, and in small pieces."""
    return [[whole], re.findall(rb"(?s).{1,40}", whole)]


@pytest.mark.parametrize("whole", REFUSED.values(), ids=REFUSED)
def test_is_refused_and_nothing_behind_it_is_done(server: LiveServer, whole: bytes) -> None:
    before = total(server, "lossd_requests_total", outcome="ok")
    for pieces in ways(whole + BEHIND):
        received = talk(server, *pieces, pause=0.001 * (len(pieces) > 1))
        assert received.statuses == [400], received
        assert received.code == "bad_request"
        assert received.ended in ("closed", "reset")
    assert total(server, "lossd_requests_total", outcome="ok") == before


@pytest.mark.parametrize(("whole", "status"), TAKEN.values(), ids=TAKEN)
def test_is_taken_and_so_is_what_is_behind_it(server: LiveServer, whole: bytes, status: int) -> None:
    last = BEHIND.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    for pieces in ways(whole + last):
        received = talk(server, *pieces, pause=0.001 * (len(pieces) > 1))
        assert received.statuses == ([status] if b"HTTP/1.0" in whole else [status, 200]), received
        assert received.ended == "closed"


def test_who_was_before_is_answered_and_the_last(server: LiveServer) -> None:
    """There are fewer answers than requests: none is taken for another's."""
    for name, whole in REFUSED.items():
        for before, statuses in ((ORDINARY, [200, 200]), (BEHIND, [200, 200, 400])):
            received = talk(server, before + before + whole + BEHIND)
            assert received.statuses == statuses, (name, received)
            assert received.ended in ("closed", "reset")


def test_more_requests_than_one_waits_for(server: LiveServer) -> None:
    """They are taken as answers are read, so all are answered."""
    before = total(server, "lossd_requests_total", outcome="ok")
    assert talk(server, ORDINARY * 3000, answers=3000).statuses == [200] * 3000
    assert total(server, "lossd_requests_total", outcome="ok") - before == 3000
    for whole in (BEHIND, ORDINARY):
        assert talk(server, whole * 1000, answers=1000).statuses == [200] * 1000


NUMBERS = 20_000
TOKENS = [b'{"logits": [0', *[b", 1"] * NUMBERS, b'], "targets": [0', *[b", 1"] * NUMBERS, b"]}"]
"""A document as an encoder yields it."""


def in_chunks(tokens: Iterable[bytes], extension: bytes = b"") -> bytes:
    framed = b"".join(b"%x%b\r\n%b\r\n" % (len(token), extension, token) for token in tokens)
    return head(b"Transfer-Encoding: chunked", b"Connection: close") + framed + b"0\r\n\r\n"


def test_the_smallest_honest_chunks_are_taken(server: LiveServer) -> None:
    assert talk(server, in_chunks(TOKENS)).statuses == [200]


@pytest.mark.parametrize("extension", [b"", b";a=b"])
def test_chunks_of_a_byte_are_refused_once_they_are_many(server: LiveServer, extension: bytes) -> None:
    letters = [bytes((letter,)) for letter in b"".join(TOKENS)]
    received = talk(server, in_chunks(letters, extension))
    assert (received.statuses, received.code) == ([400], "bad_request")
    assert b"send larger chunks, or Content-Length" in received.raw
    few = [bytes((letter,)) for letter in JSON + b" " * 5_000]
    assert talk(server, in_chunks(few, extension)).statuses == [200]


NPY = b"POST /bce HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-npy\r\nContent-Length: 500\r\n\r\n"
STRICT = re.compile(
    rb"POST /[!$-~\"]+ HTTP/1\.1\r\n(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[ \t]*(?:[!-~\x80-\xff][ \t]*)*\r\n)+\r\n"
)
"""A head by RFC 9112, as strictly as it may be read."""


def test_the_fast_lane_takes_nothing_that_can_be_read_in_two_ways() -> None:
    for name, whole in REFUSED.items():
        first, blank, _ = whole.partition(b"\r\n\r\n")
        assert read_head((first + blank).replace(b"application/json", b"application/x-npy")) is None, name
    draw, taken = random.Random(1), 0
    odd = [b"\r", b"\n", b"\x00", b" ", b"\t", b":", b"\r\n", b"/", b"#", b"Host: y\r\n", b"\xff", b"5", b","]
    odd += [
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Length: 500\r\n",
        b"http://x",
        b"HTTP/1.0",
        b";",
        b"%",
    ]
    for _ in range(20_000):
        place = draw.randrange(len(NPY))
        mutant = NPY[:place] + draw.choice(odd) + NPY[place + draw.randrange(2) :]
        mutant = mutant[: mutant.find(b"\r\n\r\n") + 4]
        if not mutant or read_head(mutant) is None:
            continue
        taken += 1
        assert STRICT.fullmatch(mutant), mutant
        names = [line.partition(b":")[0].lower() for line in mutant.split(b"\r\n")[1:-2]]
        assert names.count(b"host") == names.count(b"content-length") == 1, mutant
        assert b"transfer-encoding" not in names, mutant
    assert taken > 100
