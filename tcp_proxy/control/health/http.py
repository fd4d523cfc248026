"""The check `http`: the target answers a request (HTTP/1.1, over TLS if wanted) with a status that is wanted.

The status decides, as soon as the head is there; redirects are answers, and not followed. The connection is used once.
"""

import dataclasses
import socket

from tcp_proxy.config.model import Check
from tcp_proxy.control.health.connecting import with_port
from tcp_proxy.control.health.probe import Done, Secured, shown
from tcp_proxy.control.health.talk import Talk
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.sansio.address import host_field, server_name
from tcp_proxy.sansio.dialogue import http
from tcp_proxy.wire.views import Endpoint

ALPN = ("http/1.1",)  # whatever else is spoken with the target
PORTS = {"http": 80, "https": 443}  # which Host leaves out


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


def start(
    loop: Loop, endpoint: Endpoint, check: Check, done: Done, host: str = "", secured: Secured | None = None
) -> Talk:
    """`host`: the target's, as it is written; `secured`: its own TLS."""
    family, address = there = with_port(endpoint, check.port)
    scheme = "https" if check.tls or secured is not None else "http"
    is_unix = family == socket.AF_UNIX
    ours = host_field("", 0, 0) if is_unix else host_field(host or address[0], address[1], PORTS[scheme])
    given = next((value for name, value in check.headers if name.lower() == "host"), "" if is_unix else ours)
    dialogue = http(request(check, ours), check.status)
    name = f"{scheme} {shown(there)}{check.path}"
    if secured is None and check.tls:
        secured = Secured(server_name(given))
    elif secured is not None and secured.tls is not None:
        secured = dataclasses.replace(secured, tls=dataclasses.replace(secured.tls, alpn=ALPN))
    return Talk(loop, endpoint, check, done, name, dialogue, secured)
