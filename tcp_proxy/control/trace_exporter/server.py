"""The process that exports traces: python -P -m tcp_proxy.control.trace_exporter.server CHANNEL VERSION SOCKET

Lines come by the socket, as datagrams; the main thread makes spans of them, and a thread of their own sends them
(trace_exporter.queue, trace_exporter.collector). Signals to the process group are nothing to it: it ends when it is told to,
or when its channel does.

    IMPORTING ──ExportTraces──> RUNNING ──FlushTraces, the channel ends──> what waits is exported, for a moment ──> exit
"""

import signal
import sys

# Whatever a terminal or a service manager sends to the whole group is the supervisor's; before any slow import.
for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(_number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_SETMASK, ())

import faulthandler  # noqa: E402
import logging  # noqa: E402
import os  # noqa: E402
import socket  # noqa: E402

from tcp_proxy import __version__  # noqa: E402
from tcp_proxy.control.trace_exporter.collector import Collector  # noqa: E402
from tcp_proxy.control.trace_exporter.queue import SpanQueue  # noqa: E402
from tcp_proxy.control.trace_exporter.spans import resource, span_of  # noqa: E402
from tcp_proxy.runtime.loop import READ, Loop  # noqa: E402
from tcp_proxy.wire import trace_lines  # noqa: E402
from tcp_proxy.wire.channel import Channel  # noqa: E402
from tcp_proxy.wire.messages import (  # noqa: E402
    ExportTraces,
    FlushTraces,
    Logged,
    Message,
    Ping,
    Pong,
    Ready,
    SpansExported,
)

WRONG_VERSION = 78  # the exit status that says so; EX_CONFIG of sysexits
DATAGRAM = 1 << 18  # bytes
AT_ONCE = 16  # datagrams in a turn
TELL_EVERY = 2.0  # seconds
ALONE_WITHIN = 1.0  # seconds to export what waits when the supervisor is gone

logger = logging.getLogger("tcp_proxy.control.trace_exporter")


class Server:
    def __init__(self, channel: socket.socket, lines: socket.socket) -> None:
        self._loop = Loop("traces")
        self._lines = lines
        self._queue: SpanQueue | None = None
        self._resource = resource("tcp_proxy", "")
        self._within = ALONE_WITHIN
        self._told = SpansExported(0, 0)
        self._unread = 0  # lines that were none
        self._channel = Channel(self._loop, channel, self._received, self._loop.stop)

    def run(self) -> None:
        self._loop.run()
        if self._queue is not None:
            while self._take():
                pass
            self._queue.close(self._within)
            self._tell()

    def _received(self, message: Message, _descriptors: list[int]) -> None:
        match message:
            case ExportTraces():
                self._begin(message)
            case FlushTraces():
                self._within = message.within
                self._loop.stop()
            case Ping():
                self._channel.send(Pong(message.number))
            case _:
                raise AssertionError(f"not for this process: {message!r}")

    def _begin(self, order: ExportTraces) -> None:
        handlers: list[logging.Handler] = [ChannelLog(self._loop, self._channel)]
        logging.basicConfig(level=order.log_level.upper(), format="%(message)s", handlers=handlers, force=True)
        self._resource = resource(order.service_name, f"{socket.gethostname()}:{os.getppid()}")
        self._queue = SpanQueue(Collector(order).export)
        self._loop.watch(self._lines.fileno(), READ, lambda _events: self._read())
        self._loop.call_later(TELL_EVERY, self._tell_again)
        self._channel.send(Ready(0))

    def _read(self) -> None:
        for _ in range(AT_ONCE):
            if not self._take():
                return

    def _take(self) -> bool:
        """One datagram; whether there was one."""
        assert self._queue is not None
        try:
            data = self._lines.recv(DATAGRAM, socket.MSG_DONTWAIT)
        except OSError:
            return False
        spans = []
        for line in data.splitlines():
            try:
                spans.append(span_of(trace_lines.read(line), self._resource))
            except (ValueError, TypeError, AttributeError) as error:
                self._unread += 1
                logger.debug("a line that is no record: %s", error)
        self._queue.add(spans)
        return bool(data)

    def _tell_again(self) -> None:
        self._tell()
        self._loop.call_later(TELL_EVERY, self._tell_again)

    def _tell(self) -> None:
        queue = self._queue
        assert queue is not None
        now = SpansExported(queue.exported, queue.dropped + self._unread, queue.failing)
        if now != self._told:
            self._told = now
            self._channel.send(now)


class ChannelLog(logging.Handler):
    """What this process logs goes to the supervisor, whose log it becomes."""

    def __init__(self, loop: Loop, channel: Channel) -> None:
        super().__init__()
        self._loop = loop
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        self._loop.call_soon(self._channel.send, Logged(record.levelno, self.format(record)))


def main(argv: list[str]) -> int:
    faulthandler.enable()  # SIGABRT: a supervisor that finds us silent wants to see our stacks
    channel, version, lines = int(argv[1]), argv[2], int(argv[3])
    if version != __version__:
        return WRONG_VERSION
    Server(socket.socket(fileno=channel), socket.socket(fileno=lines)).run()
    return 0


if __name__ == "__main__":
    sys.stdout.flush()
    os._exit(main(sys.argv))  # whatever the exporter's thread still waits for
