"""Never two primaries, as a model: from the moment that a worker has answered Paused, nothing reaches a former primary.

A real worker process with relay threads, driven over its channel; real clients and targets. Whatever clients and targets do
(send, flood, stop reading, half-close, reset, connect while nobody is primary) and however the orders fall among it: at
Paused every connection of every target is reset, or has had its end, so that no byte can come any more; none is made anew.
"""

import array
import contextlib
import dataclasses
import fcntl
import socket
import struct
import termios

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcp_proxy.config.model import Timeouts
from tcp_proxy.wire import counters
from tcp_proxy.wire.messages import Configure, Configured, Paused, Primary, Unlisten, Unlistened
from tcp_proxy.wire.views import AppView
from tests.dataplane.test_worker import FIRST_TARGET, Driver

TARGETS, HOLE = 3, 3  # the last one answers no connect
# Of TCP_INFO: reset or gone; or the end of the stream has come, so that nothing can come behind it (TIME_WAIT, CLOSE,
# CLOSE_WAIT, LAST_ACK, CLOSING).
OVER = (6, 7, 8, 9, 11)
BULK = 1 << 18
WHO = st.integers(0, 5)
DOINGS = st.one_of(
    st.tuples(st.sampled_from(["send", "clog", "bulk"]), WHO, st.sampled_from(["client", "server"])),
    st.tuples(st.sampled_from(["read", "half_close", "reset"]), WHO, st.sampled_from(["client", "server"])),
    st.tuples(st.just("connect"), WHO, st.sampled_from(["silent", "speaks"])),
    st.tuples(st.just("work"), WHO, st.just("")),
)
ROUNDS = st.lists(
    st.tuples(
        st.integers(0, HOLE),  # who is primary
        st.lists(DOINGS, min_size=1, max_size=12),
        st.lists(DOINGS, max_size=4),  # while the order to pause is on its way
        st.lists(DOINGS, max_size=4),  # while nobody is
    ),
    min_size=1,
    max_size=4,
)


class End:
    """A socket that never blocks, and how many bytes have come to it in all."""

    def __init__(self, sock):
        self.sock, self.read_so_far = sock, 0
        sock.setblocking(False)

    @property
    def received(self):
        waiting = array.array("i", [0])
        fcntl.ioctl(self.sock, termios.FIONREAD, waiting)
        return self.read_so_far + waiting[0]

    @property
    def state(self):
        return self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]

    def send(self):
        with contextlib.suppress(OSError):
            self.sock.send(b"x" * 100)

    def clog(self):
        with contextlib.suppress(OSError):
            while True:
                self.sock.send(bytes(BULK))

    def read(self):
        with contextlib.suppress(OSError):
            while data := self.sock.recv(BULK):
                self.read_so_far += len(data)

    def half_close(self):
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class World(Driver):
    """The supervisor of one failover app that closes at a demotion."""

    def __init__(self):
        self.listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(TARGETS)]
        hole = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.fillers = [socket.socket() for _ in range(4)]
        for filler in self.fillers:
            filler.setblocking(False)
            filler.connect_ex(hole.getsockname())
        self.listening.append(hole)
        self.ends, self.former = [], []
        self.epoch = self.known = 0
        self.servers = [[] for _ in range(TARGETS)]
        super().__init__(targets=TARGETS + 1, listen=False)
        views = tuple(self.view(number) for number in range(TARGETS + 1))
        slot = FIRST_TARGET + (TARGETS + 1) * counters.TARGET_SLOTS
        app = AppView("web", slot, "failover", 0, Timeouts(connect=60.0), views, election_wait=30.0, closes=True)
        self.say(Configure(1, 1, 5.0, (app,), ()))
        self.wait(Configured)
        self.listen()

    def endpoint(self, number):
        return int(socket.AF_INET), self.listening[number].getsockname()

    def __exit__(self, *exc):
        for sock in (*self.listening, *self.fillers):
            sock.close()
        super().__exit__(*exc)

    def elect(self, number):
        self.epoch += 1
        self.say(Primary("web", self.epoch, f"t{number}", 0.0))

    def begin_pause(self):
        self.epoch += 1
        self.channel.send(Primary("web", self.epoch, "", 0.0))

    def wait_paused(self):
        self.until(lambda: Paused("web", self.epoch) in self.heard)

    def accept(self):
        """What is in the queues of targets; how many there were."""
        count = 0
        for number, listener in enumerate(self.listening[:TARGETS]):
            listener.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    self.servers[number].append(End(listener.accept()[0]))
                    count += 1
        return count

    def work(self):
        """The worker has had its turns, and targets take who comes."""
        self.say(Primary("nobody", 0, "t0", 0.0))
        self.accept()

    def do(self, what, who, side):
        if what == "connect":
            client = End(socket.create_connection(("127.0.0.1", self.port)))
            self.ends.append(client)
            if side == "speaks":
                client.send()
        elif what == "work":
            self.work()
        else:
            known = self.ends if side == "client" else [end for ends in self.servers for end in ends]
            if not known:
                return
            end = known[who % len(known)]
            if end.sock.fileno() < 0:
                return
            if what == "bulk":
                self.bulk(end, [*self.ends, *(other for ends in self.servers for other in ends)])
            else:
                getattr(end, what)()

    def bulk(self, end, others):
        """So much that its session moves to a relay thread, where others read."""
        for _ in range(8):
            end.clog()
            for other in others:
                if other is not end and other.sock.fileno() >= 0:
                    other.read()
            self.work()

    def freeze(self):
        """At Paused: nothing more can come to any target."""
        self.accept()
        frozen = [end for ends in self.servers for end in ends if end.sock.fileno() >= 0]
        for end in frozen:
            assert end.state in OVER, "a former primary has a connection that is open"
        self.former = [(end, end.received) for end in frozen]
        self.known = sum(map(len, self.servers))

    def require_frozen(self):
        for end, received in self.former:
            if end.sock.fileno() >= 0:
                assert end.received == received, "a former primary was sent something"
        assert not self.accept(), "a target was connected to while nobody was primary"
        assert sum(map(len, self.servers)) == self.known, "a target was connected to while nobody was primary"

    def start_anew(self):
        """Nobody is left of an example; nobody is primary."""
        for end in (*self.ends, *(end for ends in self.servers for end in ends)):
            if end.sock.fileno() >= 0:
                end.reset()
        self.ends.clear()
        self.former.clear()
        for ends in self.servers:
            ends.clear()
        self.begin_pause()
        self.wait_paused()
        self.accept()
        for ends in self.servers:
            for end in ends:
                end.sock.close()
            ends.clear()
        self.heard.clear()


@pytest.fixture(scope="module")
def world():
    with World() as made:
        yield made


@given(rounds=ROUNDS)
@settings(max_examples=40, deadline=None)
def test_nothing_reaches_a_former_primary_after_paused(world, rounds):
    try:
        for primary, before, racing, after in rounds:
            world.elect(primary)
            for doing in before:
                world.do(*doing)
            world.begin_pause()
            for doing in racing:
                world.do(*doing)
            world.wait_paused()
            world.freeze()
            for doing in after:
                world.do(*doing)
            world.work()
            world.require_frozen()
    finally:
        world.start_anew()


class Leaving(Driver):
    """A failover app that closes at a demotion, and that leaves while a session is with its primary."""

    def __init__(self):
        super().__init__(targets=2, listen=False)
        self.say(Configure(1, 1, 5.0, (self.app_view(),), ()))
        self.listen()
        self.say(Primary("web", 1, "t0", 0.0))
        self.client, self.server = self.session()
        self.say(Unlisten((7,), 0.0))
        self.wait(Unlistened)
        self.say(Configure(2, 1, 5.0, (), ("web",)))
        self.client.send(b"on")
        self.server.expect(b"on")

    def app_view(self, **given):
        slot = FIRST_TARGET + 2 * counters.TARGET_SLOTS
        views = tuple(self.view(number) for number in range(2))
        app = AppView("web", slot, "failover", 0, Timeouts(), views, election_wait=30.0, closes=True)
        return dataclasses.replace(app, **given)


def test_an_app_that_comes_back_has_no_session_left_with_its_former_primary():
    with Leaving() as driver:
        driver.say(Configure(3, 1, 5.0, (driver.app_view(epoch=1),), ()))
        driver.say(Primary("other", 2, "", 0.0))
        driver.client.send(b"and on")
        driver.server.expect(b"and on")
        driver.channel.send(Primary("web", 2, "", 0.0))
        driver.until(lambda: Paused("web", 2) in driver.heard)
        assert End(driver.server.sock).state in OVER
        driver.client.expect_rst()
        assert driver.records(1)[0].reason == "demoted"


def test_an_app_that_has_left_has_no_session_left_when_the_supervisor_is_gone():
    """A supervisor that starts may have it again, with another primary."""
    with Leaving() as driver:
        driver.leave()
        driver.server.expect_rst()
        driver.client.expect_rst()
        assert driver.wait_end() == 0


def test_an_app_that_has_left_is_forgotten_with_its_last_session():
    """And an app of its name that does not close at a demotion is not meant."""
    with Leaving() as driver:
        driver.say(Configure(3, 1, 5.0, (driver.app_view(epoch=1, closes=False),), ()))
        driver.client.send(b"x").fin()
        driver.server.expect(b"x").expect_fin().fin()
        driver.client.expect_fin()
        driver.say(Configure(4, 1, 5.0, (), ()))
        driver.say(Primary("web", 2, "", 0.0))
        driver.until(lambda: Paused("web", 2) in driver.heard)
        assert driver.records(1)[0].reason == "done"
