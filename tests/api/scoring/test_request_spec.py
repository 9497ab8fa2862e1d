"""Plans: made once for what is said again, and never for what is at fault."""

from __future__ import annotations

import pytest

from lossd.api.scoring.request_spec import Said, format_name, make_plan, said_by
from lossd.types import RequestError

NPY = Said(b"gamma=2", "application/x-npy", None, None, None)


def test_the_same_words_have_the_same_plan() -> None:
    first = make_plan("focal", NPY)
    assert make_plan("focal", Said(*NPY)) is first
    for other in (NPY._replace(query=b"gamma=3"), NPY._replace(timeout_ms="5")):
        assert make_plan("focal", other) is not first
    assert first.params["gamma"] == 2.0
    assert first.names == ("logits", "targets")


def test_what_is_long_is_not_kept() -> None:
    long = NPY._replace(accept="application/json, " * 300)
    assert make_plan("focal", long) is not make_plan("focal", long)


@pytest.mark.parametrize(
    ("said", "code"),
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
def test_the_first_fault_is_named_each_time(said: Said, code: str) -> None:
    for _ in range(2):
        with pytest.raises(RequestError) as caught:
            make_plan("focal", said)
        assert caught.value.code == code


def test_headers_of_a_name_are_joined() -> None:
    headers = [
        (b"content-type", b" application/x-npy"),
        (b"accept", b"text/html"),
        (b"accept", b"application/json"),
        (b"x-timeout-ms", b"5"),
    ]
    said = said_by({"query_string": b"a=1", "headers": headers})
    assert said == Said(b"a=1", "application/x-npy", None, "text/html, application/json", "5")


def test_formats_have_names_also_beside_a_fault() -> None:
    assert format_name("application/x-npy; a=b") == "npy"
    assert format_name("application/vnd.apache.arrow.stream") == "arrow"
    assert format_name("text/html") == format_name(None) == format_name(";") == "none"
