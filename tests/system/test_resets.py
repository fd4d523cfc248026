"""A reset is seen as a reset on the other side, after everything that was read before it; a FIN would look complete."""

import pytest

from kit.exchange import exchange

BULK = 2 << 20  # enough to be moved to the splice path


@pytest.fixture(params=["copy", "splice"])
def session(request, proxy, target):
    """(program, client, server) of a session that is on the copy path, or was moved to the splice path."""
    server_side = target()
    program = proxy(targets=[server_side], timeouts={"half_closed": 5})
    client, server = program.connect(), server_side.accept()
    client.send(b"?")
    server.expect(b"?")
    if request.param == "splice":
        exchange(client, b"u" * BULK, [], server, b"d" * BULK, [], fins=False)
    return program, client, server


def test_a_client_reset_reaches_the_target_as_a_reset(session):
    program, client, server = session
    client.send(b"last words").wait_acknowledged()
    server.expect(b"last words")
    client.rst()
    server.expect_rst()
    record = program.record()
    assert (record["reason"], record["ended_by"], record["errno"]) == ("client_reset", "client", "ECONNRESET")


def test_a_target_reset_reaches_the_client_as_a_reset(session):
    program, client, server = session
    server.send(b"last words")
    client.expect(b"last words")
    server.rst()
    client.expect_rst()
    record = program.record()
    assert (record["reason"], record["ended_by"], record["errno"]) == ("target_reset", "target", "ECONNRESET")


def test_four_megabytes_then_reset_arrive_whole(proxy, target):
    """What the proxy has read is delivered and acknowledged before the reset is passed on (9.2)."""
    server_side = target()
    program = proxy(targets=[server_side], timeouts={"half_closed": 10})
    client, server = program.connect(buffers=65536), server_side.accept()
    client.send(b"go")
    server.expect(b"go")
    sent = b"".join(number.to_bytes(4, "big") for number in range(1 << 20))
    _, down = exchange(client, b"", [], server, sent, [], fins=False)
    assert down == sent
    server.send(b"tail").wait_acknowledged()  # in the proxy's hands, or in those of its kernel
    server.rst()
    client.expect(b"tail").expect_rst()
    assert program.record()["bytes_down"] == len(sent) + 4


def test_what_the_proxy_had_read_is_delivered_to_a_slow_client_before_the_reset(proxy, target):
    """The client reads nothing until the target has been reset: what was read from the target must still be there."""
    server_side = target()
    program = proxy(targets=[server_side], timeouts={"half_closed": 10})
    client, server = program.connect(), server_side.accept()
    client.send(b"go")
    server.expect(b"go").send(b"z" * 60000).wait_acknowledged()
    client.wait_readable()
    server.rst()
    assert client.read_to_end() == b"z" * 60000
    assert client.ended == "rst"
    record = program.record()
    assert (record["reason"], record["bytes_down"]) == ("target_reset", 60000)


@pytest.mark.parametrize("size", [1, 1000, 65536, 200_000])
def test_data_then_reset_at_once(proxy, target, size):
    """Target sends and resets in one breath: the client gets a prefix and a reset, never a clean end (9.1)."""
    server_side = target()
    program = proxy(targets=[server_side])
    for _ in range(10):
        client, server = program.connect(), server_side.accept()
        client.send(b"q")
        server.expect(b"q").send(b"d" * size)
        server.rst()
        got = client.read_to_end()
        assert got == b"d" * len(got)
        assert client.ended == "rst", f"a false end after {len(got)} of {size} bytes"
    assert {record["reason"] for record in program.records(10)} == {"target_reset"}


def test_a_reset_after_the_clients_fin(session):
    program, client, server = session
    client.fin()
    server.expect_fin()
    server.rst()
    client.expect_rst()
    assert program.record()["reason"] == "target_reset"


def test_a_client_that_closes_with_unread_answers_resets_the_target(session):
    """close() with unread bytes sends a RST: the target must learn that nobody reads."""
    program, client, server = session
    server.send(b"an answer nobody reads")
    client.wait_readable().close()
    server.expect_rst()
    assert program.record()["ended_by"] == "client"


def test_a_reset_while_the_other_side_does_not_read(session):
    """The survivor's queue is full: what it can still get it gets, then it is reset, within half_closed seconds."""
    program, client, server = session
    client.send(b"x" * 30000).wait_acknowledged()
    client.rst()
    assert server.read_to_end() == b"x" * 30000
    assert server.ended == "rst"
    record = program.record()
    assert (record["reason"], record["bytes_up"]) == ("client_reset", client.sent)


def test_an_unread_client_reset_is_noticed_while_the_target_is_silent(proxy, target):
    server_side = target()
    program = proxy(targets=[server_side])
    clients = [program.connect() for _ in range(20)]
    servers = [server_side.accept() for _ in clients]
    for client in clients:
        client.rst()
    for server in servers:
        server.expect_rst()
    assert {record["reason"] for record in program.records(20)} == {"client_reset"}
