"""How does a host spend its time on the model instead of on page faults?"""

from __future__ import annotations

import ctypes

import jax

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Makes malloc reuse the memory of the last step instead of returning it to the system, where it is glibc's.

    XLA's CPU backend allocates a program's buffers anew for every call; faulting in their pages took half of the time
    of a small model's step. Programs run on the calling thread, whose pool of memory is the one that grows freely. Call
    before JAX starts its backend.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)  # never
        libc.mallopt(M_ARENA_MAX, 1)
    jax.config.update("jax_cpu_enable_async_dispatch", False)
