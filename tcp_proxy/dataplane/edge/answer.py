"""The last word to a client of mode http that is not let in: it is no session, and has no connection of mode http.

The loop's thread. As far as there is room: nobody waits for it to be taken.
"""

from contextlib import suppress
from socket import MSG_DONTWAIT, MSG_NOSIGNAL, SHUT_WR
from typing import Final

from tcp_proxy.runtime.stream_socket import StreamSocket

DISCARD: Final = 1 << 16  # bytes


def answer_in_clear(sock: StreamSocket, answer: bytes) -> None:
    """What it has sent beside is read, for a close with bytes unread would reset the connection and could take the answer
    away."""
    with suppress(OSError):
        sock.send(answer, MSG_DONTWAIT | MSG_NOSIGNAL)
        sock.shutdown(SHUT_WR)
        sock.recv(DISCARD, MSG_DONTWAIT)
