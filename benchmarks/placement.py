"""Which CPU runs what: for figures that would else tell where the kernel happened to put a process."""

import contextlib
import os
from collections.abc import Iterable, Iterator


@contextlib.contextmanager
def on_one_cpu(pids: Iterable[int]) -> Iterator[None]:
    """These processes, and what this thread starts, share the last CPU that we may use."""
    before, pids = os.sched_getaffinity(0), list(pids)
    try:
        place(pids, {max(before)})
        yield
    finally:
        place(pids, before)  # threads that are new have it from those that made them


def place(pids: Iterable[int], cpus: set[int]) -> None:
    """All threads of these, and ours."""
    os.sched_setaffinity(0, cpus)
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for task in os.listdir(f"/proc/{pid}/task"):
                os.sched_setaffinity(int(task), cpus)
