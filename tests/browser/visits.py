"""What a visitor does with the page, and what may not happen meanwhile."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, WebError

_TELL_VIOLATIONS: Final = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error(["policy violated:", event.effectiveDirective, event.blockedURI, event.sample].join(" ")));
"""


@dataclass
class Watch:
    """What goes wrong in the pages of a test: it fails the test unless the test allows it.

    Attributes:
        found: Errors in the console and of scripts, violations of the policy, requests to other hosts.
        requests: The method and the path of each request.
    """

    found: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    _allowed: list[str] = field(default_factory=list)

    def allow(self, pattern: str) -> None:
        """Expect what a regular expression finds, such as ``status of 422``: a browser logs refusals."""
        self._allowed.append(pattern)

    def check(self) -> None:
        wrong = [each for each in self.found if not any(re.search(one, each) for one in self._allowed)]
        assert wrong == [], wrong

    def follow(self, context: BrowserContext) -> None:
        """Look at all that happens in a context."""
        context.add_init_script(_TELL_VIOLATIONS)
        context.on("console", self._said)
        context.on("weberror", self._failed)
        context.on("request", self._asked)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning", "assert"):
            self.found.append(f"{message.type}: {message.text} ({message.location['url']})")

    def _failed(self, error: WebError) -> None:
        self.found.append(f"script: {error.error}")

    def _asked(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme in ("data", "blob"):
            return
        self.requests.append(f"{request.method} {address.path}{address.query and '?' + address.query}")
        if address.scheme != "file" and address.hostname != "127.0.0.1":
            self.found.append(f"request to another host: {request.url}")


def until(page: Page, condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until something is so, while the page's events come in."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, f"not so after {seconds} s: {condition}"
        page.wait_for_timeout(20)


Visit = Callable[..., Page]
"""Opens an address in a page of a context of its own; options are those of ``Browser.new_context``."""


def drop(page: Page, place: str, *paths: Path) -> None:
    """Drag files from disk over the middle of an element, and let go."""
    target = page.locator(place)
    target.scroll_into_view_if_needed()
    box = target.bounding_box()
    assert box is not None
    where = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, **where, "data": data})
    session.detach()


def barriers(page: Page, *, has_contrast: bool = True) -> list[str]:
    """What axe finds that keeps somebody from using the page as it is now: impact, rule, place and reason.

    Args:
        page: The page.
        has_contrast: Whether to look at contrasts of colours too, which takes longest.
    """
    package = find_spec("axe_playwright_python")
    assert package is not None
    assert package.origin is not None
    script = Path(package.origin).with_name("axe.min.js").read_text()
    page.evaluate(f"() => {{ if (!window.axe) {{ {script} }} }}")
    options = {"resultTypes": ["violations"], "rules": {"color-contrast": {"enabled": has_contrast}}}
    results: dict[str, Any] = page.evaluate("(options) => axe.run(document, options)", options)
    return [
        f"{found['impact']} {found['id']}: {node['target']} {node['failureSummary']} {node['html'][:200]}"
        for found in results["violations"]
        for node in found["nodes"]
    ]


def overflow(page: Page) -> list[str]:
    """The elements that make the page wider than its window, if it can be scrolled sideways."""
    found: list[str] = page.evaluate("""() => {
      const width = document.documentElement.clientWidth;
      if (document.documentElement.scrollWidth <= width) return [];
      return [...document.querySelectorAll("body *")]
        .filter((each) => each.getBoundingClientRect().right > width + 0.5)
        .map((each) => `${each.tagName} ${each.id} ${each.className.baseVal ?? each.className}`);
    }""")
    return found


@contextmanager
def throttled(page: Page, bytes_per_second: float) -> Iterator[None]:
    """Let a page send no faster than this meanwhile."""
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_second}
    session.send("Network.emulateNetworkConditions", slow)
    yield
    session.send("Network.emulateNetworkConditions", {**slow, "uploadThroughput": -1})
    session.detach()
