"""Whoever is process 1, as in a container, is given the children of those that have ended, and has to bury them.

Main thread only. Scripts of users leave such children: what is killed with a script's process group, and what a script has
started to go on without it. Nobody else would ever reap them, and there is an end of process numbers. Elsewhere another
process is the first, and does it.
"""

import contextlib
import os
from collections.abc import Iterator

from tcp_proxy.loop import Loop

EVERY = 5.0  # seconds


def begin(loop: Loop) -> None:
    if os.getpid() == 1:
        loop.call_later(EVERY, _look, loop)


def _look(loop: Loop) -> None:
    for pid in ended():
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    loop.call_later(EVERY, _look, loop)


def ended() -> Iterator[int]:
    """Children of ours that have ended and that we have not started: those are in our process group, or lead one of their
    own in our session (control.scripts)."""
    ours, group, session = os.getpid(), os.getpgrp(), os.getsid(0)
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
            state, parent, its_group, its_session = file.read().rpartition(b")")[2].split()[:4]
            is_started = int(its_session) == session and int(its_group) in (int(name), group)
            if state == b"Z" and int(parent) == ours and not is_started:
                yield int(name)
