"""What an app does to its clients before they are sessions, worked out once when the app is configured.

Owned by the loop's thread. An app that does nothing has no Edge: its clients pay one look.
"""

from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any, Final

from tcp_proxy.config.model import AcceptProxy, Hash
from tcp_proxy.config.tls_model import Tls
from tcp_proxy.dataplane.apps import LiveApp
from tcp_proxy.dataplane.edge.access import ACCESS_STAGE, AccessRules
from tcp_proxy.dataplane.edge.arrival import Stage
from tcp_proxy.dataplane.edge.header import ClosedStage, DirectStage, HeaderStage
from tcp_proxy.dataplane.edge.hello import Routing
from tcp_proxy.dataplane.edge.key import key_stage
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.sansio.address import ip_of
from tcp_proxy.wire.messages import TicketKey
from tcp_proxy.wire.views import AccessView, AppView

if TYPE_CHECKING:
    from tcp_proxy.dataplane.edge.limits import LimitsStage
    from tcp_proxy.dataplane.edge.tls import Handshakes, TlsClients

REMEMBERED: Final = 1000  # peers: load balancers are few, and come again and again


class Edges:
    """Those of a worker. `loop` is its own."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._handshakes: Handshakes | None = None
        self._ticket_key = b""

    def __repr__(self) -> str:
        return f"<Edges with {self._handshakes!r}>"

    def configure(self, app: LiveApp, view: AppView) -> None:
        """The app is configured as the view says. TLS with its clients goes on as it was where it is the same."""
        clients = self._clients(app, view.tls) if view.tls is not None else None
        routing = Routing(app, view.sni_routes, clients) if view.sni_routes else None
        access = self._access(app, view.access) if view.access is not None else None
        limits = self._limits(app, access) if _limits_clients(view) else None
        hashed = view.hash if view.hash.key in ("first_bytes", "sni") else None
        is_needed = any(one is not None for one in (view.accept_proxy, clients, routing, access, limits, hashed))
        app.edge = Edge(view.accept_proxy, clients, routing, access, limits, hashed) if is_needed else None

    def take_ticket_key(self, message: TicketKey, _descriptors: list[int]) -> None:
        """From the supervisor: what the keys of all apps are made from, from now on."""
        self._ticket_key = bytes.fromhex(message.key)
        if self._handshakes is not None:
            self._handshakes.set_ticket_key(self._ticket_key)

    def _access(self, app: LiveApp, view: AccessView) -> AccessRules:
        """A long list is not taken apart again for another change of the app."""
        before: AccessRules | None = app.edge.access if app.edge is not None else None
        return before if before is not None and before.view == view else AccessRules(view)

    def _limits(self, app: LiveApp, access: AccessRules | None) -> "LimitsStage":
        from tcp_proxy.dataplane.edge.limits import LimitsStage  # noqa: PLC0415  for the first app that needs it

        return LimitsStage(self._loop, app, access)

    def _clients(self, app: LiveApp, tls: Tls) -> "TlsClients":
        from tcp_proxy.dataplane.edge.tls import Handshakes, TlsClients  # noqa: PLC0415  ssl: for the first app that needs it

        before: TlsClients | None = app.edge.clients if app.edge is not None else None
        if before is not None and before.tls == tls:
            return before
        if self._handshakes is None:
            self._handshakes = Handshakes(self._loop)
            self._handshakes.set_ticket_key(self._ticket_key)
        return TlsClients(app.name, tls, self._handshakes)


class Edge:
    """`clients`: TLS is spoken with them, but with those whom a route passes through. `only`: the rules of access, or the
    limits, where nothing else is done to clients: whom it admits is a session at once."""

    def __init__(
        self,
        accept_proxy: AcceptProxy | None,
        clients: "TlsClients | None" = None,
        routing: Routing | None = None,
        access: AccessRules | None = None,
        limits: "LimitsStage | None" = None,
        hashed: Hash | None = None,
    ) -> None:
        self.clients = clients
        self.access = access
        is_only = accept_proxy is None and clients is None and routing is None and hashed is None
        self.only = (limits or access) if is_only else None
        self._hashed = hashed
        self._limits = limits
        self._routing = routing
        self._accepts_headers = accept_proxy is not None
        if accept_proxy is not None:
            self._networks = [ip_network(text) for text in accept_proxy.networks]
            self._of_senders: Stage = HeaderStage(accept_proxy.required, accept_proxy.max_size)
            self._of_others: Stage = DirectStage() if accept_proxy.others == "accept" else ClosedStage()
        self._known: dict[str, Stage] = {}

    def __repr__(self) -> str:
        has = (self._accepts_headers and "headers", self.access, self._limits, self._routing, self.clients)
        return f"<Edge with {', '.join(str(one) for one in has if one)}>"

    def stages(self, peer: tuple[Any, ...]) -> list[Stage]:
        """What a client that comes from there has before it, in this order."""
        limits = self._limits
        if limits is not None and limits.pending is not None:  # `only` has looked at everything before
            return [limits]
        stages = [self._header(ip_of(peer))] if self._accepts_headers else []
        if self.access is not None:
            stages.append(ACCESS_STAGE)
        if limits is not None:
            stages.append(limits)
        if self._hashed is not None:
            stages.append(key_stage(self._hashed))
        if self._routing is not None:
            stages.append(self._routing.stage())
        elif self.clients is not None:
            stages.append(self.clients.stage())
        return stages

    def _header(self, ip: str) -> Stage:
        stage = self._known.get(ip)
        if stage is None:
            address = ip_address(ip.partition("%")[0])
            is_sender = any(address in network for network in self._networks)
            stage = self._of_senders if is_sender else self._of_others
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[ip] = stage
        return stage


def _limits_clients(view: AppView) -> bool:
    """Whether clients are, as they come; in mode http a rate is that of requests."""
    limits = view.limits
    return bool(view.clients) and (view.http is None or limits.sessions_per_client + limits.bytes_per_second_per_client > 0)
