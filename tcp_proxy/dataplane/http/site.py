"""An app in http mode, worked out for the byte path: routes, limits, who is trusted. Made anew when the app changes.

Owned by the loop's thread. A Lane is what a request may choose its target from: the app itself, or a route of it, which
offers to a Dial what the app offers, among its own targets only.
"""

import ipaddress
from collections.abc import Sequence
from typing import Any

from tcp_proxy.config.model import Http
from tcp_proxy.dataplane.apps import LiveApp, LiveTarget
from tcp_proxy.sansio.http1.forward import Client
from tcp_proxy.sansio.http1.requests import Limits, Request
from tcp_proxy.sansio.http1.routing import Router
from tcp_proxy.sansio.reasons import Reason


class Lane:
    """A route's share of an app. `others`: the targets that are not of it."""

    parking = None  # what a Dial asks for; only apps with the balance failover have one

    def __init__(self, app: LiveApp, names: Sequence[str]) -> None:
        self._app = app
        self._own = [target for name, target in app.targets.items() if name in names]
        self._others = {target for name, target in app.targets.items() if name not in names}
        self.name = app.name
        self.row = app.row
        self.retries = app.retries
        self.timeouts = app.timeouts
        self.retake = app.retake
        self.connect_failed = app.connect_failed

    def __repr__(self) -> str:
        return f"<Lane of {self.name}: {len(self._own)} targets>"

    def choose(self, key: bytes, now: float, excluded: set[LiveTarget] | None) -> LiveTarget | None:
        return self._app.choose(key, now, self._others | excluded if excluded else self._others)

    def is_alone(self, target: LiveTarget) -> bool:
        return not any(other.is_eligible for other in self._own if other is not target)

    def why_none(self) -> Reason:
        return Reason.LIMIT if any(target.is_eligible for target in self._own) else Reason.NO_TARGET


class Site:
    def __init__(self, app: LiveApp, http: Http) -> None:
        self.http = http
        self.timeouts = app.timeouts
        limits = http.limits
        self.limits = Limits(limits.request_line, limits.head, limits.fields)
        self.body_most = limits.body
        self.upgrades = frozenset(name.lower().encode("latin-1") for name in http.upgrades)
        self._trusted = [ipaddress.ip_network(text) for text in http.trusted_proxies]
        self._lanes: list[Any] = [Lane(app, route.targets) for route in http.routes]
        self._router = Router([(route.host, route.path) for route in http.routes]) if http.routes else None
        self._whole = app

    def __repr__(self) -> str:
        return f"<Site of {self._whole.name}, {len(self._lanes)} routes>"

    def lane(self, request: Request) -> Any:
        """Where the request chooses its target; None when no route is for it."""
        if self._router is None:
            return self._whole
        number = self._router.find(request.host, request.path)
        return self._lanes[number] if number >= 0 else None

    def client(self, ip: str) -> Client:
        trusted = False
        if self._trusted:
            address = ipaddress.ip_address(ip.partition("%")[0])
            trusted = any(address in network for network in self._trusted)
        return Client(ip.encode(), trusted, self.http.forwarded)
