"""The tests' own eyes: what may not happen in a page is seen."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page

from browser.arrays import Arrays
from browser.visits import Visit, Watch, barriers, drop, overflow, until

_POLICY = "default-src 'none'; style-src 'self'; connect-src *; script-src 'unsafe-inline'"
_PAGE = f"""<!doctype html><html lang="en"><title>t</title>
<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><main><h1>t</h1>"""


@pytest.mark.parametrize(
    ("script", "seen"),
    [
        ("console.error('something is wrong')", "error: something is wrong"),
        ("setTimeout(() => { throw new Error('thrown'); })", "thrown"),
        ("setTimeout(() => Promise.reject(new Error('rejected')))", "rejected"),
        (
            "document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:9/'}))",
            "policy violated: img-src",
        ),
        ("fetch('http://example.org/x').catch(() => 0)", "request to another host: http://example.org/x"),
    ],
)
def test_what_goes_wrong_is_seen(visit: Visit, watch: Watch, tmp_path: Path, script: str, seen: str) -> None:
    (tmp_path / "page.html").write_text(f"{_PAGE}<script>{script}</script>")
    page = visit((tmp_path / "page.html").as_uri())
    until(page, lambda: seen in str(watch.found))
    with pytest.raises(AssertionError, match=seen):
        watch.check()
    watch.allow("")


def test_barriers_and_overflow_are_found(visit: Visit) -> None:
    page = visit("about:blank", viewport={"width": 360, "height": 640})
    page.set_content(f"{_PAGE}<p>A sound page.")
    assert barriers(page) == []
    assert overflow(page) == []
    page.set_content(f'{_PAGE}<input><table width="500"><tr><td>wide</table>')
    assert [each for each in barriers(page) if each.startswith("critical label")]
    assert any("TABLE" in each for each in overflow(page))


def _dropped(page: Page) -> list[list[object]]:
    found: list[list[object]] = page.evaluate("() => window.dropped")
    return found


def test_files_are_dropped_from_disk(visit: Visit, arrays: Arrays) -> None:
    page = visit("about:blank")
    page.set_content('<div id="here">drop</div>')
    page.evaluate("""() => {
      const here = document.querySelector("#here");
      here.ondragover = (event) => event.preventDefault();
      here.ondrop = (event) => {
        event.preventDefault();
        window.dropped = [...event.dataTransfer.files].map((file) => [file.name, file.size]);
      };
    }""")
    paths = [arrays.path("logits.npy"), arrays.path("targets.npy")]
    drop(page, "#here", *paths)
    page.wait_for_function("() => window.dropped")
    assert _dropped(page) == [[path.name, path.stat().st_size] for path in paths]
