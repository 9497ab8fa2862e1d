"""Memory that processes share: an unnamed file in memory, mapped by each."""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
from typing import Final


def create_memory(nbytes: int) -> int:
    """A descriptor of ``nbytes`` of unnamed memory; pages come into being when they are first touched."""
    if sys.platform == "linux":
        fd = os.memfd_create("lossd", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:  # unlinked: it ends with its last descriptor
            fd = os.dup(file.fileno())
    os.ftruncate(fd, nbytes)
    return fd


class Memory:
    """The arena's bytes, mapped into this process."""

    def __init__(self, fd: int, nbytes: int) -> None:
        self._map = mmap.mmap(fd, nbytes)
        self.view: Final = memoryview(self._map)
