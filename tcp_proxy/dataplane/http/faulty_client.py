"""A client's socket in mode http whose connection meets faults on purpose (dataplane.faults): `recv` and `send` say that
there is nothing, or no room, for as long as these want it so.

Owned by the loop's thread, as the connection that has it in the place of the socket; loaded with the first such client. All
that is read of the client and written to it passes here, heads too, with TLS or without, so nothing else of mode http knows
of it. What goes on between us and the target is as ever: no target is late, or ejected, because of a fault.

Of each direction (a Gate):

    CLOSED ──something is to pass: latency, or for ever (timeout)──> WAITING ──over, or the fault is──> OPEN
    OPEN ──the round is over, or WINDOW bytes, or PIECES──> CLOSED          more than `bandwidth` allows: WAITING before

Always true:
- bytes pass whole and in order; what was read and waits is given out before anything else is read;
- where we are what holds, `ready` is called when that is over (test_every_byte_passes_in_its_order_whatever_the_fault);
- nothing is spliced past it: a body asks for the type of its sockets.
"""

from collections.abc import Callable, Sequence
from socket import MSG_DONTWAIT, MSG_PEEK, SHUT_WR
from typing import Any

from tcp_proxy.dataplane.faults import Bandwidth, Fault, together
from tcp_proxy.dataplane.http.reader import URGENT
from tcp_proxy.dataplane.relay.paced_pump import chunk_of
from tcp_proxy.runtime.loop import READ, WRITE, Loop, Timer
from tcp_proxy.runtime.stream_socket import StreamSocket

WINDOW, PIECES = 1 << 18, 16  # bytes, and reads or writes, that pass in one turn
_PEEK, _LOOK = int(MSG_PEEK), int(MSG_PEEK | MSG_DONTWAIT)


class Gate:
    """One direction, and what is wrong with it. `opened`: called when what held it is over."""

    __slots__ = (
        "_bandwidth", "_left", "_looks", "_loop", "_opened", "_pieces", "_resets", "_round", "chunk", "effects", "timer",
    )  # fmt: skip

    def __init__(self, loop: Loop, faults: Sequence[Fault], number: int, opened: Callable[[], Any]) -> None:
        self._loop = loop
        self.effects = together(faults)
        self._opened = opened
        self._bandwidth = Bandwidth(faults)
        self._resets = [fault for fault in faults if fault.resets(number)]
        rate = self._bandwidth.rate
        # Bytes of one read or write at most.
        self.chunk = min(self.effects.chunk or WINDOW, chunk_of(rate) if rate else WINDOW)
        self._round = -1  # of the loop, in which it is open
        self._left = self._pieces = 0
        self._looks = False  # in the next round
        self.timer: Timer | None = None

    def __repr__(self) -> str:
        return f"<Gate {'waiting' if self.is_waiting else 'free'}>"

    @property
    def is_waiting(self) -> bool:
        return self.timer is not None or self in self.effects.waiting

    def room(self) -> int:
        """Bytes that may pass now; 0: none, and `opened` is called when some may."""
        if self.is_waiting:
            return 0
        effects, loop = self.effects, self._loop
        if effects.is_over:
            return WINDOW
        if effects.is_stuck:
            effects.waiting.add(self)
            return 0
        if self._round != loop.round:
            wait = effects.delay()
            if wait > 0:
                self.wait(wait)
                return 0
            self._begin_turn()
        if self._left <= 0 or not self._pieces:
            self.look_soon()
            return 0
        return min(self._left, self.chunk)

    def resets(self) -> bool:
        """Something has passed: whether that was the first, after which the connection is reset."""
        resets, self._resets = self._resets, []
        return not all(fault.is_over for fault in resets)

    def passed(self, count: int) -> None:
        self._left -= count
        self._pieces -= 1
        if self._bandwidth.rate:
            wait = self._bandwidth.spend(count, self._loop.now)
            if wait > 0:
                self.wait(wait, opens=False)

    def wait(self, seconds: float, opens: bool = True) -> None:
        """`opens`: a turn begins then, without a latency."""
        self.effects.waiting.add(self)
        self._round = -1
        self.timer = self._loop.call_later(seconds, self.open if opens else self._go_on)

    def open(self) -> None:
        """What was waited for is over, or the fault."""
        self._begin_turn()
        self._go_on()

    def stop(self) -> None:
        self.effects.waiting.discard(self)
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def look_soon(self) -> None:
        if not self._looks:
            self._looks = True
            self._loop.call_again(self._look)

    def _begin_turn(self) -> None:
        self._round, self._left, self._pieces = self._loop.round, WINDOW, PIECES

    def _go_on(self) -> None:
        self.stop()
        self._opened()

    def _look(self, _events: int) -> None:
        self._looks = False
        if not self.is_waiting:
            self._opened()


class FaultyClient:
    """Whatever else is asked of a socket, `sock` is asked."""

    def __init__(self, loop: Loop, sock: Any, faults: Sequence[Fault], number: int) -> None:
        self._loop = loop
        self._sock = sock
        self._is_over = self._said_end = False
        self._held: bytes | None = None  # was read, and waits; b"": the client's end
        up, down = ([fault for fault in faults if fault.of_direction(direction)] for direction in ("up", "down"))
        self._up = Gate(loop, up, number, self._readable) if up else None
        self._down = Gate(loop, down, number, self._writable) if down else None
        self.ready: Callable[[int], Any] = _nobody  # the connection's
        self.reset: Callable[[], Any] = _nothing  # the connection is reset by us

    def __repr__(self) -> str:
        return f"<FaultyClient of {self._sock!r}, up {self._up}, down {self._down}>"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    @property
    def paused_until(self) -> float:
        """When the last wait ends, but for one without an end; as a PacedClient's."""
        timers = [gate.timer for gate in (self._up, self._down) if gate is not None]
        whens = [timer.when for timer in timers if timer is not None]
        return max([*whens, float(getattr(self._sock, "paused_until", float("-inf")))])

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        sock, gate = self._sock, self._up
        if flags & _PEEK or gate is None:
            data: bytes = sock.recv(size, flags)
            return data
        if self._held is not None:
            return self._give(size, gate)
        if gate.is_waiting:
            raise BlockingIOError
        data = sock.recv(min(size, gate.chunk), flags)
        self._held = data
        if not data:
            if gate.effects.slow_close and not gate.effects.is_over:
                gate.wait(gate.effects.slow_close)
        elif len(data) == gate.chunk < size:
            gate.look_soon()
        return self._give(size, gate)

    def _give(self, size: int, gate: Gate) -> bytes:
        """Of what is held, as much as may pass."""
        held = self._held
        assert held is not None
        room = gate.room() if held or gate.is_waiting else WINDOW
        if not room and held:
            self._sock.recv(1, _LOOK)  # a reset is told now: what is held comes to nothing
        if not room:
            raise BlockingIOError
        room = min(room, size)
        self._held = held[room:] or None
        if self._held:
            gate.look_soon()
        if held:
            gate.passed(min(room, len(held)))
            self._first_bytes(gate)
        return held[:room]

    def send(self, data: Any, flags: int = 0, /) -> int:
        gate = self._down
        if gate is None:
            sent: int = self._sock.send(data, flags)
            return sent
        room = gate.room()
        if not room:
            raise BlockingIOError
        size = len(data)
        sent = self._sock.send(data if size <= room else memoryview(data)[:room], flags)
        gate.passed(sent)
        self._first_bytes(gate)
        if sent == room < size and not gate.is_waiting:
            gate.look_soon()
        return sent

    def shutdown(self, how: int, /) -> None:
        """Raises BlockingIOError: the end comes late; there is room for it when that is over."""
        gate = self._down
        if how == SHUT_WR and gate is not None and not self._said_end:
            effects = gate.effects
            if effects.slow_close and not effects.is_over:
                self._said_end = True
                if not gate.is_waiting:
                    gate.wait(effects.slow_close)
        if gate is not None and gate.is_waiting:
            raise BlockingIOError
        self._sock.shutdown(how)

    def close(self) -> None:
        self._stop()
        self._sock.close()

    def take_held(self) -> bytes:
        """What was read, for whom the socket is from now on; an end is read again."""
        held, self._held = self._held or b"", None
        return held

    def release(self) -> StreamSocket:
        """The socket, which is somebody else's from now on. After `take_held`."""
        self._stop()
        sock = self._sock
        inner: StreamSocket = sock.release() if hasattr(sock, "paused_until") else sock
        return inner

    def _stop(self) -> None:
        self._is_over = True
        for gate in (self._up, self._down):
            if gate is not None:
                gate.stop()

    def _first_bytes(self, gate: Gate) -> None:
        if gate.resets():
            self._loop.call_again(self._reset)

    def _reset(self, _events: int) -> None:
        if not self._is_over:
            self.reset()

    def _readable(self) -> None:
        """No event tells of it."""
        if not self._is_over:
            self.ready(READ | URGENT)

    def _writable(self) -> None:
        if not self._is_over:
            self.ready(WRITE)


def _nobody(_events: int) -> None:
    """Hears of it: the connection has not begun."""


def _nothing() -> None:
    """There is no connection yet."""
