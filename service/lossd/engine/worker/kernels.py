"""The choice of a worker's kernel. Torch is imported only where it computes, since that takes seconds."""

from __future__ import annotations

import logging

from lossd.core.kernel import Kernel
from lossd.core.native.kernel import NativeKernel, native_kernel, slower_by
from lossd.core.native.library import why_missing
from lossd.core.self_test import check_known_answers
from lossd.extras import needs

logger = logging.getLogger(__name__)


def make_kernel(device: str, kernel: str, threads: int) -> Kernel:
    """Return the kernel for a device.

    Args:
        device: The device.
        kernel: ``native``, ``torch``, or ``auto`` for the native one if it was built.
        threads: Most threads on a CPU.

    Raises:
        RuntimeError: There is no such kernel here.
    """
    if not device.startswith("cpu"):
        return torch_kernel(device, threads, native_kernel(threads))
    native = None if kernel == "torch" else native_kernel(threads)
    if native is not None:
        return native
    if kernel == "native":
        msg = f"there is no native kernel: {why_missing()}"
        raise RuntimeError(msg)
    try:
        found = torch_kernel("cpu", threads)  # not cpu:N, whose number tells workers apart, not cores
    except ModuleNotFoundError as error:
        if (why := why_missing()) is None:
            raise
        msg = f"there is no native kernel: {why}. Without it, {error}"
        raise RuntimeError(msg) from None
    logger.warning("%s", slower_by())
    return found


def torch_kernel(device: str, threads: int, reducer: NativeKernel | None = None) -> Kernel:
    """Return a kernel in torch that has passed the known-answer check.

    Args:
        device: The device.
        threads: Most threads on a CPU.
        reducer: A native kernel to reduce the losses for reports, if there is one.

    Raises:
        ModuleNotFoundError: Torch is not installed.
    """
    with needs("this", "server"):
        import torch

        from lossd.core.losses.kernel import TorchKernel

    torch.set_num_threads(threads)
    kernel = TorchKernel(device, reducer=reducer)
    check_known_answers(kernel)
    return kernel
