"""A session of a sticky app: it belongs to a key, from when that is known to its end.

Owned like every Session. The key's copy is the loop thread's: when the session ends in a relay thread, it is left there.
"""

from typing import ClassVar

from tcp_proxy.dataplane.keyed_dial import KeyedDial
from tcp_proxy.dataplane.session import Session
from tcp_proxy.dataplane.session_state import DIALING
from tcp_proxy.dataplane.sticks import Copy
from tcp_proxy.dataplane.sticky_dial import Phase, StickyDial
from tcp_proxy.sansio.reasons import Reason, Side


class StickySession(Session):
    """`stick`: the copy of its key, set by the dial."""

    __slots__ = ("stick", "sticks")

    keyed_dial: ClassVar[type[KeyedDial]] = StickyDial

    def start(self) -> None:
        self.stick: Copy | None = None
        self.sticks = self.app.sticks
        super().start()

    def _client_early(self, events: int) -> None:
        super()._client_early(events)
        dial = self.dial
        if isinstance(dial, StickyDial) and dial.phase is Phase.KEYING and self.state is DIALING:
            dial.look()

    def end_dialing(self, reason: Reason, side: Side, code: int) -> None:
        """The dial has found that the client is gone."""
        self._finish(reason, side, code, reset=True)

    def _finish(self, reason: Reason, side: Side, code: int, reset: bool) -> None:
        super()._finish(reason, side, code, reset)
        copy, self.stick = self.stick, None
        if copy is None:
            return
        sticks = self.sticks
        if self.home.loop is sticks.book.loop:
            sticks.leave(copy)
        else:
            sticks.book.in_loop(sticks.leave, copy)
