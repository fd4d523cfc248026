"""Who may connect: the rules of an app, and the stage of clients that have others.

Owned by the loop's thread. In an app that does nothing else to its clients the Server asks `admits` of each: who may
connect pays that and nothing more, and is no arrival. Everybody else has the stage, after the PROXY header that says who the
client is, before anything is sent, and before what it says is looked at.

Always true: a client is counted once, for the rules that its app has when it is looked up; rules that are none any more
count nobody (the supervisor gives their counters to others).
"""

from socket import AF_INET6, inet_aton, inet_pton
from typing import Any, Final

from tcp_proxy.config.model import ALLOW, NO_RULE, OTHERS
from tcp_proxy.dataplane.edge.arrival import ACCESS, Arrival, EdgeState, Refused
from tcp_proxy.sansio.address import ip_of
from tcp_proxy.sansio.networks import ranges_of
from tcp_proxy.sansio.reasons import Reason, Refusal
from tcp_proxy.wire.counters import Row
from tcp_proxy.wire.views import AccessView

REMEMBERED: Final = 5_000  # addresses whose rule is known without a search


class AccessRules:
    """Of one app."""

    def __init__(self, view: AccessView) -> None:
        self.view = view
        self._ipv4, self._ipv6 = ranges_of(view.table)
        self._known: dict[str, int] = {}  # by address, the slot of the rule that lets it in; -1: none does
        self._slots = view.slots
        self._allows = [action == ALLOW for action, _ in view.rules]

    def __repr__(self) -> str:
        return f"<AccessRules {len(self._slots)}>"

    def find(self, address: tuple[Any, ...]) -> int:
        """The number of the rule that decides."""
        ip = ip_of(address)
        if ":" in ip:
            return self._ipv6.find(inet_pton(AF_INET6, ip.partition("%")[0]))
        return self._ipv4.find(inet_aton(ip))

    def admits(self, address: tuple[Any, ...], row: Row, _number: int = 0) -> bool:
        """Whether it may connect; one that may not is not counted yet, for its stage does that."""
        slot = self._known.get(address[0])
        if slot is None:
            slot = self._remember(address)
        if slot < 0:
            return False
        row[slot] += 1
        return True

    def _remember(self, address: tuple[Any, ...]) -> int:
        number = self.find(address)
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        slot = self._known[address[0]] = self._slots[number] if self._allows[number] else -1
        return slot

    def require(self, address: tuple[Any, ...], row: Row) -> None:
        """Count it. Raises Refused for one that may not connect."""
        number = self.find(address)
        row[self._slots[number]] += 1
        if not self._allows[number]:
            raise Refused(_why(self.view.rules[number][1]), Refusal.ACCESS_DENIED, reason=Reason.DENIED)


def _why(entry: str) -> str:
    if entry == NO_RULE:
        return "its address is in no entry of access.allow"
    by = "an entry far down in access.deny" if entry == OTHERS else f"{entry} in access.deny"
    return f"its address is denied by {by}"


class AccessStage:
    """For all clients: it keeps nothing of one, nor the rules, which may be others when its turn comes."""

    state: EdgeState = ACCESS

    def seconds(self, _arrival: Arrival) -> float:
        return 0.0

    def look(self, arrival: Arrival) -> bool:
        edge = arrival.app.edge
        if edge is not None and edge.access is not None:
            edge.access.require(arrival.address, arrival.thread.row)
        return True

    def expire(self, arrival: Arrival) -> bool:
        return self.look(arrival)


ACCESS_STAGE: Final = AccessStage()
