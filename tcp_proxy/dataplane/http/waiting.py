"""How long a client of mode http and its target may take: a part of HttpSession, apart only for its size.

Owned by the loop's thread. While a request is answered the time runs from the last byte that moved, and epoll does not
tell of all of them: who takes a little at a time, out of the kernel's buffer, is not silent (test_a_slow_reader_…,
test_a_target_that_reads_slowly_…). So where bytes wait for somebody, what he has not taken is looked at LOOKS times in
`timeouts.response`, and a change counts as a byte that moved. So the limit is one between two operations, and the wait
for an answer begins when the target's machine has the whole request.
"""

from typing import Any

from tcp_proxy.dataplane.homes import NEVER
from tcp_proxy.dataplane.http.leaving import CLOSE_WITHIN, DIALING, EXCHANGING, READING, Leaving
from tcp_proxy.sansio.reasons import Reason, Side
from tcp_proxy.socket_options import outstanding

LOOKS = 4


class Waiting(Leaving):
    """`last`: when a byte was moved; `looked`: when it was looked at what client and target have not taken, `owed`."""

    last: float
    dial: Any
    input: bytes
    looked = float("-inf")
    owed: tuple[int, int] | None = None

    def exchanging(self) -> None:
        home = self.home
        self.state = EXCHANGING
        self.last = now = home.loop.now
        self.owed = None
        first_look = now + self.site.timeouts.response / LOOKS  # `due` or sooner: asking it costs each request 0.5 us
        if first_look < home.next_look:
            home.look_at(first_look)

    def due(self) -> float:
        is_blocked, state = self.outlet.blocked and self.broken is None, self.state
        if is_blocked or (state is EXCHANGING and self.exchange.is_long):
            return max(self.last, self.looked) + self.site.timeouts.response / LOOKS
        return self.last + self.site.timeouts.response if state is EXCHANGING else self.deadline

    def expire(self) -> None:
        state = self.state
        if state is DIALING:
            self.deadline = NEVER
            self.dial.timed_out()
        elif state is EXCHANGING or (self.outlet.blocked and self.broken is None):
            self._look_who_takes()
        elif state is READING and self.input:
            self._refuse(408, "the request did not come in time", None)
        elif state is READING:
            self._finish(Reason.IDLE_TIMEOUT, Side.PROXY, 0, reset=False)
        elif self.broken is not None:
            self._finish(*self.broken, 0, reset=True)
        elif not self._takes_the_rest():
            self._finish(Reason.DONE, Side.PROXY, 0, reset=False)

    def _look_who_takes(self) -> None:
        exchange, now = self.exchange, self.home.loop.now
        is_blocked = self.outlet.blocked
        owed = (outstanding(self.client) if is_blocked else 0, exchange.owed if exchange is not None else 0)
        before, self.owed = self.owed, owed
        self.looked = now
        if owed != before and before is not None:
            self.last = now
        elif now < self.last + self.site.timeouts.response or (before is None and any(owed)):
            return
        elif is_blocked or exchange is None:
            self._finish(Reason.IDLE_TIMEOUT, Side.PROXY, 0, reset=True)
        else:
            exchange.timed_out()

    def _takes_the_rest(self) -> bool:
        """Our last word is with the kernel; as long as the client takes of it, what it sends is still read, for nothing."""
        owed = (outstanding(self.client), 0)
        if not owed[0] or owed == self.owed:
            return False
        self.owed = owed
        self._wait(CLOSE_WITHIN)
        return True

    def _refuse(self, status: int, text: str, request: Any, keep: bool = False) -> None:
        raise NotImplementedError
