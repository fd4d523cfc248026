"""A session of a sticky app: it belongs to a key, from when that is known to its end.

Owned like every Session. The key's copy is the loop thread's: when the session ends in a relay thread, it is left there.
"""

from socket import MSG_DONTWAIT
from typing import ClassVar

from tcp_proxy.dataplane.keyed_dial import KeyedDial
from tcp_proxy.dataplane.session import Session
from tcp_proxy.dataplane.session_state import DIALING
from tcp_proxy.dataplane.sticky.copies import Copy
from tcp_proxy.dataplane.sticky.dial import Phase, StickyDial
from tcp_proxy.sansio.reasons import Reason, Side


class StickySession(Session):
    """Adds to a Session what its StickyDial needs: the first message, and that the session belongs to a key."""

    __slots__ = ("_stick", "_sticks")

    keyed_dial: ClassVar[type[KeyedDial]] = StickyDial

    def start(self) -> None:
        self._stick: Copy | None = None
        self._sticks = self.app.sticks
        super().start()

    def _client_early(self, events: int) -> None:
        super()._client_early(events)
        dial = self.dial
        if isinstance(dial, StickyDial) and dial.phase is Phase.KEYING and self.state is DIALING:
            dial.look()

    def read_first(self, size: int) -> bool:
        """Read what is missing of so many bytes of the first message; whether no more will come. Raises OSError."""
        while len(self.first) < size:
            try:
                data = self.client.recv(size - len(self.first), MSG_DONTWAIT)
            except BlockingIOError:
                return False
            if not data:
                return True
            self.first += data
        return True

    def belongs_to(self, copy: Copy) -> None:
        """The dial has found its key. The copy is left when the session ends."""
        self._stick = copy

    @property
    def key(self) -> str:
        """Whose it is; "": it is not known."""
        return self._stick.key if self._stick is not None else ""

    def arrive_as(self, key: str, target: str) -> None:
        """Instead of `start`: it comes from another worker, and belongs to this key."""
        self._sticks = self.app.sticks
        self._stick = self._sticks.arrive(key, target) if key else None

    def depart(self) -> None:
        super().depart()
        copy, self._stick = self._stick, None
        if copy is not None:
            self._sticks.leave(copy)

    def end_dialing(self, reason: Reason, side: Side, code: int) -> None:
        """The dial has found that the client is gone."""
        self._finish(reason, side, code, reset=True)

    def _finish(self, reason: Reason, side: Side, code: int, reset: bool) -> None:
        super()._finish(reason, side, code, reset)
        copy, self._stick = self._stick, None
        if copy is None:
            return
        sticks = self._sticks
        if self.thread.loop is sticks.table_client.loop:
            sticks.leave(copy)
        else:
            sticks.table_client.in_loop(sticks.leave, copy)
