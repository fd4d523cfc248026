"""The dial of a client that belongs to a target: its key is found, then whose the key is, and then it is dialed.

    NEW ──the key is the address──────────────────────────────────────────────┐
     └──> KEYING  until the slice of the first message is there, or first_bytes │ is over: then it is the address
             └──> CHOOSING <──────────────────────────────────────────────────┘
                     │  ^ what the authority says, or has taken of what we propose
                     v  │
                  ASKING ──no answer within `connect`, no authority──> PLAIN  a Dial like any other
    CHOOSING: the key's target, if it is up or draining, and no other; one that is down or disabled, or cannot be connected
    to, is rewritten by asking again. One that is at its limit, or that this machine could not dial: PLAIN, for this session

In the app's queue it is PLAIN, behind those who wait already; its turn is for its own target before any other, and a new key
belongs to the target that it gets then.

Owned by the worker's loop thread. The bytes of the first message are the session's from when they are read, and go to the
target whatever becomes of the key.
"""

from enum import IntEnum
from typing import Any, Final, Protocol

from tcp_proxy.dataplane.apps import LiveApp
from tcp_proxy.dataplane.dial import DialOwner
from tcp_proxy.dataplane.keyed_dial import KeyedDial
from tcp_proxy.dataplane.live_target import LiveTarget
from tcp_proxy.dataplane.sticky.copies import Copy, StickCopies
from tcp_proxy.sansio.address import ip_of
from tcp_proxy.sansio.reasons import Reason, Side, is_local
from tcp_proxy.wire.counters import STICK_FALLBACKS

ANSWERS: Final = 4  # that one session waits for; a key that is rewritten faster than that is not worth waiting for
SHORT: Final = 0.05  # seconds without a further byte after which a message that is shorter than the slice is all there is


class Phase(IntEnum):
    NEW = 0
    KEYING = 1
    CHOOSING = 2
    ASKING = 3
    PLAIN = 4
    OVER = 5


class StickyOwner(DialOwner, Protocol):
    """What the dial of a sticky app needs of its session."""

    app: LiveApp
    address: Any
    first: bytes  # what the client has said so far

    def read_first(self, size: int) -> bool: ...
    def belongs_to(self, copy: Copy) -> Any: ...
    def end_dialing(self, reason: Reason, side: Side, code: int) -> Any: ...


class StickyDial(KeyedDial):
    __slots__ = ("answers", "copy", "phase", "session", "sticks")

    def __init__(self, session: Any) -> None:
        super().__init__(session)
        self.session: StickyOwner = session
        self.sticks: StickCopies = session.app.sticks
        self.copy: Copy | None = None
        self.phase = Phase.NEW
        self.answers = 0

    def start(self) -> None:
        if self.phase is Phase.NEW:
            if self.sticks.keys.needs_first_bytes:
                self.look()
            else:
                self._has_key(self.sticks.keys.of_address(ip_of(self.session.address)))
        elif self.phase is Phase.PLAIN or is_local(self.last_code):
            self._be_plain()
        else:
            self._choose()

    def cancel(self) -> None:
        self.phase = Phase.OVER
        super().cancel()

    def timed_out(self) -> None:
        if self.phase is Phase.KEYING:
            self._end_keying()
        elif self.phase is Phase.ASKING:
            self._be_plain()
        else:
            super().timed_out()

    # -- the key

    def look(self) -> None:
        """What has the client said? Only what is missing is read."""
        session = self.session
        try:
            is_whole = session.read_first(self.sticks.keys.end)
        except OSError as error:
            session.end_dialing(Reason.CLIENT_GONE, Side.CLIENT, error.errno or 0)
            return
        if is_whole:
            self._end_keying()
            return
        if self.phase is Phase.NEW:
            self.phase = Phase.KEYING
            self.owner.deadline_set(self.loop.now + self.app.timeouts.first_bytes)
        if session.first:
            self.loop.call_later(SHORT, self._no_more, len(session.first))

    def _no_more(self, size: int) -> None:
        if self.phase is Phase.KEYING and len(self.session.first) == size:
            self._end_keying()

    def _end_keying(self) -> None:
        """With as much of the message as there is; one that has said nothing is known by its address."""
        ip, first = ip_of(self.session.address), self.session.first
        self.first = first
        if not first:
            self.app.row[self.app.slot + STICK_FALLBACKS] += 1
        self._has_key(self.sticks.keys.of_message(ip, first))

    def _has_key(self, key: str) -> None:
        self.copy = self.sticks.use(key)
        self.session.belongs_to(self.copy)
        self.phase = Phase.CHOOSING
        self.end = self.loop.now + 2 * self.app.timeouts.connect
        self._choose()

    # -- whose it is

    def _choose(self) -> None:
        """Dial the key's target, or ask whose it is."""
        copy = self.copy
        assert copy is not None
        while True:
            target = self.sticks.target_of(copy, self.excluded)
            if target is None:
                self._ask(copy)
                return
            if self._must_wait(target) or not target.take(self.app.row):
                self._be_plain()
                return
            if self._try_target(target) or not self._may_try_another(target):
                return
            if is_local(self.last_code):
                self._be_plain()
                return

    def _must_wait(self, target: LiveTarget) -> bool:
        """Nobody overtakes those who wait."""
        queue = self.app.queue
        return queue is not None and target.limited and target.is_eligible and queue.holds_back(self.app.queue_line)

    def take_place(self) -> LiveTarget | None:
        copy = self.copy
        own = self.sticks.target_of(copy, self.excluded) if copy is not None else None
        return own if own is not None and own.take(self.app.row) else super().take_place()

    def place_given(self, target: LiveTarget) -> None:
        if self.copy is not None and self.sticks.target_of(self.copy, None) is None:
            self.sticks.tell(self.copy, target)
        super().place_given(target)

    def _ask(self, copy: Copy) -> None:
        if self.answers < ANSWERS and self.sticks.ask(copy, self, self.excluded):
            self.phase = Phase.ASKING
            self._set_deadline()
        else:
            self._be_plain()

    def answered(self) -> None:
        if self.phase is not Phase.ASKING:
            return
        self.phase = Phase.CHOOSING
        self.answers += 1
        assert self.copy is not None
        if self.copy.version:
            self._choose()
        else:
            self._be_plain()  # nobody has a target for it, and perhaps no authority is there

    def _be_plain(self) -> None:
        self.phase = Phase.PLAIN
        super().start()
