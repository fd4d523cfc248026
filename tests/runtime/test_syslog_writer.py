"""The log's way to a syslog server: nobody waits for it, nothing is without bound, and what is missing is counted."""

import contextlib
import socket

import pytest
from runtime.test_syslog import frames, receive

from kit.ports import free_port
from kit.waiting import PATIENCE, wait_until
from tcp_proxy.runtime import syslog_writer
from tcp_proxy.runtime.log_writer import MOST_WAITING
from tcp_proxy.runtime.syslog_writer import SyslogWriter
from tcp_proxy.sansio.syslog import parse


@contextlib.contextmanager
def writing(text, said=None):
    writer = SyslogWriter(parse(text), lambda count: b"missing %d" % count, ([] if said is None else said).append)
    writer.start()
    try:
        yield writer
    finally:
        writer.stop()
        writer._thread.join(PATIENCE)
        assert not writer._thread.is_alive()


@pytest.fixture
def soon(monkeypatch):
    monkeypatch.setattr(syslog_writer, "AGAIN", 0.01)


def test_lines_come_in_order():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        with writing(f"syslog+udp://127.0.0.1:{udp.getsockname()[1]}") as writer:
            for number in range(200):
                writer.put(b"line %d" % number)
                assert receive(udp) == b"line %d" % number
            assert writer.flush(PATIENCE)


def test_what_is_dropped_while_it_is_away_is_counted_in_its_place(soon):
    said = []
    port = free_port()
    with writing(f"syslog+tcp://127.0.0.1:{port}", said) as writer:
        count = 3 * MOST_WAITING // 1000
        for number in range(count):
            writer.put(b"%01000d" % number)
        wait_until(lambda: said, "that somebody hears of it")
        assert writer.flush(0), "hopeless is over, too"
        assert writer._size <= MOST_WAITING
        with socket.create_server(("127.0.0.1", port)) as server:
            accepted, _ = server.accept()
            with accepted, accepted.makefile("rb") as stream:
                wait_until(lambda: not writer._waiting, "everything is sent", PATIENCE)
                writer.put(b"later")
                assert writer.flush(PATIENCE)
                writer.stop()
                *found, later = frames(stream.read())
    assert later == b"later"
    *kept, notice = found
    assert [int(one) for one in kept] == list(range(len(kept)))
    assert len(kept) + int(notice.split()[1]) == count
    assert said[0].startswith("Connection refused; lines wait")
    assert said[1:] == ["it takes lines again"]


def test_a_line_behind_a_gap_comes_behind_its_count(soon):
    port = free_port()
    with writing(f"syslog+tcp://127.0.0.1:{port}") as writer:
        writer.put(b"first")
        wait_until(lambda: writer._is_failing, "that it is not there")
        writer.put(b"x" * MOST_WAITING)
        writer.put(b"x" * MOST_WAITING)
        writer.put(b"second")
        with socket.create_server(("127.0.0.1", port)) as server:
            accepted, _ = server.accept()
            with accepted:
                wait_until(lambda: not writer._waiting, "everything is sent")
                assert frames(receive(accepted)) == [b"first", b"missing 2", b"second"]


def test_the_end_sends_what_waits():
    with socket.create_server(("127.0.0.1", 0)) as server:
        with writing(f"syslog+tcp://127.0.0.1:{server.getsockname()[1]}") as writer:
            for number in range(1000):
                writer.put(b"%03d" % number)
        accepted, _ = server.accept()
        with accepted, accepted.makefile("rb") as stream:
            assert stream.read() == b"".join(b"3 %03d" % number for number in range(1000))


def test_the_end_does_not_wait_for_a_server_that_is_away():
    with writing(f"syslog+tcp://127.0.0.1:{free_port()}") as writer:
        writer.put(b"x")
        wait_until(lambda: writer._is_failing, "that it is not there")


def test_it_shows_what_it_is():
    with writing("syslog+udp://127.0.0.1:9") as writer:
        assert repr(writer) == "<SyslogWriter <SyslogConnection udp 127.0.0.1:9>, 0 bytes waiting>"
        assert writer._thread.name == "log-syslog"
