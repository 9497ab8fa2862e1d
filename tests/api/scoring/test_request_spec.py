"""Request specs: kept for fields that come again, never for refused ones."""

from __future__ import annotations

import pytest

from lossd.api.scoring.request_spec import SpecFields, format_name, read_spec, spec_fields
from lossd.types import RequestError

NPY = SpecFields(b"gamma=2", "application/x-npy", None, None, None)


def test_the_same_fields_have_the_same_spec() -> None:
    first = read_spec("focal", NPY)
    assert read_spec("focal", SpecFields(*NPY)) is first
    for other in (NPY._replace(query=b"gamma=3"), NPY._replace(timeout_ms="5")):
        assert read_spec("focal", other) is not first
    assert first.params["gamma"] == 2.0
    assert first.names == ("logits", "targets")


def test_long_fields_are_not_kept() -> None:
    long = NPY._replace(accept="application/json, " * 300)
    assert read_spec("focal", long) is not read_spec("focal", long)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        (NPY._replace(content_type=None), "unsupported_media_type"),
        (NPY._replace(content_type="text/html", content_encoding="br"), "unsupported_media_type"),
        (NPY._replace(content_encoding="br", accept="text/html"), "unsupported_encoding"),
        (NPY._replace(accept="text/html", query=b"gama=2"), "not_acceptable"),
        (NPY._replace(query=b"gama=2", timeout_ms="x"), "invalid_parameter"),
        (NPY._replace(query=b"tensors=1"), "invalid_parameter"),
        (NPY._replace(timeout_ms="0"), "invalid_parameter"),
    ],
)
def test_the_first_error_is_raised_each_time(fields: SpecFields, code: str) -> None:
    for _ in range(2):
        with pytest.raises(RequestError) as caught:
            read_spec("focal", fields)
        assert caught.value.code == code


def test_headers_of_a_name_are_joined() -> None:
    headers = [
        (b"content-type", b" application/x-npy"),
        (b"accept", b"text/html"),
        (b"accept", b"application/json"),
        (b"x-timeout-ms", b"5"),
    ]
    fields = spec_fields({"query_string": b"a=1", "headers": headers})
    assert fields == SpecFields(b"a=1", "application/x-npy", None, "text/html, application/json", "5")


def test_format_names_of_refused_requests() -> None:
    assert format_name("application/x-npy; a=b") == "npy"
    assert format_name("application/vnd.apache.arrow.stream") == "arrow"
    assert format_name("text/html") == format_name(None) == format_name(";") == "none"
