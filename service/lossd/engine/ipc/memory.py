"""Unnamed memory that processes share: each maps it by its file descriptor."""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
from typing import Final


def create_memory(nbytes: int) -> int:
    """Return a descriptor of ``nbytes`` of memory; a page is allocated when it is first written."""
    if sys.platform == "linux":
        fd = os.memfd_create("lossd", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:  # without a name, it is gone with its last descriptor
            fd = os.dup(file.fileno())
    os.ftruncate(fd, nbytes)
    return fd


class Memory:
    """Shared memory mapped into this process.

    Args:
        fd: Its descriptor, from `create_memory`; may be closed afterwards.
        nbytes: Its length.
    """

    def __init__(self, fd: int, nbytes: int) -> None:
        self._map = mmap.mmap(fd, nbytes)
        self.view: Final = memoryview(self._map)
