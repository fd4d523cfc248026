"""Cases of Toxiproxy, inetaf/tcpproxy, Traefik, Envoy, gobetween and PgBouncer, named after their origin."""

import signal
import threading
from collections import Counter

import pytest

from kit.clogged import clog, fill
from kit.exchange import exchange, move_streams
from kit.load import Load
from kit.ports import free_port
from kit.proxy import run_to_end
from kit.waiting import pause, wait_until

FAST = {"interval": 0.2, "timeout": 0.2}


def dialogue(proxy, target, **how):
    """(program, client, server) of one session."""
    server_side = target()
    program = proxy(targets=[server_side], **how)
    return program, program.connect(), server_side.accept()


# -- Toxiproxy


def test_toxiproxy_persistent_connections(proxy, target):
    _, client, server = dialogue(proxy, target)
    for number in range(500):
        client.send(b"%d\n" % number)
        server.expect(b"%d\n" % number).send(b"%d!\n" % number)
        client.expect(b"%d!\n" % number)


def test_toxiproxy_proxy_big_message(proxy, target):
    _, client, server = dialogue(proxy, target)
    assert move_streams(client, server, 32 << 20, 1 << 20) == (32 << 20, 1 << 20)


def test_toxiproxy_proxy_to_down_upstream(proxy):
    """The client is let in and then reset; the program goes on."""
    program = proxy(targets=[f"127.0.0.1:{free_port()}"])
    for _ in range(5):
        program.connect().expect_rst()
    assert {record["reason"] for record in program.records(5)} == {"connect_failed"}


def test_toxiproxy_start_two_proxies_on_same_address(proxy, service, tmp_path):
    program = proxy(targets=[service()])
    (tmp_path / "other").mkdir()
    path = tmp_path / "other" / "config.json"
    path.write_text((tmp_path / f"config-{id(program):x}.json").read_text())
    done = run_to_end(path, cwd=path.parent)
    assert done.returncode == 1
    assert f"127.0.0.1:{program.port}" in done.stderr


@pytest.mark.parametrize("size", [1, 10, 1000])
def test_toxiproxy_slicer(proxy, target, size):
    """A stream in slices of one size, read as slowly: all of it, in order."""
    _, client, server = dialogue(proxy, target)
    data = bytes(n % 256 for n in range(size * 300))
    assert exchange(client, data, [size] * 300, server, data, [size] * 300) == (data, data)


@pytest.mark.slow
def test_toxiproxy_no_data_dropped(proxy, target):
    """A stream whose reader stops and goes on all the time, while the session changes between its paths."""
    _, client, server = dialogue(proxy, target)
    data = bytes(range(256)) * 4096 * 24
    sender = threading.Thread(target=client.send, args=(data, 30), name="sender")
    sender.start()
    got = bytearray()
    while len(got) < len(data):
        got += server.receive(min(1 << 20, len(data) - len(got)))
        pause(0.02)
    sender.join()
    assert got == data


@pytest.mark.parametrize("side", ["client", "server"])
def test_toxiproxy_reset_peer(proxy, target, side):
    """A reset is a reset on the other side, also while bytes are under way in both directions."""
    program, client, server = dialogue(proxy, target)
    client.send(b"x")
    server.expect(b"x")
    first, second = (client, server) if side == "client" else (server, client)
    second.sent += fill(second.sock)
    first.rst()
    second.expect_rst()
    assert program.record()["ended_by"] == ("client" if side == "client" else "target")


def test_toxiproxy_latency_close_race(proxy, service):
    """Hang up in the middle of everything, at every moment; nothing is left behind (a check of every test)."""
    program = proxy(targets=[service()], top={"workers": 2})
    for number in range(200):
        client = program.connect()
        if number % 4:
            client.send(b"x" * (number * 100))
        if number % 3:
            client.close()
        else:
            client.rst()
    assert len(program.records(200)) == 200


# -- inetaf/tcpproxy


@pytest.mark.parametrize("size", [5, 5000, 500_000])
def test_inetaf_buffered_close(proxy, target, size):
    """Bytes sent just before close() still arrive, whole."""
    server_side = target()
    program = proxy(targets=[server_side])
    for _ in range(20):
        client, server = program.connect(), server_side.accept()
        sender = threading.Thread(target=lambda peer=server: (peer.send(b"x" * size), peer.close()), name="sender")
        sender.start()
        assert len(client.read_to_end()) == size
        assert client.ended == "fin"
        sender.join()
        client.close()


# -- Traefik


def test_traefik_close_write(proxy, target):
    _, client, server = dialogue(proxy, target)
    client.send(b"ping").fin()
    server.expect(b"ping").expect_fin().send(b"pong").fin()
    client.expect(b"pong").expect_fin()


def test_traefik_wrr_no_service_up(proxy):
    program = proxy(targets=[f"127.0.0.1:{free_port()}" for _ in range(2)], health=FAST)
    for name in program.config["apps"][0]["targets"]:
        program.wait_log(f"{name} is down")
    program.connect().expect_rst()


def test_traefik_wrr_down_then_up(proxy, service):
    port = free_port()
    first, second = service(greeting=b"1", port=port), service(greeting=b"2")
    program = proxy(targets=[{"address": first.address, "weight": 3}, second], health=FAST)
    program.wait_log(f"{first.address} is up")
    assert Counter(program.connect().receive(1) for _ in range(8)) == {b"1": 6, b"2": 2}
    first.close()
    program.wait_log(f"{first.address} is down")
    assert Counter(program.connect().receive(1) for _ in range(8)) == {b"2": 8}
    service(greeting=b"1", port=port)
    program.wait_log(f"{first.address} is up .was down")
    program.wait_greeting(b"1")
    settling = Counter(program.connect().receive(1) for _ in range(16))
    assert abs(settling[b"1"] - 12) <= 2, "nobody is starved or flooded by the change"
    assert Counter(program.connect().receive(1) for _ in range(8)) == {b"1": 6, b"2": 2}


# -- Envoy


@pytest.mark.parametrize("side", ["downstream", "upstream"])
def test_envoy_tcp_proxy_flush(proxy, target, side):
    """One side sends far more than fits and closes; the other reads late and gets everything."""
    _, client, server = dialogue(proxy, target)
    writer, reader = (server, client) if side == "downstream" else (client, server)
    data = bytes(range(256)) * 4096 * 8
    sender = threading.Thread(target=lambda: writer.send(data, 30).fin(), name="sender")
    sender.start()
    pause(0.5)
    assert reader.read_to_end() == data
    sender.join()
    reader.fin()
    writer.expect_fin()


def test_envoy_tcp_proxy_many_connections(proxy, target):
    server_side = target()
    program = proxy(targets=[server_side])
    pairs = [(program.connect(), server_side.accept()) for _ in range(50)]
    for client, server in pairs[::-1]:
        client.send(b"hello")
        server.expect(b"hello").fin()
        client.expect_fin().fin()
        server.expect_fin()


# -- gobetween


def test_gobetween_iphash1_removing_backends_stability(proxy, service):
    """When one of four servers goes, only its own clients move."""
    servers = [service(greeting=b"%d" % n) for n in range(4)]
    program = proxy(targets=servers, balance="source_hash", health=FAST)
    for item in servers:
        program.wait_log(f"target {item.address} is up")
    sources = [f"127.0.1.{n}" for n in range(1, 41)]
    before = {source: program.connect(source=source).receive(1) for source in sources}
    servers[2].close()
    program.wait_log(f"{servers[2].address} is down")
    after = {source: program.connect(source=source).receive(1) for source in sources}
    assert all(after[source] == home for source, home in before.items() if home != b"2")
    assert b"2" not in after.values()
    assert {after[source] for source, home in before.items() if home == b"2"} <= {b"0", b"1", b"3"}
    assert len(set(before.values())) == 4


def test_gobetween_weight_distribution(proxy, service):
    servers = [service(greeting=b"%d" % n, hang_up=True) for n in range(3)]
    targets = [{"address": item.address, "weight": weight} for item, weight in zip(servers, (1, 2, 5), strict=True)]
    program = proxy(targets=targets)
    assert Counter(program.connect().read_to_end() for _ in range(40)) == {b"0": 5, b"1": 10, b"2": 25}


def test_gobetween_all_weights_equal_to_0_distribution(tmp_path):
    """Nobody could ever have a session: that is an error in the file, not a surprise at run time."""
    targets = '[{"address": "127.0.0.1:1", "weight": 0}, {"address": "127.0.0.1:2", "weight": 0}]'
    (tmp_path / "config.json").write_text(f'{{"apps": [{{"name": "a", "ports": [8000], "targets": {targets}}}]}}')
    done = run_to_end("--check", cwd=tmp_path)
    assert done.returncode == 2
    assert "weight" in done.stderr


def test_gobetween_a_weight_of_0_beside_others_takes_nothing(proxy, service):
    one, none = service(greeting=b"1", hang_up=True), service(greeting=b"0", hang_up=True)
    program = proxy(targets=[one, {"address": none.address, "weight": 0}])
    assert Counter(program.connect().read_to_end() for _ in range(10)) == {b"1": 10}


# -- PgBouncer


def test_pgbouncer_shutdown_wait_for_clients(proxy, target):
    program, client, server = dialogue(proxy, target, top={"shutdown_grace": 300})
    program.workers()
    program.signal(signal.SIGTERM)
    pause(0.3)
    assert program.is_running
    client.send(b"commit")
    server.expect(b"commit").fin()
    client.expect_fin().fin()
    server.expect_fin()
    assert program.wait() == 0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_pgbouncer_repeated_sigterm(proxy, target, number, status):
    """The second signal is immediate, whatever sessions there are."""
    program, client, server = dialogue(proxy, target, top={"shutdown_grace": 60})
    program.workers()
    program.signal(number)
    program.wait_log("no new clients")
    program.signal(number)
    assert program.wait() == status
    client.read_to_end()
    server.read_to_end()
    assert client.ended
    assert server.ended


@pytest.mark.parametrize("good_first", [True, False])
def test_pgbouncer_host_list(proxy, service, good_first):
    good, bad = service().address, f"127.0.0.1:{free_port()}"
    program = proxy(targets=[good, bad] if good_first else [bad, good])
    for _ in range(4):
        program.connect().send(b"x").expect(b"x").fin().expect_fin()
    assert {record["target"] for record in program.records(4)} == {good}


def test_pgbouncer_server_connect_timeout_establish(proxy, target):
    hole = target(backlog=0)
    with clog(hole):
        program = proxy(targets=[hole], timeouts={"connect": 0.3})
        program.connect().expect_rst()
    record = program.record()
    assert (record["reason"], record["errno"]) == ("connect_failed", "ETIMEDOUT")


def test_pgbouncer_fast_close(proxy, service):
    """Sessions that end while others begin, for a while; all of them well."""
    program = proxy(targets=[service(), service()], top={"workers": 2})
    program.uncounted = None
    with Load(program.port, clients=8) as load:
        load.wait_sessions(1000, 20)
    assert load.failures == []
    wait_until(lambda: program.sockets() == 0, "the end of all sessions")
    assert len(program.records(load.done)) == load.done
