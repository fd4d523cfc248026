"""use_backend with its acls becomes routes, where no more is asked for than a host, a path, or a name in TLS. Pure.

HAProxy's configuration manual, 7 (acls) and 4.2 (use_backend).
"""

import itertools
from typing import Any

from tcp_proxy.config.haproxy.proxy import Note, Proxy
from tcp_proxy.config.haproxy.text import Line

Plain = dict[str, Any]

HOSTS = {"hdr(host)", "req.hdr(host)", "hdr(Host)", "req.hdr(Host)"}
NAMES = {"req_ssl_sni", "req.ssl_sni", "ssl_fc_sni"}
PATHS = {"path_beg"}
ENDS = {"hdr_end(host)": "host", "ssl_fc_sni_end": "sni", "req.ssl_sni -m end": "sni", "req_ssl_sni -m end": "sni"}
FLAGS = {"-i", "--"}
WHY = "only a host, the begin of a path, or a name in TLS (req.ssl_sni) can be asked for; left out"


def routes(proxy: Proxy, note: Note) -> list[tuple[Plain, str, Line]]:
    """What each is for, the backend, and its line; in the order of the file. What has no counterpart is noted."""
    found: list[tuple[Plain, str, Line]] = []
    for line in proxy.uses:
        if len(line.words) < 3 or line.words[2] != "if":
            note(line, WHY if len(line.words) > 2 else "without a condition it is a default_backend; left out")
            continue
        ways = _ways(proxy, line)
        if ways is None:
            note(line, WHY)
            continue
        for way in ways:
            if _is_wanted(way, line, found, note):
                found.append((way, line.words[1], line))
    return found


def _is_wanted(way: Plain, line: Line, earlier: list[tuple[Plain, str, Line]], note: Note) -> bool:
    """HAProxy takes the first that fits; here the most exact one wins, wherever it stands."""
    if "path" in way and way["path"] != "/":
        note(line, f"{way['path']} is compared by whole segments: not for {way['path']}x")
    for other, _, where in earlier:
        if way == other:
            note(line, f"line {where.number} takes all of it; left out")
            return False
        if _meet(way, other) and _exactness(way) > _exactness(other):
            note(line, f"it is more exact than line {where.number} and wins here, where HAProxy takes the first")
    return True


def _name(way: Plain) -> str:
    return str(way.get("host", way.get("sni", "")))


def _exactness(way: Plain) -> tuple[bool, bool, int, int]:
    name = _name(way)
    return bool(name), not name.startswith("*"), len(name), len(way.get("path", ""))


def _meet(way: Plain, other: Plain) -> bool:
    """Whether there may be something that both are for."""
    names = [_name(one) for one in (way, other)]
    paths = [one.get("path", "/") for one in (way, other)]
    one_name = not all(names) or names[0] == names[1] or any(
        pattern.startswith("*") and name.endswith(pattern[1:]) for pattern, name in (names, names[::-1])
    )  # fmt: skip
    return one_name and (paths[0].startswith(paths[1]) or paths[1].startswith(paths[0]))


def _ways(proxy: Proxy, line: Line) -> list[Plain] | None:
    """Each alternative is a route; None where one of them has no counterpart."""
    terms: list[list[str]] = [[]]
    words = iter(line.words[3:])
    for word in words:
        if word in ("or", "||"):
            terms.append([])
        elif word == "{":
            terms[-1].append(" ".join(itertools.takewhile(lambda one: one != "}", words)))
        else:
            terms[-1].append(f"acl {word}")
    found: list[Plain] = []
    for term in terms:
        ways = _all_of(proxy, term)
        if not ways:
            return None
        found += ways
    return found


def _all_of(proxy: Proxy, term: list[str]) -> list[Plain]:
    """[] where it has no counterpart. Of one key there may be one alternative only."""
    ways: list[Plain] = [{}]
    for one in term:
        asked = _named(proxy, one.removeprefix("acl ")) if one.startswith("acl ") else _asked(one.split())
        if not asked or any(asked[0].keys() & way.keys() for way in ways):
            return []
        ways = [{**way, **more} for way in ways for more in asked]
    return ways if term else []


def _named(proxy: Proxy, name: str) -> list[Plain]:
    """Lines of one name are alternatives."""
    found = [_asked(list(line.words[2:])) for line in proxy.acls.get(name, [])]
    return [one for some in found for one in some] if all(found) else []


def _asked(words: list[str]) -> list[Plain]:
    if not words:
        return []
    criterion, values = words[0], words[1:]
    if values[:2] == ["-m", "end"]:
        criterion, values = f"{criterion} -m end", values[2:]
    is_same_case = "-i" not in values
    values = [value for value in values if value not in FLAGS]
    if any(value.startswith("-") for value in values):  # -f FILE, -m reg
        return []
    if criterion in HOSTS:
        return [{"host": value.rpartition(":")[0] or value} for value in values]
    if criterion in NAMES:
        return [{"sni": value} for value in values]
    if criterion in ENDS and all(value.startswith(".") for value in values):
        return [{ENDS[criterion]: f"*{value}"} for value in values]
    if criterion in PATHS and is_same_case:
        return [{"path": value.rstrip("/") or "/"} for value in values]
    return []
