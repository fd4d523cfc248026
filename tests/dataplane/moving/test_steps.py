"""A worker, or whoever is at the other end, is killed at each step of a session's way: what then becomes of it, and that
nothing is left. Real worker processes; the test is the other end of the socketpair, and stops where it likes.
"""

import os
import signal
import socket

import pytest

from kit import procfs
from kit.waiting import wait_until
from tcp_proxy.wire import counters
from tcp_proxy.wire.moved_session import MovedSession, TakenAnswer, answers, decode, encode, encode_answer, frames
from tcp_proxy.wire.moves import ExportSessions, ImportSessions, SessionsMoved
from tests.dataplane.test_worker import FIRST_TARGET, SLOT, Driver


class Taker:
    """The importer's part, played by the test."""

    def __init__(self, driver):
        self.driver = driver
        self.sock, theirs = socket.socketpair()
        driver.channel.send(ExportSessions(1), [theirs.fileno()])
        theirs.close()
        self.sock.setblocking(False)
        self.descriptors = []

    def frame(self):
        """The next one; its descriptors are ours."""
        buffer, found = bytearray(), []

        def came():
            try:
                data, fds, _, _ = socket.recv_fds(self.sock, 1 << 20, 8)
            except BlockingIOError:
                return False
            assert data, "the exporter has ended it"
            buffer.extend(data)
            self.descriptors += fds
            found.extend(frames(buffer))
            return bool(found)

        self.driver.until(came)
        return found[0]

    def die(self):
        """As a killed process lets go of all that it has."""
        self.sock.close()
        for fd in self.descriptors:
            os.close(fd)
        self.descriptors = []


@pytest.fixture
def driver():
    with Driver(timeouts=None) as made:
        yield made


def pair(driver):
    client = driver.connect()
    server = driver.targets[0].accept()
    client.send(b"hello")
    server.expect(b"hello")
    return client, server


def check(client, server):
    client.send(b"ping")
    server.expect(b"ping")
    server.send(b"pong")
    client.expect(b"pong")


def nothing_left(driver):
    """No socket of a session, and no end of a socketpair beside the channel."""
    wait_until(lambda: set(procfs.tcp_sockets(driver.pid)) <= {"LISTEN"}, "no session's socket")
    wait_until(lambda: procfs.sockets(driver.pid).get("UNIX", 0) <= 1, "no socketpair")


def test_the_importer_dies_before_its_answer_and_the_session_goes_on(driver):
    client, server = pair(driver)
    taker = Taker(driver)
    frame = taker.frame()
    assert decode(frame).target == "t0"
    client.send(b"what comes meanwhile")
    taker.die()
    told = driver.wait(SessionsMoved)
    assert (told.moved, told.left, told.why) == (0, 1, "the importer is gone")
    server.expect(b"what comes meanwhile")
    check(client, server)
    assert driver.memory.total(counters.SESSIONS) == 1
    client.fin()
    server.expect_fin()
    server.fin()
    client.expect_fin()
    nothing_left(driver)


def test_the_importer_dies_after_its_answer_and_the_session_with_it(driver):
    client, server = pair(driver)
    taker = Taker(driver)
    frame = taker.frame()
    taker.sock.send(encode_answer(TakenAnswer(frame.number)))
    taker.die()
    assert driver.wait(SessionsMoved).moved == 1
    for peer in (client, server):
        peer.expect_fin()  # nobody has its sockets
    assert driver.memory.total(counters.SESSIONS) == 0
    assert driver.memory.total(FIRST_TARGET + counters.ACTIVE) == 0
    assert driver.memory.total(SLOT + counters.LISTENER_MOVED) == -1
    nothing_left(driver)


def test_the_exporter_is_killed_before_the_answer_which_finds_nobody(driver):
    client, server = pair(driver)
    taker = Taker(driver)
    frame = taker.frame()
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait_end()
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        taker.sock.send(encode_answer(TakenAnswer(frame.number)))
    taker.die()
    client.expect_fin()
    server.expect_fin()


def test_the_exporter_is_killed_after_the_answer_and_the_session_goes_on_elsewhere(driver):
    client, server = pair(driver)
    taker = Taker(driver)
    frame = taker.frame()
    os.kill(driver.pid, signal.SIGSTOP)  # it has not read it yet
    taker.sock.send(encode_answer(TakenAnswer(frame.number)))
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait_end()
    upstream = socket.socket(fileno=os.dup(taker.descriptors[1]))
    client.send(b"to whoever has it")
    ours = socket.socket(fileno=os.dup(taker.descriptors[0]))
    assert ours.recv(100) == b"to whoever has it"
    upstream.send(b"passed on")
    server.expect(b"passed on")
    for sock in (ours, upstream):
        sock.close()
    taker.die()


def test_the_exporter_gives_up_a_silent_importer_and_its_late_answer_does_not_count(driver):
    client, server = pair(driver)
    taker = Taker(driver)
    frame = taker.frame()
    driver.wait(SessionsMoved)
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        taker.sock.send(encode_answer(TakenAnswer(frame.number)))
    check(client, server)
    taker.die()
    check(client, server)


class Giver:
    """The exporter's part, played by the test: a session of two socketpairs of TCP."""

    def __init__(self, driver):
        self.driver = driver
        self.sock, theirs = socket.socketpair()
        driver.channel.send(ImportSessions(), [theirs.fileno()])
        theirs.close()
        self.client, inner = _connected()
        self.server, upstream = _connected()
        family, now = int(socket.AF_INET), driver.loop.now
        self.told = MovedSession(
            "tcp", "inc-77", (9,), "web", f"127.0.0.1:{driver.port}", ("127.0.0.1", 2), family, now, 2.0, now, "t0", family,
            listener_slot=SLOT, target_slot=FIRST_TARGET,
        )  # fmt: skip
        self.descriptors = [inner.detach(), upstream.detach()]

    def give(self, size=None):
        socket.send_fds(self.sock, [encode(5, self.told)[:size]], self.descriptors)

    def answer(self):
        self.sock.settimeout(10)
        (found,) = answers(bytearray(self.sock.recv(1000)))
        return found

    def die(self):
        self.sock.close()
        for fd in self.descriptors:
            os.close(fd)
        self.descriptors = []


def _connected():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    one.settimeout(10)
    other.setblocking(False)
    return one, other


def test_an_exporter_that_dies_in_the_middle_of_a_frame_leaves_nothing_behind(driver):
    giver = Giver(driver)
    giver.give(size=40)
    giver.die()
    assert giver.client.recv(1) == b""
    assert giver.server.recv(1) == b""
    nothing_left(driver)
    assert driver.memory.total(counters.SESSIONS) == 0
    giver.client.close()
    giver.server.close()


def test_what_was_taken_goes_on_when_the_exporter_dies(driver):
    giver = Giver(driver)
    giver.give()
    assert giver.answer() == TakenAnswer(5)
    giver.die()
    giver.client.send(b"ping")
    assert giver.server.recv(10) == b"ping"
    giver.server.send(b"pong")
    assert giver.client.recv(10) == b"pong"
    assert driver.memory.total(counters.SESSIONS) == 1
    giver.client.close()
    assert giver.server.recv(10) == b""
    giver.server.close()
    nothing_left(driver)
    assert driver.memory.total(counters.SESSIONS) == 0


def test_the_importer_is_killed_and_what_it_had_not_taken_is_the_exporters(driver):
    giver = Giver(driver)
    os.kill(driver.pid, signal.SIGSTOP)
    giver.give()
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait_end()
    with pytest.raises(ConnectionResetError):  # its frame was not read, and there is no answer
        giver.sock.recv(100)
    inner = socket.socket(fileno=os.dup(giver.descriptors[0]))
    inner.send(b"still ours")
    assert giver.client.recv(100) == b"still ours"
    inner.close()
    giver.die()
    giver.client.close()
    giver.server.close()
