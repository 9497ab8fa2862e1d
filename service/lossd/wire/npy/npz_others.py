"""Members of an .npz that are no tensors: what np.savez saves beside them, such as names and settings.

Python objects, text, records and times are skipped, and a note in the answer says so; nothing is unpickled.
Numbers under an unknown name are refused, as they may be a tensor whose name is misspelt. So is anything
under a name that is very like a tensor's.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Final

from lossd.error_text import shown, unknown_tensor
from lossd.types import TENSOR_DTYPES, ErrorCode, RequestError
from lossd.wire.npy.npy import NpyParser
from lossd.wire.reader import Chunk

MAX_OTHERS: Final = 1000
"""The most members that are skipped."""

_NAMED: Final = 5  # in a note
_MISSPELT: Final = 0.8  # the similarity from which a name counts as misspelt, such as weigth for weight
_REMEDY: Final = (
    "; save each tensor under its name, as in np.savez(file, logits=x, targets=y), and leave out numbers "
    "that the loss does not depend on"
)

# By numpy's letter for the dtype, or the opening bracket of a structured one.
_KINDS: Final = {
    "O": "Python objects",
    "U": "text",
    "S": "text",
    "T": "text",
    "M": "dates",
    "m": "durations",
    "[": "records",
}


class OtherMember:
    """Reader of a member whose name is no tensor's, fed in chunks of any length.

    Attributes:
        name: The member's name, without .npy.
        kind: The kind of its contents, in words; empty until it is known.
    """

    tensor: Final = None
    complete: Final = False
    """Its header does not tell where it ends."""
    wanted: Final = 0

    def __init__(self, name: str) -> None:
        """Expect a member.

        Args:
            name: Its name, without .npy.
        """
        self.name = name
        self.kind = ""
        self._header = NpyParser(name, 0)

    def feed(self, data: Chunk) -> int:
        """Take the next bytes, all of them.

        Raises:
            RequestError: ``unknown_tensor``: it holds numbers, or may be a misspelt tensor.
        """
        if not self.kind:
            try:
                self._header.feed(data)
            except RequestError as error:
                refused = error.code == ErrorCode.DTYPE_NOT_ALLOWED
                descr = self._header.descr.lstrip("<>|=") if refused else ""
                self.kind = _KINDS.get(descr[:1], "")
                if not self.kind or difflib.get_close_matches(self.name, TENSOR_DTYPES, 1, _MISSPELT):
                    raise unknown_tensor(self.name, _REMEDY) from None
            if self._header.tensor is not None:
                raise unknown_tensor(self.name, _REMEDY)
        return len(data)

    def finish(self) -> None:
        """Check the member, after its last byte was fed.

        Raises:
            RequestError: ``unknown_tensor``: it is no .npy file.
        """
        if not self.kind:
            raise unknown_tensor(self.name, _REMEDY)


def note_of(members: Sequence[OtherMember]) -> str:
    """Return the note about skipped members."""
    named = [f"{_plain(member.name)} ({member.kind})" for member in members[:_NAMED]]
    if len(members) > _NAMED:
        named.append(f"{len(members) - _NAMED} more")
    *some, last = named
    listed = f"{', '.join(some)} and {last}" if some else last
    return f"skipped {listed}, which {'are no tensors' if len(members) > 1 else 'is no tensor'}"


def _plain(name: str) -> str:
    return name if name.isidentifier() and name.isascii() and name == shown(name)[1:-1] else shown(name)
