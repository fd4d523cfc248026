"""What an Exchange, and what is counted of it, ask of the client's connection that it belongs to.

A contract without code of its own: connection.py keeps it, exchange.py relies on it, and neither knows the other here. It is
a class, no Protocol: what a Protocol has is looked up by its name each time where this is compiled, 8,000 machine
instructions for each request.
"""

from typing import Any

from tcp_proxy.dataplane.apps import LiveApp
from tcp_proxy.dataplane.dial import Dial
from tcp_proxy.dataplane.http.app import HttpApp
from tcp_proxy.dataplane.http.private import ClientUpstreams
from tcp_proxy.dataplane.http.reader import RequestReader
from tcp_proxy.dataplane.http.shared import HttpShared
from tcp_proxy.dataplane.http.socket_writer import SocketWriter
from tcp_proxy.dataplane.http.timers import Timers
from tcp_proxy.dataplane.relay.session_thread import SessionThread
from tcp_proxy.dataplane.session_counters import ListenerCounters
from tcp_proxy.runtime.stream_socket import StreamSocket
from tcp_proxy.sansio.http1.forward import Client
from tcp_proxy.sansio.http1.outcomes import Failure
from tcp_proxy.sansio.reasons import Reason, Side
from tcp_proxy.wire.records import Origin


class ExchangeOwner:
    """Its parts are lent to the exchange while that goes on."""

    thread: SessionThread
    shared: HttpShared
    app: LiveApp
    http_app: HttpApp
    listener: ListenerCounters
    client: StreamSocket
    reader: RequestReader
    writer: SocketWriter
    timers: Timers
    upstreams: ClientUpstreams
    key: bytes
    who: Client
    head_begun: bool  # of the next request

    # what its record and its lines in the access log say
    number: int
    address: Any
    client_text: str
    client_ip: str
    name: str  # what its id and those of its requests begin with
    started: float
    requests: int  # so far
    target_name: str  # of the last exchange
    bytes_up: int
    bytes_down: int
    origin: Origin | None

    @property
    def identity(self) -> bytes:
        raise NotImplementedError

    @property
    def may_keep(self) -> bool:
        raise NotImplementedError

    # on the way
    def dialing(self, route_targets: Any) -> Dial:
        raise NotImplementedError

    def exchanging(self) -> None:
        raise NotImplementedError

    def write(self, data: bytes) -> bool:
        raise NotImplementedError

    # at the end: one of these, once
    def exchange_over(self, keep: bool) -> None:
        raise NotImplementedError

    def answer(self, exchange: Any, failure: Failure, is_read: bool) -> None:
        raise NotImplementedError

    def break_off(self, reason: Reason, side: Side) -> None:
        raise NotImplementedError

    def switch(self, exchange: Any, first_down: bytes) -> None:
        raise NotImplementedError

    def client_lost(self, code: int) -> None:
        raise NotImplementedError
