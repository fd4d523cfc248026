"""What happened, as values: state changes, reloads, workers, administration. The last ones are kept, observers are told.

Main thread only. An event is for programs what a log line is for people; whoever publishes says both.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from tcp_proxy.sansio.frozen_dataclass import dataclass

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

    def given(self) -> list[list[Any]]:
        """For a program that takes over."""
        return [[event.number, event.at, event.kind, event.data] for event in self.kept]

    def take(self, given: list[list[Any]]) -> None:
        """What happened before us; what has happened since we began comes after that."""
        ours = [[0, event.at, event.kind, event.data] for event in self.kept]
        self.kept.clear()
        self._count = 0
        for number, *rest in (*given, *ours):
            self._count = number or self._count + 1
            self.kept.append(Event(self._count, *rest))

    def since(self, number: int) -> list[Event]:
        """Those after event `number` that are still kept. One that has not been is of an earlier run of the program: all
        that has happened since then is new."""
        if number > self._count:
            number = 0
        return [event for event in self.kept if event.number > number]

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Have it called with every event from now on; call the result to end that."""
        self._observers.append(observer)
        return lambda: self._observers.remove(observer)
