"""What happened, as values: state changes, reloads, workers, administration. The last ones are kept, observers are told.

Main thread only. An event is for programs what a log line is for people; whoever publishes says both.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

KEPT = 1000


@dataclass(frozen=True, slots=True)
class Event:
    """`data` holds nothing that JSON cannot say."""

    number: int  # 1, 2, 3 …; never again while the supervisor runs
    at: float  # Unix time
    kind: str
    data: dict[str, Any]


Observer = Callable[[Event], Any]


class Events:
    """`kept` are the last KEPT, oldest first."""

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self.kept: deque[Event] = deque(maxlen=KEPT)
        self._wall = wall
        self._count = 0
        self._observers: list[Observer] = []

    def __repr__(self) -> str:
        return f"<Events {self._count} so far, {len(self._observers)} observers>"

    def publish(self, kind: str, data: dict[str, Any]) -> None:
        self._count += 1
        event = Event(self._count, self._wall(), kind, data)
        self.kept.append(event)
        for observer in tuple(self._observers):
            observer(event)

    def since(self, number: int) -> list[Event]:
        """Those after event `number` that are still kept. One that has not been is of an earlier life of the program: all
        that has happened since then is new."""
        if number > self._count:
            number = 0
        return [event for event in self.kept if event.number > number]

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Have it called with every event from now on; call the result to end that."""
        self._observers.append(observer)
        return lambda: self._observers.remove(observer)
