"""Photograph the server's page with the files that the lessons of docs/tutorials/ make: `make pictures`.

It needs Debian's Chromium and the packages of `make browser`. Browsers and fonts differ, so nothing compares
the bytes of these pictures.
"""

from __future__ import annotations

import base64
import shutil
import struct
import sys
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from examples.local_server import LocalServer

if TYPE_CHECKING:
    from playwright.sync_api import Page

_WIDTH: Final = 1440
_HEIGHT: Final = 840
_PIXELS: Final = """async (picture) => {
  const bitmap = await createImageBitmap(await (await fetch(`data:image/png;base64,${picture}`)).blob());
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  return new Promise((resolve) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.split(",")[1]);
    reader.readAsDataURL(new Blob([data]));
  });
}"""


def _score(page: Page, *files: Path) -> None:
    page.set_input_files("#choose", files)
    page.click("#go:enabled")
    page.wait_for_selector("#results .lossd-section")


def _first_arrays(page: Page, url: str, folder: Path) -> None:
    page.goto(f"{url}/ui")
    _score(page, *(folder / name for name in ("logits.npy", "targets.npy", "classes.txt")))


def _side_by_side(page: Page, url: str, folder: Path) -> None:
    page.goto(f"{url}/ui")
    _score(page, folder / "logits.npy", folder / "clean-labels.npy")
    _score(page, folder / "retrained-logits.npy")
    page.get_by_role("button", name="Compare", exact=True).click()
    page.wait_for_selector("#results [data-section=comparison]")


def _usage(page: Page, _url: str, folder: Path) -> None:
    with LocalServer(
        Path(sys.executable).with_name("lossd"),
        settings={"teams": folder / "teams.toml", "usage_file": folder / "usage.sqlite3"},
    ) as server:
        page.goto(f"{server.url}/ui")
        page.fill("#key-text", (folder / "ops.key").read_text().strip())
        page.keyboard.press("Enter")
        page.click("#tab-usage")
        page.click("#usage >> text=search")
        page.get_by_role("heading", name="Team search").wait_for()


# By lesson: the file, and what brings the page before the camera.
PHOTOGRAPHS: Final[Mapping[str, tuple[str, Callable[[Page, str, Path], None]]]] = {
    "score-my-first-arrays": ("first-arrays.png", _first_arrays),
    "find-mislabelled-rows": ("side-by-side.png", _side_by_side),
    "share-a-server-between-teams": ("usage.png", _usage),
}


def photograph(lesson: Path, url: str, folder: Path) -> None:
    """Photograph what the page shows at the end of a lesson that was run in a folder, if it has a picture.

    Raises:
        ModuleNotFoundError: There is no playwright.
    """
    if lesson.stem not in PHOTOGRAPHS:
        return
    from playwright.sync_api import sync_playwright

    name, show = PHOTOGRAPHS[lesson.stem]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page(
            viewport={"width": _WIDTH, "height": _HEIGHT}, color_scheme="light", reduced_motion="reduce"
        )
        show(page, url, folder)
        page.evaluate("scrollTo(0, 0)")
        taken = page.screenshot(animations="disabled")
        pixels = browser.new_page().evaluate(_PIXELS, base64.b64encode(taken).decode())
        browser.close()
    (lesson.parent / "pictures" / name).write_bytes(_png(base64.b64decode(pixels)))


def _png(rgba: bytes) -> bytes:
    """Return a PNG of opaque pixels, without filters: for text that is a fifth less than a browser writes."""
    rgb = bytearray(len(rgba) // 4 * 3)
    for channel in range(3):
        rgb[channel::3] = rgba[channel::4]
    length = 3 * _WIDTH
    lines = b"".join(b"\0" + rgb[start : start + length] for start in range(0, len(rgb), length))
    head = struct.pack(">IIBBBBB", _WIDTH, len(rgb) // length, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
