"""Pinned host memory, which a CUDA device copies from by itself, beside other work."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch

_PORTABLE: Final = 1
"""cudaHostRegisterPortable: pinned for all devices of this process."""


class PinnedMemory:
    """Memory registered with CUDA until it is closed; for other devices it does nothing.

    A worker registers the arena, so that the device's copy engine reads the bytes that the network wrote.

    Args:
        memory: Writable, contiguous; stays mapped until this is closed.
        device: The device that reads it.

    Raises:
        RuntimeError: CUDA cannot register it, for example because memory may not be locked.
    """

    def __init__(self, memory: memoryview, device: torch.device) -> None:
        self._address: int | None = None
        if device.type != "cuda" or not memory.nbytes:
            return
        address = int(np.frombuffer(memory, dtype=np.uint8).ctypes.data)
        with torch.cuda.device(device):
            torch.cuda.check_error(_runtime().cudaHostRegister(address, memory.nbytes, _PORTABLE))
        self._address = address

    def close(self) -> None:
        """Unregister it. No copy from it may be in flight."""
        if self._address is not None:
            address, self._address = self._address, None
            torch.cuda.check_error(_runtime().cudaHostUnregister(address))


def _runtime() -> Any:  # noqa: ANN401 -- a module that torch does not describe
    return torch.cuda.cudart()  # type: ignore[no-untyped-call] # nor this
