"""Limits by client and by rate, as clients come: those above them are reset, or wait for their turn.

Owned by the loop's thread. Where an app does nothing else to its clients, but for a look at who may connect, the Server asks
`admits` of each: who is let in pays that and nothing more, and is no arrival. Everybody else has the stage, behind the PROXY
header and `access`: it is the client's own address that counts, and who may not connect uses nothing up.

What `admits` has found of a client that is not let in is `pending` until its stage looks at it, in the same call.
"""

from typing import Any

from tcp_proxy.dataplane.apps import LiveApp
from tcp_proxy.dataplane.client_limits import Verdict, why
from tcp_proxy.dataplane.edge.access import AccessRules
from tcp_proxy.dataplane.edge.arrival import DELAYED, LIMITS, Arrival, EdgeState
from tcp_proxy.dataplane.relay.session_thread import NEVER
from tcp_proxy.runtime.loop import Loop, Timer
from tcp_proxy.sansio.reasons import Reason, Side
from tcp_proxy.wire.counters import Row


class LimitsStage:
    """Of one app; it keeps nothing of a client."""

    state: EdgeState = LIMITS

    def __init__(self, loop: Loop, app: LiveApp, access: AccessRules | None) -> None:
        """`access`: whom `admits` lets in, too."""
        self.pending: Verdict | None = None
        self._loop = loop
        self._app = app
        self._access = access

    def __repr__(self) -> str:
        return f"<LimitsStage of {self._app.name}>"

    def admits(self, address: tuple[Any, ...], row: Row, number: int) -> bool:
        """Whether this session may begin now. What of it is counted is not counted again by its stages."""
        if self._access is not None and not self._access.admits(address, row):
            return False
        limits = self._app.client_limits
        if limits is None:  # its table has not come yet
            return True
        if limits.lets_in(address, number, self._loop.now):
            return True
        self.pending = limits.admit(address, number, self._loop.now)
        return self.pending is None

    # -- as a Stage

    def seconds(self, _arrival: Arrival) -> float:
        return 0.0

    def look(self, arrival: Arrival) -> bool:
        limits = arrival.app.client_limits
        verdict, self.pending = self.pending, None
        if verdict is None and limits is not None:
            verdict = limits.admit(arrival.address, arrival.number, self._loop.now)
        if verdict is None:
            return True
        if verdict.limit < 0:
            arrival.then(DelayStage(arrival, verdict.wait))
            return True
        arrival.finish(Reason.LIMIT, Side.PROXY, 0, why(verdict, self._app.limits))
        return False

    def expire(self, _arrival: Arrival) -> bool:
        return False


class DelayStage:
    """Of one client, which has its turn in `wait` seconds; nothing is read of it until then."""

    state: EdgeState = DELAYED

    def __init__(self, arrival: Arrival, wait: float) -> None:
        self.owner = arrival  # whom a bug that is met here ends
        self._wait = wait
        self._timer: Timer | None = None
        self._is_over = False

    def __repr__(self) -> str:
        return f"<DelayStage of {self.owner!r}>"

    def seconds(self, arrival: Arrival) -> float:
        arrival.is_held, arrival.queued = True, self
        self._timer = arrival.thread.loop.call_later(self._wait, self._go_on)
        return NEVER

    def look(self, _arrival: Arrival) -> bool:
        return self._is_over

    def expire(self, _arrival: Arrival) -> bool:
        return False

    def leave(self) -> None:
        """The arrival is over. The turn that it has waited for is nobody else's."""
        self.owner.queued = None
        if self._timer is not None:
            self._timer.cancel()

    def _go_on(self) -> None:
        arrival = self.owner
        self._is_over, self._timer = True, None
        arrival.is_held, arrival.queued = False, None
        arrival.look_again()
        arrival.ready(0)
