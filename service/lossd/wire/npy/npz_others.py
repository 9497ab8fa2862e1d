"""The members of an .npz that are no tensors: what np.savez saves beside them, such as names and settings.

Numbers under a name that is no tensor's may be a tensor under a misspelt name, and are refused. So is
anything under a name that is but a slip away from a tensor's. Python objects, text, records and times are
passed over: nothing is unpickled, and a note says so.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Final

from lossd.error_text import shown, unknown_tensor
from lossd.types import TENSOR_DTYPES, RequestError
from lossd.wire.npy.npy import NpyParser

MAX_OTHERS: Final = 1000
"""The most members that are passed over."""

_NAMED: Final = 5  # in a note
_SLIP: Final = 0.8  # the likeness from which on a name is another's with a slip, as weigth is weight's
_REMEDY: Final = (
    "; save each tensor under its name, as in np.savez(file, logits=x, targets=y), and leave out numbers "
    "that the loss does not depend on"
)

# By the letter that numpy has for a dtype, or the bracket that a structured one begins with.
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
    """Reads a member whose name is no tensor's, fed in pieces of any length.

    Attributes:
        name: The member's, without .npy.
        kind: What it holds; empty until that is known.
    """

    tensor: Final = None
    complete: Final = False
    """Its .npy header does not say where it ends."""
    wanted: Final = 0

    def __init__(self, name: str) -> None:
        """Expect a member.

        Args:
            name: Its name, without .npy.
        """
        self.name = name
        self.kind = ""
        self._header = NpyParser(name, 0)

    def feed(self, data: bytes | memoryview) -> int:
        """Take the next bytes, all of them.

        Raises:
            RequestError: ``unknown_tensor``: it holds numbers, or may be a tensor.
        """
        if not self.kind:
            try:
                self._header.feed(data)
            except RequestError as fault:
                descr = self._header.descr.lstrip("<>|=") if fault.code == "dtype_not_allowed" else ""
                self.kind = _KINDS.get(descr[:1], "")
                if not self.kind or difflib.get_close_matches(self.name, TENSOR_DTYPES, 1, _SLIP):
                    raise unknown_tensor(self.name, _REMEDY) from None
            if self._header.tensor is not None:
                raise unknown_tensor(self.name, _REMEDY)
        return len(data)

    def finish(self) -> None:
        """Take note that all of it has come.

        Raises:
            RequestError: ``unknown_tensor``: it is no .npy file.
        """
        if not self.kind:
            raise unknown_tensor(self.name, _REMEDY)


def note_of(members: Sequence[OtherMember]) -> str:
    """What to say of members that were passed over."""
    named = [f"{_plain(member.name)} ({member.kind})" for member in members[:_NAMED]]
    if len(members) > _NAMED:
        named.append(f"{len(members) - _NAMED} more")
    *some, last = named
    listed = f"{', '.join(some)} and {last}" if some else last
    return f"passed over {listed}, which {'are no tensors' if len(members) > 1 else 'is no tensor'}"


def _plain(name: str) -> str:
    return name if name.isidentifier() and name.isascii() and name == shown(name)[1:-1] else shown(name)
