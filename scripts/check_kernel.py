"""Hold the installed kernel to known answers; the wheels of a release are tested so, on every Python."""

from lossd.core.native.kernel import NativeKernel
from lossd.core.self_test import check_known_answers

kernel = NativeKernel(threads=2)
check_known_answers(kernel)
print(f"the kernel of {kernel.width} gives the known answers")
