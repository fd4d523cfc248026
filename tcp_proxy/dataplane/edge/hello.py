"""The stage of a client whose ClientHello says where it goes: the routes of mode tcp, by name and protocol.

Owned by the loop's thread; each client has one of its own. The ClientHello is looked at and not touched: a target that has
TLS itself gets it as it came, and where TLS is ended here the handshake begins with it (tls.py). A client that speaks no
TLS, or has said nothing in time, takes the route that is for all others, if there is one.

Always true: a client that no route is for gets the alert unrecognized_name, if it speaks TLS, and is not reset.
"""

from contextlib import suppress
from socket import MSG_DONTWAIT, MSG_NOSIGNAL
from typing import Final, NamedTuple, Protocol

from tcp_proxy.config.tls_model import SniRoute
from tcp_proxy.dataplane.apps import LiveApp
from tcp_proxy.dataplane.edge.arrival import HELLO, Arrival, EdgeState, Refused, Stage
from tcp_proxy.dataplane.route_targets import RouteTargets
from tcp_proxy.sansio.address import noted
from tcp_proxy.sansio.client_hello import ClientHello, ClientHelloReader, NoClientHello
from tcp_proxy.sansio.reasons import Reason, Refusal
from tcp_proxy.sansio.sni_routes import SniRoutes

_UNRECOGNIZED_NAME: Final = b"\x15\3\3\0\2\2\x70"  # a fatal alert (RFC 8446, 6)


class Ending(Protocol):
    """How TLS is ended here (tls.TlsClients)."""

    def stage(self) -> Stage: ...


class Way(NamedTuple):
    targets: RouteTargets
    clients: Ending | None  # None: their TLS is passed through


class Routing:
    """Of one app."""

    def __init__(self, app: LiveApp, routes: tuple[SniRoute, ...], clients: Ending | None) -> None:
        self._ways = [Way(RouteTargets(app, route.targets), None if route.passthrough else clients) for route in routes]
        self._routes = SniRoutes([(route.sni, route.alpn) for route in routes])

    def __repr__(self) -> str:
        return f"<Routing {self._routes!r}>"

    def find(self, hello: ClientHello) -> Way | None:
        number = self._routes.find(hello.server_name, hello.alpn)
        return self._ways[number] if number >= 0 else None

    def stage(self) -> "HelloStage":
        """For a client."""
        return HelloStage(self)


class HelloStage:
    state: EdgeState = HELLO

    def __init__(self, routing: Routing) -> None:
        self._routing = routing
        self._reader = ClientHelloReader()

    def __repr__(self) -> str:
        return f"<HelloStage {self._reader!r}>"

    def seconds(self, arrival: Arrival) -> float:
        return arrival.app.timeouts.first_bytes

    def look(self, arrival: Arrival) -> bool:
        try:
            hello = self._reader.look(arrival.first)
        except NoClientHello as error:
            if error.is_tls:
                raise Refused(str(error), Refusal.TLS_OTHER) from None
            hello = ClientHello()
        if hello is None and arrival.is_ended:
            self._refuse_part(arrival, "it ended in its ClientHello", Refusal.TLS_GONE)
            hello = ClientHello()
        return hello is not None and self._take(arrival, hello)

    def expire(self, arrival: Arrival) -> bool:
        text = f"its ClientHello was not whole within {arrival.app.timeouts.first_bytes:g} s"
        self._refuse_part(arrival, text, Refusal.TLS_LATE)
        return self._take(arrival, ClientHello())

    def _refuse_part(self, arrival: Arrival, text: str, refusal: Refusal) -> None:
        """One that has said nothing at all may be a client of a server that speaks first."""
        if arrival.first:
            raise Refused(text, refusal)

    def _take(self, arrival: Arrival, hello: ClientHello) -> bool:
        route = self._routing.find(hello)
        if route is not None:
            arrival.leaves["route"] = route.targets
            if route.clients is not None:
                arrival.then(route.clients.stage())
            elif hello.server_name:  # nothing else is known of TLS that is passed through
                arrival.address = noted(arrival.address, f"sni={hello.server_name}")
            return True
        if not hello.versions:
            raise Refused("it speaks no TLS, and no route is for that", Refusal.TLS_NONE, reason=Reason.PROTOCOL_ERROR)
        with suppress(OSError):
            arrival.client.send(_UNRECOGNIZED_NAME, MSG_DONTWAIT | MSG_NOSIGNAL)
        asks = f"the name {hello.server_name}" if hello.server_name else "no name"
        raise Refused(f"no route is for {asks}", Refusal.TLS_NAME, is_told=True)
