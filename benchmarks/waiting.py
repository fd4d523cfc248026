"""Waiting for what has no event of its own, and the clock of the benchmark. The only file here that polls."""

import select
import time
from collections.abc import Callable

now = time.perf_counter


def pause(seconds: float) -> None:
    select.poll().poll(seconds * 1000)


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 20.0, every: float = 0.005) -> None:
    """Returns once the condition holds; TimeoutError says what did not come."""
    end = now() + seconds
    while not condition():
        if now() > end:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        pause(every)
