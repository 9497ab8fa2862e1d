"""The site, as Sphinx builds it from docs/: `make docs`."""

import re

from sphinx.application import Sphinx
from sphinx.util.inspect import signature, stringify_signature

from lossd import __version__
from scripts.site_reference import GENERATED

project = "lossd"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["requirements.txt"]
default_role = "code"  # of what stands in single backticks in docstrings
nitpicky = True
nitpick_ignore_regex = [  # packages of others, whose pages are not here, and private names
    (r"py:.*", r"(collections|numpy|torch|typing)\..*|.*\._.*"),
]

myst_enable_extensions = ["html_image"]
myst_heading_anchors = 4  # as forges have them

autodoc_member_order = "bysource"
autodoc_mock_imports = ["keras", "lightning"]  # which are in an environment of their own
autodoc_preserve_defaults = True
autodoc_typehints = "none"  # signatures without them can be read, and the texts say what is taken
napoleon_numpy_docstring = False
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"  # beside a page there is room for names alone

LISTS = ("index", "explanations/decisions/README")  # pages whose lists are the site's tree
SHOWN = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "README.md": "index.md",
    "clients/typescript/README.md": "how-to/typescript.md",
}

pygments_dark_style = "github-dark"
html_theme = "furo"
html_title = f"lossd {release}"
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
html_static_path: list[str] = []


def generate(app: Sphinx, name: str, source: list[str]) -> None:
    """Put what is generated into a page's places for it, and what a page lists into the site's tree."""
    for kind, text in GENERATED.items():
        place = f"<!-- {kind} -->\n<!-- end -->"
        if place in source[0]:
            source[0] = source[0].replace(place, text())
    if name in LISTS:
        source[0] = re.sub(r"((?:^[-\d.]+ \[.*\n)+)", _with_tree, source[0], flags=re.MULTILINE)


def _with_tree(lines: re.Match[str]) -> str:
    """Return a list of links, and the tree of their pages."""
    found = re.findall(r"^\S+ \[(.*?)\]\((\S+)\.md\)", lines[0], re.MULTILINE)
    pages = "\n".join(f"{title} <{page}>" for title, page in found)
    above = re.findall(r"^## (.+)$", lines.string[: lines.start()], re.MULTILINE)
    caption = f":caption: {above[-1]}\n" if above else ""
    return f"{lines[0]}\n```{{toctree}}\n:hidden:\n{caption}\n{pages}\n```\n"


def link(app: Sphinx, name: str, source: list[str]) -> None:
    """Link to the pages that show files of other folders, instead of to the files."""
    for file, page in SHOWN.items():
        source[0] = re.sub(rf"\]\((\.\./)+{re.escape(file)}", f"](/{page}", source[0])


def sign(app: Sphinx, what: str, name: str, value: type, *rest: object) -> tuple[str, str] | None:
    """Show what a class takes, where a base that is not here hides that."""
    if what != "class" or rest[1] != "(*args, **kwargs)":
        return None
    own = signature(value.__init__, bound_method=True)
    return stringify_signature(own, show_annotation=False), ""


def setup(app: Sphinx) -> None:
    """Add the above to Sphinx."""
    app.connect("autodoc-process-signature", sign)
    app.connect("source-read", generate)
    app.connect("source-read", link)
    app.connect("include-read", lambda app, path, parent, source: link(app, parent, source))
