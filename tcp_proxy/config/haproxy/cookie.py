"""`cookie` of a haproxy.cfg becomes the sticky cookie of an app in mode http. Pure. HAProxy's configuration manual, 4.2."""

from typing import Any

from tcp_proxy.config.haproxy.proxy import Note
from tcp_proxy.config.haproxy.text import Line

Plain = dict[str, Any]
VALUED = {"domain", "maxidle", "maxlife", "attr"}
FLAGS = {"secure": "secure", "httponly": "http_only", "nocache": "no_cache"}


def sticky(line: Line, note: Note) -> Plain | None:
    """None: it has no counterpart."""
    name, words = line.words[1], list(line.words[2:])
    mode = next((word for word in words if word in ("insert", "prefix")), "")
    if not mode:
        note(line, "a cookie of the servers' own that is rewritten has no counterpart; wanted insert or prefix")
        return None
    cookie: Plain = {"name": name, "http_only": False, "samesite": None, "secure": False, "no_cache": False}
    cookie |= {"mode": mode} if mode == "prefix" else {}
    while words:
        word = words.pop(0)
        value = words.pop(0) if word in VALUED and words else ""
        if word in FLAGS:
            cookie[FLAGS[word]] = True
        elif word == "domain":
            cookie["domain"] = value
        elif value.lower().startswith("samesite=") and value[9:].capitalize() in ("Strict", "Lax", "None"):
            cookie["samesite"] = value[9:].capitalize()
        elif word not in ("indirect", mode):  # the first is always so here
            note(line, f"{word} {value}".rstrip() + ": left out")
    note(line, "the values of `cookie` at the servers are made of their names here: clients are shared out anew, once")
    return {"key": "cookie", "cookie": cookie}
