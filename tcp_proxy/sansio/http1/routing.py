"""Which route a request takes: by its host and the beginning of its path. Pure.

A host pattern is a name, "*.example.org" (any name below it) or "" (every one); a port does not count, nor does letter
case. A prefix counts by whole segments: "/api" is the beginning of "/api", "/api/x" and "/api?x", not of "/apis". Among
the routes that fit the one with the most exact host wins, then the one with the longest prefix, then the first.
"""

import ipaddress
from collections.abc import Sequence


def bare_host(host: bytes) -> str:
    """Without port, in lower case, without the dot at the end; an IPv6 address in its short form."""
    text = host.decode("latin-1").lower()
    if text.startswith("["):
        return _short(text.partition("]")[0][1:])
    return text.partition(":")[0].removesuffix(".")


def _short(text: str) -> str:
    try:
        return f"[{ipaddress.IPv6Address(text)}]"
    except ValueError:
        return f"[{text}]"  # no address, and no route's


class Router:
    """`rules` are pairs (host pattern, path prefix); `find` gives the number of one."""

    def __init__(self, rules: Sequence[tuple[str, str]]) -> None:
        ranked = sorted(range(len(rules)), key=lambda i: (-_exactness(rules[i][0]), -len(rules[i][1]), i))
        self._rules = [(bare_host(rules[i][0].encode("latin-1")), rules[i][1].encode("latin-1"), i) for i in ranked]

    def __repr__(self) -> str:
        return f"<Router of {len(self._rules)} rules>"

    def find(self, host: bytes, path: bytes) -> int:
        """-1 when no rule fits. One of each rank is looked for from the most exact on."""
        name = bare_host(host)
        path = path.partition(b"?")[0]
        for pattern, prefix, number in self._rules:
            if _host_fits(pattern, name) and _path_fits(prefix, path):
                return number
        return -1


def _exactness(pattern: str) -> int:
    return 0 if not pattern else len(pattern) if pattern.startswith("*") else 1000 + len(pattern)


def _host_fits(pattern: str, name: str) -> bool:
    if pattern.startswith("*."):
        return name.endswith(pattern[1:]) and len(name) > len(pattern) - 1
    return not pattern or name == pattern


def _path_fits(prefix: bytes, path: bytes) -> bool:
    if not path.startswith(prefix):
        return False
    return prefix.endswith(b"/") or len(path) == len(prefix) or not prefix or path[len(prefix)] == 47
