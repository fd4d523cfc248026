"""Where a request of an app with a sticky cookie goes: to the target whose mark it brings, if that may have it.

Owned by the loop's thread. A target that is up or draining keeps its clients; of one that is down, has left, or cannot be
connected to they are given to another, which marks them anew. One that is at its limit is passed over for that request, and
the client keeps its mark. Which bytes change is decided in sansio/http1/sticky_cookie.py.
"""

from typing import Any

from tcp_proxy.config.model import StickyCookie
from tcp_proxy.dataplane.apps import LiveApp
from tcp_proxy.dataplane.live_target import LiveTarget
from tcp_proxy.sansio.http1.requests import Request
from tcp_proxy.sansio.http1.responses import Response
from tcp_proxy.sansio.http1.sticky_cookie import CookieRule, mark_of


class CookieTargets:
    """Those of one request. `base`: the app, or a route's share of it."""

    __slots__ = ("_base", "_cookies", "_mark", "_own")

    def __init__(self, base: Any, cookies: "Cookies", mark: bytes) -> None:
        self._base = base
        self._cookies = cookies
        self._mark = mark
        own = cookies.target_of(mark) if mark else None
        self._own: LiveTarget | None = own if own is not None and own.may_keep and base.offers(own) else None

    def __repr__(self) -> str:
        return f"<CookieTargets of {self._base!r}, own {self._own}>"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._base, name)

    def choose(self, key: bytes, now: float, excluded: set[LiveTarget] | None) -> LiveTarget | None:
        own, base = self._own, self._base
        if own is not None and excluded and own in excluded:  # it cannot be connected to
            own = self._own = None
        if own is not None and own.may_keep:
            waiting = base.queue is not None and own.limited and own.is_eligible and base.queue.holds_back(base.queue_line)
            if not waiting and own.take(base.row):  # nobody overtakes those who wait
                return own
        chosen: LiveTarget | None = base.choose(key, now, excluded)
        return chosen

    def choose_waiting(self, key: bytes, now: float) -> LiveTarget | None:
        own = self._own
        if own is not None and own.may_keep and own.take(self._base.row):
            return own
        chosen: LiveTarget | None = self._base.choose_waiting(key, now)
        return chosen

    def retake(self, target: LiveTarget) -> bool:
        """The lone target once more; a draining one, too, for whom it is the own."""
        if target is self._own and target.may_keep:
            return target.take(self._base.row)
        again: bool = self._base.retake(target)
        return again

    def marked(self, response: Response, served_by: str, is_secure: bool) -> None:
        """The answer says whose its client is from now on, where it does not know, or where that one is lost."""
        own = self._own
        name = served_by if own is None else own.name
        self._cookies.mark(response, name, own is None, is_secure)


class Cookies:
    """Of one app in mode http; made anew with its HttpApp."""

    def __init__(self, app: LiveApp, cookie: StickyCookie) -> None:
        self._app = app
        self._rule = CookieRule(cookie)
        self._seen: dict[str, LiveTarget] = {}
        self._by_mark: dict[bytes, LiveTarget] = {}
        self._marks: dict[str, bytes] = {}

    def __repr__(self) -> str:
        return f"<Cookies of {self._app.name}: {self._rule!r}>"

    def targets(self, base: Any, request: Request) -> CookieTargets:
        """The request is without our mark from now on."""
        return CookieTargets(base, self, self._rule.take(request))

    def target_of(self, mark: bytes) -> LiveTarget | None:
        targets = self._app.targets
        if targets is not self._seen:
            self._seen = targets
            self._by_mark = {mark_of(self._app.name, name): target for name, target in targets.items()}
        return self._by_mark.get(mark)

    def mark(self, response: Response, name: str, is_new: bool, is_secure: bool) -> None:
        mark = self._marks.get(name)
        if mark is None:
            if len(self._marks) > len(self._app.targets):
                self._marks.clear()  # of targets that have left
            mark = self._marks[name] = mark_of(self._app.name, name)
        self._rule.mark(response, mark, is_new, is_secure)
