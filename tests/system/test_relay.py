"""A session's ordinary life: who speaks first, half-close in every order, what is delivered, what is recorded."""

import pytest

from kit.exchange import exchange


def test_client_speaks_first(proxy, target):
    server_side = target()
    program = proxy(targets=[server_side])
    client, server = program.connect(), server_side.accept()
    client.send(b"question")
    server.expect(b"question").send(b"answer")
    client.expect(b"answer").fin()
    server.expect_fin().fin()
    client.expect_fin()
    record = program.record()
    assert (record["reason"], record["ended_by"], record["errno"]) == ("done", "client", "")
    assert (record["bytes_up"], record["bytes_down"]) == (8, 6)
    assert record["target"] == server_side.address
    assert record["tried"] == []
    assert 0 <= record["connect_seconds"] <= record["seconds"] < 10


def test_server_speaks_first(proxy, target):
    server_side = target()
    program = proxy(targets=[server_side])
    client, server = program.connect(), server_side.accept()
    server.send(b"220 welcome\r\n")
    client.expect(b"220 welcome\r\n").send(b"QUIT\r\n")
    server.expect(b"QUIT\r\n").fin()
    client.expect_fin().fin()
    server.expect_fin()
    assert program.record()["ended_by"] == "target"


def test_neither_speaks(proxy, target):
    server_side = target()
    program = proxy(targets=[server_side])
    client, server = program.connect(), server_side.accept()
    client.expect_silence(0.05)
    server.expect_silence(0.05)
    client.fin()
    server.expect_fin().fin()
    client.expect_fin()
    record = program.record()
    assert (record["reason"], record["bytes_up"], record["bytes_down"]) == ("done", 0, 0)


def test_the_target_greets_and_ends_before_the_client_says_a_word(proxy, target):
    server_side = target()
    program = proxy(targets=[server_side])
    client, server = program.connect(), server_side.accept()
    server.send(b"bye").fin()
    client.expect(b"bye").expect_fin()
    client.send(b"late words").fin()
    server.expect(b"late words").expect_fin()
    assert program.record()["reason"] == "done"


def test_request_fin_late_answer(proxy, target):
    server_side = target()
    program = proxy(targets=[server_side])
    client, server = program.connect(), server_side.accept()
    client.send(b"request").fin()
    server.expect(b"request").expect_fin()
    client.expect_silence(0.3)
    server.send(b"a late answer").fin()
    client.expect(b"a late answer").expect_fin()
    record = program.record()
    assert (record["reason"], record["ended_by"]) == ("done", "client")


@pytest.mark.parametrize("first", ["client", "target"])
def test_half_close_leaves_the_other_direction_open(proxy, target, first):
    server_side = target()
    program = proxy(targets=[server_side])
    ends = [program.connect(), server_side.accept()]
    quiet, talker = ends if first == "client" else ends[::-1]
    quiet.fin()
    talker.expect_fin()
    for number in range(20):
        word = b"word %d;" % number
        talker.send(word)
        quiet.expect(word)
    talker.fin()
    quiet.expect_fin()
    assert program.record()["ended_by"] == first


@pytest.mark.parametrize("size", [1, 65535, 65536, 65537, 3 << 20])
def test_everything_before_a_fin_arrives(proxy, target, size):
    server_side = target()
    program = proxy(targets=[server_side])
    client, server = program.connect(), server_side.accept()
    up, down = exchange(client, b"u" * size, [], server, b"d" * size, [])
    assert (len(up), len(down)) == (size, size)
    record = program.record()
    assert (record["reason"], record["bytes_up"], record["bytes_down"]) == ("done", size, size)


def test_bytes_and_fin_sent_before_the_target_is_connected(proxy, target):
    """Client bytes that wait while the proxy dials are the first thing the target gets."""
    server_side = target()
    program = proxy(targets=[server_side])
    for number in range(50):
        client = program.connect()
        client.send(b"early %d" % number).fin()
        server = server_side.accept()
        assert server.read_to_end() == b"early %d" % number
        server.send(b"ok").fin()
        client.expect(b"ok").expect_fin()
    assert {record["reason"] for record in program.records(50)} == {"done"}


def test_a_close_with_both_fins_crossing(proxy, target):
    server_side = target()
    program = proxy(targets=[server_side])
    for _ in range(100):
        client, server = program.connect(), server_side.accept()
        client.send(b"x").fin()
        server.send(b"y").fin()
        client.expect(b"y").expect_fin()
        server.expect(b"x").expect_fin()
    assert {record["reason"] for record in program.records(100)} == {"done"}


def test_urgent_bytes_stay_in_line(proxy, target):
    """Out-of-band data cuts reads short and breaks splices; with SO_OOBINLINE it is a byte like any other (9.1)."""
    server_side = target()
    program = proxy(targets=[server_side])
    client, server = program.connect(), server_side.accept()
    for _ in range(5):
        client.send(b"abc").send_urgent(b"!").send(b"def")
        server.expect(b"abc!def")
    client.fin()
    server.expect_fin().fin()
    client.expect_fin()
    assert program.record()["bytes_up"] == 35


def test_urgent_bytes_in_a_bulk_stream(proxy, target):
    server_side = target()
    program = proxy(targets=[server_side])
    client, server = program.connect(), server_side.accept()
    for part in range(4):
        up, _ = exchange(client, bytes([part]) * (2 << 20), [], server, b"", [], fins=False)
        assert up == bytes([part]) * (2 << 20)
        client.send_urgent(b"!").send(b"after")
        server.expect(b"!after")
    client.fin()
    server.expect_fin().fin()
    client.expect_fin()
    assert program.record()["bytes_up"] == 4 * ((2 << 20) + 6)


def test_sessions_do_not_mix(proxy, service):
    """Many sessions at once through both paths: everyone gets back what he sent, and nothing else."""
    echo = service()
    program = proxy(targets=[echo], top={"workers": 2})
    clients = [program.connect() for _ in range(40)]
    for round_ in range(3):
        for number, client in enumerate(clients):
            client.send(bytes([number]) * (1000 + 100_000 * (round_ == 1)))
        for number, client in enumerate(clients):
            client.expect(bytes([number]) * (1000 + 100_000 * (round_ == 1)))
    for client in clients:
        client.fin().expect_fin()
    assert len(program.records(40)) == 40
