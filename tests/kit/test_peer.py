"""kit.peer: each step does what it says on a real connection, and fails in words when something else happens."""

import pytest

from kit.clogged import fill
from kit.peer import Target, connect


@pytest.fixture
def pair():
    with Target() as target, connect(target.port) as client:
        yield client, target.accept()


def test_a_dialogue_with_fins_both_ways(pair):
    client, server = pair
    client.send(b"question").fin()
    server.expect(b"question").expect_fin()
    server.send(b"late answer").fin()
    assert client.read_to_end() == b"late answer"
    assert client.ended == "fin"
    assert (client.sent, client.received, server.sent, server.received) == (8, 11, 11, 8)


def test_rst_is_not_fin(pair):
    client, server = pair
    server.rst()
    with pytest.raises(AssertionError, match="ended by rst, not fin"):
        client.expect_fin()
    client.expect_rst()


def test_rst_after_fin_is_seen(pair):
    client, server = pair
    server.fin()
    client.expect_fin()
    with pytest.raises(TimeoutError, match="no rst came"):
        client.expect_rst(seconds=0.02)
    server.rst()
    client.expect_rst()


def test_fin_is_not_rst(pair):
    client, server = pair
    client.fin()
    with pytest.raises(AssertionError, match="ended by fin, not rst"):
        server.expect_rst()


def test_wrong_bytes_and_a_short_end_are_named(pair):
    client, server = pair
    client.send(b"abcdef")
    with pytest.raises(AssertionError, match=r"got b'abc' in place of b'abd'"):
        server.expect(b"abd")
    client.fin()
    with pytest.raises(AssertionError, match="ended after 3 of 4 bytes"):
        server.receive(4)


def test_every_wait_has_a_deadline(pair):
    client, server = pair
    with pytest.raises(TimeoutError, match="got only 0 of 1 bytes"):
        server.receive(1, seconds=0.02)
    with pytest.raises(TimeoutError, match="no fin came"):
        server.expect_fin(seconds=0.02)
    fill(client.sock)
    with pytest.raises(TimeoutError, match="could send only"):
        client.send(b"x", seconds=0.02)


def test_silence_is_heard(pair):
    client, server = pair
    client.expect_silence(0.02)
    server.send(b"x")
    with pytest.raises(AssertionError, match="should have heard nothing"):
        client.expect_silence(1.0)


def test_urgent_bytes_count(pair):
    client, server = pair
    client.send(b"a").send_urgent(b"!").send(b"b")
    server.expect(b"ab")
    assert client.sent == 3


def test_acknowledged_means_in_the_other_kernel(pair):
    client, server = pair
    client.send(b"x" * 1000).wait_acknowledged()
    server.expect(b"x" * 1000)


def test_unix_and_ipv6_targets(tmp_path):
    with Target(path=tmp_path / "socket") as unix, Target(host="::1") as six:
        assert unix.address == f"unix:{tmp_path}/socket"
        assert six.address == f"[::1]:{six.port}"
        with connect(six.port, "::1") as client:
            client.send(b"6")
            six.accept().expect(b"6")


def test_a_source_address_is_used():
    with Target() as target, connect(target.port, source="127.0.0.9"):
        assert target.accept().sock.getpeername()[0] == "127.0.0.9"


def test_nobody_connects(pair):
    with Target() as target, pytest.raises(TimeoutError, match="nobody connects"):
        target.accept(seconds=0.01)
