"""Deadlines, and waiting for what has no event of its own.

The only file of the tests that looks at a clock or polls: /proc and files cannot be waited for in any other way.
Whatever has an event (a socket, a thread, a line of a log) is waited for by that event.
"""

import select
import time

PATIENCE = 30.0  # seconds after which one step of a dialogue hangs; it takes milliseconds, on a busy machine seconds
POLL = 0.005  # seconds between two looks


class Deadline:
    """Seconds that run out."""

    def __init__(self, seconds=PATIENCE):
        self._end = time.perf_counter() + seconds

    def __repr__(self):
        return f"<Deadline in {self.left:.3f} s>"

    @property
    def left(self):
        """Seconds left, never below 0."""
        return max(0.0, self._end - time.perf_counter())

    @property
    def is_over(self):
        return self.left == 0.0


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self):
        self._start = time.perf_counter()

    @property
    def seconds(self):
        return time.perf_counter() - self._start


def wait_until(condition, what, seconds=PATIENCE):
    """Look until `condition()` is true and return what it returned; TimeoutError names `what`."""
    deadline = Deadline(seconds)
    while True:
        found = condition()
        if found:
            return found
        if deadline.is_over:
            raise TimeoutError(f"after {seconds} s still not: {what() if callable(what) else what}")
        pause(POLL)


def settled(count, seconds=0.3):
    """Whether `count()` is above 0 and stays what it is for that long."""
    before = count()
    pause(seconds)
    return before > 0 and count() == before


def pause(seconds):
    """Let real time pass: only for load that must last, and for silence that is itself what is tested."""
    select.select([], [], [], seconds)
