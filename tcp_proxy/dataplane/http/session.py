"""One client connection of an app in http mode: requests are read one after another, each is an Exchange.

Runs in a worker, owned by its loop's thread; it never moves to another (a tunnel becomes a Session, which may).

    READING ──a whole head──> DIALING ──connected──> EXCHANGING ──answered, kept──> READING
       │  ^ next request        │  (or EXCHANGING at once, on a kept connection)    │ answered, not kept
       │  └─────────────────────┴── own answer, kept                                v
       ├──malformed, slow: own answer ─────────────────────────────────────────> CLOSING ──client done, or 2 s──> DONE
       └──the client ends, nothing begun; any state: client gone, kill ──────────────────────────────────────────> DONE

Always true:
- answers go out in the order of requests: the next request is not looked at before the last answer is written;
- what the client sends ahead stays in its socket, but for what one read has brought along (`input`);
- the client's socket is closed softly after an answer (leaving.py): a close with bytes unread would reset the connection
  and could take the answer away;
- one record is written, on entering DONE; `_finish` is the only place that releases the client.
"""

from socket import AF_UNIX, MSG_DONTWAIT, SO_ERROR, SOL_SOCKET, SocketType
from typing import TYPE_CHECKING, Any

from tcp_proxy.counters import ACCEPTED, LISTENER_ACCEPTED, SESSIONS
from tcp_proxy.dataplane.apps import LiveApp
from tcp_proxy.dataplane.dial import Dial
from tcp_proxy.dataplane.homes import NEVER
from tcp_proxy.dataplane.http import requests
from tcp_proxy.dataplane.http.exchange import READABLE, UNSURE, Exchange
from tcp_proxy.dataplane.http.leaving import CLOSING, DIALING, DONE, EXCHANGING, READING
from tcp_proxy.dataplane.http.outcome import Outcome
from tcp_proxy.dataplane.http.outlet import Outlet
from tcp_proxy.dataplane.http.waiting import Waiting
from tcp_proxy.dataplane.keyed_dial import KeyedDial
from tcp_proxy.dataplane.pump import CHUNK
from tcp_proxy.dataplane.tally import Entrance
from tcp_proxy.loop import FAILED, QUIET_EDGE, WRITE
from tcp_proxy.sansio.address import client_text, ip_of
from tcp_proxy.sansio.http1.fields import Refused
from tcp_proxy.sansio.http1.forward import own_answer
from tcp_proxy.sansio.http1.requests import Request, read_request
from tcp_proxy.sansio.reasons import Reason, Side, client_end
from tcp_proxy.socket_options import reset_on_close

if TYPE_CHECKING:
    from tcp_proxy.dataplane.http.front import Front


STEPS = 32  # reads, or requests that we answer ourselves, in one turn; then the others


class HttpSession(Waiting):
    """`number` is unique in this worker; `input`: bytes of the client that were read and not looked at yet."""

    up = down = None  # a plain session's pumps; here there are none
    bytes_up = bytes_down = 0  # of the bodies of all exchanges that are over
    connected_at = -1.0
    first = b""
    tried = ()

    def __init__(
        self, number: int, front: "Front", app: LiveApp, listener: Entrance, client: SocketType, address: Any
    ) -> None:
        home = front.home
        self.number = number
        self.front = front
        self.home = home
        self.app = app
        self.site = front.site(app)
        self.listener = listener
        self.client = client
        self.address = address
        self._look_who()
        self.client_text = client_text(address)
        self.name = f"{home.recorder.incarnation}-{number}-".encode()
        self.outlet = Outlet(home.loop, client)
        self.state = READING
        self.started = self.last = home.loop.now
        self.deadline = NEVER
        self.input = b""
        self.seen = 0  # so much of it was looked at, and is no whole head
        self.unread = True  # the socket may hold more, and no event will say so
        self.requests = 0
        self.exchange: Exchange | None = None
        self.dial: Dial | None = None
        self.target_name = ""
        self.advancing = self.queued = False  # `queued`: it goes on when others have had their turn

    def _look_who(self) -> None:
        """Who the client is to the app as it is now."""
        self.who = self.site.client(ip_of(self.address))
        self.key = self.who.ip if self.app.needs_key else b""

    def __repr__(self) -> str:
        return f"<HttpSession {self.number} {self.app.name} {self.state.name} client={self.address} {self.exchange!r}>"

    @property
    def target(self) -> Any:
        return self.exchange.target if self.exchange is not None else None

    @property
    def is_idle(self) -> bool:
        """Between two requests."""
        return self.state is READING and self.requests > 0 and not self.input

    @property
    def may_keep(self) -> bool:
        return not self.front.draining

    @property
    def identity(self) -> bytes:
        """The X-Request-ID of a request that brought none: the session's id, and the request's number in it."""
        return b"%b%d" % (self.name, self.requests)

    def start(self) -> None:
        home = self.home
        home.members.add(self)
        row = home.row
        row[SESSIONS] += 1
        row[ACCEPTED] += 1
        row[self.listener.slot + LISTENER_ACCEPTED] += 1
        home.loop.watch(self.client.fileno(), QUIET_EDGE, self.ready)
        self._wait(self.site.timeouts.request)
        self.advance()

    # -- events ----------------------------------------------------------------------------------------------------------

    def ready(self, events: int) -> None:
        if events & WRITE and self.outlet.blocked and not self._flush():
            return
        if events & READABLE:
            state = self.state
            if state is READING:
                self.unread = True
                if not self.outlet.blocked:  # who does not read our answers is not read either
                    if not self.input or self.seen:  # else whole requests wait for their turn
                        self._receive(events)
                    self.advance()
            elif state is EXCHANGING and self.exchange is not None:
                self.exchange.client_ready(events)
                if events & FAILED:
                    self._look_for_error()
            elif state is CLOSING:
                self._discard()
            else:
                self.unread = True
                if events & FAILED:
                    self._look_for_error()

    def _look_for_error(self) -> None:
        """A reset is told once, by whatever asks first; nobody may be reading."""
        if self.state is not DONE:
            code = self.client.getsockopt(SOL_SOCKET, SO_ERROR)
            if code:
                self.client_lost(code)

    def _flush(self) -> bool:
        """Whether the client is still there."""
        self.last = self.home.loop.now
        try:
            flushed = self.outlet.flush()
        except OSError as error:
            self.client_lost(error.errno or 0)
            return False
        if flushed:
            if self.exchange is not None:
                self.exchange.client_flushed()
            elif self.state is CLOSING:
                self._say_end()
            else:
                self.advance()
        return self.state is not DONE

    def write(self, data: bytes) -> bool:
        """To the client; False when it is gone, and the session over."""
        try:
            self.outlet.write(data)
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
        while self.state is READING and not self.outlet.blocked and self._step():
            steps -= 1
            if not steps:
                self.queued = True
                self.home.loop.call_again(self._advance_more)
                break
        self.advancing = False

    def _advance_more(self, _events: int) -> None:
        self.queued = False
        self.advance()

    def _step(self) -> bool:
        """Whether there may be more to do."""
        if self.input:
            try:
                found = read_request(self.input, 0, self.site.limits, self.seen)
            except Refused as error:
                self._refuse(error.status, str(error), None)
                return False
            if found is None:
                self.seen = len(self.input)
            else:
                self.seen = 0
                request, end = found
                self.input = self.input[end:]
                self._begin(request)
                return True
        if self.unread:
            return self._receive(0)
        self._wait_for_head()
        return False

    def _receive(self, events: int) -> bool:
        try:
            data = self.client.recv(CHUNK, MSG_DONTWAIT)
        except BlockingIOError:
            self.unread = False
            return True
        except OSError as error:
            self.client_lost(error.errno or 0)
            return False
        if not data:
            gone = bool(self.input)  # in the middle of a request
            self._finish(Reason.CLIENT_GONE if gone else Reason.DONE, Side.CLIENT, 0, reset=False)
            return False
        self.unread = len(data) == CHUNK or not events or bool(events & UNSURE)
        self.input = self.input + data if self.input else data
        return True

    def _wait_for_head(self) -> None:
        """Not longer for a whole one than `request`, from its first byte on; for its first byte, `next_request`."""
        timeouts = self.site.timeouts
        if not self.input:
            self._wait(timeouts.next_request if self.requests else timeouts.request)
            self.head_begun = False
        elif not self.head_begun:
            self.head_begun = True
            self._wait(timeouts.request)

    head_begun = False

    def _begin(self, request: Request) -> None:
        self.requests += 1
        self.head_begun = False
        site = self.site
        if site.http is not self.app.http and self.app.http is not None:
            site = self.site = self.front.site(self.app)
            self._look_who()
        if request.method == b"CONNECT" and not site.http.allow_connect:
            self._refuse(501, "CONNECT is not allowed", request)
        elif request.expects and request.fields.value(b"expect").lower() != b"100-continue":
            self._refuse(417, "an expectation other than 100-continue", request)
        elif site.body_most and request.length > site.body_most:
            self._refuse(413, f"a body of more than {site.body_most} bytes", request)
        else:
            lane = site.lane(request)
            if lane is None:
                self._refuse(404, "no route for this", request, keep=not request.length)
                return
            exchange = self.exchange = Exchange(self, request, lane)
            exchange.start()

    def _refuse(self, status: int, text: str, request: Request | None, keep: bool = False) -> None:
        requests.refused(self, request, status, Reason.PROTOCOL_ERROR)
        bodiless = request is not None and request.method == b"HEAD"
        self._say(status, text, keep and request is not None and request.keeps, bodiless)

    # -- DIALING, EXCHANGING: what the exchange says ---------------------------------------------------------------------

    def dialing(self, lane: Any) -> Dial:
        self.state = DIALING
        if self.app.is_special:
            self.dial = KeyedDial(self)
            self.dial.app = lane
        else:
            self.dial = Dial(self.home.loop, self, lane, self.key)
        return self.dial

    def take_input(self) -> bytes:
        taken, self.input = self.input, b""
        return taken

    def exchange_over(self, keep: bool) -> None:
        """The answer is written, but for what waits in the outlet of one that is not kept."""
        self.exchange = None
        self.state = READING
        if not keep:  # softly: something may have come that no event has told of yet
            self._close()
            return
        self._wait(self.site.timeouts.next_request)
        if self.input or self.unread:
            self.advance()
        if self.front.draining:
            self.let_go()

    def answer(self, status: int, text: str, is_read: bool, exchange: Outcome, reason: Reason) -> None:
        """Our own, in place of the target's. `is_read`: the request was read to its end."""
        request = exchange.request
        exchange.status = status
        self.exchange = None
        self.dial = None
        requests.ended(exchange, reason)
        self._say(status, text, is_read and request.keeps and self.may_keep, request.method == b"HEAD")

    def _say(self, status: int, text: str, keep: bool, bodiless: bool) -> None:
        self.state = READING
        if not self.write(own_answer(status, text, keep, self.front.date, bodiless)):
            return
        if keep:
            self._wait(self.site.timeouts.next_request)
            self.advance()
        else:
            self._close()

    def handed_over(self, exchange: Exchange) -> None:
        """The client is a tunnel's from now on."""
        self.exchange = None
        self.state = DONE
        self.home.members.discard(self)
        requests.ended(exchange, Reason.DONE)

    # -- what a Dial says

    def deadline_set(self, when: float) -> None:
        self.deadline = when
        if when < self.home.next_look:
            self.home.look_at(when)

    def connected(self, sock: SocketType, events: int) -> None:
        dial, self.dial = self.dial, None
        assert dial is not None
        assert self.exchange is not None
        self.exchange.connected(dial, sock, events)

    def dial_failed(self, reason: Reason, code: int) -> None:
        dial, self.dial = self.dial, None
        assert dial is not None
        assert self.exchange is not None
        self.exchange.dial_failed(dial, reason, code)

    # -- ends ------------------------------------------------------------------------------------------------------------

    def let_go(self) -> None:
        """It is not waited for any longer, if it has asked for nothing."""
        if self.state is READING:  # what it has asked by now is answered, though no event has told of it
            self.unread = True
            self.advance()
        if self.state is READING and not self.input:
            self._close()

    def kill(self, reason: Reason, side: Side) -> None:
        """Reset both sides now."""
        if self.state is not DONE:
            self._finish(reason, side, 0, reset=True)

    def cut_off(self) -> None:
        """The exchange's target is lost: by our own decision."""
        exchange = self.exchange
        if exchange is not None and exchange.target is not None:
            exchange.cut_off(exchange.target.cut_reason)

    def client_lost(self, code: int) -> None:
        if self.state is not DONE:
            reason = client_end(code) if code else Reason.CLIENT_GONE
            self._finish(reason, Side.CLIENT, code, reset=True)

    def _wait(self, seconds: float) -> None:
        self.deadline_set(self.home.loop.now + seconds)

    def _finish(self, reason: Reason, side: Side, code: int, reset: bool) -> None:
        """The one way to DONE: release everything, count, write the record."""
        self.state = DONE
        home = self.home
        if self.dial is not None:
            self.dial.cancel()
            self.dial = None
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.release(reset=True)
            requests.ended(exchange, reason)
        self.outlet.give_back(self.front.pipes)
        if reset and self.client.family != AF_UNIX:
            reset_on_close(self.client)
        home.loop.drop(self.client)
        home.members.discard(self)
        requests.session_ended(self, reason, side, code)
