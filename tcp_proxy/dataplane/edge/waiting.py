"""The stage of a client that has no place in its app (limits.sessions): it waits in the app's queue, if there is one.

Owned by the loop's thread; each such client has one of its own, which is a place_queue.Waiter. Nothing is read meanwhile.
It comes first of all stages, but for the look at who the client is: whoever may not connect has nothing to wait for.
"""

from typing import Any, Final

from tcp_proxy.dataplane.edge.answer import answer_in_clear
from tcp_proxy.dataplane.edge.arrival import WAITING, Arrival, EdgeState
from tcp_proxy.dataplane.relay.session_thread import NEVER
from tcp_proxy.runtime.socket_options import has_ended
from tcp_proxy.sansio.reasons import Reason, Side

AT_LIMIT: Final = "the app is at its limits.sessions"
LATE: Final = "the app has had no place for it in time"


class PlaceStage:
    state: EdgeState = WAITING

    def __init__(self, arrival: Arrival) -> None:
        self.owner = arrival  # whom a bug that is met here ends
        self._queue: Any = None  # that it waits in
        self._has_place = self._is_looking = False

    def __repr__(self) -> str:
        return f"<PlaceStage of {self.owner!r}>"

    # -- as a Stage

    def seconds(self, arrival: Arrival) -> float:
        queue, source = arrival.app.queue, arrival.app.places
        if queue is not None and source is not None and queue.enter(self, source):
            self._queue, arrival.queued, arrival.is_held = queue, self, True
        return NEVER

    def look(self, arrival: Arrival) -> bool:
        if self._queue is None and not self._has_place:
            arrival.finish(Reason.LIMIT, Side.PROXY, 0, AT_LIMIT)
        elif self._queue is not None and not self.has_gone():
            self._is_looking = True
            self._queue.look()  # a place may have become free before anybody knew that it waits
            self._is_looking = False
        return self._has_place and arrival.state is WAITING

    def expire(self, _arrival: Arrival) -> bool:
        return False

    def leave(self) -> None:
        """The arrival is over, or goes on."""
        queue, self._queue, self.owner.queued = self._queue, None, None
        if queue is not None:
            queue.leave(self)

    # -- as a Waiter

    def has_gone(self) -> bool:
        arrival = self.owner
        if not has_ended(arrival.client):
            return False
        arrival.finish(Reason.CLIENT_GONE, Side.CLIENT, 0)
        return True

    def take_place(self) -> bool | None:
        app = self.owner.app
        return True if app.places is None or app.places.begin(self.owner.number, app.row) else None

    def return_place(self, _place: bool) -> None:
        app = self.owner.app
        if app.places is not None:
            app.places.end(self.owner.number, app.row)

    def place_given(self, _place: bool) -> None:
        arrival = self.owner
        self._queue, self._has_place = None, True
        arrival.queued, arrival.is_held = None, False
        if not self._is_looking:  # else its look goes on
            arrival.look_again()
            arrival.ready(0)

    def place_denied(self, reason: Reason) -> None:
        self._queue, arrival = None, self.owner
        edge = arrival.app.edge
        is_clear = arrival.app.http is not None and (edge is None or edge.clients is None)
        if is_clear:
            from email.utils import formatdate  # noqa: PLC0415  a worker without mode http does without both

            from tcp_proxy.sansio.http1.forward import own_answer  # noqa: PLC0415

            answer_in_clear(arrival.client, own_answer(503, LATE, False, formatdate(usegmt=True).encode()))
        arrival.finish(reason, Side.PROXY, 0, LATE, reset=not is_clear)
