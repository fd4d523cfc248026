"""Who may come in, and how much they may bring: before any route sees a request.

An ASGI application around the other one. In this order: one length, a Host that is ours (a page in a browser on this machine
must not reach us by a name of its own that it lets point here), no page of another origin behind what changes something,
the token, a body of bounded size that comes in bounded time and says that it is JSON, which no page of another origin
can say unasked. The path is left percent-encoded, so that a "/" in a name is not one
between names. An exception that no route caught is answered and logged here, once.
"""

import asyncio
import contextlib
import logging
import re
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tcp_proxy.control.api.dashboard import wants_page
from tcp_proxy.control.api.problems import Problem
from tcp_proxy.control.api.token_file import TokenFile
from tcp_proxy.sansio.address import ANY, Address

logger = logging.getLogger(__name__)

MOST_BODY = 8 * 1024 * 1024  # bytes: a whole configuration
MOST_SMALL = 256 * 1024  # bytes of everything else: a target's checks may send and expect 64 KiB each
PLAN = "/api/v1/plan"
MOST_HELD = 8 * MOST_BODY  # of all requests together: memory is the proxy's, too
BODY_WITHIN = 10.0  # seconds
SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")
JSON = "application/json"
# RFC 3986, 3.2.2 and 3.2.3: an address in brackets, or a name or address, and a port. No user, nothing behind a bracket.
AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%!$&'()*+,;=-]+)(?::([0-9]*))?")
HTTP_PORT = "80"  # of an authority without one
# Without a token: they say nothing that is secret. The page at "/" does not either.
OPEN_PATHS = ("/healthz", "/readyz", "/spec/v1", "/ui/v1", "/dashboard")
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]


class Hosts:
    """The names and addresses by which a request may call us."""

    def __init__(self, listen: Address, names: Iterable[str]) -> None:
        self._is_unix = bool(listen.path)  # no browser reaches it
        self._any_address = listen.host in (ANY, "::", "0.0.0.0")  # noqa: S104  compared, not bound
        self._names = {"localhost", "localhost.", *names}
        self._address = listen.host

    def __repr__(self) -> str:
        return f"<Hosts {sorted(self._names)}>"

    def include(self, host: str) -> bool:
        """`host` as in a Host header: with or without a port."""
        if self._is_unix:
            return True
        found = AUTHORITY.fullmatch(host)
        if found is None:
            return False
        name = found[1].lower()
        if name in self._names:
            return True
        try:
            address = ip_address(name.strip("[]"))
        except ValueError:
            return False
        if (address.version == 6) != name.startswith("["):
            return False
        return self._any_address or address.is_loopback or str(address) == self._address


def _origin_of(host: str) -> tuple[str, str] | None:
    """(host, port) of an authority."""
    found = AUTHORITY.fullmatch(host)
    return (found[1].lower(), found[2] or HTTP_PORT) if found else None


class Guard:
    def __init__(self, app: ASGIApp, hosts: Hosts, token: TokenFile | None) -> None:
        self._app = app
        self._hosts = hosts
        self._token = token
        self._held = 0  # bytes of bodies

    def __repr__(self) -> str:
        return f"<Guard {self._hosts!r} {self._token!r}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with contextlib.suppress(_HeadIsOut):
            await self._answer(scope, receive, _Reply(send, scope["method"] == "HEAD"))

    async def _answer(self, scope: Scope, receive: Receive, reply: "_Reply") -> None:
        body = bytearray()
        try:
            self._admit(scope)
            if await self._is_whole(body, receive, MOST_BODY if scope["path"] == PLAN else MOST_SMALL):
                _require_json(scope, has_body=bool(body))
                method = "GET" if reply.is_head else scope["method"]
                inner = {**scope, "method": method, "path": scope["raw_path"].decode("latin-1")}
                await self._app(inner, _Replay(bytes(body), receive), reply)
        except _HeadIsOut:
            raise
        except Problem as problem:
            await problem.response()(scope, receive, reply)
        except Exception:
            logger.exception("internal error in %s %s, please report it", scope["method"], scope["path"])
            if not reply.has_begun:
                await Problem(500, "a mistake in the proxy; its log has the details").response()(scope, receive, reply)
        finally:
            self._held -= len(body)

    async def _is_whole(self, body: bytearray, receive: Receive, most: int) -> bool:
        """Read it; False when the client has gone."""
        try:
            async with asyncio.timeout(BODY_WITHIN):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return False
                    part = message.get("body", b"")
                    body += part
                    self._held += len(part)
                    if len(body) > most:
                        raise Problem(413, f"a body has at most {most} bytes here", headers={"Connection": "close"})
                    if self._held > MOST_HELD:
                        detail = "the bodies of other requests take all the room there is; ask again"
                        raise Problem(503, detail, headers={"Connection": "close", "Retry-After": "1"})
                    if not message.get("more_body", False):
                        return True
        except TimeoutError:
            detail = f"the body did not come within {BODY_WITHIN:.0f} seconds"
            raise Problem(408, detail, headers={"Connection": "close"}) from None

    def _admit(self, scope: Scope) -> None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if b"transfer-encoding" in headers and (b"content-length" in headers or scope["http_version"] == "1.0"):
            detail = "a length and Transfer-Encoding in one request: where it ends is not certain (RFC 9112, 6.1)"
            raise Problem(400, detail, headers={"Connection": "close"})
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1:
            raise Problem(400, "wanted one Host header")
        host = hosts[0].decode("latin-1")
        if not self._hosts.include(host):
            raise Problem(421, f"this API is not known as {host!r}; its name can be added to api.hosts")
        if scope["method"] not in SAFE:
            self._refuse_pages(headers, host)
        if self._token is not None and not (_is_open(scope["path"]) or _is_page(scope, headers)):
            self._check_token(self._token, headers.get(b"authorization", b"").decode("latin-1"))
        _require_json(scope, has_body=False)

    def _refuse_pages(self, headers: dict[bytes, bytes], host: str) -> None:
        """Those of another origin. Where a browser says itself what it has found (it does on this machine and over TLS, also
        that of a proxy before us), that holds for an origin of our names; else scheme, host and port are compared."""
        origin, site = (headers.get(name, b"").decode("latin-1") for name in (b"origin", b"sec-fetch-site"))
        if site not in ("", "same-origin", "none"):
            raise Problem(403, f"a page of {origin or 'another origin'!r} may change nothing here (Sec-Fetch-Site: {site})")
        if not origin:
            return
        scheme, _, authority = origin.partition("://")
        if site == "same-origin":
            is_ours = self._hosts.include(authority)
        else:
            is_ours = scheme == "http" and _origin_of(authority) == _origin_of(host) is not None
        if not is_ours:
            raise Problem(403, f"a page of {origin!r} may change nothing here")

    def _check_token(self, token: TokenFile, authorization: str) -> None:
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() == "bearer" and token.admits(given.strip()):
            return
        if token.error:
            logger.warning("nobody is let in: %s", token.error)
        detail = "wanted the header Authorization: Bearer TOKEN, with the token of api.token_file"
        raise Problem(401, detail, headers={"WWW-Authenticate": "Bearer"})


def _is_open(path: str) -> bool:
    return any(path == start or path.startswith(f"{start}/") for start in OPEN_PATHS)


def _is_page(scope: Scope, headers: dict[bytes, bytes]) -> bool:
    """Of a browser, which shows where the token may be given."""
    accept = headers.get(b"accept", b"").decode("latin-1")
    return bool(scope["path"] == "/" and scope["method"] in SAFE and wants_page(accept))


def _require_json(scope: Scope, *, has_body: bool) -> None:
    """Of what may change something: if it says what its body is, or has one."""
    kinds = [value.decode("latin-1") for name, value in scope["headers"] if name == b"content-type"]
    if scope["method"] in SAFE or not (kinds or has_body):
        return
    if [kind.partition(";")[0].strip().lower() for kind in kinds] != [JSON]:
        found = ", ".join(kinds) or "none"
        raise Problem(415, f"found the Content-Type {found!r}; wanted {JSON}", headers={"Connection": "close"})


class _Replay:
    """The body that was read already, then whatever comes."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


class _HeadIsOut(Exception):
    """The answer to HEAD is whole, however long that to GET would be."""


class _Reply:
    """Adds HEADERS to every answer, ends that to HEAD with its head, and knows whether there is one already."""

    def __init__(self, send: Send, is_head: bool) -> None:
        self._send = send
        self.is_head = is_head
        self.has_begun = False

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            have = {name.lower() for name, _ in message.get("headers", ())}
            message = {**message, "headers": [*message.get("headers", ()), *(h for h in HEADERS if h[0] not in have)]}
        await self._send(message)
        if self.is_head and message["type"] == "http.response.start":
            await self._send({"type": "http.response.body", "body": b""})
            raise _HeadIsOut
