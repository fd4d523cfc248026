"""The spans that wait for the collector, and the thread `export` that sends them, in batches, one after another.

`add` is the main thread's, the collector is waited for by the thread alone. MOST spans wait; of those that come beyond them
each is dropped and counted, as is a batch that the collector did not take in time.

    EMPTY ──add──> WAITING ──BATCH spans, or DELAY over──> EXPORTING ──taken, or given up──> EMPTY, or WAITING
    any ──close──> what waits is exported until the time is over ──> ended
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from tcp_proxy.sansio.words import counted

logger = logging.getLogger(__name__)

MOST = 20_000  # spans
BATCH = 512
DELAY = 1.0  # seconds for a batch to fill

Export = Callable[[Sequence[Any]], str]  # what is wrong with the collector; "" when it has taken them


class SpanQueue:
    """`exported`, `dropped` and `failing` are read by any thread."""

    def __init__(self, export: Export, delay: float = DELAY) -> None:
        self._export = export
        self._delay = delay
        self._waiting: deque[Any] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        self.exported = self.dropped = 0
        self.failing = False  # the last batch was not taken
        self._thread = threading.Thread(target=self._run, name="export", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<SpanQueue {len(self._waiting)} waiting, {self.exported} exported, {self.dropped} dropped>"

    def add(self, spans: Sequence[Any]) -> None:
        with self._changed:
            room = max(0, MOST - len(self._waiting))
            self._waiting.extend(spans[:room])
            self.dropped += max(0, len(spans) - room)
            if len(self._waiting) >= BATCH:
                self._changed.notify()

    def close(self, within: float) -> None:
        """Export what waits, if that can be done in so many seconds; what is left is dropped."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join(within)
        self.dropped += len(self._waiting)

    def _run(self) -> None:
        while batch := self._next():
            fault = self._export(batch)
            if fault:
                self.dropped += len(batch)
                if not self.failing:
                    logger.warning("%s; spans are dropped until it takes them again", fault)
            else:
                self.exported += len(batch)
                if self.failing:
                    text = counted(self.dropped, "was", "were")
                    logger.warning("the collector takes spans again; %s dropped so far", text)
            self.failing = bool(fault)

    def _next(self) -> list[Any]:
        """[]: it is closed, and all are exported."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._waiting) >= BATCH or self._is_closed, self._delay)
            while not self._waiting and not self._is_closed:
                self._changed.wait_for(lambda: len(self._waiting) >= BATCH or self._is_closed, self._delay)
            return [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
