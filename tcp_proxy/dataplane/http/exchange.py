"""One request and its answer: from the choice of a target to the last byte of the answer, or to why there is none.

Owned by the loop's thread. An Exchange has a target, taken, until `release`, and an Upstream of it while there is one. Its
connection (owner.py) owns the client's side, and is told the one end that it has. The target may stop taking the request
and still answer: nothing more is sent then, and what it says is heard out. sansio/http1/outcomes.py decides what is what.

    (start) ──idle connection, the client's own first──> SENT ──head of the answer──> ANSWERING ──last byte──> over
       │ none                     ^ │ nothing was sent, or nothing heard and the method is idempotent: again (repeats)
       └──> dialing ──────────────┘ └──> no answer: 502, 504 …       ANSWERING ──it breaks off──> the client is reset

Always true: a request goes to a second target only where it can have had no effect at the first (test_retries_…); an
answer that breaks off is never made to look whole; its head goes out at most once.
"""

from errno import EPIPE
from typing import Any, Final

from tcp_proxy.dataplane import session_counters
from tcp_proxy.dataplane.dial import Dial
from tcp_proxy.dataplane.http import requests
from tcp_proxy.dataplane.http.body import Body
from tcp_proxy.dataplane.http.owner import ExchangeOwner
from tcp_proxy.dataplane.http.reader import READABLE, UNSURE, URGENT
from tcp_proxy.dataplane.http.repeats import Repeatable, send_again
from tcp_proxy.dataplane.http.upstreams import Upstream, has_spoken
from tcp_proxy.dataplane.live_target import LiveTarget
from tcp_proxy.dataplane.route_targets import begin
from tcp_proxy.dataplane.session_state import ENDED
from tcp_proxy.runtime.loop import EDGE, WRITE
from tcp_proxy.runtime.socket_options import outstanding
from tcp_proxy.runtime.stream_socket import StreamSocket
from tcp_proxy.sansio.http1 import outcomes
from tcp_proxy.sansio.http1.fields import Refused
from tcp_proxy.sansio.http1.forward import request_head, response_head
from tcp_proxy.sansio.http1.outcomes import Failure
from tcp_proxy.sansio.http1.requests import Request
from tcp_proxy.sansio.http1.responses import Response
from tcp_proxy.sansio.http1.upgrades import allowed_upgrades, is_asked_for
from tcp_proxy.sansio.reasons import Reason, Side

INTERIMS: Final = 32  # interim answers in one turn


class Exchange(Repeatable):
    """`response` is None until its head has come; `status` is what the client was told."""

    cut = 0
    upstream: Upstream | None = None
    down: Body | None = None
    response: Response | None = None
    keep = False
    upgrade = b""  # the protocols that the target is asked for
    hears_later = False  # heads of interim answers wait in the reader until others have had their turn
    switched: tuple[Response, bytes] | None = None  # the target's 101, and what came behind it, until the request is whole

    def __init__(self, connection: ExchangeOwner, request: Request, route_targets: Any) -> None:
        self.connection = self.owner = connection  # `owner`: whom a bug that is met here ends
        self.request, self.route_targets = request, route_targets
        self.pipes, self.started = connection.shared.pipes, connection.thread.loop.now
        self.status = self.ending = self.reset_code = 0  # `status`: of the answer, so far; `reset_code`: what sending met
        self.up_failed = self.was_late = False  # `was_late`: it waited for a target, or another one was tried before
        self.block = connection.app.slot  # where its counters are

    def __repr__(self) -> str:
        return f"<Exchange {self.request!r} at {self.target.name if self.target else None}, status {self.status}>"

    @property
    def is_long(self) -> bool:
        """Whether there is more than one write of the request: the target may take its time with it."""
        return self.up is not None or (self.upstream is not None and self.upstream.writer.blocked)

    @property
    def owed(self) -> int:
        """Bytes of a long request that the target's machine has not acknowledged."""
        upstream = self.upstream
        return outstanding(upstream.sock) + upstream.writer.waiting() if upstream is not None and self.is_long else 0

    # -- to a target

    def start(self) -> None:
        connection, fields = self.connection, self.request.fields
        if b"upgrade" in fields.values and b"upgrade" in fields.options and self.request.minor:
            self.upgrade = allowed_upgrades(fields, connection.http_app.upgrades)
        if connection.upstreams.resting:
            upstream, is_full = connection.upstreams.take(self.route_targets, connection.thread.row)
            if upstream is not None:
                self.serve(upstream.target, upstream.target.cut)
                self._send(upstream)
                return
            if is_full:
                self._not_connected(Reason.LIMIT)
                return
        target = self.route_targets.choose(connection.key, self.started, None)
        if target is None or not self.send_kept(target):
            self.dial(target)

    def send_kept(self, target: LiveTarget) -> bool:
        """`target` is taken: whether the request goes there over a connection that is kept."""
        self.serve(target, target.cut)
        upstream = self.connection.upstreams.take_for(target, self.connection.listener.port)
        if upstream is not None:
            self._send(upstream)
        return upstream is not None

    def serve(self, target: LiveTarget, cut: int) -> None:
        self.target, self.cut, self.served_by, self.block = target, cut, target.name, target.slot

    def dial(self, target: LiveTarget | None, excluded: set[LiveTarget] | None = None) -> None:
        """`excluded`: targets that are not to be tried. None: there is none, but perhaps one that can be waited for."""
        dial = self.connection.dialing(self.route_targets)
        dial.excluded, self.target = excluded, None  # the target is the dial's, for now
        begin(dial, target)

    def connected(self, dial: Dial, sock: StreamSocket, events: int) -> None:
        connection, target, loop = self.connection, dial.target, self.connection.thread.loop
        assert target is not None
        self.serve(target, dial.cut)
        self.tried += tuple(dial.tried)
        session_counters.connected(connection.thread.row, target.slot, loop.now - self.started)
        upstream = connection.shared.upstreams.adopt(sock, target, connection.listener.port)
        loop.attend(sock.fileno(), EDGE, upstream.ready)
        if target.cut != self.cut:  # given up while we dialed it: it is not to hear of this request
            upstream.owner, self.upstream = self, upstream
            self.cut_off(target.cut_reason)
            return
        self._send(upstream)
        if events & READABLE and self.upstream is upstream:
            self.upstream_ready(events & ~WRITE)

    def dial_failed(self, dial: Dial, reason: Reason, code: int) -> None:
        self.tried += tuple(dial.tried)
        self._not_connected(reason, code)

    def _not_connected(self, reason: Reason, code: int = 0) -> None:
        self.connection.answer(self, outcomes.not_connected(reason, code), self._is_read)

    def _send(self, upstream: Upstream) -> None:
        connection, request = self.connection, self.request
        upstream.owner = self
        self.upstream = upstream
        host = b"" if connection.http_app.keeps_host(request) else upstream.host
        out = request_head(request, connection.who, connection.identity, host, self.upgrade, requests.begin_span(self))
        first = b""
        if request.length:
            self.up = Body(connection.thread.loop, self, connection.client, upstream.writer, request.length)
            self.up.most = connection.http_app.body_most
            first = connection.reader.take()
            try:
                out += self.up.take(first)
            except Refused as refused:
                self.body_refused(self.up, refused)
                return
        connection.exchanging()
        try:
            upstream.writer.write(out)
        except OSError as error:  # nothing of it was taken
            self.up = None
            connection.reader.input = first
            self.not_sent(upstream, error.errno or 0)
            return
        if self.up is not None:
            self.up.go_on()

    # -- events

    def client_ready(self, events: int) -> None:
        """The client's socket has something while the exchange goes on."""
        up = self.up
        if up is not None and not up.done and events & READABLE:
            if events & URGENT:
                up.copy_on()
            self.connection.timers.last = self.connection.thread.loop.now
            if not up.writer.blocked:
                up.go_on()
        elif events & READABLE:
            self.connection.reader.unread = True

    def client_flushed(self) -> None:
        if self.down is not None:
            self.down.flushed()
        elif self.response is None and self.switched is None and self.upstream is not None:
            self.hear(self.upstream, 0)

    def upstream_ready(self, events: int) -> None:
        upstream, connection = self.upstream, self.connection
        assert upstream is not None
        if events & UNSURE:
            self.ending |= events & UNSURE
            if events & URGENT and self.down is not None:
                self.down.copy_on()
        if not connection.writer.blocked:  # else nothing of it is read
            connection.timers.last = connection.thread.loop.now
        if events & WRITE and upstream.writer.blocked and not self._flush(upstream):
            return
        if events & READABLE and self.upstream is upstream:
            if self.response is None:
                if not connection.writer.blocked and self.switched is None:  # by an interim answer: first things first
                    self.hear(upstream, events)
            elif self.down is not None:
                if self.down.ended:
                    self.down.was_full = True  # something behind the answer, of which no other event will tell
                if not self.down.writer.blocked:
                    self.down.go_on()

    def _flush(self, upstream: Upstream) -> bool:
        """Whether the exchange goes on."""
        try:
            flushed = upstream.writer.flush()
        except OSError as error:
            self._cannot_send(error.errno or 0)
            return self.upstream is upstream
        if flushed and self.up is not None:
            self.up.flushed()
        return self.upstream is upstream

    def hear(self, upstream: Upstream, events: int) -> None:
        """Read the head of the answer."""
        while not self.hears_later:
            if not self.heard(upstream, upstream.reader.receive(), events):
                return

    def heard(self, upstream: Upstream, size: int, events: int) -> bool:
        """What one read has brought; whether there may be more of the head."""
        if not size:
            self._lost(upstream, upstream.reader.code)
            return False
        has_more = upstream.reader.was_full or not events or bool(events & UNSURE)
        return size > 0 and not self._understand(upstream) and has_more

    def hear_more(self, _events: int) -> None:
        self.hears_later = False
        upstream = self.upstream
        if upstream is None:
            return
        upstream.reader.was_full = True  # an event may have come meanwhile: nothing was read
        if not self._understand(upstream):
            self.hear(upstream, 0)

    def _understand(self, upstream: Upstream) -> bool:
        """Whether no more is read for now. Interim answers are passed on; after some of them others have their turn."""
        connection, request, reader = self.connection, self.request, upstream.reader
        limits, bodiless = connection.http_app.limits, request.method == b"HEAD"
        try:
            for _ in range(INTERIMS):
                response = reader.next_response(limits, bodiless)
                if response is None:
                    return connection.writer.blocked
                if not response.is_interim:
                    self._answer(response, reader.take())
                    return True
                self.has_interim = True  # it lives: what comes now is not to be asked for again
                if request.minor and not connection.write(response_head(response, request, True, b"")):
                    return True
        except Refused as error:
            self._fail(outcomes.wrong_answer(error))
            return True
        self.hears_later = True
        connection.thread.loop.call_again(self.hear_more)
        return True

    def _answer(self, response: Response, first: bytes) -> None:
        connection, request = self.connection, self.request
        if connection.http_app.cookies is not None:
            self.route_targets.marked(response, self.served_by, connection.who.proto == b"https")
        if outcomes.switches(request, response):
            if response.status == 101 and not is_asked_for(response.fields, self.upgrade):
                raise Refused(502, "an upgrade that nobody has asked for")
            if self.up_failed:
                raise Refused(502, "an upgrade before the request was whole")
            self.switched = (response, first)
            if self.up is None or self.up.done:
                self._switch(response, first)
            return
        self.response, self.status = response, response.status
        self.answered_at = connection.thread.loop.now
        decode = outcomes.decodes(request, response)
        read = self._is_read
        self.keep = read and connection.may_keep and outcomes.may_keep_client(request, response, decode)
        out = response_head(response, request, self.keep, connection.shared.date)
        length = response.length
        if len(first) == length:  # all of it is here
            self.bytes_down = length
            if not connection.write(out + first):
                return
            if read and not connection.writer.blocked:
                self.over()
                return
            length, out, first = 0, b"", b""
        assert self.upstream is not None
        down = Body(connection.thread.loop, self, self.upstream.sock, connection.writer, length, decode, is_answer=True)
        self.down = down
        down.code = self.reset_code
        try:
            out += down.take(first)
        except Refused as error:
            self.response = self.down = None  # nothing of it was passed on
            self._fail(outcomes.wrong_answer(error))
            return
        if not out or connection.write(out):
            down.go_on()

    # -- how it ends

    def body_done(self, body: Body) -> None:
        """Over when both directions are; but nobody sends the body of a request that was refused before it came."""
        up, down = self.up, self.down
        if body is up:
            self.connection.reader.put_back(body.rest)
            if self.switched is not None:
                self._switch(*self.switched)
                return
        if down is None or not down.done:
            return
        if up is None or up.done or (self.request.expects and not up.moved):
            self.over()

    def body_broken(self, body: Body) -> None:
        """Before its end."""
        if body is self.up:
            if self.response is None or body.code:
                self.connection.client_lost(body.code)
                return
            self.up_failed = True  # it has heard enough to say no more, and may still read
            body.stop()
            if self.down is not None and self.down.done:
                self.over()
        else:
            self._fail(outcomes.broken_off(body.code))

    def body_refused(self, body: Body, error: Refused) -> None:
        self._fail(outcomes.wrong_request(error) if body is self.up else outcomes.wrong_answer(error))

    def writer_failed(self, body: Body, code: int) -> None:
        (self._cannot_send if body is self.up else self.connection.client_lost)(code)

    def _switch(self, response: Response, rest: bytes) -> None:
        """The connection is a plain relay from now on: the request is with the target, to the last byte of its body."""
        if self.up is not None:
            self.bytes_up = self.up.delivered
        self.status = response.status
        self.answered_at = self.connection.thread.loop.now
        head = response_head(response, self.request, True, self.connection.shared.date)
        self.connection.switch(self, head + rest)

    def cut_off(self, reason: Reason) -> None:
        """The target is not to serve any more, by our own decision."""
        self._fail(outcomes.taken_out(reason))

    def timed_out(self) -> None:
        """No byte in any direction for `timeouts.response`."""
        up, down = self.up, self.down
        if down is not None and down.done:
            self.over()
            return
        is_waiting = self.request.expects and not self.has_interim and up is not None and not up.moved  # for leave to send
        is_client_late = up is not None and not up.done and not up.writer.blocked and not is_waiting
        self._fail(outcomes.silent(self.connection.http_app.timeouts.response, self.response is not None, is_client_late))

    def _cannot_send(self, code: int) -> None:
        """The target takes no more of the request; perhaps because it has answered already."""
        upstream, up = self.upstream, self.up
        assert upstream is not None
        if up is not None:
            up.moved -= upstream.writer.waiting()
            up.stop()
        upstream.writer.give_up(self.pipes)
        self.up_failed = True
        if code != EPIPE:  # that is an end that has been heard
            self.reset_code = code
        if self.switched is not None:
            self._fail(outcomes.NO_SWITCH)
        elif self.response is None:
            self.hear(upstream, 0)
        elif self.down is not None:
            self.down.code = self.reset_code
            if self.down.done:
                self.over()

    def not_sent(self, upstream: Upstream, code: int) -> None:
        """The target takes nothing. One that has answered a connection as such, and reset it, is heard all the same."""
        if upstream.is_used or not has_spoken(upstream):
            self._lost(upstream, code, nothing_sent=True)
            return
        self.up_failed = True
        if code != EPIPE:
            self.reset_code = code
        self.hear(upstream, 0)

    def _lost(self, upstream: Upstream, code: int, nothing_sent: bool = False) -> None:
        """The target's connection ended before there was an answer."""
        if not send_again(self, upstream, code, nothing_sent):
            self._fail(outcomes.lost(code))

    def let_go(self, upstream: Upstream) -> None:
        self.connection.shared.upstreams.close(upstream)
        self.upstream, self.up_failed = None, False
        self.ending = self.reset_code = 0

    def _fail(self, failure: Failure) -> None:
        """The client is told, or reset where it has heard a part of the answer."""
        is_read = self._is_read
        self.error = failure.text
        if failure.side is Side.TARGET:
            requests.target_failed(self)
        self.release(reset=True)
        if self.response is None:
            self.connection.answer(self, failure, is_read)
        else:
            requests.ended(self, failure.reason)
            self.connection.break_off(failure.reason, failure.side)

    def over(self) -> None:
        """The last byte of the answer is written."""
        connection, upstream, response, up, down = self.connection, self.upstream, self.response, self.up, self.down
        assert upstream is not None
        assert response is not None
        sent = (up is None or up.done) and not self.up_failed and not upstream.writer.blocked
        clean = not self.ending and (down is None or not (down.rest or down.source_ended))
        if sent and clean and response.keeps and (up is None or not up.has_trailers):  # some servers leave those unread
            upstream.is_drained = not (upstream.reader.was_full or (down is not None and down.was_full))
            has_login = response.fields.has_login or self.request.fields.has_login
            if connection.upstreams.put_away(upstream, self.cut, has_login, self.keep, connection.http_app.http):
                self.upstream = None
        self.release(reset=not sent)
        requests.ended(self, ENDED)
        connection.exchange_over(self.keep)

    def release(self, reset: bool) -> None:
        """Let everything go that is not the client's, but the target: it is given back when all is counted."""
        upstream, up, down = self.upstream, self.up, self.down
        if up is not None:
            self.bytes_up = up.delivered
            up.stop()
        if down is not None:
            self.bytes_down = down.delivered or self.bytes_down
            down.stop()
        self.up = self.down = None  # no cycle is left for the collector
        if upstream is not None:
            self.upstream = None
            upstream.owner = None
            self.connection.shared.upstreams.close(upstream, reset)

    @property
    def _is_read(self) -> bool:
        """Whether the whole request has been read, so that what comes next is the next one."""
        return not self.request.length if self.up is None else self.up.done and not self.up_failed
