"""Keep freed memory in the process."""

import ctypes
import sys

# Parameter numbers of glibc's mallopt(3).
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> None:
    """Tell glibc to reuse large freed blocks instead of returning them to the kernel; elsewhere do nothing.

    A training step frees and allocates the same tensors of some megabytes over and over. By default each of them is
    mapped anew, and the kernel zeroes its pages again: on a CPU this can cost as much as the arithmetic
    (benchmarks/model/allocator.py measures it).
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library, such as musl
        return
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_TOP_PAD, 64 * 2**20)
