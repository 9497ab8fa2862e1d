"""Reading Content-Type, Accept and Accept-Encoding (RFC 9110)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from lossd.types import ErrorCode, RequestError

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 -- RFC 9110's token
_PARAMETER: Final = re.compile(rf'\s*;\s*(?:({_TOKEN})\s*=\s*(?:({_TOKEN})|"((?:[^"\\]|\\.)*)"))?', re.ASCII)
_TYPE: Final = re.compile(rf"\s*({_TOKEN}/{_TOKEN})", re.ASCII)


Coding: TypeAlias = Literal["gzip", "deflate"]
CODINGS: Final[tuple[Coding, ...]] = ("gzip", "deflate")
"""Content codings of answers, the preferred one first."""


@dataclass(frozen=True, slots=True)
class MediaType:
    """A media type, such as ``multipart/form-data``, and its parameters; names in lower case."""

    name: str
    options: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """An answer's format: JSON, or the loss alone as a .npy file of a dtype."""

    format: Literal["json", "npy"]
    dtype: Literal["float64", "float32"] = "float64"


JSON: Final = AnswerForm("json")
_NPY: Final = AnswerForm("npy")
_NPY_FLOAT32: Final = AnswerForm("npy", "float32")


def parse_media_type(value: str) -> MediaType | None:
    """Parse a Content-Type, or one range of an Accept header; return None for a malformed one."""
    match = _TYPE.match(value)
    if not match:
        return None
    options: dict[str, str] = {}
    position = match.end()
    while position < len(value) and (part := _PARAMETER.match(value, position)):
        position = part.end()
        name, token, quoted = part.groups()
        if name:
            options[name.lower()] = token if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
    return None if value[position:].strip() else MediaType(match[1].lower(), options)


def choose_answer(accept: str | None) -> AnswerForm:
    """Return the answer format that an Accept header prefers; JSON if it has no preference.

    Raises:
        RequestError: ``not_acceptable``: it accepts no format that the server has.
    """
    if accept is None or not accept.strip() or accept.strip() == "*/*":
        return JSON
    ranges = [media for part in _split(accept) if (media := parse_media_type(part))]
    best, best_quality = None, 0.0
    for form in (JSON, _NPY, _NPY_FLOAT32):  # the first of equal ones wins
        if (quality := _quality(form, ranges)) > best_quality:
            best, best_quality = form, quality
    if best is None:
        detail = (
            f"cannot answer as {accept[:100]!r}; accept application/json, application/x-npy or "
            "application/x-npy;dtype=float32"
        )
        raise RequestError(ErrorCode.NOT_ACCEPTABLE, detail)
    return best


def choose_coding(accept: str | None) -> Coding | None:
    """Return the content coding that an Accept-Encoding header prefers; None for no coding."""
    wanted: dict[str, float] = {}
    for item in (accept or "").lower().split(","):
        name, *options = (part.strip() for part in item.split(";"))
        wanted[name] = _q(next((option[2:] for option in options if option.startswith("q=")), "1"))
    rest = wanted.get("*", 0.0)
    best = max(CODINGS, key=lambda coding: wanted.get(coding, rest))  # the first of equal ones
    return best if 0.0 < wanted.get(best, rest) >= wanted.get("identity", 0.0) else None


def _quality(form: AnswerForm, ranges: list[MediaType]) -> float:
    """Return the q-value of the most specific range that covers a format; 0 if none does."""
    main, sub = "application", "json" if form.format == "json" else "x-npy"
    found, specificity = 0.0, -1
    for media in ranges:
        range_main, _, range_sub = media.name.partition("/")
        if range_main not in ("*", main) or range_sub not in ("*", sub):
            continue
        exact = range_sub != "*"
        dtype = media.options.get("dtype", "float64").lower() if exact else "float64"
        if form.format == "npy" and dtype != form.dtype:
            continue
        rank = (range_main != "*") + exact
        if rank > specificity:
            found, specificity = _q(media.options.get("q", "1")), rank
    return found


def _q(text: str) -> float:
    return float(text) if re.fullmatch(r"0(\.\d{0,3})?|1(\.0{0,3})?", text, re.ASCII) else 0.0


def _split(accept: str) -> list[str]:
    """Split a header at its commas, except those within quotes."""
    return re.findall(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+', accept)
