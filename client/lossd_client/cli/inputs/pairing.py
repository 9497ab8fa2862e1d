"""Pairs of files: targets go with logits by the text that the `*` of the targets' pattern matches.

A folder is a pattern of all that is in it: its files go with those of the same name. Files are never paired
by the order of their names, since a missing one would shift all others.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

from lossd_client.cli.files.errors import BadFile

_Captured: TypeAlias = tuple[str, ...]  # what stands for each wildcard
_Around: TypeAlias = tuple[str, ...]  # the text around these

ALL_BELOW: Final = "/**"
"""What a pattern of a whole folder ends in."""

_WILDCARD: Final = re.compile(r"(\*\*/|\*\*|\*|\?|\[[^]]+\])")
_MEANINGS: Final = {"**/": "((?:.*/)?)", "**": "(.*)", "*": "([^/]*)", "?": "([^/])"}


def paired(
    logits: Sequence[str], targets: Sequence[str], pattern: str, option: str = "--targets"
) -> list[tuple[str, str]]:
    """Return pairs of files of logits and of targets, or of another tensor.

    Args:
        logits: Files of logits.
        targets: The files that the pattern stands for.
        pattern: The pattern.
        option: The option that gives it.

    Raises:
        BadFile: One has no partner, or there are several ways to pair them.
    """
    best: dict[str, str] = {}
    for each in _patterns(pattern, targets):
        captured = {_captured(each, path): path for path in targets}
        if len(captured) < len(targets):
            raise BadFile(
                f"{option} {pattern}: two of its files have the same text in place of the wildcards"
            )
        if len(logits) == len(targets) == 1 and not any(_captured(each, targets[0])):
            return [(logits[0], targets[0])]
        found: set[tuple[tuple[str, str], ...]] = set()
        for around in dict.fromkeys(_ways(logits, captured)):
            texts = {_filled(around, key): path for key, path in captured.items()}
            pairs = {path: texts[path] for path in logits if path in texts}
            best = max(best, pairs, key=len)
            if len(pairs) == len(logits) == len(captured):
                found.add(tuple(pairs.items()))
        if len(found) == 1:
            return list(found.pop())
        if found:
            raise BadFile(
                f"{option} {pattern}: there are several ways to pair its files; name the pairs in a manifest"
            )
    raise BadFile(_without_partner(logits, targets, f"{option} {pattern}", best))


def _patterns(pattern: str, targets: Sequence[str]) -> Iterator[str]:
    """Yield a pattern; of a folder also that of names without their suffix, as other formats have others."""
    yield pattern
    suffixes = {f".{path.rpartition('/')[2].partition('.')[2]}" for path in targets}
    if pattern.endswith(ALL_BELOW) and len(suffixes) == 1:
        yield pattern + suffixes.pop()


def _captured(pattern: str, path: str) -> _Captured:
    """Return the text that each wildcard matches."""
    parts = _WILDCARD.split(_bare(pattern))
    meaning = "".join(
        _MEANINGS.get(part, f"({part.replace('[!', '[^')})") if place % 2 else re.escape(part)
        for place, part in enumerate(parts)
    )
    match = re.search(f"{meaning}$", _bare(path), re.DOTALL)
    return match.groups() if match else (path,)


def _bare(path: str) -> str:
    """Return a path or URL without its scheme, since listed URLs may lack it."""
    return path.partition("://")[2].lstrip("/") if "://" in path else path


def _ways(logits: Sequence[str], captured: dict[_Captured, str]) -> Iterator[_Around]:
    """Yield the texts around wildcards that turn the longest matched text into a file of logits."""
    longest = max(captured, key=lambda key: sum(map(len, key)), default=())
    for path in logits:
        yield from _splits(path, longest)


def _splits(path: str, captured: _Captured) -> Iterator[_Around]:
    if not captured:
        yield (path,)
        return
    start = path.find(captured[0])
    while start >= 0:
        for rest in _splits(path[start + len(captured[0]) :], captured[1:]):
            yield (path[:start], *rest)
        start = path.find(captured[0], start + 1)


def _filled(around: _Around, captured: _Captured) -> str:
    return around[0] + "".join(text + after for text, after in zip(captured, around[1:], strict=False))


def _without_partner(logits: Sequence[str], targets: Sequence[str], asked: str, best: dict[str, str]) -> str:
    option, _, pattern = asked.partition(" ")
    name = option.removeprefix("--").lower()
    alone = (
        [path for path in logits if path not in best],
        [path for path in targets if path not in best.values()],
    )
    missing = [
        f"{path} has no partner among the {kind}"
        for paths, kind in zip(alone, (name, "logits"), strict=True)
        for path in paths[:2]
    ]
    rule = "what stands for * must stand in the names of the logits, too, in the same place of each"
    if pattern.endswith(ALL_BELOW):
        asked, rule = f"{option} {pattern.removesuffix(ALL_BELOW)}", "files of folders go by their names"
    what = f"{asked} stands for {len(targets)} of {name}, beside {len(logits)} of logits"
    other = "; or name the pairs in a manifest, two files a line" if name == "targets" else ""
    return f"{what}, which do not pair: {'; '.join(missing)}. {rule[0].upper()}{rule[1:]}{other}"
