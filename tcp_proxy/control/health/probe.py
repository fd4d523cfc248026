"""What every kind of check has in common: how it is started, and what it answers.

A check module offers `start(loop, endpoint, check, done) -> Probe`: a small state machine on the health thread's loop,
never blocking. `done(Result)` is called exactly once, unless `cancel` came first; then never.
"""

import socket
from collections.abc import Callable
from typing import Any, Protocol

from tcp_proxy.config.model import Check
from tcp_proxy.config.tls_model import TargetTls
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.sansio.frozen_dataclass import dataclass
from tcp_proxy.wire.views import Endpoint


@dataclass(frozen=True, slots=True)
class Result:
    """`success` None: this machine's fault, no verdict on the target (docs/rules.md, R8). `text` is the evidence."""

    success: bool | None
    text: str


@dataclass(frozen=True, slots=True)
class Secured:
    """TLS with what is checked. `tls` None: any certificate will do. `server_name`: what is asked for; "": nothing."""

    server_name: str
    tls: TargetTls | None = None


class Probe(Protocol):
    def cancel(self) -> None: ...


PORT = "\u00a0port\u00a0"  # no name of a target has such spaces


def subject_of(target: str, port: int) -> str:
    """What a health thread calls one server of a group."""
    return f"{target}{PORT}{port}"


def owner_of(subject: str) -> str:
    """The target that a subject belongs to, or is."""
    return subject.partition(PORT)[0]


def port_of(subject: str) -> int | None:
    """The listening port of one server of a group; None for a target that is none."""
    _, has_port, port = subject.partition(PORT)
    return int(port) if has_port else None


Done = Callable[[Result], Any]
Start = Callable[[Loop, Endpoint, Check, Done], Probe]


def shown(endpoint: Endpoint) -> str:
    """127.0.0.1:80, [::1]:80, [fe80::1%2]:80, unix:/path"""
    family, address = endpoint
    if family == socket.AF_UNIX:
        return f"unix:{address}"
    zone = f"%{address[3]}" if len(address) > 3 and address[3] else ""
    return f"[{address[0]}{zone}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"
