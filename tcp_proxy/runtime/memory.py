"""Memory that is free in this process and not the machine's again: given back, where the C library can. And memory that is
in no core dump.

Any thread; takes milliseconds for each 100 MB. After thousands of targets have left, much of what they took is free inside
the C library's heap, and stays with the process otherwise.

The interpreter's search for garbage looks at everything there is, in whatever thread it begins, and all others wait: 0.1 s
for 20,000 targets, again and again while a configuration of them is read. What a configuration makes has no cycles, so
nothing is searched while one is read and applied, and what is there then is never looked at again: it goes by its counts.
What is young is searched before: garbage is mostly young, and would stay for ever.
"""

import gc
import mmap
import threading
from contextlib import suppress

_lock = threading.Lock()  # guards _holders, and that the collector is off while there are any
_holders = 0


def hold_collection() -> None:
    """From now on garbage is not searched for, until everybody who has called this has called `release_collection`."""
    global _holders
    with _lock:
        if not _holders and gc.isenabled():
            gc.collect(1)
        _holders += 1
        gc.disable()


def release_collection(*, is_kept: bool = True) -> None:
    """What there is now is left out from then on, garbage, too. Not where nothing came of it (`is_kept`), which may happen
    again and again."""
    global _holders
    with _lock:
        _holders -= 1
        if not _holders:
            if is_kept:
                gc.freeze()
            gc.enable()


def give_back() -> bool:
    """Whether the C library knows how (glibc does)."""
    import ctypes  # noqa: PLC0415  for a rare moment

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        return False
    trim(0)
    return True


def leave_out_of_dumps(mapped: mmap.mmap) -> None:
    """For what is large and shared, and hardly touched: the kernel reads all of it for a core dump, and so makes every page,
    which then are there for all who share it. A worker that dumped core took gigabytes, and half a minute to be dead."""
    with suppress(OSError):  # a kernel that knows no such advice
        mapped.madvise(mmap.MADV_DONTDUMP)
