"""How the kernel's scheduler treats a thread. Any thread may call, for itself."""

import os
from contextlib import suppress


def wait_for_turn() -> None:
    """Who wakes up does not take the CPU from whoever has it, but waits until that has had its time (SCHED_BATCH): what it
    then has to do is more at once. It gets as much CPU time as ever. A thread that was started with another policy than the
    usual one keeps it, and where it is not to be had (musl) nothing changes."""
    with suppress(OSError):
        if os.sched_getscheduler(0) == os.SCHED_OTHER:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
