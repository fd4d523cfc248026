"""One client connection and the target connection made for it.

Runs in a worker. Owned by the main thread, until `RelayPool.adopt` gives it to a relay thread. Only the owner (`thread`)
touches the sockets, the pumps and the state; others go through `thread.loop.call_soon`.

    QUEUED <──no primary (failover)──> DIALING
    DIALING ──connected──> RELAYING ──both directions done, or it is another process's──> DONE
       │                      │ one side failed: what it sent is delivered first        ^
       │                      └──────────> LINGERING ──acknowledged, or half_closed────>│
       └──no target, client gone──── any state: deadline, kill, internal error ────────>│

Always true:
- a session is in the table of its thread from the start until DONE, but for the moment it is being handed over;
- an end of file is passed on only after everything before it; an error of one side becomes RST on the other, after
  everything that was read from it was acknowledged (dataplane.delivery);
- a target that we give up ourselves (`cut_off`) is reset before anything else is done: from then on `upstream` is None;
- exactly one record is written, on entering DONE, and there everything is released: `_finish` is the only place;
- sockets are closed after the batch of events in which they were given up.
"""

from collections.abc import Callable, Sequence
from errno import ETIMEDOUT
from socket import AF_UNIX, SHUT_WR, SO_ERROR, SOL_SOCKET, SocketType
from typing import Any, ClassVar

from tcp_proxy.dataplane import session_counters
from tcp_proxy.dataplane.apps import LiveApp
from tcp_proxy.dataplane.counted import Counted, ended
from tcp_proxy.dataplane.delivery import Delivery
from tcp_proxy.dataplane.dial import Dial
from tcp_proxy.dataplane.keyed_dial import KeyedDial
from tcp_proxy.dataplane.live_target import LiveTarget
from tcp_proxy.dataplane.relay.handover import Placement, attach
from tcp_proxy.dataplane.relay.peer_watch import PeerWatch
from tcp_proxy.dataplane.relay.pump import CHUNK, DONTWAIT, Pump
from tcp_proxy.dataplane.relay.session_thread import NEVER, SessionThread
from tcp_proxy.dataplane.session_counters import ListenerCounters
from tcp_proxy.dataplane.session_state import CLIENT, DIALING, DONE, ENDED, LINGERING, QUEUED, RELAYING, STEPS, TARGET, State
from tcp_proxy.runtime.loop import FAILED, QUIET_EDGE, RDHUP, WRITE
from tcp_proxy.runtime.socket_options import deliver_on_close, reset_on_close
from tcp_proxy.runtime.stream_socket import StreamSocket
from tcp_proxy.sansio.reasons import Reason, Side, broken_end, dial_ended_by
from tcp_proxy.wire.counters import ACCEPTED, LISTENER_ACCEPTED, SESSIONS


class Session(Counted):
    """A subclass may name another `keyed_dial`, and may add to `start`, `_client_early` and `_finish`, which it calls."""

    __slots__ = (
        "armed", "broken", "cut", "deadline", "delivery", "dial", "down", "early", "first", "first_end", "half_closed",
        "last", "next_tick", "peer_watch", "placement", "route", "state", "up", "upstream", "waits_until",
    )  # fmt: skip
    keyed_dial: ClassVar[type[KeyedDial]] = KeyedDial  # for apps that are special

    def __init__(
        self, number: int, thread: SessionThread, app: LiveApp, listener: ListenerCounters, client: StreamSocket,
        address: Any,
    ) -> None:  # fmt: skip
        super().__init__(number, thread, app, listener, client, address)
        self.state = DIALING
        self.last = self.started
        self.deadline = self.waits_until = self.next_tick = NEVER
        self.first = b""  # what the client has said before we were connected
        self.cut = self.early = 0  # `early`: what epoll said of the client while we were dialing
        self.upstream: StreamSocket | None = None
        self.up: Pump | None = None
        self.down: Pump | None = None
        self.dial: Dial | None = None
        self.route: Any = None  # its share of the app (RouteTargets), where the client's first bytes choose one
        self.delivery: Delivery | None = None  # while LINGERING
        self.broken: tuple[Side, int] | None = None  # the first side that failed, and its errno
        self.first_end: Side | None = None
        self.half_closed = self.armed = False  # `armed`: a close of the target's socket resets it
        self.peer_watch: PeerWatch | None = None  # of a session that has lived for a tick
        self.placement: Placement | None = None  # of a session that was bulk

    def __repr__(self) -> str:
        return f"<Session {self.number} {self.app.name} {self.state.name} client={self.address} target={self.target}>"

    def start(self) -> None:
        thread, row, client = self.thread, self.thread.row, self.client
        thread.members.add(self)
        row[SESSIONS] += 1
        row[ACCEPTED] += 1
        row[self.listener.slot + LISTENER_ACCEPTED] += 1
        try:
            self.first += client.recv(CHUNK, DONTWAIT)  # who speaks first has mostly spoken by now
        except BlockingIOError:
            pass
        except OSError as error:
            self._finish(Reason.CLIENT_GONE, Side.CLIENT, error.errno or 0, reset=True)
            return
        if self.app.primary_queue is not None and not self.app.primary_queue.welcomes(client, self.started, thread.loop.now):
            self._finish(Reason.CLIENT_GONE, Side.CLIENT, 0, reset=True)
            return
        self._dial()
        if self.state is DIALING or self.state is QUEUED:
            thread.loop.attend(client.fileno(), QUIET_EDGE, self._client_early)

    # -- DIALING and QUEUED ------------------------------------------------------------------------------------------

    def _dial(self) -> None:
        app, loop = self.app, self.thread.loop
        if app.is_special:
            kind = self.keyed_dial if app.sticks is not None else KeyedDial  # one that waited may have been another app's
            dial: Dial = kind(self)
        else:
            dial = Dial(loop, self, self.route or app, b"", self.first)
        self.dial = dial
        if self.tried:
            dial.has_tried(self.tried)
        dial.start()

    def _client_early(self, events: int) -> None:
        self.early |= events
        if events & FAILED:
            code = self.client.getsockopt(SOL_SOCKET, SO_ERROR)
            self._finish(Reason.CLIENT_GONE, Side.CLIENT, code, reset=True)
        elif self.state is QUEUED:
            self.recheck()
        elif events & RDHUP and self.dial is not None:
            self.dial.client_ended()

    def deadline_set(self, when: float) -> None:
        self.deadline = when
        if when < self.thread.next_look:
            self.thread.look_at(when)

    def dial_failed(self, reason: Reason, code: int) -> None:
        if self.app.primary_queue is not None and self.app.primary_queue.takes(reason, code):
            self.enqueue()
            return
        self._finish(reason, dial_ended_by(reason), code, reset=True)

    def enqueue(self) -> None:
        """Wait for another primary, as a primary_queue.Waiter."""
        dial, self.dial, queue = self.dial, None, self.app.primary_queue
        assert dial is not None
        assert queue is not None
        dial.cancel()
        self.tried = dial.tried
        self._enter(QUEUED)
        if self.waits_until == NEVER:
            self.waits_until = self.thread.loop.now + queue.wait_left(self.client)
        self.deadline_set(self.waits_until)
        self.recheck()

    def recheck(self) -> None:
        queue = self.app.primary_queue
        if queue is not None and queue.is_useless_to(self.early):
            self._finish(Reason.CLIENT_GONE, Side.CLIENT, 0, reset=True)

    def dequeue(self) -> None:
        self.deadline = NEVER
        queue = self.app.primary_queue
        if queue is None or queue.welcomes(self.client, self.started, self.thread.loop.now):
            self._enter(DIALING)
            self._dial()
        else:
            self._finish(Reason.CLIENT_GONE, Side.CLIENT, 0, reset=True)

    def connected(self, sock: StreamSocket, events: int) -> None:
        """The dial is over; `events` came with the connection, and the target may have spoken already."""
        thread, dial = self.thread, self.dial
        assert dial is not None
        self.dial = None
        self.target = target = dial.target
        assert target is not None
        self.upstream = sock
        self.tried, self.cut = dial.tried, dial.cut
        if self.app.primary_queue is not None:
            self.app.primary_queue.connected(self, sock)
        loop, client = thread.loop, self.client
        self.last = self.connected_at = loop.now
        session_counters.connected(thread.row, target.slot, loop.now - self.started)
        up, down = self._relay(sock)
        loop.attend(client.fileno(), QUIET_EDGE, up.ready)
        loop.attend(sock.fileno(), QUIET_EDGE, down.ready)
        if target.cut != self.cut:  # ended from above while we dialed it
            self.cut_off()
            return
        if self.first:
            first, self.first = self.first, b""
            up.begin(first, dial.sent)
        if self.early:
            up.ready(self.early)
        if events & ~WRITE and self.state is RELAYING:
            down.ready(events)

    def connected_before(
        self, sock: StreamSocket, target: LiveTarget, cut: int, tried: Sequence[tuple[str, str]]
    ) -> tuple[Pump, Pump]:
        """Instead of `start` and a dial: be a relay of two sockets that nobody watches. Its pumps, which have nothing."""
        self.target, self.cut, self.tried, self.upstream = target, cut, tried, sock
        self.last = self.connected_at = self.thread.loop.now
        return self._relay(sock)

    def _relay(self, sock: StreamSocket) -> tuple[Pump, Pump]:
        thread, client, loop = self.thread, self.client, self.thread.loop
        assert self.state is DIALING, f"{self!r} cannot relay"
        self.state = RELAYING  # not by `_enter`, as in `_finish`: 0.2 us for each session
        if type(client) is SocketType is type(sock):  # no TLS; asked here, for `make_pump` costs each session 0.3 us
            up = self.up = Pump(loop, self, client, sock, True)
            down = self.down = Pump(loop, self, sock, client, sock.family != AF_UNIX)
        else:
            up = self.up = thread.make_pump(self, client, sock, True)
            down = self.down = thread.make_pump(self, sock, client, sock.family != AF_UNIX)
        up.opposite, down.opposite = down, up
        # Ticks fall together for all sessions, so that one look at them all does for each.
        tick = self.app.first_tick
        self.next_tick = (loop.now // tick + 2) * tick
        if self.next_tick < thread.next_look:
            thread.look_at(self.next_tick)
        return up, down

    # -- RELAYING: what the pumps say ----------------------------------------------------------------------------------

    def pump_done(self, pump: Pump) -> None:
        """Everything of this direction was written, and its source has no more."""
        if self.broken is not None:
            self._linger()
            return
        if self.first_end is None:
            self.first_end = CLIENT if pump is self.up else TARGET
        if pump.opposite.done:
            self._finish(ENDED, self.first_end, 0, reset=False)
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
        if pump.opposite.done or not first:
            self._linger()
        else:
            pump.opposite.resume()  # until its end: pump_done or read_failed

    def source_failed(self, pump: Pump) -> None:
        """epoll reports an error while nobody reads there: the pump waits for its destination, or had its end of file."""
        code = pump.source.getsockopt(SOL_SOCKET, SO_ERROR)
        if not code or self.state is not RELAYING:
            return
        self._break(Side.CLIENT if pump is self.up else Side.TARGET, code)
        pump.opposite.stop()
        if pump.done:
            self._linger()

    # -- hand-over between threads: when and how is in relay.handover ---------------------------------------------------

    def bulk(self, _pump: Pump) -> bool:
        if self.thread.promotes:
            self.placement = self.placement or Placement(self)
            self.placement.change()
        return self.thread.promotes

    def emptied(self, _pump: Pump) -> None:
        assert self.placement is not None
        self.placement.emptied()

    def relayed_by(self, up: Pump, down: Pump) -> None:
        self.up, self.down = up, down

    def arrive(self, thread: SessionThread, begin: Callable[["Session"], Any] = attach) -> None:
        self.thread = thread
        begin(self)
        self.placement = self.placement or Placement(self)
        self.placement.arrived()
        if thread.closing is not None:
            self.kill(thread.closing, Side.PROXY)
        elif self.target is not None and self.target.cut != self.cut:
            self.cut_off()
        elif self.due() < thread.next_look:
            thread.look_at(self.due())
        thread.count_from_now(self)

    def depart(self) -> None:
        """It lives in another process from now on: here it is let go of, and counts no more (dataplane.moving)."""
        self.state = DONE
        self.up = self.down = None

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
        if self.state is QUEUED:
            queue = self.app.primary_queue
            self._finish(Reason.NO_TARGET if queue is None else queue.why_none, Side.PROXY, 0, reset=True)
            return
        if self.state is RELAYING:
            self._tick()
            if self.state is not RELAYING or self.thread.loop.now < self._silence_ends():
                return
        if self.broken is not None:
            self._finish_broken()
        else:
            reason = Reason.HALF_CLOSED_TIMEOUT if self.half_closed else Reason.IDLE_TIMEOUT
            self._finish(reason, Side.PROXY, 0, reset=True)

    def _tick(self) -> None:
        """A look at the peers: a slow reader is not a silent one, and a dead one is not a slow one."""
        app, now, upstream = self.app, self.thread.loop.now, self.upstream
        self.next_tick = (now // app.tick + 1) * app.tick
        peer_watch = self.peer_watch
        if peer_watch is None:
            peer_watch = self.peer_watch = PeerWatch()
            self.thread.count_from_now(self)
            app.settle(upstream)
        if peer_watch.look(self.client, upstream, self.last, now):
            self.last = now
        if (dead := peer_watch.dead(now, app.timeouts.unacked)) is not None:
            self._lose(dead, ETIMEDOUT)

    def kill(self, reason: Reason, side: Side) -> None:
        """Reset both sides now."""
        if self.state is not DONE:
            self._finish(reason, side, 0, reset=True)

    def cut_off(self) -> None:
        """The target is given up, by our own order: it is reset at once, and receives nothing more of what it was sent. What
        was read from it is delivered, then the client is reset (test_delivery)."""
        if self.broken is None and self.state is RELAYING:
            upstream, self.upstream = self.upstream, None
            assert upstream is not None
            if upstream.family != AF_UNIX:
                reset_on_close(upstream)
            self.thread.loop.drop(upstream)
            self._lose(Side.PROXY, 0)
        elif self.broken is not None and self.broken[0] is Side.CLIENT:  # gone: the target had the rest to come
            self._finish_broken()

    def _lose(self, side: Side, code: int) -> None:
        """This side (PROXY: the target, by our own decision) sends and receives nothing any more."""
        up, down = self.up, self.down
        assert up is not None
        assert down is not None
        self._break(side, code)
        reader, writer = (up, down) if side is Side.CLIENT else (down, up)
        writer.stop()
        reader.expect_no_more()
        if not reader.blocked:
            self._linger()

    def _break(self, side: Side, code: int) -> None:
        """Remember the first failure; from now on the rest may take `half_closed` seconds without a byte."""
        if self.broken is None:
            self.broken = (side, code)
            self.last = self.thread.loop.now
            self._half_close()

    def _half_close(self) -> None:
        self.half_closed = True
        self.deadline_set(self.thread.loop.now + self.app.timeouts.half_closed)

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
        survivor = self.upstream if self.broken is not None and self.broken[0] is Side.CLIENT else self.client
        assert survivor is not None
        self.delivery = Delivery(self.thread.loop, self, survivor)
        self.delivery.begin()

    def delivered(self) -> None:
        self._finish_broken()

    def _finish_broken(self) -> None:
        assert self.broken is not None
        side, code = self.broken
        reason = self.target.cut_reason if side is Side.PROXY and self.target is not None else broken_end(side, code)
        if side is Side.TARGET and self.app.outlier is not None:
            session_counters.was_reset(self, reason, code)
        self._finish(reason, side, code, reset=True)

    def _enter(self, state: State) -> None:
        assert state in STEPS[self.state], f"{self!r} cannot become {state.name}"
        self.state = state

    def _finish(self, reason: Reason, side: Side, code: int, reset: bool) -> None:
        """The one way to DONE: release everything, count, write the record."""
        assert self.state is not DONE, f"{self!r} cannot end"
        self.state = DONE
        thread, upstream, up, down = self.thread, self.upstream, self.up, self.down
        if self.dial is not None:
            self.tried = self.dial.tried
            self.dial.cancel()
            self.dial = None
        if self.delivery is not None:
            self.delivery.stop()
            self.delivery = None
        bytes_up = bytes_down = 0
        if up is not None and down is not None:
            if reset:
                up.stop()
                down.stop()
            bytes_up, bytes_down = up.moved, down.moved
            del up.opposite, down.opposite  # no cycle is left for the collector
            self.up = self.down = self.placement = None
        if reset:
            for sock in (self.client, upstream):
                if sock is not None and sock.family != AF_UNIX:
                    reset_on_close(sock)
        elif self.armed and upstream is not None:
            deliver_on_close(upstream)
        thread.loop.drop(self.client)
        if upstream is not None:
            thread.loop.drop(upstream)
        thread.members.discard(self)
        ended(self, bytes_up, bytes_down, reason, side, code)

