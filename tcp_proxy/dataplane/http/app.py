"""An app in http mode, worked out for the byte path: routes, limits, who is trusted. Made anew when the app changes.

Owned by the loop's thread. A request chooses its target from the app itself or from the RouteTargets of a route.
"""

import ipaddress
from math import ceil
from typing import Any

from tcp_proxy.config.model import Http
from tcp_proxy.dataplane.apps import LiveApp
from tcp_proxy.dataplane.http.client_tls import over_tls
from tcp_proxy.dataplane.relay.session_thread import is_plain
from tcp_proxy.dataplane.route_targets import KeyedTargets, RouteTargets
from tcp_proxy.dataplane.session_counters import ListenerCounters
from tcp_proxy.runtime.stream_socket import StreamSocket
from tcp_proxy.sansio.http1 import outcomes
from tcp_proxy.sansio.http1.forward import RETRY_SECONDS, Client
from tcp_proxy.sansio.http1.plain import are_plain
from tcp_proxy.sansio.http1.request_key import key_of
from tcp_proxy.sansio.http1.requests import Limits, Request
from tcp_proxy.sansio.http1.routing import Router


class HttpApp:
    def __init__(self, app: LiveApp, http: Http) -> None:
        self.http = http
        self.timeouts = app.timeouts
        limits = http.limits
        self.limits = Limits(limits.request_line, limits.head, limits.fields)
        self.body_most = limits.body
        self.has_rates = bool(app.limits.rate or app.limits.rate_per_client)
        self.stick_of = key_of("header", app.sticky.header) if app.sticky is not None else None
        is_plain_way = http.preserve_host and are_plain(self.limits) and self.stick_of is None
        self.key_of = key_of(app.hash.key, app.hash.name) if app.needs_key else None
        # requests as they come (sansio.http1.plain)
        self.takes_plain = is_plain_way and not self.has_rates and self.key_of is None and http.cookie is None
        self.cookies: Any = None  # dataplane.http.cookie.Cookies
        if http.cookie is not None:
            from tcp_proxy.dataplane.http.cookie import Cookies  # noqa: PLC0415  loaded with the first app that needs it

            self.cookies = Cookies(app, http.cookie)
        self.upgrades = frozenset(name.lower().encode("latin-1") for name in http.upgrades)
        self._trusted = [ipaddress.ip_network(text) for text in http.trusted_proxies]
        self._route_targets: list[Any] = [RouteTargets(app, route.targets) for route in http.routes]
        self._router = Router([(route.host, route.path) for route in http.routes]) if http.routes else None
        self._whole = app

    def __repr__(self) -> str:
        return f"<HttpApp of {self._whole.name}, {len(self._route_targets)} routes>"

    def route_targets(self, request: Request) -> Any:
        """Where the request chooses its target; None when no route is for it."""
        if self._router is None:
            found: Any = self._whole
        else:
            number = self._router.find(request.host, request.path)
            found = self._route_targets[number] if number >= 0 else None
        if found is None:
            return found
        key = self.key_of(request) if self.key_of is not None else None
        if key is not None:
            found = KeyedTargets(found, key)
        if self.stick_of is not None:
            return self._stuck(found, self.stick_of(request))
        return found if self.cookies is None else self.cookies.targets(found, request)

    def _stuck(self, found: Any, value: bytes | None) -> Any:
        """A request without the header stays with nobody."""
        sticks = self._whole.sticks
        if value is None or sticks is None:
            return found
        from tcp_proxy.dataplane.http.stick import StickTargets  # noqa: PLC0415  loaded with the first app that needs it

        return StickTargets(found, sticks, sticks.keys.of_value(value))

    def refusal(self, request: Request, address: tuple[Any, ...], now: float) -> tuple[int, str, int] | None:
        """Status and text of what is not passed on, whatever the route, and when it may be tried again; it is counted."""
        refused = outcomes.refusal(request, self.http.allow_connect, self.body_most)
        if refused is not None:
            return *refused, RETRY_SECONDS
        limits = self._whole.client_limits
        if not self.has_rates or limits is None:
            return None
        from tcp_proxy.dataplane.client_limits import why  # noqa: PLC0415  its app has loaded it

        verdict = limits.admit_request(address, now)
        return None if verdict is None else (429, why(verdict, self._whole.limits), max(1, ceil(verdict.wait)))

    def keeps_host(self, request: Request) -> bool:
        """Whether the target is called as the client has called us."""
        return self.http.preserve_host and bool(request.host or b"host" in request.fields.values)

    def client(self, ip: str, sock: StreamSocket, listener: ListenerCounters) -> Client:
        trusted = False
        if self._trusted:
            address = ipaddress.ip_address(ip.partition("%")[0])
            trusted = any(address in network for network in self._trusted)
        client = Client(ip.encode(), trusted, self.http.forwarded)
        if is_plain(sock):
            return client
        return over_tls(client, sock.stream, listener.port, self.http.client_certificate)  # type: ignore[attr-defined]
