"""What must be set before the libraries load. For the program only: importing facet as a library changes none of it."""

from __future__ import annotations

import ctypes
import gc
import io
import os
import sys
import time
from typing import Any

STARTED_S = time.perf_counter()
# glibc's ways to take less memory, where there is glibc
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def limit_threads() -> None:
    """Our matrices are small: pools of threads that wait for each other only cost."""
    for pool in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(pool, "1")
    # OpenCV's messages are not for the user, ours are
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


def prepare_process() -> None:
    """Make the start quick, the memory small, and the standard streams usable."""
    # Where SciPy is installed numba loads it, for linear algebra that no kernel of ours has: a quarter of a second.
    modules: dict[str, Any] = sys.modules
    modules.setdefault("scipy", None)
    # Likewise cffi, a twentieth of a second; who reads an image by libvips takes this back.
    modules.setdefault("cffi", None)
    # What loads now stays; looking for garbage in it meanwhile takes a twentieth of a second.
    gc.disable()
    if LIBC is not None and hasattr(LIBC, "mallopt"):
        LIBC.mallopt(-8, 1)  # M_ARENA_MAX: what one thread frees, another uses
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: the next file would get its number, and messages of libraries with it
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def settle_memory() -> None:
    """All that is loaded stays: searching it for garbage would hold up a frame by many ms."""
    gc.freeze()
    gc.enable()
    if LIBC is not None and hasattr(LIBC, "malloc_trim"):
        LIBC.malloc_trim(0)  # what loading took and gave back
