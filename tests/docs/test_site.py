"""The site that `make docs` has built: whole, complete, and nothing of it comes from elsewhere."""

from __future__ import annotations

import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

from lossd.api.app import openapi_document
from lossd.api.problems import KINDS
from lossd.settings import Settings
from pages import ROOT
from scripts.public_names import MODULES, names

SITE = Path(os.environ.get("LOSSD_SITE", ""))
pytestmark = pytest.mark.skipif("LOSSD_SITE" not in os.environ, reason="`make docs` builds the site")


class Page(HTMLParser):
    """What a page links to, what it loads, what can be linked to, and its text."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.text = ""
        self.feed(file.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a":
            self.links += [given["href"]] if "href" in given else []
        else:
            self.loaded += [given[name] for name in ("href", "src", "srcset", "data") if name in given]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def site() -> dict[Path, Page]:
    return {file: Page(file) for file in SITE.resolve().rglob("*.html")}


def test_every_page_of_the_documentation_is_in_it_and_can_be_reached(site: dict[Path, Page]) -> None:
    pages = {page.relative_to(ROOT / "docs").with_suffix(".html") for page in (ROOT / "docs").rglob("*.md")}
    assert len(pages) > 30
    home = SITE.resolve()
    assert pages <= {file.relative_to(home) for file in site}
    reached = {Path(urldefrag(link).url) for link in site[home / "index.html"].links}
    reached |= {
        Path("explanations/decisions", urldefrag(link).url)
        for link in site[home / "explanations/decisions/README.html"].links
    }
    assert pages - reached <= {Path("index.html")}


def test_nothing_is_loaded_from_elsewhere(site: dict[Path, Page]) -> None:
    loaded = {address for page in site.values() for address in page.loaded}
    assert any(address.endswith(".css") or ".css?" in address for address in loaded)
    assert [address for address in loaded if re.match(r"(\w+:)?//", address)] == []
    for sheet in SITE.rglob("*.css"):
        assert not re.search(r"(@import|url\(['\"]?(https?:)?//)", sheet.read_text()), sheet


def test_every_link_leads_to_a_page_and_a_place_in_it(site: dict[Path, Page]) -> None:
    wrong = []
    for file, page in site.items():
        for link in page.links:
            if re.match(r"\w+:", link):
                continue
            path, anchor = urldefrag(link)
            there = (file.parent / unquote(path)).resolve() if path else file
            if not there.is_file() or (anchor and there in site and unquote(anchor) not in site[there].ids):
                wrong.append((file.name, link))
    assert wrong == []


def test_the_reference_has_every_name(site: dict[Path, Page]) -> None:
    reference = {
        name: site[SITE.resolve() / f"reference/{name}.html"]
        for name in ("api", "settings", "routes", "python")
    }
    text = {name: page.text for name, page in reference.items()}
    assert [code for code in KINDS if code not in text["api"]] == []
    assert [one for one in Settings.model_fields if f"LOSSD_{one.upper()}" not in text["settings"]] == []
    paths = [path for path in openapi_document(Settings())["paths"] if "/versions/" not in path]
    assert [path for path in paths if path not in text["routes"]] == []
    public = {one.name for module in MODULES for one in names(module)}
    assert public - {anchor.rpartition(".")[2] for anchor in reference["python"].ids} == set()


def test_the_search_knows_words_of_guides_and_names_of_the_reference() -> None:
    index = json.loads((SITE / "searchindex.js").read_text().partition("(")[2].rstrip(")\n;"))
    found = {word: index["terms"].get(word) for word in ("calibr", "pos_weight", "too_many_in_flight")}
    assert all(pages is not None for pages in found.values()), found
    assert "lossd_client" in index["objects"]
