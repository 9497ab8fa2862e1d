"""The kernels of this process, each opened on first use and checked by known answers."""

from __future__ import annotations

from functools import lru_cache
from threading import Lock
from typing import Final

from lossd.core.catalog import LOSSES
from lossd.core.kernel import Kernel
from lossd.core.native.kernel import native_kernel
from lossd.core.self_test import check_known_answers
from lossd.extras import needs

_opening: Final = Lock()


def kernel_for(device: str, *, is_native: bool) -> Kernel:
    """Return the kernel for a device. Any number of threads may use it.

    Args:
        device: ``cpu`` or ``cuda:N``.
        is_native: Whether the native kernel has the loss.

    Raises:
        RuntimeError: There is no such device here.
    """
    with _opening:
        return _open(device, is_native, tuple(LOSSES))


@lru_cache
def _open(device: str, is_native: bool, losses: tuple[str, ...]) -> Kernel:
    del losses  # torch's kernel knows those that there are when it is opened
    native = native_kernel()
    kernel: Kernel
    if device == "cpu" and is_native and native is not None:
        kernel = native
    else:
        with needs(f"device {device}" if is_native else "an operator's loss", "server"):
            from lossd.core.losses.kernel import TorchKernel

        kernel = TorchKernel(device, reducer=native)
    check_known_answers(kernel)
    return kernel
