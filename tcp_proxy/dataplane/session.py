"""One client connection and the target connection made for it.

Runs in a worker. Owned by the loop thread, until `RelayPool.adopt` gives it to a relay thread, for good or until
`release`. Only the owner (`home.loop`'s thread) touches the sockets, the pumps and the state; others go through
`home.loop.call_soon`.

    PARKED <──no primary (failover)──> DIALING
    DIALING ──connected──> RELAYING ──both directions done──────────────────────────> DONE
       │                      │ one side failed: what it sent is delivered first        ^
       │                      └──────────> LINGERING ──acknowledged, or half_closed────>│
       └──no target, client gone──── any state: deadline, kill, internal error ────────>│

Always true:
- a session is in the table of its home from the start until DONE, but for the moment it is being handed over;
- an end of file is passed on only after everything before it; an error of one side becomes RST on the other, after
  everything that was read from it was acknowledged (DESIGN 9.2);
- exactly one record is written, on entering DONE, and there everything is released: `_finish` is the only place;
- sockets are closed after the batch of events in which they were given up.
"""

from collections.abc import Sequence
from errno import ETIMEDOUT
from socket import AF_UNIX, MSG_DONTWAIT, SHUT_WR, SO_ERROR, SOL_SOCKET, SocketType
from typing import Any, ClassVar

from tcp_proxy.counters import ACCEPTED, LISTENER_ACCEPTED, SESSIONS
from tcp_proxy.dataplane import tally
from tcp_proxy.dataplane.apps import LiveApp, LiveTarget
from tcp_proxy.dataplane.dial import Dial
from tcp_proxy.dataplane.handover import Movable
from tcp_proxy.dataplane.homes import NEVER, Home
from tcp_proxy.dataplane.keyed_dial import KeyedDial
from tcp_proxy.dataplane.parking import Parkable
from tcp_proxy.dataplane.patience import Patience
from tcp_proxy.dataplane.pump import CHUNK, Pump
from tcp_proxy.dataplane.session_state import DIALING, DONE, LINGERING, PARKED, RELAYING, STEPS, State
from tcp_proxy.dataplane.tally import Entrance
from tcp_proxy.loop import FAILED, QUIET_EDGE, WRITE
from tcp_proxy.sansio.reasons import Reason, Side, client_end
from tcp_proxy.socket_options import outstanding, push, reset_on_close

# How often an ending session asks whether everything was acknowledged: at once, then ever more rarely.
LINGER_FIRST = 0.001
LINGER_MOST = 0.25

# A session in a relay thread that moved less than this in a while goes back to the event loop.
CALM_AFTER = 1.0  # seconds
CALM_BYTES = 1 << 20


class Session(Movable, Parkable):
    """`number` is unique in this worker; `address` is the client's sockaddr."""

    __slots__ = (
        "address", "app", "broken", "connected_at", "counted_down", "counted_up", "deadline", "dial", "early", "first",
        "first_end", "half_closed", "last", "listener", "moving", "next_tick", "number", "patience", "started", "state",
        "tried", "waits_until",
    )  # fmt: skip
    keyed_dial: ClassVar[type[KeyedDial]] = KeyedDial  # for apps that are special

    def __init__(self, number: int, home: Home, app: LiveApp, listener: Entrance, client: SocketType, address: Any) -> None:
        self.number = number
        self.home = home
        self.app = app
        self.listener = listener
        self.client = client
        self.address = address
        self.state = DIALING
        self.started = self.last = home.loop.now
        self.deadline = self.waits_until = NEVER
        self.connected_at = -1.0
        self.first = b""  # what the client has said before we were connected
        self.early = 0  # what epoll said of the client while we were dialing
        self.target: LiveTarget | None = None
        self.upstream: SocketType | None = None
        self.up: Pump | None = None
        self.down: Pump | None = None
        self.dial: Dial | None = None
        self.tried: Sequence[tuple[str, str]] = ()
        self.broken: tuple[Side, int] | None = None  # the first side that failed, and its errno
        self.first_end: Side | None = None
        self.half_closed = False
        self.moving = False
        self.next_tick = NEVER
        self.patience: Patience | None = None  # of a session that has lived for a tick
        self.cut = 0
        self.counted_up = self.counted_down = 0  # bytes that stand in the counters already
        self.calm_since = 0.0
        self.calm_mark = 0

    def __repr__(self) -> str:
        target = self.target.name if self.target else None
        return f"<Session {self.number} {self.app.name} {self.state.name} client={self.address} target={target}>"

    def start(self) -> None:
        home, row, client = self.home, self.home.row, self.client
        home.members.add(self)
        row[SESSIONS] += 1
        row[ACCEPTED] += 1
        row[self.listener.slot + LISTENER_ACCEPTED] += 1
        try:
            self.first = client.recv(CHUNK, MSG_DONTWAIT)  # who speaks first has mostly spoken by now
        except BlockingIOError:
            pass
        except OSError as error:
            self._finish(Reason.CLIENT_GONE, Side.CLIENT, error.errno or 0, reset=True)
            return
        if self.app.parking is not None and not self.app.parking.welcomes(client, home.loop.now):
            self._finish(Reason.CLIENT_GONE, Side.CLIENT, 0, reset=True)
            return
        self._dial()
        if self.state is DIALING or self.state is PARKED:
            home.loop.watch(client.fileno(), QUIET_EDGE, self._client_early)

    # -- DIALING and PARKED ------------------------------------------------------------------------------------------

    def _dial(self) -> None:
        app, loop = self.app, self.home.loop
        self.dial = dial = self.keyed_dial(self) if app.is_special else Dial(loop, self, app, b"", self.first)
        if self.tried:
            dial.tried = list(self.tried)
        dial.start()

    def _client_early(self, events: int) -> None:
        self.early |= events
        if events & FAILED:
            code = self.client.getsockopt(SOL_SOCKET, SO_ERROR)
            self._finish(Reason.CLIENT_GONE, Side.CLIENT, code, reset=True)
        elif self.state is PARKED:
            self.look_who_waits()

    def deadline_set(self, when: float) -> None:
        self.deadline = when
        if when < self.home.next_look:
            self.home.look_at(when)

    def dial_failed(self, reason: Reason, code: int) -> None:
        if self.app.parking is not None and self.app.parking.takes(reason, code):
            self.park()
            return
        self._finish(reason, Side.PROXY if reason is not Reason.CONNECT_FAILED else Side.TARGET, code, reset=True)

    def connected(self, sock: SocketType, events: int) -> None:
        """The dial is over; `events` came with the connection, and the target may have spoken already."""
        home, dial = self.home, self.dial
        assert dial is not None
        self.dial = None
        self.target = target = dial.target
        assert target is not None
        self.tried = dial.tried
        self.upstream = sock
        self.cut = dial.cut
        loop, client = home.loop, self.client
        self.last = self.connected_at = loop.now
        tally.connected(home.row, target.slot, loop.now - self.started)
        up, down = self._relay(sock)
        loop.attend(client.fileno(), QUIET_EDGE, up.ready)
        loop.attend(sock.fileno(), QUIET_EDGE, down.ready)
        if self.first:
            first, self.first = self.first, b""
            up.begin(first, dial.sent)
        if self.early:
            up.ready(self.early)
        if events & ~WRITE and self.state is RELAYING:
            down.ready(events)
        if target.cut != self.cut:  # ended from above while we dialed it
            self.cut_off()

    def tunnel(
        self, sock: SocketType, target: LiveTarget, cut: int, tried: Sequence[tuple[str, str]], up: bytes, down: bytes
    ) -> None:
        """Begin here, instead of by `start`, as a relay of two sockets that nobody watches; these bytes go first."""
        self.target, self.cut, self.tried, self.upstream = target, cut, tried, sock
        loop = self.home.loop
        self.last = self.connected_at = loop.now
        pump_up, pump_down = self._relay(sock)
        loop.watch(self.client.fileno(), QUIET_EDGE, pump_up.ready)
        loop.watch(sock.fileno(), QUIET_EDGE, pump_down.ready)
        pump_up.begin(up, 0)
        if self.state is RELAYING:
            pump_down.begin(down, 0)

    def _relay(self, sock: SocketType) -> tuple[Pump, Pump]:
        home, client, loop = self.home, self.client, self.home.loop
        assert self.state is DIALING, f"{self!r} cannot relay"
        self.state = RELAYING  # not by `_enter`, as in `_finish`: 0.2 us for each session
        up = self.up = Pump(loop, self, client, sock, True)
        down = self.down = Pump(loop, self, sock, client, sock.family != AF_UNIX)
        up.opposite, down.opposite = down, up
        # Ticks fall together for all sessions, so that one look at them all does for each.
        tick = self.app.first_tick
        self.next_tick = (loop.now // tick + 2) * tick
        if self.next_tick < home.next_look:
            home.look_at(self.next_tick)
        return up, down

    # -- RELAYING: what the pumps say ----------------------------------------------------------------------------------

    def pump_done(self, pump: Pump) -> None:
        """Everything of this direction was written, and its source has no more."""
        if self.broken is not None:
            self._linger()
            return
        if self.first_end is None:
            self.first_end = Side.CLIENT if pump is self.up else Side.TARGET
        if pump.opposite.done:
            self._finish(Reason.DONE, self.first_end, 0, reset=False)
            return
        try:
            pump.dest.shutdown(SHUT_WR)
        except OSError as error:  # ENOTCONN says that it was reset; the socket knows more
            self.write_failed(pump, pump.dest.getsockopt(SOL_SOCKET, SO_ERROR) or error.errno or 0)
            return
        self._half_close()

    def read_failed(self, pump: Pump, code: int) -> None:
        """The source has failed and holds no more bytes; everything read from it was written, or waits in `pump`."""
        self._break(Side.CLIENT if pump is self.up else Side.TARGET, code)
        pump.opposite.stop()
        self._linger()

    def write_failed(self, pump: Pump, code: int) -> None:
        """The destination has failed: nothing can be given to it, but what it sent before is still to be read."""
        side = Side.TARGET if pump is self.up else Side.CLIENT
        first = self.broken is None or self.broken[0] is side
        self._break(side, code)
        pump.stop()
        reader = pump.opposite
        if reader.done or not first:
            self._linger()
        else:
            reader.resume()  # until its end: pump_done or read_failed

    def source_failed(self, pump: Pump) -> None:
        """epoll reports an error while nobody reads there: the pump waits for its destination, or had its end of file."""
        code = pump.source.getsockopt(SOL_SOCKET, SO_ERROR)
        if not code or self.state is not RELAYING:
            return
        self._break(Side.CLIENT if pump is self.up else Side.TARGET, code)
        pump.opposite.stop()
        if pump.done:
            self._linger()

    def bulk(self, _pump: Pump) -> bool:
        if not self.home.promotes:
            return False
        if not self.moving:
            self.moving = True
            self.home.loop.call_again(self._move)  # not now: this pump and its opposite may be in the middle of a turn
        return True

    def emptied(self, _pump: Pump) -> None:
        """In a relay thread: a source has nothing for now. Whether this is still a bulk session?"""
        up, down = self.up, self.down
        assert up is not None
        assert down is not None
        now, moved = self.home.loop.now, up.moved + down.moved
        if now - self.calm_since < CALM_AFTER:
            return
        calm = moved - self.calm_mark < CALM_BYTES
        self.calm_since, self.calm_mark = now, moved
        if calm and not self.moving:
            self.moving = True
            self.home.loop.call_again(self._move)

    # -- hand-over between threads --------------------------------------------------------------------------------------

    def _move(self, _events: int) -> None:
        """Leave this thread, unless the session has ended meanwhile or bytes in a pipe hold it here."""
        self.moving = False
        up, down = self.up, self.down
        if self.state is not RELAYING or up is None or down is None:
            return
        if not (up.is_movable and down.is_movable and self.home.send_away(self)):
            up.resume()
            if self.state is RELAYING:
                down.resume()

    def arrived(self) -> None:
        home = self.home
        if home.closing is not None:
            self.kill(home.closing, Side.PROXY)
        elif self.target is not None and self.target.cut != self.cut:
            self.cut_off()
        elif self.due() < home.next_look:
            home.look_at(self.due())
        home.count_from_now()

    # -- ends ------------------------------------------------------------------------------------------------------------

    def due(self) -> float:
        """When `expire` is to be called, as things are now."""
        if self.state is RELAYING:
            return min(self.next_tick, self._silence_ends())
        return self.deadline

    def _silence_ends(self) -> float:
        timeouts = self.app.timeouts
        return self.last + (timeouts.half_closed if self.half_closed else timeouts.idle)

    def expire(self) -> None:
        if self.state is DIALING:
            assert self.dial is not None
            self.deadline = NEVER
            self.dial.timed_out()
            return
        if self.state is PARKED:
            self._finish(Reason.NO_TARGET, Side.PROXY, 0, reset=True)
            return
        if self.state is RELAYING:
            self._tick()
            if self.state is not RELAYING or self.home.loop.now < self._silence_ends():
                return
        if self.broken is not None:
            self._finish_broken()
        else:
            reason = Reason.HALF_CLOSED_TIMEOUT if self.half_closed else Reason.IDLE_TIMEOUT
            self._finish(reason, Side.PROXY, 0, reset=True)

    def _tick(self) -> None:
        """A look at the peers: a slow reader is not a silent one, and a dead one is not a slow one."""
        app, now, upstream = self.app, self.home.loop.now, self.upstream
        assert upstream is not None
        self.next_tick = (now // app.tick + 1) * app.tick
        patience = self.patience
        if patience is None:
            patience = self.patience = Patience()
            self.home.count_from_now()
            if upstream.family != AF_UNIX:
                app.settle(upstream)
        if patience.look(self.client, upstream, self.last, now):
            self.last = now
        if now - patience.client.unheard_since >= app.timeouts.unacked:
            self._lose(Side.CLIENT, ETIMEDOUT)
        elif now - patience.target.unheard_since >= app.timeouts.unacked:
            self._lose(Side.TARGET, ETIMEDOUT)

    def kill(self, reason: Reason, side: Side) -> None:
        """Reset both sides now."""
        if self.state is not DONE:
            self._finish(reason, side, 0, reset=True)

    def cut_off(self) -> None:
        """The target is lost: what was read from it is delivered, then the client is reset."""
        if self.state is RELAYING:
            self._lose(Side.PROXY, 0)

    def _lose(self, side: Side, code: int) -> None:
        """This side (PROXY: the target, by our own decision) says and hears nothing any more."""
        up, down = self.up, self.down
        assert up is not None
        assert down is not None
        self._break(side, code)
        reader, writer = (up, down) if side is Side.CLIENT else (down, up)
        writer.stop()
        reader.ended = True  # its last flush ends in pump_done
        if not reader.blocked:
            self._linger()

    def _break(self, side: Side, code: int) -> None:
        """Remember the first failure; from now on the rest may take `half_closed` seconds without a byte."""
        if self.broken is None:
            self.broken = (side, code)
            self.last = self.home.loop.now
            self._half_close()

    def _half_close(self) -> None:
        self.half_closed = True
        due = self.home.loop.now + self.app.timeouts.half_closed
        if due < self.home.next_look:
            self.home.look_at(due)

    def _linger(self) -> None:
        """One side has failed and everything it sent was written: reset the other when it has acknowledged that."""
        up, down = self.up, self.down
        assert up is not None
        assert down is not None
        up.stop()
        down.stop()
        if self.state is LINGERING:
            self._finish_broken()
            return
        self._enter(LINGERING)
        survivor = self._survivor()
        if survivor.family != AF_UNIX:
            push(survivor)  # a pump that saw its end may have announced more
        self.deadline_set(self.home.loop.now + self.app.timeouts.half_closed)
        self._ask_acknowledged(LINGER_FIRST, 0)

    def _reset_both(self) -> None:
        for sock in (self.client, self.upstream):
            if sock is not None and sock.family != AF_UNIX:
                reset_on_close(sock)

    def _survivor(self) -> SocketType:
        assert self.broken is not None
        assert self.upstream is not None
        return self.upstream if self.broken[0] is Side.CLIENT else self.client

    def _ask_acknowledged(self, wait: float, before: int) -> None:
        if self.state is not LINGERING:
            return
        survivor = self._survivor()
        left = outstanding(survivor) if survivor.family != AF_UNIX else 0  # a UNIX peer can read on after our close
        if left == 0:
            self._finish_broken()
            return
        if left != before:
            self.deadline = self.home.loop.now + self.app.timeouts.half_closed
        self.home.loop.call_later(wait, self._ask_acknowledged, min(wait * 2, LINGER_MOST), left)

    def _finish_broken(self) -> None:
        assert self.broken is not None
        side, code = self.broken
        if side is Side.PROXY:
            assert self.target is not None
            self._finish(self.target.cut_reason, side, code, reset=True)
            return
        reason = client_end(code) if side is Side.CLIENT else Reason.TARGET_RESET
        self._finish(reason, side, code, reset=True)

    def _enter(self, state: State) -> None:
        assert state in STEPS[self.state], f"{self!r} cannot become {state.name}"
        self.state = state

    def _finish(self, reason: Reason, side: Side, code: int, reset: bool) -> None:
        """The one way to DONE: release everything, count, write the record."""
        assert self.state is not DONE, f"{self!r} cannot end"
        self.state = DONE
        home, upstream, up, down = self.home, self.upstream, self.up, self.down
        if self.dial is not None:
            self.tried = self.dial.tried
            self.dial.cancel()
            self.dial = None
        bytes_up = bytes_down = 0
        if up is not None and down is not None:
            if reset:
                up.stop()
                down.stop()
            bytes_up, bytes_down = up.moved, down.moved
            del up.opposite, down.opposite  # no cycle is left for the collector
            self.up = self.down = None
        if reset:
            self._reset_both()
        home.loop.drop(self.client)
        if upstream is not None:
            home.loop.drop(upstream)
        home.members.discard(self)
        tally.ended(self, bytes_up, bytes_down, reason, side, code)

