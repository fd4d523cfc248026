"""The stage of a client whose first bytes decide its target (`hash`): a slice of them, or the name in its ClientHello.

Owned by the loop's thread; each client has one of its own. The bytes are looked at and not touched. A client that has said
nothing, or names nobody, is known by its address, as is one whose first message is not there within timeouts.first_bytes;
a shorter message has a shorter slice. It comes before the stages that read the ClientHello for their own ends (hello.py).
"""

from typing import Any, Final

from tcp_proxy.config.model import Hash
from tcp_proxy.dataplane.apps import LiveApp
from tcp_proxy.dataplane.edge.arrival import KEY, Arrival, EdgeState, Stage
from tcp_proxy.dataplane.route_targets import KeyedTargets
from tcp_proxy.sansio.client_hello import ClientHelloReader, NoClientHello

SHORT: Final = 0.05  # seconds without a further byte after which a message that is shorter than the slice is all there is


def key_stage(hash_of: Hash) -> Stage:
    """For a client."""
    return NameStage() if hash_of.key == "sni" else SliceStage(*hash_of.slice)


class SliceStage:
    state: EdgeState = KEY

    def __init__(self, start: int, end: int) -> None:
        self._start = start
        self._end = end
        self._is_over = False

    def __repr__(self) -> str:
        return f"<SliceStage {self._start} to {self._end}>"

    def seconds(self, arrival: Arrival) -> float:
        return arrival.app.timeouts.first_bytes

    def look(self, arrival: Arrival) -> bool:
        size = len(arrival.first)
        if size >= self._end or arrival.is_ended:
            return self._take(arrival)
        if size:
            arrival.thread.loop.call_later(SHORT, self._no_more, arrival, size)
        return False

    def expire(self, arrival: Arrival) -> bool:
        return self._take(arrival)

    def _no_more(self, arrival: Arrival, size: int) -> None:
        if not self._is_over and arrival.state is KEY and len(arrival.first) == size:
            arrival.expire()

    def _take(self, arrival: Arrival) -> bool:
        self._is_over = True
        key = arrival.first[self._start : self._end]
        if key:
            arrival.leaves["key"] = key
        return True


class NameStage:
    state: EdgeState = KEY

    def __init__(self) -> None:
        self._reader = ClientHelloReader()

    def __repr__(self) -> str:
        return f"<NameStage {self._reader!r}>"

    def seconds(self, arrival: Arrival) -> float:
        return arrival.app.timeouts.first_bytes

    def look(self, arrival: Arrival) -> bool:
        try:
            hello = self._reader.look(arrival.first)
        except NoClientHello:  # whoever needs one says what becomes of the client
            return True
        if hello is not None and hello.server_name:
            arrival.leaves["key"] = hello.server_name.encode()
        return hello is not None or arrival.is_ended

    def expire(self, _arrival: Arrival) -> bool:
        return True


def route_of(leaves: dict[str, Any], app: LiveApp) -> Any:
    """Where a client with these leaves chooses its target; None: from the app as it is."""
    route, key = leaves.get("route"), leaves.get("key")
    return route if key is None else KeyedTargets(route or app, key)
