"""What the supervisor says is done in the order in which it was said; what takes long, in slices, one in each round.

The worker's loop thread only. Between two slices sessions are served; what was said later waits.

    IDLE ──take──> done at once ──> IDLE
      └─a handler that gives an iterator──> WORKING, the first slice at once ──it ends──> what waits ──> IDLE
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping

from tcp_proxy.runtime.loop import Loop
from tcp_proxy.wire.messages import Message

Work = Iterator[None]


class InOrder:
    """`handlers`, by the type of a message, are called with it and its descriptors."""

    def __init__(self, loop: Loop, handlers: Mapping[type, Callable[..., Work | None]]) -> None:
        self._loop = loop
        self._handlers = handlers
        self._waiting: deque[tuple[Message, list[int]]] = deque()
        self._work: Work | None = None

    def __repr__(self) -> str:
        return f"<InOrder {'idle' if self._work is None else 'working'}, {len(self._waiting)} waiting>"

    def take(self, message: Message, descriptors: list[int]) -> None:
        self._waiting.append((message, descriptors))
        if self._work is None:
            self._go_on()

    def forget(self) -> None:
        """What waits will never be done, nor the rest of what is under way."""
        self._work = None
        for _, descriptors in self._waiting:
            for fd in descriptors:
                os.close(fd)
        self._waiting.clear()

    def _go_on(self, _events: int = 0) -> None:
        while True:
            if self._work is None:
                if not self._waiting:
                    return
                message, descriptors = self._waiting.popleft()
                self._work = self._handlers[type(message)](message, descriptors)
            elif next(self._work, self) is self:
                self._work = None
            else:
                self._loop.call_again(self._go_on)
                return
