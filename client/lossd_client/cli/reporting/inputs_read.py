"""Stage 5 of `lossd report`: the files of each shard, by their digests."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lossd_client.cli.files.errors import BadFile
from lossd_client.cli.inputs.arguments import STDIN
from lossd_client.cli.inputs.blocks import Inputs
from lossd_client.cli.inputs.sources import Source
from lossd_client.report._merging.repeats import called, identity


class ShardsRead:
    """The shards that were read, each with the digests of its files.

    Args:
        inputs: The inputs.
        names: The name of each label in a report.
        spool: The file that stands for standard input.
    """

    def __init__(self, inputs: Inputs, names: Mapping[str, str], spool: Path | None) -> None:
        self._inputs, self._names, self._spool = inputs, names, spool
        self._found: list[dict[str, Any]] = []
        self._places: dict[object, str] = {}

    def look(self) -> None:
        """Look at the shards that were read to their ends since the last time.

        Raises:
            BadFile: One is the same as another, or a file cannot be read again.
        """
        for number in range(len(self._found), self._inputs.finished):
            self.take(self._described(number))

    def take(self, found: dict[str, Any]) -> None:
        """Add the next shard, as `described` has it.

        Raises:
            BadFile: It is the same as another.
        """
        self._refuse_repeated(found)
        self._found.append(found)

    def described(self) -> list[dict[str, Any]]:
        """Return what a report says of its inputs: for each shard its path, digest and rows.

        The targets and other tensors have a path and a digest of their own where they are in another file.
        """
        self.look()
        return self._found

    def _described(self, number: int) -> dict[str, Any]:
        sources = self._inputs.sources_of(number)
        scored = next(iter(sources.values()))
        found = self._of_file(scored) | {"rows": self._inputs.rows_of(number)}
        columns = {}
        for name, source in sources.items():
            if source.file is not scored.file:
                found[self._names.get(name, name)] = self._of_file(source)
            if source.names is not None and name not in self._names:
                columns[name] = source.names
        return found | ({"columns": columns} if columns else {})

    def _of_file(self, source: Source) -> dict[str, Any]:
        location = source.file.location
        is_stdin = self._spool is not None and str(location) == str(self._spool)
        return {"path": STDIN if is_stdin else str(location), "sha256": location.sha256()}

    def _refuse_repeated(self, found: Mapping[str, Any]) -> None:
        key = identity(found)
        if key is None:
            return
        if key in self._places:
            what = f"{called(found)} holds the same as {self._places[key]}"
            raise BadFile(f"{what}: its rows would count twice; name each shard once")
        self._places[key] = called(found)
