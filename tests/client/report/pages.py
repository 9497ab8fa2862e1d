"""Pages and fragments as tests read them, and reports to draw."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import numpy as np

from lossd_client.report import Report
from report_reference import SECTIONS, Request, true_document

VOID = {"meta", "br", "hr", "img", "input", "link", "base", "source", "embed"}
KNOWN = {
    *("html", "head", "body", "meta", "title", "style", "main", "div", "section", "h1", "h2", "h3", "p"),
    *("figure", "a", "strong", "ul", "li"),
    *("figcaption", "table", "caption", "thead", "tbody", "tr", "th", "td", "bdi", "details", "summary"),
    *("svg", "desc", "g", "rect", "path", "circle", "text"),
}
NASTY = ["<script>alert(1)</script>", "\"><img src=x onerror='alert(2)'>", "a & b", "\x00\x1b[31m", "é\u202e"]


class Page(HTMLParser):
    """The elements of a page, their attributes, and the text in them."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.by_element: list[tuple[str, str]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in KNOWN
        assert all(value is not None for _, value in attrs)
        assert len({name for name, _ in attrs}) == len(attrs)
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.by_element.append((self.open[-1], data))
        if self.open[-1:] != ["style"]:
            self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def texts_of(self, tag: str) -> list[str]:
        return [data for name, data in self.by_element if name == tag]


def report_of(run: dict[str, Any] | None = None, **fields: Any) -> Report:  # noqa: ANN401
    request = Request(**fields)
    return Report({**true_document(request), "run": {"version": "1", **(run or {})}})


def full(rows: int = 30, classes: int = 4, **fields: Any) -> Report:  # noqa: ANN401
    random = np.random.default_rng(rows)
    given: dict[str, Any] = {
        "inputs": random.normal(size=(rows, classes)).astype(np.float32),
        "targets": (random.random((rows, classes)) < 0.4).astype(np.float32),
        "baseline": random.normal(size=(rows, classes)).astype(np.float32),
        "groups": {"camera": random.integers(0, 3, size=rows)},
        "loss": "focal",
        "gammas": (0.0, 1.0, 2.0),
        "sections": SECTIONS,
        **fields,
    }
    return report_of(**given)


def nasty() -> Report:
    names = [NASTY[row % len(NASTY)] for row in range(20)]
    ids = [f"{name}{row}" for row, name in enumerate(names)]
    inputs = [{"path": NASTY[1], "sha256": NASTY[0], "rows": 20}]
    report = full(20, groups={NASTY[0]: names, "day": names}, ids=ids)
    return Report({**report.to_dict(), "run": {"inputs": inputs, "version": NASTY[0]}})


def odd(values: list[float]) -> Report:
    x = np.array(values, dtype=np.float64)
    return full(
        len(x),
        1,
        inputs=x[:, None],
        baseline=np.zeros((len(x), 1)),
        targets=np.zeros((len(x), 1), dtype=np.float32),
        groups={"g": np.arange(len(x))},
        params={"allow_nan": True},
    )
