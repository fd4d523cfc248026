"""Work that would hold the main loop for long, done in slices: one piece of work after another, a slice in each round.

Main thread only. A piece of work is an iterator: what it does up to a `yield` is one slice. Nothing else that is given to
the same Slices begins before it is done, so no two pieces of work see each other half done; whatever is done at once, in one
turn, comes in between.

    IDLE ──do()──> WORKING, the first slice at once ──the iterator ends, nothing waits──> IDLE
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from tcp_proxy.runtime.loop import Loop

Work = Iterator[None]
T = TypeVar("T")


class Slices:
    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._waiting: deque[Work] = deque()
        self._work: Work | None = None
        self.is_hidden = False  # the work under way has done a part of what nobody may see a part of
        self._is_held = False

    def __repr__(self) -> str:
        return f"<Slices {'idle' if self._work is None else 'working'}, {len(self._waiting)} waiting>"

    @property
    def is_idle(self) -> bool:
        return self._work is None

    def do(self, work: Work) -> None:
        """Begin it as soon as what was given before is done. What it raises is the loop's to judge, and ends it."""
        self._waiting.append(work)
        if self._work is None and len(self._waiting) == 1 and not self._is_held:  # else its turn will come
            self._next()

    def hold(self) -> None:
        """Nothing is begun until `release`. Between two pieces of work only."""
        self._is_held = True

    def release(self) -> None:
        self._is_held = False
        if self._waiting:
            self._loop.call_again(self._next)

    def when_idle(self, call: Callable[[], object]) -> None:
        """The same of something that is done in one turn."""
        self.do(_once(call))

    def _next(self, _events: int = 0) -> None:
        """One slice."""
        if self._is_held or (self._work is None and not self._waiting):
            return
        if self._work is None:
            self._work = self._waiting.popleft()
        is_over = True
        try:
            next(self._work)
            is_over = False
        except StopIteration:
            pass
        finally:
            if is_over:
                self._work = None
            if self._work is not None or self._waiting:
                self._loop.call_again(self._next)


def each(items: Sequence[T], do: Callable[[T], object], at_once: int = 250) -> Work:
    """All of these, so many in a slice."""
    for begin in range(0, len(items), at_once):
        for item in items[begin : begin + at_once]:
            do(item)
        if begin + at_once < len(items):
            yield


def _once(call: Callable[[], object]) -> Work:
    call()
    return
    yield
