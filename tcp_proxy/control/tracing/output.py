"""The exporter of traces as a place where lines of the record pipes go: datagrams of whole lines, and what it does not take
is counted and gone. Nobody waits for it.

The socket pair is made by the main thread, which keeps the exporter's end: an exporter that is started anew goes on with
what waits there. The other end is written by the thread of the access log alone.
"""

import socket

from tcp_proxy.config.log_model import TRACES

PART = 48 * 1024  # bytes of a datagram; one line may be longer
ROOM = 4 << 20  # bytes that may wait for the exporter, if the kernel allows so many


class TraceOutput:
    """As Output is, for the writer (control.access_log)."""

    path = TRACES
    left_at = 0  # it never leaves: tracing is read at the start

    def __init__(self) -> None:
        self.dropped = 0  # lines, each one span
        self._sends, self.exporter_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sends.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ROOM)
        self._sends.setblocking(False)

    def __repr__(self) -> str:
        return f"<TraceOutput {self.dropped} dropped>"

    def write(self, lines: bytes, _now: float, /) -> None:
        start = 0
        while start < len(lines):
            end = lines.rfind(b"\n", start, start + PART) + 1 or lines.index(b"\n", start) + 1
            try:
                self._sends.send(lines[start:end])
            except OSError:  # it is full, or a line is bigger than the kernel takes
                self.dropped += lines.count(b"\n", start, end)
            start = end

    def reopen(self) -> None:
        """It is no file."""

    def close(self) -> None:
        self._sends.close()
