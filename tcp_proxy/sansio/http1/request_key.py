"""What of a request decides its target: a field, a cookie, or the path. Pure.

None where the request has no such thing: a field that is not there or is empty, a cookie that nobody has set.
"""

from collections.abc import Callable

from tcp_proxy.sansio.http1.requests import Request

KeyOf = Callable[[Request], bytes | None]


def key_of(kind: str, name: str) -> KeyOf | None:
    """`kind`: header, cookie or path; None for any other, which the request does not say."""
    wanted = name.encode("latin-1")
    if kind == "header":
        wanted = wanted.lower()
        return lambda request: header(request, wanted)
    if kind == "cookie":
        return lambda request: cookie(request, wanted)
    return path if kind == "path" else None


def header(request: Request, name: bytes) -> bytes | None:
    """All its values as one list (RFC 9110, 5.3). `name`: in lower case."""
    if name == b"host":
        return request.host or None
    found = [value.strip(b" \t") for other, value in request.fields.pairs if other.lower() == name]
    return b", ".join(found) or None


def cookie(request: Request, name: bytes) -> bytes | None:
    """The first of this name (RFC 6265, 5.4: the one with the longest path)."""
    return next((value for other, value in cookies(request) if other == name), None) or None


def cookies(request: Request) -> list[tuple[bytes, bytes]]:
    pairs = []
    for field, value in request.fields.pairs:
        if field.lower() == b"cookie":
            for part in value.split(b";"):
                name, separator, rest = part.partition(b"=")
                if separator:
                    pairs.append((name.strip(b" \t"), rest.strip(b" \t")))
    return pairs


def path(request: Request) -> bytes | None:
    """Without the query."""
    return request.path.partition(b"?")[0]
