"""Many bytes, cut anywhere, both ways at once, on the copy path and on the splice path: all arrive, in order, once."""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit import procfs
from kit.clogged import fill
from kit.exchange import exchange, move_streams

SPLICED = 2 << 20  # bytes in a row that move a session to the splice path
EDGES = [1, 2, 3, 1447, 1448, 1449, 4095, 4096, 16384, 65535, 65536, 65537, 131072, 262144]
CUTS = st.lists(st.sampled_from(EDGES) | st.integers(1, 70000), max_size=12)
TAILS = st.tuples(st.integers(0, 5000), st.integers(0, 5000))
EXAMPLES = settings(
    deadline=None, database=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_one_gib_both_ways_at_once(proxy, target):
    server_side = target()
    program = proxy(targets=[server_side])
    client, server = program.connect(), server_side.accept()
    assert move_streams(client, server, 1 << 30, 1 << 30, seconds=120) == (1 << 30, 1 << 30)
    record = program.record()
    assert (record["reason"], record["bytes_up"], record["bytes_down"]) == ("done", 1 << 30, 1 << 30)
    assert any(procfs.threads(pid) > program.baseline[pid]["threads"] for pid in program.workers()), "never spliced"


@pytest.mark.slow
@pytest.mark.parametrize("path", ["copy", "splice"])
def test_streams_cut_at_any_byte(proxy, target, path):
    server_side = target()
    program = proxy(targets=[server_side])
    start = SPLICED if path == "splice" else 0

    @EXAMPLES
    @given(up_cuts=CUTS, down_cuts=CUTS, tails=TAILS, fins=st.booleans())
    def check(up_cuts, down_cuts, tails, fins):
        client, server = program.connect(), server_side.accept()
        sizes = [start + sum(cuts) + tail for cuts, tail in zip((up_cuts, down_cuts), tails, strict=True)]
        up, down = (os.urandom(size) for size in sizes)
        lead = [start] if start else []
        got = exchange(client, up, lead + up_cuts, server, down, lead + down_cuts, fins=fins)
        assert got == (up, down)
        client.close()
        server.close()

    check()


@pytest.mark.slow
def test_a_session_goes_from_copy_to_splice_and_back_many_times(proxy, target):
    """Bulk, then small talk, then bulk: each hand-over carries what was read and not written."""
    server_side = target()
    program = proxy(targets=[server_side])
    client, server = program.connect(), server_side.accept()
    for number in range(6):
        block = bytes([number]) * (3 << 20)
        assert exchange(client, block, [], server, block, [], fins=False) == (block, block)
        for word in range(100):
            client.send(b"%d?" % word)
            server.expect(b"%d?" % word).send(b"%d!" % word)
            client.expect(b"%d!" % word)
    client.fin()
    server.expect_fin().fin()
    client.expect_fin()


@pytest.mark.slow
def test_twenty_bulk_sessions_at_once_with_one_slow_reader_each_way(proxy, target):
    server_side = target()
    program = proxy(targets=[server_side], top={"workers": 2})
    stuck = [(program.connect(), server_side.accept()) for _ in range(2)]
    stuck[0][1].sent += fill(stuck[0][1].sock)
    stuck[1][0].sent += fill(stuck[1][0].sock)
    for number in range(18):
        client, server = program.connect(), server_side.accept()
        block = bytes([number]) * SPLICED
        assert exchange(client, block, [], server, block, []) == (block, block)
    client, server = stuck[0]
    assert client.receive(server.sent) == b"x" * server.sent
    client, server = stuck[1]
    assert server.receive(client.sent) == b"x" * client.sent
