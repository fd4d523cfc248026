"""One request and its answer: from the choice of a target to the last byte of the answer, or to why there is none.

Owned by the loop's thread. An Exchange has a target, taken, until `_release`, and an Upstream of it while there is one;
its session owns the client's side. The words go to the session: `exchange_over`, `answer`, `break_off`, `finish`.

    (start) ──idle connection──> SENT ──head of the answer──> ANSWERING ──last byte──> over
       │ none                     ^ │ nothing was sent, or a kept one was dead and the method is idempotent: once more
       └──> dialing ──────────────┘ └──> no answer: 502, 504 …       ANSWERING ──it breaks off──> the client is reset

Always true: a request goes to a second target only where it can have had no effect at the first (test_retries_…); an
answer that breaks off is never made to look whole; the answer's head goes out at most once.
"""

from select import EPOLLPRI
from socket import MSG_DONTWAIT, SocketType
from typing import TYPE_CHECKING, Any

from tcp_proxy.dataplane import tally
from tcp_proxy.dataplane.apps import LiveTarget
from tcp_proxy.dataplane.dial import Dial
from tcp_proxy.dataplane.http.body import Body
from tcp_proxy.dataplane.http.outcome import Outcome
from tcp_proxy.dataplane.http.tunnel import open_tunnel
from tcp_proxy.dataplane.http.upstreams import Upstream
from tcp_proxy.dataplane.pump import CHUNK
from tcp_proxy.dataplane.splice import PipePool
from tcp_proxy.loop import EDGE, FAILED, RDHUP, READ, WRITE
from tcp_proxy.sansio.http1.fields import CHUNKED, Refused
from tcp_proxy.sansio.http1.forward import request_head, response_head
from tcp_proxy.sansio.http1.requests import Request
from tcp_proxy.sansio.http1.responses import UNTIL_CLOSE, Response, read_response
from tcp_proxy.sansio.reasons import Reason, Side, errno_name
from tcp_proxy.socket_options import outstanding

if TYPE_CHECKING:
    from tcp_proxy.dataplane.http.session import HttpSession

URGENT = EPOLLPRI  # a splice stops there, a read stops short of it, and no event tells of what lies behind
UNSURE = RDHUP | FAILED | URGENT  # with these a short read does not say that there is no more
READABLE = READ | UNSURE
_NO_ANSWER = {Reason.NO_TARGET: "no target is up", Reason.LIMIT: "every target is at its limit"}


class Exchange(Outcome):
    """What comes before its end."""

    def __init__(self, session: "HttpSession", request: Request, lane: Any) -> None:
        self.session = session
        self.request = request
        self.lane = lane
        self.started = session.home.loop.now
        self.block = session.app.slot  # where its counters are

    @property
    def pipes(self) -> PipePool:
        return self.session.front.pipes

    def __repr__(self) -> str:
        return f"<Exchange {self.request!r} at {self.target.name if self.target else None}, status {self.status}>"

    @property
    def owner(self) -> "HttpSession":
        return self.session

    @property
    def is_long(self) -> bool:
        """Whether there is more than one write of the request: the target may take its time with it."""
        return self.up is not None or (self.upstream is not None and self.upstream.outlet.blocked)

    @property
    def owed(self) -> int:
        """Bytes of a long request that the target's machine has not acknowledged."""
        upstream = self.upstream
        return outstanding(upstream.sock) + upstream.outlet.waiting() if upstream is not None and self.is_long else 0

    # -- to a target

    def start(self) -> None:
        session = self.session
        fields = self.request.fields
        if b"upgrade" in fields.values and b"upgrade" in fields.options and self.request.minor:
            wanted = fields.value(b"upgrade")
            if wanted.lower() in session.site.upgrades and not self.request.length:
                self.upgrade = wanted
        target = self.lane.choose(session.key, self.started, None)
        if target is None:
            reason = self.lane.why_none()
            session.answer(503, _NO_ANSWER[reason], self._is_read, self, reason)
            return
        self._serve(target, target.cut)
        upstream = session.front.upstreams.take(target, session.listener.port)
        if upstream is not None:
            self._send(upstream)
        else:
            self._dial(target)

    def _serve(self, target: LiveTarget, cut: int) -> None:
        self.target, self.cut = target, cut
        self.served_by, self.block = target.name, target.slot

    def _dial(self, target: LiveTarget) -> None:
        dial = self.session.dialing(self.lane)
        self.target = None  # the dial's, for now
        dial.begin(target)

    def connected(self, dial: Dial, sock: SocketType, events: int) -> None:
        session, target = self.session, dial.target
        assert target is not None
        loop = session.home.loop
        self._serve(target, dial.cut)
        self.tried += tuple(dial.tried)
        tally.connected(session.home.row, target.slot, loop.now - self.started)
        upstream = session.front.upstreams.adopt(sock, target, session.listener.port)
        loop.attend(sock.fileno(), EDGE, upstream.ready)
        self._send(upstream)
        if events & READABLE and self.upstream is upstream:
            self.upstream_ready(events & ~WRITE)
        if target.cut != self.cut and self.target is target:
            session.cut_off()

    def dial_failed(self, dial: Dial, reason: Reason, code: int) -> None:
        self.tried += tuple(dial.tried)
        if reason is Reason.CONNECT_FAILED:
            text = f"no target could be connected to ({errno_name(code)})"
            self.session.answer(502, text, self._is_read, self, reason)
        else:
            self.session.answer(503, _NO_ANSWER[reason], self._is_read, self, reason)

    def _send(self, upstream: Upstream) -> None:
        session, request = self.session, self.request
        upstream.owner = self
        self.upstream = upstream
        site = session.site
        host = b"" if site.http.preserve_host and request.host else upstream.host
        out = request_head(request, session.who, session.identity, host, self.upgrade)
        first = b""
        if request.length:
            self.up = Body(session.home.loop, self, session.client, upstream.outlet, request.length)
            self.up.most = site.body_most
            first = session.take_input()
            try:
                out += self.up.take(first)
            except Refused as error:
                self.body_refused(self.up, error)
                return
        session.exchanging()
        try:
            upstream.outlet.write(out)
        except OSError as error:  # nothing of it was taken
            self.up = None
            session.input = first
            self._lost(error.errno or 0, nothing_sent=True)
            return
        if self.up is not None:
            self.up.go_on()

    # -- events

    def client_ready(self, events: int) -> None:
        """The session's socket has something while the exchange goes on."""
        up = self.up
        if up is not None and not up.done and events & READABLE:
            if events & URGENT:
                up.copy_on()
            self.session.last = self.session.home.loop.now
            if not up.outlet.blocked:
                up.go_on()
        elif events & READABLE:
            self.session.unread = True

    def client_flushed(self) -> None:
        if self.down is not None:
            self.down.flushed()
        elif self.response is None and self.upstream is not None:
            self._hear(0)

    def upstream_ready(self, events: int) -> None:
        upstream, session = self.upstream, self.session
        assert upstream is not None
        if events & UNSURE:
            self.ending |= events & UNSURE
            if events & URGENT and self.down is not None:
                self.down.copy_on()
        if not session.outlet.blocked:  # else nothing of it is read
            session.last = session.home.loop.now
        if events & WRITE and upstream.outlet.blocked and not self._flush():
            return
        if events & READABLE and self.upstream is upstream:
            if self.response is None:
                if not session.outlet.blocked:  # by an interim answer: first things first
                    self._hear(events)
            elif self.down is not None and not self.down.outlet.blocked:
                self.down.go_on()

    def _flush(self) -> bool:
        """Whether the exchange goes on."""
        upstream, up = self.upstream, self.up
        assert upstream is not None
        try:
            flushed = upstream.outlet.flush()
        except OSError as error:
            self._cannot_send(error.errno or 0)
            return self.upstream is upstream
        if flushed and up is not None:
            up.flushed()
        return self.upstream is upstream

    def _hear(self, events: int) -> None:
        """Read the head of the answer."""
        upstream, session = self.upstream, self.session
        assert upstream is not None
        while True:
            try:
                data = upstream.sock.recv(CHUNK, MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                self._lost(error.errno or 0)
                return
            if not data:
                self._lost(0)
                return
            size = len(data)
            if self.heard:
                data = self.heard + data
            try:
                if self._understand(data):
                    return
            except Refused as error:
                self._bad_answer(error)
                return
            if self.upstream is not upstream or session.exchange is not self or session.outlet.blocked:
                return
            if size < CHUNK and events and not events & UNSURE:
                return

    def _understand(self, data: bytes) -> bool:
        """Whether this was the last head. Interim ones are passed on."""
        session, request, at = self.session, self.request, 0
        bodiless = request.method == b"HEAD"
        while True:
            found = read_response(data, at, session.site.limits, bodiless, self.seen)
            if found is None:
                self.heard = data[at:] if at else data
                self.seen = len(self.heard)
                return False
            if self.seen:
                self.seen = 0
            response, at = found
            if not response.is_interim:
                break
            self.retried = True  # it lives: what comes now is not to be asked for again
            if request.minor and not session.write(response_head(response, request, True, b"")):
                return True
        if self.heard:
            self.heard = b""
        self._answer(response, data[at:])
        return True

    def _answer(self, response: Response, first: bytes) -> None:
        session, request = self.session, self.request
        is_tunnel = response.status == 101 or (request.method == b"CONNECT" and 200 <= response.status < 300)
        if is_tunnel:
            if response.status == 101 and not self.upgrade:
                raise Refused(502, "an upgrade that nobody has asked for")
            self._switch(response, first)
            return
        self.response = response
        self.status = response.status
        self.answered_at = session.home.loop.now
        decode = response.length == CHUNKED and not request.minor
        ends_with_close = decode or response.length == UNTIL_CLOSE
        read = self._is_read
        self.keep = read and not ends_with_close and session.may_keep and request.keeps
        out = response_head(response, request, self.keep, session.front.date)
        length = response.length
        if len(first) == length:  # all of it is here
            self.bytes_down = length
            if not session.write(out + first):
                return
            if read and not session.outlet.blocked:
                self._over()
                return
            length, out, first = 0, b"", b""
        assert self.upstream is not None
        down = self.down = Body(session.home.loop, self, self.upstream.sock, session.outlet, length, decode)
        down.code = self.reset_code
        try:
            out += down.take(first)
        except Refused as error:
            self.response = self.down = None  # nothing of it was passed on
            self._bad_answer(error)
            return
        if not out or session.write(out):
            down.go_on()

    # -- how it ends

    def body_done(self, body: Body) -> None:
        """Over when both directions are; but nobody sends the body of a request that was refused before it came."""
        up, down = self.up, self.down
        if body is up:
            self.session.input = body.rest
            self.session.unread = True  # where the body ended, reading has: no event will tell of what lies behind it
        if down is None or not down.done:
            return
        if up is None or up.done or (self.request.expects and not up.moved):
            self._over()

    def body_broken(self, body: Body) -> None:
        """Before its end."""
        if body is self.up:
            if self.response is None or body.code:
                self.session.client_lost(body.code)
                return
            self.up_failed = True  # it has heard enough to say no more, and may still read
            body.stop()
            if self.down is not None and self.down.done:
                self._over()
        else:
            text = f"the target broke off its answer ({errno_name(body.code) or 'end of file'})"
            self._fail(502, text, Reason.TARGET_RESET, Side.TARGET)

    def body_refused(self, body: Body, error: Refused) -> None:
        if body is self.up:
            self._fail(error.status, str(error), Reason.PROTOCOL_ERROR, Side.CLIENT)
        else:
            self._bad_answer(error)

    def outlet_failed(self, body: Body, code: int) -> None:
        if body is self.up:
            self._cannot_send(code)
        else:
            self.session.client_lost(code)

    def _switch(self, response: Response, rest: bytes) -> None:
        """The session is a plain relay from now on."""
        self.status = response.status
        self.answered_at = self.session.home.loop.now
        head = response_head(response, self.request, True, self.session.front.date)
        open_tunnel(self.session, self, head + rest)
