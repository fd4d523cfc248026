"""The cookie that keeps a client with its target in mode http: taken from requests, put into answers. HAProxy's `cookie`.

Pure. With `insert` the cookie is ours: the target never sees it, and an answer has it where the client has not, or has
another one's. With `prefix` it is the target's own, with our mark and a `~` before its value: taken away on the way there,
put before it on the way back; who gets no such cookie of the target's is not kept.

A mark is a hash of the target's name. It says nothing of where that is, for targets of such an app have names.
"""

import re
from hashlib import blake2b
from typing import Final, Protocol

from tcp_proxy.sansio.http1.fields import Fields
from tcp_proxy.sansio.http1.requests import Request
from tcp_proxy.sansio.http1.responses import Response

SEPARATOR: Final = b"~"
MARK: Final = re.compile(rb"[0-9a-f]{16}")


def mark_of(app: str, target: str) -> bytes:
    return blake2b(f"{app}\0{target}".encode("utf-8", "surrogatepass"), digest_size=8).hexdigest().encode()


class Said(Protocol):
    """What the configuration says of it (config.model.StickyCookie)."""

    @property
    def name(self) -> str: ...
    @property
    def mode(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def domain(self) -> str: ...
    @property
    def max_age(self) -> int | None: ...
    @property
    def secure(self) -> bool | None: ...
    @property
    def http_only(self) -> bool: ...
    @property
    def samesite(self) -> str | None: ...
    @property
    def no_cache(self) -> bool: ...


class CookieRule:
    """What the requests and answers of one app have done to them."""

    def __init__(self, cookie: Said) -> None:
        self.is_prefix = cookie.mode == "prefix"
        self._name = cookie.name.encode()
        attributes = [f"Path={cookie.path}"] if cookie.path else []
        attributes += [f"Domain={cookie.domain}"] if cookie.domain else []
        attributes += [f"Max-Age={cookie.max_age}"] if cookie.max_age is not None else []
        attributes += ["HttpOnly"] * cookie.http_only
        attributes += [f"SameSite={cookie.samesite}"] if cookie.samesite else []
        self._attributes = "".join(f"; {one}" for one in attributes).encode()
        self._secure = cookie.secure
        self._more = b"Cache-Control: private\r\n" if cookie.no_cache else b""

    def __repr__(self) -> str:
        return f"<CookieRule {self._name.decode()}>"

    def take(self, request: Request) -> bytes:
        """The mark that the client has sent; the target gets the request without it."""
        found = b""
        pairs = []
        for name, value in request.fields.pairs:
            if name.lower() != b"cookie" or self._name not in value:
                pairs.append((name, value))
                continue
            parts = []
            for part in value.split(b";"):
                other, separator, own = part.partition(b"=")
                if not separator or other.strip(b" \t") != self._name:
                    parts.append(part)
                    continue
                mark, has_mark, rest = own.strip(b" \t").partition(SEPARATOR)
                if not self.is_prefix:
                    found = found or own.strip(b" \t")
                elif has_mark and MARK.fullmatch(mark):
                    found = found or mark
                    parts.append(b"%b=%b" % (other, rest))
                else:
                    parts.append(part)
            if any(part.strip(b" \t") for part in parts):
                pairs.append((name, b" " + b";".join(parts).strip(b" \t")))
        if found:
            request.fields = _with_pairs(request.fields, pairs)
        return found

    def mark(self, response: Response, mark: bytes, is_new: bool, is_secure: bool) -> None:
        """The answer of the target with this mark. `is_new`: its client is not known to have it; `is_secure`: by TLS."""
        if self.is_prefix:
            response.fields = self._prefixed(response.fields, mark)
        elif is_new:
            secure = is_secure if self._secure is None else self._secure
            value = b"%b=%b%b%b" % (self._name, mark, self._attributes, b"; Secure" if secure else b"")
            pairs = [*response.fields.pairs, (b"Set-Cookie", b" " + value)]
            pairs += [(b"Cache-Control", b" private")] if self._more else []
            fields = _with_pairs(response.fields, pairs)
            fields.kept = b"%bSet-Cookie: %b\r\n%b" % (response.fields.kept, value, self._more)
            response.fields = fields

    def _prefixed(self, fields: Fields, mark: bytes) -> Fields:
        pairs = []
        for name, value in fields.pairs:
            own = value.lstrip(b" \t")
            other, separator, rest = own.partition(b"=")
            if separator and name.lower() == b"set-cookie" and other.rstrip(b" \t") == self._name:
                pairs.append((name, b" %b=%b%b%b" % (other, mark, SEPARATOR, rest.lstrip(b" \t"))))
            else:
                pairs.append((name, value))
        return fields if pairs == fields.pairs else _with_pairs(fields, pairs)


def _with_pairs(fields: Fields, pairs: list[tuple[bytes, bytes]]) -> Fields:
    """The same with these lines: others may have these very Fields (they are remembered), so it is a copy."""
    changed = fields.copied()
    changed.pairs = pairs
    kept = set(_names(fields.kept))
    changed.kept = b"".join([b"%b:%b\r\n" % pair for pair in pairs if pair[0].lower() in kept])
    return changed


def _names(lines: bytes) -> list[bytes]:
    return [line.partition(b":")[0].lower() for line in lines.split(b"\r\n") if line]
