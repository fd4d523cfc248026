"""A process that stays while programs take over from each other: process 1 of a container, which ends when that does.

    python -m tcp_proxy.parent FILE        as tcp-proxy FILE, and `tcp-proxy-ctl upgrade` works there, too

It has one thread and owns nothing. It starts the program, gives its signals to the one that runs, reaps whoever has lost his
parent, and ends with the status of the last program: of the one that ends when no other has taken over from it.
"""

import contextlib
import os
import pathlib
import signal
import sys
from collections.abc import Sequence

from tcp_proxy.control.process_tree import become_subreaper

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
SUCCESSOR = b"--takeover"  # of a program that was started to take over (control.takeover.upgrade)


def main(argv: Sequence[str]) -> int:
    become_subreaper()
    signals = {*FORWARDED, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # each is waited for
    command = [sys.executable, "-m", "tcp_proxy", *argv]
    current = os.posix_spawn(command[0], command, os.environ, setsigmask=())
    while True:
        number = signal.sigwait(signals)
        if number != signal.SIGCHLD:
            os.kill(current, number)  # it is there: we have not reaped it
            continue
        for pid, status in _ended():
            if pid == current:
                successor = _successor()
                if not successor:
                    return status if status >= 0 else 128 - status
                current = successor


def _ended() -> list[tuple[int, int]]:
    """The children that have, and their statuses; below zero: the signal."""
    found = []
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            found.append((ended[0], os.waitstatus_to_exitcode(ended[1])))
    return found


def _successor() -> int:
    """The program that has taken over: its parent has ended, so it is our child now. 0: there is none."""
    for entry in pathlib.Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            pid = int(entry.name)
            parent = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1]
            if parent == str(os.getpid()) and SUCCESSOR in (entry / "cmdline").read_bytes().split(b"\0"):
                return pid
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
