"""The sessions of a worker that go to other processes, or come from them: what ExportSessions and ImportSessions start.

Owned by the worker's loop thread; made with the first of these messages. Any order that ends sessions, or changes who may
have them, first has everything broken off (`settle`): what it finds then is here, or is another's who has it from now on.
"""

import os
import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from tcp_proxy.dataplane.apps import LiveApp
from tcp_proxy.dataplane.moving.arrival import Arrivals
from tcp_proxy.dataplane.moving.exporter import Exporter, Leaving
from tcp_proxy.dataplane.moving.importer import Importer
from tcp_proxy.dataplane.relay.pool import RelayPool
from tcp_proxy.dataplane.server import Server
from tcp_proxy.wire.messages import Message
from tcp_proxy.wire.moves import ExportSessions, ImportSessions, SessionsMoved

BROKEN_OFF = "another order came in between"


class Moves:
    def __init__(
        self,
        server: Server,
        relays: RelayPool,
        apps: Mapping[str, LiveApp],
        incarnation: str,
        send: Callable[[Message], Any],
    ) -> None:
        self._server = server
        self._relays = relays
        self._incarnation = incarnation
        self._send = send
        self._arrivals = Arrivals(server, apps)
        self._exporters: set[Exporter] = set()
        self._importers: set[Importer] = set()
        self.is_draining = False

    def __repr__(self) -> str:
        return f"<Moves {self._exporters or ''} {self._importers or ''}>"

    def export(self, message: ExportSessions, descriptors: list[int]) -> None:
        thread = self._server.thread
        began_here = self._incarnation, thread.recorder.wall, os.getpid()
        sock = socket.socket(fileno=descriptors[0])
        hold_http = partial(_hold_http, message.is_foreign, began_here)
        exporter = Exporter(thread, self._relays, message, sock, began_here, hold_http, self._exported)
        self._exporters.add(exporter)
        exporter.start()

    def take_in(self, message: ImportSessions, descriptors: list[int]) -> None:
        """A worker that is to end takes nobody: the exporter finds its socket closed."""
        sock = socket.socket(fileno=descriptors[0])
        if self.is_draining:
            sock.close()
            return
        loop = self._server.thread.loop
        self._importers.add(Importer(loop, sock, self._arrivals, message.is_foreign, self._importers.discard))

    def settle(self) -> None:
        """Nobody is on the way any more, and nobody comes any more."""
        for importer in tuple(self._importers):
            importer.break_off()
        for exporter in tuple(self._exporters):
            exporter.break_off(BROKEN_OFF)

    def _exported(self, exporter: Exporter, told: SessionsMoved) -> None:
        self._exporters.discard(exporter)
        self._send(told)


def _hold_http(is_foreign: bool, began_here: tuple[str, float, int], connection: Any) -> Leaving | None:
    from tcp_proxy.dataplane.moving import http_client, http_exchange  # noqa: PLC0415  mode http is loaded where there is any

    held = http_client.hold(connection, is_foreign, began_here)
    return held or http_exchange.hold(connection, is_foreign, began_here)
