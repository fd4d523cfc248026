"""What an Exchange, and what is counted of it, ask of the client's connection that it belongs to.

A contract without code of its own: connection.py keeps it, exchange.py relies on it, and neither knows the other here.
"""

from typing import Any, Protocol

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


class ExchangeOwner(Protocol):
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

    # what its record and its lines in the access log say
    number: int
    address: Any
    client_text: str
    started: float
    requests: int  # so far
    target_name: str  # of the last exchange
    bytes_up: int
    bytes_down: int
    origin: Origin | None

    @property
    def identity(self) -> bytes: ...
    @property
    def may_keep(self) -> bool: ...

    # on the way
    def dialing(self, route_targets: Any) -> Dial: ...
    def exchanging(self) -> Any: ...
    def write(self, data: bytes) -> bool: ...

    # at the end: one of these, once
    def exchange_over(self, keep: bool) -> Any: ...
    def answer(self, exchange: Any, failure: Failure, is_read: bool) -> Any: ...
    def break_off(self, reason: Reason, side: Side) -> Any: ...
    def switch(self, exchange: Any, first_down: bytes) -> Any: ...
    def client_lost(self, code: int) -> Any: ...
