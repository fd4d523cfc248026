"""A server line of a haproxy.cfg becomes a target, and the option of its backend a check. Pure.

HAProxy's configuration manual, 5.2 (server options) and 4.2 (option httpchk and its like).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tcp_proxy.config.haproxy.proxy import ELSEWHERE, Note, Proxy, source_keys
from tcp_proxy.config.haproxy.text import Line, seconds, short

Plain = dict[str, Any]

PRESETS = {
    "mysql-check": "mysql", "pgsql-check": "postgres", "redis-check": "redis", "smtpchk": "smtp", "ldap-check": "ldap",
}  # fmt: skip
ALONE = {
    "check", "no-check", "backup", "no-backup", "disabled", "enabled", "ssl", "no-ssl", "check-ssl", "send-proxy",
    "send-proxy-v2", "send-proxy-v2-ssl", "send-proxy-v2-ssl-cn", "check-send-proxy", "no-send-proxy", "non-stick", "tfo",
    "no-sslv3", "no-tlsv10", "no-tlsv11", "ssl-reuse", "no-ssl-reuse",
}  # fmt: skip
VALUED = {
    "inter", "fastinter", "downinter", "rise", "fall", "port", "weight", "maxconn", "slowstart", "on-marked-down", "verify",
    "ca-file", "sni", "crt", "alpn", "ssl-min-ver", "verifyhost", "check-alpn", "check-sni",
}  # fmt: skip
# Valued ones that say how names are resolved and sessions kept, which is done here anyway, or that only name something.
IGNORED = {"id", "init-addr", "resolvers", "resolve-prefer", "resolve-opts", "pool-max-conn", "pool-purge-delay", "guid"}
LEFT_OUT = ("fastinter", "check-alpn", "check-sni", "non-stick", "tfo", "check-send-proxy", "no-send-proxy", "no-ssl-reuse")
INTER, RISE, FALL = 2.0, 2, 3  # HAProxy's


@dataclass(slots=True)
class Server:
    """`words`: its options with their values, "" for those without."""

    line: Line
    name: str
    target: Plain
    words: dict[str, str] = field(default_factory=dict)
    health: list[Plain] = field(default_factory=list)


def read(proxy: Proxy, line: Line, note: Note) -> Server | None:
    """None where it cannot be a target, which is noted."""
    if len(line.words) < 3:
        note(line, "not understood, left out")
        return None
    address = _address(line.words[2])
    if not address:
        note(line, "its address has no counterpart (an offset of the port, or a socket of another kind), left out")
        return None
    server = Server(line, line.words[1], {"name": line.words[1], "address": address})
    for option, value in _options((*proxy.server_defaults, *line.words[3:]), line, note):
        server.words[option] = value
    try:
        _say(server, note)
        if "check" in server.words and "no-check" not in server.words:
            server.health = [_check(proxy, server, note)]
    except ValueError:  # a number that is none
        note(line, "not understood, left out")
        return None
    return server


def _address(text: str) -> str:
    """As ours are written; "" for what is none of them."""
    text = text.removeprefix("ipv4@").removeprefix("ipv6@")
    if text.startswith(("unix@", "/")):
        path = text.removeprefix("unix@")
        return f"unix:{path}" if path.startswith("/") else ""
    if "@" in text or ":+" in text or ":-" in text:
        return ""
    if text.startswith("[") or text.count(":") < 2:
        return text.removesuffix(":")
    host, _, port = text.rpartition(":")
    return f"[{host}]:{port}" if port.isdecimal() else f"[{text}]"


def _options(words: tuple[str, ...], line: Line, note: Note) -> Iterator[tuple[str, str]]:
    left = list(words)
    while left:
        option = left.pop(0)
        if option in ALONE:
            yield option, ""
        elif option == "source" and left:
            said = [left.pop(0)]
            while len(left) > 1 and left[0] in ("usesrc", "interface"):
                said += [left.pop(0), left.pop(0)]
            yield option, " ".join(said)
        elif option in VALUED | IGNORED and left:
            yield option, left.pop(0)
        else:
            values = []
            while left and left[0] not in ALONE | VALUED | IGNORED:
                values.append(left.pop(0))
            note(line, f"{' '.join([option, *values])}: {ELSEWHERE}")


def _say(server: Server, note: Note) -> None:
    """What the options say of the target."""
    words, target, line = server.words, server.target, server.line
    if "weight" in words:
        target["weight"] = int(words["weight"])
    if words.get("maxconn", "0") != "0":
        target["max_connections"] = int(words["maxconn"])
    target |= {key: True for key in ("backup", "disabled") if key in words}
    version = 1 if "send-proxy" in words else 2 if any(word.startswith("send-proxy-v2") for word in words) else 0
    if version:
        target["send_proxy"] = {"version": 2, "tlvs": ["ssl"]} if "send-proxy-v2-ssl" in words else version
    if "ssl" in words and "no-ssl" not in words:
        target["tls"] = _tls(words, line, note)
    if words.get("source"):
        target |= source_keys(tuple(words["source"].split()), line, note)
    for option in LEFT_OUT:
        if option in words:
            note(line, f"{option} {words[option]}".rstrip() + f": {ELSEWHERE}")


def _tls(words: dict[str, str], line: Line, note: Note) -> Plain | bool:
    tls: Plain = {}
    if words.get("verify", "required") == "none":
        tls["verify"] = False
    if "ca-file" in words and not words["ca-file"].startswith("@"):
        tls["ca"] = words["ca-file"]
    sni = words.get("sni", "")
    if sni.startswith("str(") and sni.endswith(")"):
        tls["server_name"] = sni[4:-1]
    elif sni:
        note(line, f"sni {sni}: only str(NAME) has a counterpart; the host of the address is asked for")
    if "verifyhost" in words:
        tls["server_name"] = words["verifyhost"]
    if "crt" in words:
        tls["certificate"] = {"chain": words["crt"]}
    if "alpn" in words:
        tls["alpn"] = [name for name in words["alpn"].split(",") if name != "h2"]
        if "h2" in words["alpn"].split(","):
            note(line, "alpn h2: targets are spoken to in HTTP/1.1; left out")
    if words.get("ssl-min-ver") == "TLSv1.3":
        tls["min_version"] = "1.3"
    return tls or True


# -- checks


def _check(proxy: Proxy, server: Server, note: Note) -> Plain:
    words = server.words
    interval = seconds(words.get("inter", "")) or INTER
    down = min(seconds(words.get("downinter", "")) or interval, interval)
    limit = min(proxy.timeouts.get("check") or proxy.timeouts.get("connect", interval), interval)
    check = _kind(proxy, note)
    check |= {"interval": short(interval), "interval_down": short(down), "timeout": short(limit)}
    check |= {"rise": int(words.get("rise", RISE)), "fall": int(words.get("fall", FALL))}
    if "port" in words:
        check["port"] = int(words["port"])
    if "check-ssl" in words and "ssl" not in words and check["type"] in ("http", "exchange"):
        check["tls"] = True
    return check


def _kind(proxy: Proxy, note: Note) -> Plain:
    option = proxy.check.words[1] if proxy.check else "tcp-check"
    if option == "httpchk":
        return _http(proxy, note)
    if option in PRESETS:
        check = {"type": "exchange", "preset": PRESETS[option]}
        more = proxy.check.words[2:] if proxy.check else ()
        if "user" in more[:-1] and check["preset"] in ("mysql", "postgres"):
            check["user"] = more[more.index("user") + 1]
        return check
    if option == "ssl-hello-chk" and proxy.check:
        note(proxy.check, "taken as a tcp check; a check of a target with tls makes a handshake")
    if option == "external-check" and proxy.check:
        note(proxy.check, "taken as a tcp check; a check of type script is the counterpart")
    return _exchange(proxy, note)


def _exchange(proxy: Proxy, note: Note) -> Plain:
    """tcp-check: what is sent, and what is then to come; one of each."""
    sent, wanted = "", ""
    for rule in proxy.check_rules:
        if rule.words[:2] == ("tcp-check", "send") and not sent and len(rule.words) == 3 and not wanted:
            sent = rule.words[2]
        elif rule.words[:3] == ("tcp-check", "expect", "string") and not wanted and len(rule.words) == 4:
            wanted = rule.words[3]
        elif rule.words != ("tcp-check", "connect"):
            note(rule, ELSEWHERE)
    return {"type": "exchange", "send": _escaped(sent), "expect": _escaped(wanted)} if wanted else {"type": "tcp"}


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\r", "\\r").replace("\n", "\\n").replace("\t", "\\t").replace("\0", "\\0")


def _http(proxy: Proxy, note: Note) -> Plain:
    check: Plain = {"type": "http", "method": "OPTIONS", "path": "/"}
    said = list(proxy.check.words[2:]) if proxy.check else []
    if len(said) == 1:
        check["path"] = said[0]
    elif said:
        check["method"], check["path"] = said[:2]
        _, *fields = " ".join(said[2:]).split("\r\n")
        _add_fields(check, [one.partition(":")[::2] for one in fields if one])
    for rule in proxy.check_rules:
        if rule.words[:2] == ("http-check", "send"):
            _send(check, rule, note)
        elif rule.words[:2] == ("http-check", "expect"):
            _expect(check, rule, note)
        elif rule.words != ("http-check", "connect"):
            note(rule, ELSEWHERE)
    return check


def _add_fields(check: Plain, fields: list[tuple[str, str]]) -> None:
    if fields:
        check.setdefault("headers", {}).update((name.strip(), value.strip()) for name, value in fields)


def _send(check: Plain, rule: Line, note: Note) -> None:
    left = list(rule.words[2:])
    while left:
        option = left.pop(0)
        if option == "hdr" and len(left) > 1:
            _add_fields(check, [(left.pop(0), left.pop(0))])
        elif option in ("meth", "uri", "body", "ver") and left:
            value = left.pop(0)
            if option != "ver":
                check[{"meth": "method", "uri": "path", "body": "body"}[option]] = value
        else:
            note(rule, f"{' '.join([option, *left])}: {ELSEWHERE}")
            return


def _expect(check: Plain, rule: Line, note: Note) -> None:
    if len(rule.words) == 4 and rule.words[2] == "status":
        found = [_statuses(part) for part in rule.words[3].split(",")]
        if all(found):
            check["status"] = [status for part in found for status in part]
            return
    note(rule, "only a status, or whole classes of them (200-399), has a counterpart; 2xx and 3xx are taken")


def _statuses(text: str) -> list[int | str]:
    """[] for what ours cannot say."""
    first, _, last = text.partition("-")
    if not last:
        return [int(first)] if first.isdecimal() else []
    if first[1:] == "00" and last[1:] == "99" and first[:1].isdecimal() and last[:1].isdecimal():
        return [f"{number}xx" for number in range(int(first[0]), int(last[0]) + 1)]
    return []
