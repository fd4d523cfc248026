"""How long to wait for a peer that owes us acknowledgements: whether it makes progress, whether it is dead.

Owned by a session that has lived for a second, in the thread of its thread; looked at every `app.tick` seconds.

Two things epoll does not tell:
- a reader that takes its time drains the kernel's buffer without an event for us: it is not silent (test_a_slow_reader…);
- a peer that is gone acknowledges nothing. TCP_USER_TIMEOUT would notice, but it also ends a peer that merely stopped
  reading, for it counts the time of answered zero-window probes. So the kernel is asked: a peer is dead when it was sent
  something again and again (a retransmission, or two probes) and has answered nothing for `timeouts.unacked`
  (docs/rules.md, R13).
"""

from socket import AF_UNIX
from typing import Final

from tcp_proxy.dataplane.relay.session_thread import is_plain
from tcp_proxy.runtime.socket_options import outstanding, unanswered
from tcp_proxy.runtime.stream_socket import StreamSocket
from tcp_proxy.sansio.reasons import Side

NEVER: Final = float("inf")


class Unacknowledged:
    """What one peer has not acknowledged, as of the last look, and since when it is not heard of."""

    __slots__ = ("outstanding", "unheard_since")

    def __init__(self) -> None:
        self.outstanding = 0
        self.unheard_since = NEVER

    def __repr__(self) -> str:
        return f"<Unacknowledged {self.outstanding} bytes, unheard since {self.unheard_since}>"

    def look(self, sock: StreamSocket, now: float) -> bool:
        """Whether something moved since the last look."""
        before, self.outstanding = self.outstanding, outstanding(sock)
        silence = unanswered(sock) if self.outstanding and sock.family != AF_UNIX else 0.0
        if not silence:
            self.unheard_since = NEVER
        else:
            self.unheard_since = max(now - silence, min(self.unheard_since, now))
        return self.outstanding != before


class PeerWatch:
    """With both peers of a session."""

    __slots__ = ("_quiet_at", "client", "target")

    def __init__(self) -> None:
        self.client = Unacknowledged()
        self.target = Unacknowledged()
        self._quiet_at = -1.0

    def look(self, client: StreamSocket, target: StreamSocket | None, last: float, now: float) -> bool:
        """Whether a peer made progress. A session without a byte since a look that found nothing owed is not asked."""
        if last == self._quiet_at:
            return False
        moved = self.client.look(client, now)
        if target is not None:
            moved |= self.target.look(target, now)
        else:  # given up
            self.target = Unacknowledged()
        owed = self.client.outstanding or self.target.outstanding
        if not owed:
            for sock in (client, target):
                if sock is not None and not is_plain(sock):
                    sock.rest()  # type: ignore[attr-defined]  # of a TlsSocket
        self._quiet_at = -1.0 if owed else now if moved else last
        return moved

    def dead(self, now: float, unacked: float) -> Side | None:
        """The one that has answered nothing for so many seconds, as of the last look."""
        if now - self.client.unheard_since >= unacked:
            return Side.CLIENT
        return Side.TARGET if now - self.target.unheard_since >= unacked else None
