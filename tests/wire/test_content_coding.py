from __future__ import annotations

import gzip
import random
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterable, Mapping
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossd.types import RequestError
from lossd.wire.content_coding import CHUNK_BYTES, MAX_MEMBERS, Decoder, make_decoder
from wire.feeding import check_error, split_at

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TEXT = bytes(random.Random(1).choices(range(64), k=700))


def gzipped(data: bytes) -> bytes:
    file = BytesIO()
    with gzip.GzipFile("logits.npy", "wb", fileobj=file, mtime=0) as member:
        member.write(data)
    return file.getvalue()


def frames(data: bytes, window_log: int | None = None, *, checked: bool = True) -> bytes:
    """Return a zstd frame without its content's length."""
    options = {int(zstd.CompressionParameter.checksum_flag): int(checked)}
    if window_log is not None:
        options[zstd.CompressionParameter.window_log] = window_log
    compressor = zstd.ZstdCompressor(options=options)
    return compressor.compress(data) + compressor.flush()


def skipped(data: bytes) -> bytes:
    """Return a zstd frame that decoders skip."""
    return b"\x5a\x2a\x4d\x18" + len(data).to_bytes(4, "little") + data


WRITERS: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": gzipped,
    "deflate": zlib.compress,
    "zstd": frames,
}


WITNESSES: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
    "zstd": zstd.decompress,
}


def decoder(coding: str) -> Decoder:
    made = make_decoder(coding)
    assert made is not None
    return made


def decode(coding: str, chunks: Iterable[bytes]) -> bytes:
    reading = decoder(coding)
    found = b"".join(plain for chunk in chunks for plain in reading.feed(chunk))
    reading.finish()
    return found


def outcome(coding: str, chunks: Iterable[bytes]) -> bytes | RequestError:
    """Return the decoded bytes or the error; any other exception is the test's failure."""
    try:
        return decode(coding, chunks)
    except RequestError as error:
        check_error(error)
        return error


def refused(coding: str, chunks: Iterable[bytes]) -> RequestError:
    result = outcome(coding, chunks)
    assert isinstance(result, RequestError)
    return result


@pytest.mark.parametrize("value", [None, "", " ", "identity", "Identity", " identity "])
def test_what_is_not_coded(value: str | None) -> None:
    assert make_decoder(value) is None


@pytest.mark.parametrize("value", ["gzip", "GZIP", "x-gzip", " gzip\t", "deflate", "Deflate", "zstd", "ZSTD"])
def test_names(value: str) -> None:
    writer = WRITERS[value.strip().lower().removeprefix("x-")]
    assert decode(value, [writer(TEXT)]) == TEXT


@pytest.mark.parametrize(
    "value",
    [
        "br",
        "compress",
        "gzip, gzip",
        "gzip,identity",
        "identity, gzip",
        "gzip;q=1",
        "*",
        "x" * 10_000,
        "\x00é",
    ],
)
def test_other_codings_are_refused(value: str) -> None:
    with pytest.raises(RequestError, match="send one of identity, gzip, deflate and zstd") as caught:
        make_decoder(value)
    assert caught.value.code == "unsupported_encoding"
    check_error(caught.value)


@pytest.mark.parametrize("coding", WRITERS)
def test_whole_and_byte_by_byte(coding: str) -> None:
    body = WRITERS[coding](TEXT)
    assert decode(coding, [body]) == TEXT
    assert decode(coding, split_at(body, range(len(body)))) == TEXT
    assert decode(coding, [b"", body, b""]) == TEXT


@given(st.sampled_from(sorted(WRITERS)), st.binary(max_size=2000), st.lists(st.integers(0, 2000), max_size=8))
def test_cut_anywhere(coding: str, data: bytes, cuts: list[int]) -> None:
    assert decode(coding, split_at(WRITERS[coding](data), cuts)) == data


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzipped(TEXT[:300]) + gzipped(b"") + gzipped(TEXT[300:])),
        ("gzip", gzip.compress(TEXT[:1], mtime=0) + gzip.compress(TEXT[1:], compresslevel=0, mtime=0)),
        ("zstd", frames(TEXT[:300]) + zstd.compress(b"") + zstd.compress(TEXT[300:])),
        ("zstd", skipped(b"") + frames(TEXT[:300], checked=False) + skipped(bytes(99)) + frames(TEXT[300:])),
    ],
)
def test_several_streams_follow_each_other(coding: str, body: bytes) -> None:
    assert decode(coding, [body]) == TEXT
    assert decode(coding, split_at(body, range(len(body)))) == TEXT
    for cut in range(len(body)):
        assert decode(coding, split_at(body, [cut])) == TEXT


@pytest.mark.parametrize("coding", WRITERS)
def test_much_that_does_not_compress(coding: str) -> None:
    data = random.Random(3).randbytes(3 << 20)
    body = WRITERS[coding](data)
    assert decode(coding, [body]) == data
    assert decode(coding, split_at(body, range(0, len(body), 100_003))) == data


@pytest.mark.parametrize("level", [1, 3, 19])
def test_zstd_levels_of_one_shot(level: int) -> None:
    data = TEXT * 5000
    assert decode("zstd", [zstd.compress(data, level)]) == data


@pytest.mark.parametrize("coding", WRITERS)
def test_truncated_anywhere(coding: str) -> None:
    body = WRITERS[coding](TEXT)
    for length in range(len(body)):
        error = refused(coding, [body[:length]])
        assert error.code == "truncated_body"
        assert f"after {length} bytes; send all" in error.detail


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_a_second_stream_truncated_anywhere(coding: str) -> None:
    body = WRITERS[coding](TEXT)
    for length in range(1, len(body)):
        assert refused(coding, [body, body[:length]]).code == "truncated_body"


@pytest.mark.parametrize(
    ("coding", "more"),
    [
        ("gzip", b"\0"),
        ("gzip", b"\0" * 512),
        ("gzip", zlib.compress(TEXT)),
        ("deflate", b"\0"),
        ("deflate", zlib.compress(TEXT)),
        ("zstd", b"\0"),
        ("zstd", gzipped(TEXT)),
    ],
)
def test_trailing_bytes(coding: str, more: bytes) -> None:
    body = WRITERS[coding](TEXT)
    for chunks in ([body + more], [body, more], split_at(body + more, range(len(body + more)))):
        error = refused(coding, chunks)
        assert error.code == "trailing_bytes"
        assert f"from byte {len(body)} on; end the body there" in error.detail


CORRUPT: Mapping[str, tuple[str, bytes, str]] = {
    "gzip, not gzip": ("gzip", b'{"logits": [1]}', "not valid gzip between bytes 0 and 15: incorrect header"),
    "gzip, zlib": ("gzip", zlib.compress(TEXT), "incorrect header check"),
    "gzip, CRC": ("gzip", gzipped(TEXT)[:-8] + bytes(8), "incorrect data check; compress it again"),
    "gzip, length": ("gzip", gzipped(TEXT)[:-4] + bytes(4), "incorrect length check"),
    "gzip, a bad second": ("gzip", gzipped(TEXT) + b"\x1f\0", "not valid gzip between bytes"),
    "deflate, raw": (
        "deflate",
        zlib.compress(TEXT, wbits=-15),
        r"not valid deflate \(zlib, RFC 1950\) between bytes 0",
    ),
    "deflate, gzip": ("deflate", gzipped(TEXT), "incorrect header check"),
    "deflate, checksum": ("deflate", zlib.compress(TEXT)[:-1] + b"\0", "incorrect data check"),
    "deflate, with a dictionary": (
        "deflate",
        b"\x78\xbb\0\0\0\1" + zlib.compress(TEXT)[2:],
        "not valid deflate .* Error 2 while",
    ),
    "zstd, not zstd": ("zstd", b'{"logits": [1]}', "not valid zstd between bytes 0 and 15: Unknown frame"),
    "zstd, version 0.7": ("zstd", b"\x27\xb5\x2f\xfd" + frames(TEXT)[4:], "Unknown frame"),
    "zstd, checksum": ("zstd", frames(TEXT)[:-4] + bytes(4), "checksum; compress it again"),
    "zstd, a bad second": ("zstd", frames(TEXT) + b"\x28\0\0\0\0", "not valid zstd between bytes"),
}


@pytest.mark.parametrize("case", CORRUPT)
def test_corrupt_data(case: str) -> None:
    coding, body, words = CORRUPT[case]
    with pytest.raises(RequestError, match=words) as caught:
        decode(coding, [body])
    assert caught.value.code == "bad_request"
    check_error(caught.value)
    assert refused(coding, split_at(body, range(len(body)))).code == "bad_request"


def test_where_it_is_corrupt() -> None:
    block = b"\0\xff\xff\0\0" + bytes(0xFFFF)  # stored: its length, and that inverted
    body = b"\x78\x01" + block * 3 + b"\0\xff\xff\0\1" + block * 3
    with pytest.raises(RequestError, match=r"between bytes 196608 and 262144: invalid stored block lengths"):
        decode("deflate", [body])


@pytest.mark.parametrize("window_log", [24, 27, 31])
def test_a_zstd_window_is_at_most_8_mib(window_log: int) -> None:
    data = bytes(9 << 20)
    assert decode("zstd", [frames(data, 23)]) == data
    body = frames(data, window_log)
    for chunks in ([body], split_at(body, range(40))):
        with pytest.raises(
            RequestError, match="has a window over 8 MiB; compress with a window log of"
        ) as caught:
            decode("zstd", chunks)
        assert caught.value.code == "unsupported_encoding"
        check_error(caught.value)


# Bombs.


def bomb(coding: str, size: int) -> bytes:
    """Return zeros."""
    if coding == "zstd":
        return zstd.compress(bytes(size), 1)
    compressor = zlib.compressobj(9, wbits={"gzip": 31, "deflate": 15}[coding])
    coded = b"".join(compressor.compress(bytes(1 << 20)) for _ in range(size >> 20))
    return coded + compressor.flush()


@pytest.mark.parametrize("coding", WRITERS)
def test_a_bomb_is_never_held(coding: str) -> None:
    size = 64 << 20
    body = bomb(coding, size)
    assert len(body) < size / 900
    reading = decoder(coding)
    found, longest = 0, 0
    tracemalloc.start()
    for plain in reading.feed(body):
        found += len(plain)
        longest = max(longest, len(plain))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    reading.finish()
    assert found == size
    assert longest == CHUNK_BYTES
    assert peak < 4 * CHUNK_BYTES


@pytest.mark.parametrize("coding", WRITERS)
def test_a_bomb_is_decoded_only_as_far_as_it_is_asked(coding: str) -> None:
    body = bomb(coding, 64 << 20)
    begin = time.thread_time()
    first = next(filter(None, decoder(coding).feed(body)))
    assert time.thread_time() - begin < 0.05
    assert 0 < len(first) <= CHUNK_BYTES


@pytest.mark.parametrize(("coding", "empty"), [("gzip", gzipped(b"")), ("zstd", zstd.compress(b""))])
def test_streams_of_nothing_are_counted(coding: str, empty: bytes) -> None:
    begin = time.thread_time()
    assert decode(coding, [empty * MAX_MEMBERS]) == b""
    with pytest.raises(
        RequestError, match=f"more than {MAX_MEMBERS} {coding} streams, .*; compress it as one"
    ) as caught:
        decode(coding, [empty * (MAX_MEMBERS + 1)])
    assert caught.value.code == "bad_request"
    assert time.thread_time() - begin < 5


# Mutants.


@pytest.mark.parametrize("coding", WRITERS)
def test_mutants_are_decoded_as_others_do_or_refused(coding: str) -> None:
    chance = random.Random(20240607)
    writer = WRITERS[coding]
    bodies = [writer(TEXT), writer(bytes(5000)), writer(TEXT * 9)]
    if coding != "deflate":
        bodies.append(writer(TEXT[:50]) + writer(b"") + writer(TEXT[50:]))
    refusals = 0
    for _ in range(2000):
        wrong = bytearray(chance.choice(bodies))
        for _ in range(chance.choice((1, 1, 2, 3))):
            at = chance.randrange(len(wrong) + 1)
            match chance.randrange(4):
                case 0:
                    wrong[at:] = b""
                case 1:
                    other = chance.choice(bodies)
                    begin = chance.randrange(len(other))
                    wrong[at:at] = other[begin : begin + chance.randrange(200)]
                case 2:
                    wrong[at : at + 1] = bytes([chance.randrange(256)])
                case _ if at < len(wrong):
                    wrong[at] ^= 1 << chance.randrange(8)
        started = time.thread_time()
        result = outcome(coding, split_at(bytes(wrong), [chance.randrange(len(wrong) + 1)]))
        assert time.thread_time() - started < 1
        if isinstance(result, RequestError):
            refusals += 1
        else:
            assert result == WITNESSES[coding](bytes(wrong))
    assert refusals > 1000
