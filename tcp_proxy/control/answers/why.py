"""What became of a session, in plain sentences: the answer to `why`. Pure: a view of control.answers.sessions in,
text out."""

import errno
import os
from typing import Any

from tcp_proxy.runtime.log import utc
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
    "ENODATA": "the connection ended without close_notify of TLS",
    "EBADMSG": "an alert of TLS came, or bytes that are no TLS",
}

ENDS = {
    Reason.DONE: "Both sides had ended their direction, the {first} first, and everything had been delivered.",
    Reason.CLIENT_RESET: "The client reset the connection; what it had sent was delivered, then the target was reset.",
    Reason.CLIENT_GONE: "The client disappeared: it was silent, unreachable, or gone before a target was found.",
    Reason.TARGET_RESET: "The target reset the connection, or is gone; after what it had sent the client was reset.",
    Reason.CONNECT_FAILED: "No target could be connected to, so the client was reset.",
    Reason.NO_TARGET: "No target was eligible: all were down, ejected, disabled, of weight 0, or without an address.",
    Reason.LIMIT: "Every eligible target was at its `max_connections`, or the app or the client at one of its `limits`, so "
    "the client was reset.",
    Reason.QUEUE_TIMEOUT: "It waited for a place for `limits.queue_timeout` seconds, and none became free.",
    Reason.IDLE_TIMEOUT: "No byte had come from either side for `timeouts.idle` seconds, so the proxy reset both.",
    Reason.HALF_CLOSED_TIMEOUT: "One side had ended, and no byte had come for `timeouts.half_closed` seconds.",
    Reason.DEMOTED: "Another primary was looked for and `on_demotion` is `close`, so the proxy ended the session.",
    Reason.TARGET_DOWN: "The target went down and `on_down` is `close`, so the proxy ended the session.",
    Reason.SHUTDOWN: "The proxy ended, and the time for its sessions was over.",
    Reason.PROTOCOL_ERROR: "What the {first} had sent was not what may be sent here, so it was answered or cut off.",
    Reason.TLS_HANDSHAKE: "The client and the proxy came to no TLS, so the client was let go before a target was chosen.",
    Reason.TLS_TRUNCATED: "The {first} ended its connection without saying so in TLS: what it had sent was delivered, and "
    "the other side reset, for it may have been a part.",
    Reason.NO_QUORUM: "The proxy was cut off from its cluster, and another one may have chosen another primary: it sends "
    "nobody anywhere until it knows who is primary.",
    Reason.DENIED: "`access` of the app does not let this client connect, so it was reset before anything was sent or read.",
    Reason.INTERNAL_ERROR: "The proxy made a mistake; its log has the details.",
    Reason.CLOSED_BY_ADMIN: "Somebody closed it by the management API: the proxy reset both sides.",
}

UNMET = "The last target that was tried accepted, and reset the connection before a byte was exchanged."

EDGE = {  # what is waited for before it is a session
    "header": "Its PROXY header has not come, or not the whole of it.",
    "local": "Its PROXY header says that it is the sender's own: it may be a health check, which goes without a word.",
    "access": "Whether it may connect is looked up.",
    "key": "Its first bytes, which decide its target, have not come, or not all of them.",
    "hello": "Its ClientHello, which says where it goes, has not come, or not the whole of it.",
    "handshake": "Its TLS handshake is under way.",
    "limits": "Whether it is above a limit is looked up.",
    "delayed": "It came faster than a rate in `limits` allows, and waits for its turn.",
    "waiting": "It waits in its app's queue, at most `limits.queue_timeout` seconds, until there is a place for it.",
}

HTTP = {  # what a session of mode http does when it is not dialing
    "reading": "It has no request under way.",
    "exchanging": "Its request is with target {target}.",
    "closing": "Its last answer is given; it ends when the client has taken that.",
}


def live(view: View) -> str:
    """Of a session that goes on."""
    lines = [_origin(view, f"{seconds_text(view['seconds'])} ago"), *_told(view), *attempts(view)]
    if view["state"] in EDGE:
        lines.append(EDGE[view["state"]])
    elif view["state"] == "dialing":
        target = view["target"]
        lines.append(f"It is being connected to target {target}." if target else "It waits for a target to be tried again.")
    elif view["state"] == "queued":
        lines.append("Its app has no primary: it waits for the next one, at most `failover.election_wait` seconds.")
    else:
        doing = HTTP.get(view["state"])
        lines += [_connected(view) if doing is None else doing.format(**view), _moved(view)]
        lines.append(f"Its last event was {seconds_text(view['idle_seconds'])} ago.")
        if view["state"] == "lingering":
            lines.append("One side has failed; it ends as soon as the other has acknowledged what was sent before.")
    lines.append("It goes on.")
    return "\n".join(lines)


def ended(view: View) -> str:
    """Of a session whose record is kept."""
    lines = [_origin(view, f"at {utc(view['ended_at'] - view['seconds'])}"), *_told(view), *attempts(view)]
    if view["connect_seconds"] is not None:
        lines += [_connected(view), _moved(view)]
    elif view["target"]:
        lines += [f"Its last request was given to target {view['target']}.", _moved(view)]
    lines.append(f"It ended at {utc(view['ended_at'])}, after {seconds_text(view['seconds'])}, by the {view['ended_by']}.")
    is_unmet = view["reason"] == Reason.TARGET_RESET and view["connect_seconds"] is None and not view["target"]
    lines.append(UNMET if is_unmet else ENDS[Reason(view["reason"])].format(first=view["ended_by"]))
    if view.get("error"):
        lines.append(f"What was wrong: {view['error']}.")
    if view["errno"]:
        lines.append(f"The last error was {_error(view['errno'])}.")
    lines.append(f"(reason: {view['reason']})")
    return "\n".join(lines)


def _origin(view: View, when: str) -> str:
    who = f"Session {view['id']} of app {view['app']}"
    peer = view.get("peer")
    by = f" by way of {peer}, whose PROXY header says so," if peer else ""
    return f"{who}: accepted {when} from {view['client']}{by} by listener {view['listener']}."


def _told(view: View) -> list[str]:
    """Where it has lived, and what the client has told of itself."""
    lines: list[str] = []
    processes = view.get("processes")
    if processes:
        *before, last = map(str, processes)
        lines.append(f"It has moved: it has lived in the processes {', '.join(before)} and {last}.")
    notes, tls = view.get("notes"), view.get("tls")
    if notes:
        lines.append(f"Noted of it: {notes}.")
    if tls is None:
        return lines
    if tls["server_name"]:
        lines.append(f"It asked for the name {tls['server_name']}.")
    if tls["cipher"]:
        how = "in a session that was taken up again" if tls["resumed"] else "in a new session"
        lines.append(f"It speaks {tls['version']} with {tls['cipher']}, {how}.")
    if tls["subject"]:
        lines.append(f"Its certificate is that of {tls['subject']}.")
    return lines


def attempts(view: View) -> list[str]:
    return [f"Target {tried['target']} was tried and failed: {_error(tried['error'])}." for tried in view["tried"]]


def _connected(view: View) -> str:
    return f"It was connected to target {view['target']} {seconds_text(view['connect_seconds'])} after it had been accepted."


def _moved(view: View) -> str:
    return f"{bytes_text(view['bytes_up'])} went to the target, {bytes_text(view['bytes_down'])} came back."


def _error(name: str) -> str:
    code = getattr(errno, name, None)
    meaning = MEANINGS.get(name) or (os.strerror(code) if code is not None else "")
    return f"{name} ({meaning})" if meaning else name


def bytes_text(count: int) -> str:
    return "1 byte" if count == 1 else f"{count:,} bytes"


def seconds_text(seconds: float) -> str:
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
