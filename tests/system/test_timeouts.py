"""The ends that the proxy decides: both sides are reset, and the record says why. Real time, small limits."""

import pytest

from kit.waiting import Stopwatch, pause


def test_idle_timeout_resets_both_sides(proxy, target):
    server_side = target()
    program = proxy(targets=[server_side], timeouts={"idle": 0.4})
    client, server = program.connect(), server_side.accept()
    watch = Stopwatch()
    client.send(b"x")
    server.expect(b"x")
    client.expect_rst()
    server.expect_rst()
    assert 0.35 <= watch.seconds < 8
    record = program.record()
    assert (record["reason"], record["ended_by"], record["errno"]) == ("idle_timeout", "proxy", "")


@pytest.mark.parametrize("talker", ["client", "target"])
def test_bytes_of_either_direction_keep_a_session(proxy, target, talker):
    server_side = target()
    program = proxy(targets=[server_side], timeouts={"idle": 0.5})
    ends = [program.connect(), server_side.accept()]
    says, hears = ends if talker == "client" else ends[::-1]
    for _ in range(8):
        says.send(b".")
        hears.expect(b".").expect_silence(0.15)
    says.fin()
    hears.expect_fin().fin()
    says.expect_fin()
    assert program.record()["reason"] == "done"


@pytest.mark.parametrize("first", ["client", "target"])
def test_half_closed_timeout_resets_both_sides(proxy, target, first):
    server_side = target()
    program = proxy(targets=[server_side], timeouts={"half_closed": 0.4})
    ends = [program.connect(), server_side.accept()]
    quiet, other = ends if first == "client" else ends[::-1]
    watch = Stopwatch()
    quiet.fin()
    other.expect_fin()
    quiet.expect_rst()
    assert 0.3 <= watch.seconds < 8
    other.expect_rst()
    record = program.record()
    assert (record["reason"], record["ended_by"]) == ("half_closed_timeout", "proxy")


def test_bytes_keep_a_half_closed_session(proxy, target):
    server_side = target()
    program = proxy(targets=[server_side], timeouts={"half_closed": 0.5})
    client, server = program.connect(), server_side.accept()
    client.fin()
    server.expect_fin()
    for _ in range(8):
        server.send(b".")
        client.expect(b".").expect_silence(0.15)
    server.fin()
    client.expect_fin()
    assert program.record()["reason"] == "done"


def test_a_reader_that_merely_stopped_is_not_a_dead_peer(proxy, target):
    """TCP_USER_TIMEOUT is for dead peers: a full window that is still being probed must not trip it (9.13)."""
    server_side = target(receive_buffer=4096)
    program = proxy(targets=[server_side], timeouts={"unacked": 1.0, "idle": 30})
    client, server = program.connect(), server_side.accept()
    data = bytes(range(256)) * 4096
    while True:
        sent = client.sent
        try:
            client.send(data, seconds=0.3)
        except TimeoutError:
            if client.sent == sent:
                break
    pause(3.0)
    client.expect_silence(0)
    count, _ = client.sent, client.fin()
    assert len(server.read_to_end()) == count
    server.fin()
    client.expect_fin()
    assert program.record()["reason"] == "done"
