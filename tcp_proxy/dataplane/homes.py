"""A home: the thread that a session lives in, with everything it needs of it.

A worker has one home for its event loop and one for each relay thread. It holds the loop, the sessions that live here,
the thread's row of counters and the way to the recorder. A session is in exactly one home, or on its way between two
(a queued call). Only the thread of `loop` may touch a home; `len` alone may be asked by others.

A session has a deadline, not a timer: timers of an hour for 10,000 sessions a second would be 36 million dead timers.
Instead the home looks at its sessions when the earliest deadline it knows of is due, and not before; sessions that got
a later deadline meanwhile are simply found not to be due.
"""

from collections.abc import Callable
from functools import partial
from socket import SocketType
from typing import Any, Protocol

from tcp_proxy.counters import Row
from tcp_proxy.dataplane.pump import Owner, Pump
from tcp_proxy.dataplane.record import Recorder
from tcp_proxy.dataplane.tally import moved
from tcp_proxy.loop import Loop, Timer
from tcp_proxy.sansio.reasons import Reason

COUNT_EVERY = 1.0  # seconds between two looks at what the sessions have moved
GRAIN = 0.1  # seconds between two looks at the least: a deadline is met this late at most
SLICE = 100  # sessions that are looked at in one turn
NEVER = float("inf")


class Resident(Protocol):
    last: float  # when it had its last event

    def due(self) -> float: ...  # the loop's time at which `expire` is wanted; NEVER for none
    def expire(self) -> Any: ...


class Home:
    """The home in a worker's event loop; sessions that become bulk are sent away by `send_away`."""

    promotes = False  # whether bulk sessions move to a better place

    def __init__(self, loop: Loop, row: Row, recorder: Recorder) -> None:
        self.loop = loop
        self.row = row
        self.recorder = recorder
        self.members: set[Any] = set()
        self.closing: Reason | None = None  # whoever arrives from now on is reset for this reason
        self.next_look = NEVER
        self._timer: Timer | None = None
        self._is_counting = False
        self._counted_at = 0.0  # whoever had no event since has nothing new to count

    def __len__(self) -> int:
        return len(self.members)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.loop.name}: {len(self.members)} sessions>"

    def make_pump(self, owner: Owner, source: SocketType, dest: SocketType, tcp: bool) -> Pump:
        return Pump(self.loop, owner, source, dest, tcp)

    def send_away(self, _session: Any) -> bool:
        """Hand the session over to where it does better; False when it stays."""
        return False

    def look_at(self, when: float) -> None:
        """Some resident's deadline is `when` from now on. Call only if that is before `next_look`."""
        if self._timer is not None:
            self._timer.cancel()
        self.next_look = when
        self._timer = self.loop.call_later(when - self.loop.now, self._look)

    def count_from_now(self) -> None:
        """There is a session that lives long: let its bytes be seen in the counters while it does."""
        if not self._is_counting:
            self._is_counting = True
            self.loop.call_later(COUNT_EVERY, self._count)

    def _count(self) -> None:
        since, self._counted_at = self._counted_at, self.loop.now
        in_slices(self.loop, tuple(self.members), partial(self._count_some, since), self._counted)

    def _count_some(self, since: float, members: tuple[Any, ...]) -> None:
        for member in members:
            if member.last >= since and member.home is self:
                moved(member)

    def _counted(self) -> None:
        self._is_counting = False
        if self.members:
            self.count_from_now()

    def _look(self) -> None:
        now = self.loop.now
        self._timer = None
        self.next_look = NEVER
        earliest = NEVER
        for member in tuple(self.members):
            due = member.due()
            if due <= now:
                try:
                    member.expire()
                except Exception as error:  # noqa: BLE001  one session's bug must not end the others
                    self.loop.on_error(member.expire, error)
                due = member.due() if member in self.members else NEVER
            earliest = min(earliest, due)
        if earliest < self.next_look:  # an expiry may have set an earlier one
            self.look_at(max(earliest, now + GRAIN))


def in_slices(
    loop: Loop, items: tuple[Any, ...], call: Callable[[tuple[Any, ...]], Any], done: Callable[[], Any], size: int = 0
) -> None:
    """Call with SLICE items a turn (or `size`), so that the sessions need not wait for all; then `done`. `loop`'s thread
    only."""
    size = size or SLICE
    if len(items) <= size:
        call(items)
        done()
        return
    call(items[:size])
    loop.call_again(lambda _events: in_slices(loop, items[size:], call, done, size))
