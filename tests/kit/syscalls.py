"""System calls that processes make while something happens, counted by strace: the same on every machine, however busy.

What spins makes thousands in a second; what waits makes a few.
"""

import contextlib

from benchmarks.measures.syscalls import parse_strace, traced

STILL = 200  # of a program in a few seconds in which it has nothing to do


class Syscalls:
    """In it those processes are traced; after it `calls` are theirs, by name, and `total`."""

    def __init__(self, pids, folder):
        self._pids, self._summary = list(pids), folder / "strace"
        self.calls = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        self._stack.enter_context(traced(self._pids, self._summary))
        return self

    def __exit__(self, *failed):
        self._stack.close()
        text = self._summary.read_text()
        self.calls = parse_strace(text) if text.strip() else {}

    @property
    def total(self):
        return sum(self.calls.values())
