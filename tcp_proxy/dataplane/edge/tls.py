"""The stage of a client with which TLS is spoken: the handshake.

Owned by the loop's thread; each client has one of its own. The client's socket is a TlsSocket from its beginning on, and
what the arrival reads is given to that. What an app's clients have in common is a TlsClients, which its Edge holds.

A handshake holds the loop for 0.3 to 0.6 ms, in one go: at most IN_A_TURN are worked on in a turn, the others wait for the
next (Handshakes). A client that does nothing costs nothing but its descriptor, until its time is over.

Always true: a client to whom OpenSSL has sent an alert is not reset, which could take the alert away.
"""

from collections import deque
from contextlib import suppress
from email.utils import formatdate
from typing import Any, Final, Protocol

from tcp_proxy.config.tls_model import Tls
from tcp_proxy.dataplane.edge.answer import answer_in_clear
from tcp_proxy.dataplane.edge.arrival import HANDSHAKE, Arrival, EdgeState, Refused
from tcp_proxy.dataplane.relay.tls_socket import TlsSocket
from tcp_proxy.runtime.loop import EDGE, Loop
from tcp_proxy.runtime.tls import HandshakeFailed, TlsServer
from tcp_proxy.sansio.http1.forward import own_answer
from tcp_proxy.sansio.reasons import Refusal, refusal_of

PLAIN_HTTP = ("http request", "https proxy request")  # OpenSSL's words for what it has seen instead of a ClientHello
IN_A_TURN: Final = 3  # handshakes that a turn of the loop works on: the other sessions wait for a millisecond at most


class Waiter(Protocol):
    def wait(self) -> Any: ...
    def resume(self) -> Any: ...


class Handshakes:
    """Those of a worker: whose turn it is, and what all its apps make session tickets with."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.ticket_key = b""
        self._left = IN_A_TURN
        self._waiting: deque[Waiter] = deque()
        self._is_their_turn = False

    def __repr__(self) -> str:
        return f"<Handshakes {len(self._waiting)} waiting>"

    def set_ticket_key(self, key: bytes) -> None:
        """All workers have the same, and are told of the next. An app takes it up with its next client."""
        self.ticket_key = key

    def has_turn(self, stage: Waiter) -> bool:
        """Whether it may go on now; else its `resume` is called in its turn."""
        if not self._left or (self._waiting and not self._is_their_turn):  # nobody overtakes those who wait
            stage.wait()
            self._waiting.append(stage)
            return False
        if self._left == IN_A_TURN:
            self._loop.after_batch(self._turn_over)
        self._left -= 1
        return True

    def _turn_over(self) -> None:
        self._left = IN_A_TURN
        if self._waiting:
            self._loop.call_again(self._go_on)

    def _go_on(self, _events: int) -> None:
        self._is_their_turn = True
        for _ in range(min(IN_A_TURN, len(self._waiting))):
            if not self._left:  # one whose bytes came in parts had two steps: the next one keeps its place
                break
            self._waiting.popleft().resume()
        self._is_their_turn = False
        if self._waiting and self._left == IN_A_TURN:  # those whose turn it was have gone
            self._loop.call_again(self._go_on)


class TlsClients:
    """Of one app: how TLS is spoken with them."""

    def __init__(self, app: str, tls: Tls, handshakes: Handshakes) -> None:
        """Raises OSError when OpenSSL takes something not; the supervisor has tried the same before."""
        self._app = app
        self.tls = tls
        self.handshakes = handshakes
        self.server = TlsServer(tls)
        self._ticket_key = b""

    def __repr__(self) -> str:
        return f"<TlsClients {self.server!r}>"

    def stage(self) -> "HandshakeStage":
        """For a client."""
        key = self.handshakes.ticket_key
        if key != self._ticket_key:
            # Where that cannot be done (runtime.openssl), each worker has keys of its own: a new handshake at another one.
            self._ticket_key = key
            self.server.set_ticket_key(key, self._app)
        return HandshakeStage(self)


class HandshakeStage:
    state: EdgeState = HANDSHAKE

    def __init__(self, clients: TlsClients) -> None:
        self._clients = clients
        self._arrival: Arrival | None = None
        self._sock: TlsSocket | None = None
        self._is_new = False  # something has come that OpenSSL has not looked at
        self._is_waiting = False  # for its turn

    def __repr__(self) -> str:
        return f"<HandshakeStage {self._sock!r}>"

    def seconds(self, arrival: Arrival) -> float:
        self._arrival = arrival
        arrival.client = self._sock = TlsSocket(arrival.sock, self._clients.server.context, server_side=True)
        return self._clients.tls.handshake_timeout

    def look(self, arrival: Arrival) -> bool:
        sock = self._sock
        assert sock is not None
        if arrival.first:
            sock.begin(arrival.first, arrival.is_empty)
            arrival.first = b""
            self._is_new = True
        elif arrival.is_ended:
            raise Refused("it ended in its TLS handshake", Refusal.TLS_GONE)
        if sock.has_unsent:
            with suppress(OSError):  # reading will meet it
                sock.flush()
        if not self._is_new or self._is_waiting or not self._clients.handshakes.has_turn(self):
            return False
        self._is_new = False
        try:
            is_over = sock.step(is_read_next=True)
        except HandshakeFailed as failed:
            if arrival.app.http is not None and failed.strerror in PLAIN_HTTP:
                date = formatdate(usegmt=True).encode()
                answer_in_clear(sock.raw, own_answer(400, "plain HTTP request was sent to a TLS port", False, date))
            raise Refused(f"no TLS: {failed.strerror}", refusal_of(failed.strerror or ""), is_told=True) from None
        if sock.has_unsent and not is_over:
            arrival.thread.loop.rewatch(sock.fileno(), EDGE)
        return is_over

    def wait(self) -> None:
        """Too many have had this turn of the loop. What the client sends stays in its socket meanwhile."""
        assert self._arrival is not None
        assert self._sock is not None
        self._is_waiting = self._arrival.is_held = True
        self._sock.begin(b"")  # an event that comes meanwhile is heard by nobody: there may be more by then

    def resume(self) -> None:
        """Its turn has come; its client may be gone."""
        self._is_waiting = False
        arrival = self._arrival
        if arrival is None or arrival.state is not HANDSHAKE:
            return
        arrival.is_held = False
        try:
            arrival.look_again()
            arrival.ready(0)
        except Exception as error:  # noqa: BLE001  one client's bug must not end the others
            arrival.thread.loop.on_error(arrival.ready, error)

    def expire(self, _arrival: Arrival) -> bool:
        seconds = self._clients.tls.handshake_timeout
        raise Refused(f"its TLS handshake was not over within {seconds:g} s", Refusal.TLS_LATE)
