"""One client connection of an app in http mode: requests are read one after another, each is an Exchange.

Runs in a worker, owned by its loop's thread; it never moves to another (a tunnel becomes a Session, which may). Its states
are those of sansio/http1/states.py. It holds its parts: `reader` (what the client has sent), `writer` (what waits for it),
`timers`, `upstreams` (its own), `plain_way` (of most requests), `exchange` or `dial`, and `closing` after its last answer.

Always true:
- answers go out in the order of requests: the next request is not looked at before the last answer is written;
- what the client sends ahead stays in its socket, but for what one read has brought along (reader.py);
- the client's socket is closed softly after an answer (closing.py): a close with bytes unread would reset the connection
  and could take the answer away;
- one record is written, on entering DONE; `finish` is the only place that releases the client.
"""

from socket import SO_ERROR, SOL_SOCKET
from typing import Any, Final

from tcp_proxy.dataplane.apps import LiveApp
from tcp_proxy.dataplane.dial import Dial
from tcp_proxy.dataplane.http import requests
from tcp_proxy.dataplane.http.closing import Closing
from tcp_proxy.dataplane.http.dialing import new_dial
from tcp_proxy.dataplane.http.exchange import Exchange
from tcp_proxy.dataplane.http.plain_way import PlainOwner, PlainWay
from tcp_proxy.dataplane.http.private import ClientUpstreams
from tcp_proxy.dataplane.http.reader import READABLE, UNSURE, RequestReader
from tcp_proxy.dataplane.http.shared import HttpShared
from tcp_proxy.dataplane.http.socket_writer import SocketWriter
from tcp_proxy.dataplane.http.timers import Timers
from tcp_proxy.dataplane.http.tunnel import open_tunnel
from tcp_proxy.dataplane.relay.session_thread import NEVER, leave
from tcp_proxy.dataplane.session_counters import ListenerCounters
from tcp_proxy.runtime.loop import FAILED, QUIET_EDGE, RDHUP, WRITE
from tcp_proxy.runtime.socket_options import outstanding
from tcp_proxy.runtime.stream_socket import StreamSocket
from tcp_proxy.sansio.address import client_text, ip_of
from tcp_proxy.sansio.http1 import max_forwards
from tcp_proxy.sansio.http1.fields import Refused
from tcp_proxy.sansio.http1.forward import own_answer
from tcp_proxy.sansio.http1.outcomes import Failure
from tcp_proxy.sansio.http1.requests import Request, first_line
from tcp_proxy.sansio.http1.states import ANSWERED, BREAK, CLOSE, DIAL, DIALING, DONE, END, EXCHANGING, NEXT, READING, SEND
from tcp_proxy.sansio.reasons import Reason, Side, client_end
from tcp_proxy.wire.counters import ACCEPTED, LISTENER_ACCEPTED, SESSIONS

TOO_MANY: Final = 429
STEPS: Final = 32  # reads, or requests that we answer ourselves, in one turn; then the others


class HttpConnection(PlainOwner):
    """`number` is unique in this worker."""

    connected_at = -1.0

    def __init__(
        self, number: int, shared: HttpShared, app: LiveApp, listener: ListenerCounters, client: StreamSocket, address: Any
    ) -> None:
        thread = shared.thread
        self.number, self.shared, self.thread = number, shared, thread
        self.app, self.http_app = app, shared.http_app(app)
        self.listener = listener
        self.client, self.address = client, address
        self._look_who()
        self.client_text = client_text(address)
        self.client_ip, self.name = ip_of(address), f"{thread.recorder.incarnation}-{number}-"
        self.writer = SocketWriter(thread.loop, client)
        self.timers = Timers(thread)
        self.state, self.started = READING, thread.loop.now
        self.reader, self.upstreams = RequestReader(client), ClientUpstreams(shared.upstreams)
        self.plain_way = PlainWay(self)
        self.up = self.down = self.route = None  # a plain session's pumps, and its share of the app; a request has its own
        self.first, self.tried, self.target_name = b"", (), ""
        self.requests = self.bytes_up = self.bytes_down = 0  # of the bodies of all exchanges that are over
        self.head_begun = False  # of the next request
        self.exchange = self.origin = None  # `origin`: of one that has come from another process
        self.dial: Dial | None = None
        self.closing: Closing | None = None
        self.advancing = self.queued = False  # `queued`: it goes on when others have had their turn

    def _look_who(self) -> None:
        """Who the client is to the app as it is now."""
        self.who = self.http_app.client(ip_of(self.address), self.client, self.listener)
        self.key = self.who.ip if self.app.needs_key else b""

    def __repr__(self) -> str:
        return f"<HttpConnection {self.number} {self.app.name} {self.state.name} client={self.address} {self.exchange!r}>"

    @property
    def target(self) -> Any:
        return self.exchange.target if self.exchange is not None else None

    @property
    def cut(self) -> int:  # `target.cut` when it was chosen
        return self.exchange.cut if self.exchange is not None else 0

    @property
    def last(self) -> float:  # when it had its last event
        return self.timers.last

    @property
    def is_idle(self) -> bool:
        """Between two requests."""
        return self.state is READING and self.requests > 0 and not self.reader.input

    @property
    def may_keep(self) -> bool:
        return not self.shared.draining

    @property
    def identity(self) -> bytes:
        """The X-Request-ID of a request that brought none: the session's id, and the request's number in it."""
        return f"{self.name}{self.requests}".encode()

    def start(self) -> None:
        thread = self.thread
        thread.members.add(self)
        row = thread.row
        row[SESSIONS] += 1
        row[ACCEPTED] += 1
        row[self.listener.slot + LISTENER_ACCEPTED] += 1
        thread.loop.watch(self.client.fileno(), QUIET_EDGE, self.ready)
        self.timers.wait(self.http_app.timeouts.request)
        self.advance()

    # -- events ----------------------------------------------------------------------------------------------------------

    def ready(self, events: int) -> None:
        if events & WRITE and self.writer.blocked and not self._flush():
            return
        if events & READABLE:
            state, reader = self.state, self.reader
            if state is READING and not (events & UNSURE or reader.input or self.writer.blocked or self.queued):
                if self._receive(events) and not (self.plain_way.begin() and self.state is not READING):
                    self.advance()
            elif state is READING:
                reader.unread = True
                if not self.writer.blocked:  # who does not read our answers is not read either
                    if not reader.input or reader.seen:  # else whole requests wait for their turn
                        self._receive(events)
                    self.advance()
            elif state is EXCHANGING and self.exchange is not None:
                self.exchange.client_ready(events)
                self._look_for_error(events)
            elif self.closing is not None:
                self.closing.discard()
            else:
                reader.unread = True
                self._look_for_error(events)

    def _look_for_error(self, events: int) -> None:
        """A reset is told once, by whatever asks first; nobody may be reading."""
        if events & RDHUP and self.dial is not None:
            self.dial.client_ended()
        if events & FAILED and self.state is not DONE and (code := self.client.getsockopt(SOL_SOCKET, SO_ERROR)):
            self.client_lost(code)

    def _flush(self) -> bool:
        """Whether the client is still there."""
        self.timers.last = self.thread.loop.now
        try:
            flushed = self.writer.flush()
        except OSError as error:
            self.client_lost(error.errno or 0)
            return False
        if flushed:
            if self.exchange is not None:
                self.exchange.client_flushed()
            elif self.closing is not None:
                self.closing.flushed()
            else:
                self.advance()
        return self.state is not DONE

    def write(self, data: bytes) -> bool:
        """To the client; False when it is gone, and the session over."""
        try:
            self.writer.write(data)
        except OSError as error:
            self.client_lost(error.errno or 0)
            return False
        return True

    # -- READING ---------------------------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Begin with what there is, as long as nothing must be waited for."""
        if self.advancing or self.queued:
            return
        self.advancing = True
        steps = STEPS
        while self.state is READING and not self.writer.blocked and self._step():
            steps -= 1
            if not steps:
                self.queued = True
                self.thread.loop.call_again(self._advance_more)
                break
        self.advancing = False

    def _advance_more(self, _events: int) -> None:
        self.queued = False
        self.advance()

    def _step(self) -> bool:
        """Whether there may be more to do."""
        reader = self.reader
        if reader.input:
            try:
                request = reader.next_request(self.http_app.limits)
            except Refused as error:
                self._refuse(error.status, str(error), None)
                return False
            if request is not None:
                self._begin(request)
                return True
        if reader.unread:
            return self._receive(0)
        self._wait_for_head()
        return False

    def _receive(self, events: int) -> bool:
        """Whether the client is still there."""
        reader = self.reader
        try:
            reader.receive(events)
        except OSError as error:
            self.client_lost(error.errno or 0)
            return False
        if reader.is_ended:
            reason = Reason.CLIENT_GONE if reader.input else Reason.DONE  # in the middle of a request, or between two
            self.finish(reason, Side.CLIENT, 0, reset=False)
            return False
        return True

    def _wait_for_head(self) -> None:
        """Not longer for a whole one than `request`, from its first byte on; for its first byte, `next_request`."""
        timeouts = self.http_app.timeouts
        if not self.reader.input:
            self.timers.wait(timeouts.next_request if self.requests else timeouts.request)
        elif not self.head_begun:
            self.timers.wait(timeouts.request)
        self.head_begun = bool(self.reader.input)

    def _begin(self, request: Request) -> None:
        self.requests += 1
        self.head_begun = False
        http_app = self.http_app
        if http_app.http is not self.app.http and self.app.http is not None:
            http_app = self.http_app = self.shared.http_app(self.app)
            self._look_who()
        refused = http_app.refusal(request, self.address, self.thread.loop.now)
        if refused is not None:
            self._refuse(*refused[:2], request, refused[0] == TOO_MANY and not request.length, refused[2])
        elif b"max-forwards" not in request.fields.values or self._is_passed_on(request):
            route_targets = http_app.route_targets(request)
            if route_targets is None:
                self._refuse(404, "no route for this", request, keep=not request.length)
                return
            exchange = self.exchange = Exchange(self, request, route_targets)
            exchange.start()

    def _is_passed_on(self, request: Request) -> bool:
        """One hop less for those that are counted; the request is ours to answer when none is left."""
        try:
            if max_forwards.count_down(request):
                return True
        except Refused as error:
            self._refuse(error.status, str(error), request)
            return False
        keep = not request.length and request.keeps and self.may_keep
        requests.refused(self, request, 200, Reason.DONE, "", request.line)
        self._say(max_forwards.final_answer(request, keep, self.shared.date), keep)
        return False

    def _refuse(self, status: int, text: str, request: Request | None, keep: bool = False, after: int = 0) -> None:
        line = first_line(self.reader.input) if request is None else request.line
        reason = Reason.LIMIT if status == TOO_MANY else Reason.PROTOCOL_ERROR
        requests.refused(self, request, status, reason, text, line)
        keep = keep and request is not None and request.keeps and self.may_keep
        self._say(own_answer(status, text, keep, self.shared.date, line.startswith(b"HEAD "), after), keep)

    # -- DIALING, EXCHANGING: what the exchange says ---------------------------------------------------------------------

    def dialing(self, route_targets: Any) -> Dial:
        self.state = NEXT[self.state][DIAL]
        self.dial = new_dial(self, route_targets)
        return self.dial

    def exchanging(self) -> None:
        self.state = NEXT[self.state][SEND]
        self.timers.wait_for_answer(self.http_app.timeouts.response)

    def exchange_over(self, keep: bool) -> None:
        """The answer is written, but for what waits in the writer of one that is not kept."""
        self.exchange = None
        self.state = NEXT[self.state][ANSWERED]
        if not keep:  # softly: something may have come that no event has told of yet
            self._close()
            return
        self.timers.wait(self.http_app.timeouts.next_request)
        if self.reader.input or self.reader.unread:
            self.advance()
        if self.shared.draining:
            self.let_go()

    def answer(self, exchange: Exchange, failure: Failure, is_read: bool) -> None:
        """Our own, in place of the target's. `is_read`: the request was read to its end."""
        request, status, text = exchange.request, failure.status, failure.text
        exchange.status, exchange.error = status, text
        self.exchange = None
        self.dial = None
        requests.ended(exchange, failure.reason)
        keep = is_read and request.keeps and self.may_keep
        self._say(own_answer(status, text, keep, self.shared.date, request.method == b"HEAD"), keep)

    def _say(self, answer: bytes, keep: bool) -> None:
        self.state = NEXT[self.state][ANSWERED]
        if not self.write(answer):
            return
        if keep:
            self.timers.wait(self.http_app.timeouts.next_request)
            self.advance()
        else:
            self._close()

    def switch(self, exchange: Exchange, first_down: bytes) -> None:
        """The client is a tunnel's from now on. `first_down`: what it is to have before all else."""
        self.exchange = None
        self.state = NEXT[self.state][END]
        self.upstreams.release()
        del self.plain_way.owner
        upstream, exchange.upstream = exchange.upstream, None
        assert upstream is not None
        open_tunnel(self, exchange, upstream, exchange.cut, first_down)

    def deadline_set(self, when: float) -> None:
        self.timers.set_deadline(when)

    def connected(self, sock: StreamSocket, events: int) -> None:
        dial, self.dial = self.dial, None
        assert dial is not None
        assert self.exchange is not None
        self.exchange.connected(dial, sock, events)

    def dial_failed(self, reason: Reason, code: int) -> None:
        dial, self.dial = self.dial, None
        assert dial is not None
        assert self.exchange is not None
        self.exchange.dial_failed(dial, reason, code)

    # -- times -----------------------------------------------------------------------------------------------------------

    def due(self) -> float:
        state = self.state
        if self._waits_for_reader or (state is EXCHANGING and self.exchange is not None and self.exchange.is_long):
            return self.timers.next_look_at(self.http_app.timeouts.response)
        return self.timers.last + self.http_app.timeouts.response if state is EXCHANGING else self.timers.deadline

    def expire(self) -> None:
        state = self.state
        if self.timers.excuse(self.client, self.writer.blocked or (self.closing is None and state is not DIALING)):
            return
        if state is DIALING:
            self.timers.deadline = NEVER
            assert self.dial is not None
            self.dial.timed_out()
        elif state is EXCHANGING or self._waits_for_reader:
            self._look_who_takes()
        elif state is READING and self.reader.input:
            self._refuse(408, "the request did not come in time", None)
        elif state is READING:
            self.finish(Reason.IDLE_TIMEOUT, Side.PROXY, 0, reset=False)
        elif self.closing is not None:
            self.closing.expire()

    @property
    def _waits_for_reader(self) -> bool:
        """Whether an answer waits for a slow client."""
        return self.writer.blocked and (self.closing is None or self.closing.waits_for_reader)

    def _look_who_takes(self) -> None:
        exchange, is_blocked = self.exchange, self.writer.blocked
        client_owes = outstanding(self.client) if is_blocked else 0
        target_owes = exchange.owed if exchange is not None else 0
        if is_blocked and exchange is None:  # by answers of our own: they were said then, and nothing else has moved since
            self.timers.last = max(self.timers.last, self.writer.blocked_at)
        if not self.timers.is_silent(client_owes, target_owes, self.http_app.timeouts.response):
            return
        if is_blocked or exchange is None:
            self.finish(Reason.IDLE_TIMEOUT, Side.PROXY, 0, reset=True)
        else:
            exchange.timed_out()

    # -- ends ------------------------------------------------------------------------------------------------------------

    def let_go(self) -> None:
        """It is not waited for any longer, if it has asked for nothing."""
        if self.state is READING:  # what it has asked by now is answered, though no event has told of it
            self.reader.unread = True
            self.advance()
        if self.state is READING and not self.reader.input:
            self._close()

    def _close(self) -> None:
        """The last word is said."""
        self.state = NEXT[self.state][CLOSE]
        self.upstreams.release()
        self.closing = Closing(self, self.thread.loop)
        self.closing.softly()

    def break_off(self, reason: Reason, side: Side) -> None:
        """What was written is delivered; then the client is reset, so that nobody takes it for the whole answer."""
        self.exchange = None
        self.state = NEXT[self.state][BREAK]
        self.closing = Closing(self, self.thread.loop, (reason, side))
        self.closing.after_delivery(self.http_app.timeouts.half_closed)

    def kill(self, reason: Reason, side: Side) -> None:
        """Reset both sides now."""
        if self.state is not DONE:
            self.finish(reason, side, 0, reset=True)

    def cut_off(self) -> None:  # from the exchange's target, by our own decision
        exchange = self.exchange
        if exchange is not None and exchange.target is not None:
            exchange.cut_off(exchange.target.cut_reason)

    def client_lost(self, code: int) -> None:
        if self.state is not DONE:
            self.finish(client_end(code) if code else Reason.CLIENT_GONE, Side.CLIENT, code, reset=True)

    def finish(self, reason: Reason, side: Side, code: int, reset: bool) -> None:
        """The one way to DONE: release everything, count, write the record."""
        self.state = NEXT[self.state][END]
        thread = self.thread
        if self.dial is not None:
            self.dial.cancel()
            self.dial = None
        if self.closing is not None:
            self.closing.stop()
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.release(reset=True)
            requests.ended(exchange, reason)
        self.upstreams.release()
        del self.plain_way.owner  # no cycle is left for the collector
        self.writer.give_back(self.shared.pipes)
        leave(self.client, reset)
        thread.loop.drop(self.client)
        thread.members.discard(self)
        requests.session_ended(self, reason, side, code)
