"""The check `http`: the target answers a request (HTTP/1.1, over TLS if wanted) with a status that is wanted.

The status decides, as soon as the head is there; redirects are answers, and not followed. The connection is used once.
"""

import socket

from tcp_proxy.config.model import Check
from tcp_proxy.control.health.connecting import with_port
from tcp_proxy.control.health.probe import Done, shown
from tcp_proxy.control.health.talk import Talk
from tcp_proxy.loop import Loop
from tcp_proxy.messages import Endpoint
from tcp_proxy.sansio.dialogue import http


def request(check: Check, host: str) -> bytes:
    """The whole of it. Headers of the check replace ours of the same name."""
    body = check.body.encode()
    given = {name.lower() for name, _ in check.headers}
    ours = [("Host", host), ("User-Agent", "tcp_proxy"), ("Accept", "*/*"), ("Connection", "close")]
    if body or check.method in ("POST", "PUT", "PATCH"):
        ours.append(("Content-Length", str(len(body))))
    headers = [(name, value) for name, value in ours if name.lower() not in given] + list(check.headers)
    head = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"{check.method} {check.path} HTTP/1.1\r\n{head}\r\n".encode() + body


def server_name(host: str) -> str:
    """What TLS asks for, of a header Host; "" if that cannot be a name."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    try:
        name.encode("idna")
    except UnicodeError:
        return ""
    return name


def start(loop: Loop, endpoint: Endpoint, check: Check, done: Done) -> Talk:
    there = with_port(endpoint, check.port)
    host = "localhost" if there[0] == socket.AF_UNIX else shown(there)
    given = next((value for name, value in check.headers if name.lower() == "host"), "")
    name = f"{'https' if check.tls else 'http'} {shown(there)}{check.path}"
    dialogue = http(request(check, host), check.status)
    return Talk(loop, endpoint, check, done, name, dialogue, server_name(given) if check.tls else None)
