"""Everything that the supervisor's main thread owns, in one place, so that each room is handed one thing.

Main thread only. `Supervisor` fills it and gives it back; `Briefing` tells workers what is in it; `Reload` changes it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tcp_proxy.config.model import Config
from tcp_proxy.control.access_log import AccessLog
from tcp_proxy.control.crew import Crew
from tcp_proxy.control.events import Events
from tcp_proxy.control.ledger import Ledger
from tcp_proxy.control.sockets import Listening
from tcp_proxy.control.states import States
from tcp_proxy.control.stick_tables import StickTables
from tcp_proxy.control.targets import Targets
from tcp_proxy.loop import Loop


def _nothing() -> None:
    """Nobody wants to know."""


@dataclass(slots=True)
class Estate:
    """`config` is what runs now; `generation` counts its changes."""

    loop: Loop
    config: Config
    targets: Targets
    ledger: Ledger
    events: Events
    listening: dict[int, Listening]  # by number, as the workers know them
    access_log: AccessLog | None
    closing: dict[int, Listening] = field(default_factory=dict)  # no worker is lent these any more
    generation: int = 0
    numbers: int = 0  # of listeners so far
    is_serving: bool = False  # workers are lent listeners
    is_stopping: bool = False
    crew: Crew = field(init=False)
    states: States = field(init=False)
    sticks: StickTables = field(init=False)
    changed: Callable[[], Any] = _nothing  # called when another configuration has been taken over

    def __repr__(self) -> str:
        return f"<Estate generation {self.generation}: {self.targets!r}, {len(self.listening)} listeners>"

    def next_number(self) -> int:
        self.numbers += 1
        return self.numbers
