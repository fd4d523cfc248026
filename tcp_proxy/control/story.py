"""What became of a session, in plain sentences: the answer to `why`. Pure: a view of control.questions in, text out."""

import errno
import os
from typing import Any

from tcp_proxy.log import utc
from tcp_proxy.sansio.reasons import Reason

View = dict[str, Any]

# What an errno means to somebody who looks for the cause.
MEANINGS = {
    "ECONNREFUSED": "nothing listens there",
    "ENOENT": "there is no such socket",
    "ETIMEDOUT": "no answer came in time",
    "EHOSTUNREACH": "no way leads to that host",
    "ENETUNREACH": "no way leads to that network",
    "ECONNRESET": "the other side cut the connection off",
    "EPIPE": "the other side had closed the connection",
    "EMFILE": "the proxy had no descriptors left",
    "ENFILE": "this machine had no descriptors left",
    "ENOBUFS": "this machine had no memory for it",
    "ENOMEM": "this machine had no memory for it",
    "EADDRNOTAVAIL": "no local port was free",
    "EACCES": "the proxy may not connect there",
    "EPERM": "a firewall of this machine forbids it",
}

ENDS = {
    Reason.DONE: "Both sides had ended their direction, the {first} first, and everything had been delivered.",
    Reason.CLIENT_RESET: "The client reset the connection; what it had sent was delivered, then the target was reset.",
    Reason.CLIENT_GONE: "The client disappeared: it was silent, unreachable, or gone before a target was found.",
    Reason.TARGET_RESET: "The target reset the connection, or is gone; after what it had sent the client was reset.",
    Reason.CONNECT_FAILED: "No target could be connected to, so the client was reset.",
    Reason.NO_TARGET: "No target was eligible: all were down, disabled, of weight 0, or without an address.",
    Reason.LIMIT: "Every eligible target was at its max_connections, so the client was reset.",
    Reason.IDLE_TIMEOUT: "No byte had come from either side for `timeouts.idle` seconds, so the proxy reset both.",
    Reason.HALF_CLOSED_TIMEOUT: "One side had ended, and no byte had come for `timeouts.half_closed` seconds.",
    Reason.DEMOTED: "Another primary was looked for and `on_demotion` is `close`, so the proxy ended the session.",
    Reason.TARGET_DOWN: "The target went down and `on_down` is `close`, so the proxy ended the session.",
    Reason.SHUTDOWN: "The proxy ended, and the time for its sessions was over.",
    Reason.PROTOCOL_ERROR: "What the {first} had sent was no HTTP that can be passed on, so it was answered or cut off.",
    Reason.INTERNAL_ERROR: "The proxy made a mistake; its log has the details.",
    Reason.CLOSED_BY_ADMIN: "Somebody closed it by the management API: the proxy reset both sides.",
}

HTTP = {  # what a session of mode http does when it is not dialing
    "reading": "It has no request under way.",
    "exchanging": "Its request is with target {target}.",
    "closing": "Its last answer is given; it ends when the client has taken that.",
}


def live(view: View) -> str:
    """Of a session that goes on."""
    lines = [_origin(view, f"{_duration(view['seconds'])} ago"), *_attempts(view)]
    if view["state"] == "dialing":
        target = view["target"]
        lines.append(f"It is being connected to target {target}." if target else "It waits for a target to be tried again.")
    elif view["state"] == "parked":
        lines.append("Its app has no primary: it waits for the next one, at most `failover.election_wait` seconds.")
    else:
        doing = HTTP.get(view["state"])
        lines += [_connected(view) if doing is None else doing.format(**view), _moved(view)]
        lines.append(f"Its last event was {_duration(view['idle_seconds'])} ago.")
        if view["state"] == "lingering":
            lines.append("One side has failed; it ends as soon as the other has acknowledged what was sent before.")
    lines.append("It goes on.")
    return "\n".join(lines)


def ended(view: View) -> str:
    """Of a session whose record is kept."""
    lines = [_origin(view, f"at {utc(view['ended_at'] - view['seconds'])}"), *_attempts(view)]
    if view["connect_seconds"] is not None:
        lines += [_connected(view), _moved(view)]
    elif view["target"]:
        lines += [f"Its last request was given to target {view['target']}.", _moved(view)]
    lines.append(f"It ended at {utc(view['ended_at'])}, after {_duration(view['seconds'])}, by the {view['ended_by']}.")
    lines.append(ENDS[Reason(view["reason"])].format(first=view["ended_by"]))
    if view["errno"]:
        lines.append(f"The last error was {_error(view['errno'])}.")
    lines.append(f"(reason: {view['reason']})")
    return "\n".join(lines)


def _origin(view: View, when: str) -> str:
    who = f"Session {view['id']} of app {view['app']}"
    return f"{who}: accepted {when} from {view['client']} by listener {view['listener']}."


def _attempts(view: View) -> list[str]:
    return [f"Target {tried['target']} was tried and failed: {_error(tried['error'])}." for tried in view["tried"]]


def _connected(view: View) -> str:
    return f"It was connected to target {view['target']} {_duration(view['connect_seconds'])} after it had been accepted."


def _moved(view: View) -> str:
    return f"{_bytes(view['bytes_up'])} went to the target, {_bytes(view['bytes_down'])} came back."


def _error(name: str) -> str:
    code = getattr(errno, name, None)
    meaning = MEANINGS.get(name) or (os.strerror(code) if code is not None else "")
    return f"{name} ({meaning})" if meaning else name


def _bytes(count: int) -> str:
    return "1 byte" if count == 1 else f"{count:,} bytes"


def _duration(seconds: float) -> str:
    """0.4 ms, 12 ms, 3.5 s, 2 min 5 s, 3 h 20 min"""
    if seconds < 0.01:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
