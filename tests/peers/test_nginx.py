"""Cases of nginx-tests' stream_*.t that apply to a TCP balancer, named after their files."""

import socket
from collections import Counter

import pytest

from kit.clogged import clog
from kit.exchange import exchange
from kit.ports import free_port
from kit.waiting import Stopwatch, wait_until


def answer(program, count, **how):
    """How often each server answered `count` clients that come one after another; "" for a client that was reset."""
    found = Counter()
    for _ in range(count):
        client = program.connect(**how)
        found[client.read_to_end().decode()] += 1
        client.close()
    return found


def named(service, *names):
    return [service(greeting=name.encode(), hang_up=True) for name in names]


def test_nginx_stream_proxy(proxy, service):
    """Many messages in one session, and after the server's close nothing more."""
    echo = service(answer=lambda data: data.replace(b"foo", b"bar"))
    program = proxy(targets=[echo])
    client = program.connect()
    for number in range(1, 4):
        client.send(b"foo%d" % number).expect(b"bar%d" % number)
    client.fin().expect_fin()
    assert client.read_to_end() == b""


@pytest.mark.parametrize("side", ["client", "server"])
def test_nginx_stream_proxy_half_close(proxy, target, side):
    server_side = target()
    program = proxy(targets=[server_side])
    client, server = program.connect(), server_side.accept()
    quiet, other = (client, server) if side == "client" else (server, client)
    quiet.fin()
    other.expect_fin().send(b"SEE")
    quiet.expect(b"SEE")
    other.fin()
    quiet.expect_fin()


def test_nginx_stream_proxy_next_upstream_off(proxy, service):
    (alive,) = named(service, "SEE-THIS")
    program = proxy(targets=[f"127.0.0.1:{free_port()}", alive], retries=0)
    assert answer(program, 4) == {"SEE-THIS": 2, "": 2}


def test_nginx_stream_proxy_next_upstream_on(proxy, service):
    (alive,) = named(service, "SEE-THIS")
    program = proxy(targets=[f"127.0.0.1:{free_port()}", alive])
    assert answer(program, 10) == {"SEE-THIS": 10}


def test_nginx_stream_proxy_next_upstream_tries(proxy, service):
    (alive,) = named(service, "SEE-THIS")
    dead = [f"127.0.0.1:{free_port()}" for _ in range(3)]
    program = proxy(targets=[*dead, alive], retries=1)
    assert answer(program, 1) == {"": 1}
    assert [entry["target"] for entry in program.record()["tried"]] == dead[:2]


def test_nginx_stream_proxy_next_upstream_down(proxy, service):
    """A server that is marked down is not even tried."""
    off, alive = named(service, "off", "SEE-THIS")
    program = proxy(targets=[{"address": off.address, "disabled": True}, alive])
    assert answer(program, 6) == {"SEE-THIS": 6}
    assert all(record["tried"] == [] for record in program.records(6))


def test_nginx_stream_proxy_connect_timeout(proxy, service, target):
    hole = target(backlog=0)
    (alive,) = named(service, "alive")
    with clog(hole):
        program = proxy(targets=[hole, alive], timeouts={"connect": 0.4})
        watch = Stopwatch()
        assert answer(program, 2) == {"alive": 2}
        assert 0.35 < watch.seconds < 8


def test_nginx_stream_upstream_round_robin(proxy, service):
    program = proxy(targets=named(service, "1", "2"))
    assert answer(program, 30) == {"1": 15, "2": 15}


def test_nginx_stream_upstream_dead_peer(proxy, service):
    one, two = named(service, "1", "2")
    program = proxy(targets=[one, f"127.0.0.1:{free_port()}", two])
    found = answer(program, 30)
    assert set(found) == {"1", "2"}
    assert abs(found["1"] - found["2"]) <= 10


def test_nginx_stream_upstream_weight(proxy, service):
    one, two = named(service, "1", "2")
    program = proxy(targets=[one, {"address": two.address, "weight": 2}])
    assert answer(program, 30) == {"1": 10, "2": 20}


def test_nginx_stream_upstream_weight_over_two_workers(proxy, service):
    one, two = named(service, "1", "2")
    program = proxy(targets=[one, {"address": two.address, "weight": 2}], top={"workers": 2})
    found = answer(program, 60)
    assert abs(found["1"] - 20) <= 2


def test_nginx_stream_upstream_backup(proxy, service):
    port = free_port()
    (spare,) = named(service, "backup")
    check = {"interval": 0.2, "timeout": 0.2}
    program = proxy(targets=[f"127.0.0.1:{port}", {"address": spare.address, "backup": True}], health=check)
    program.wait_log(f"127.0.0.1:{port} is down")
    program.wait_greeting(b"backup")
    assert answer(program, 5) == {"backup": 5}
    service(greeting=b"primary", hang_up=True, port=port)
    program.wait_log(f"127.0.0.1:{port} is up .was down")
    program.wait_greeting(b"primary")
    assert answer(program, 5) == {"primary": 5}


def test_nginx_stream_upstream_hash(proxy, service):
    """One client address, one server, whatever its port."""
    program = proxy(targets=named(service, "1", "2", "3"), balance="source_hash", top={"workers": 2})
    assert list(answer(program, 10).values()) == [10]
    spread = Counter()
    for number in range(2, 42):
        spread += answer(program, 2, source=f"127.0.0.{number}")
    assert set(spread) == {"1", "2", "3"}
    assert all(count % 2 == 0 for count in spread.values()), "a client address was sent to two servers"
    assert min(spread.values()) >= 10


@pytest.mark.parametrize("workers", [1, 2])
def test_nginx_stream_upstream_least_conn(proxy, service, workers):
    """While one server holds sessions, everyone new goes to the idle one."""
    one, two = service(greeting=b"1"), service(greeting=b"2")
    program = proxy(targets=[one, two], balance="least_connections", top={"workers": workers})
    held = []
    for _ in range(10):
        held.append((program.connect(), ""))
        held[-1] = (held[-1][0], held[-1][0].receive(1))
    assert Counter(home for _, home in held) == {b"1": 5, b"2": 5}
    for client, home in held:
        if home == b"1":
            client.fin().expect_fin()
    wait_until(lambda: program.sockets() == 10, "the end of the sessions with the first")
    for _ in range(5):
        program.connect().expect(b"1")


@pytest.mark.parametrize("workers", [1, 2])
def test_nginx_stream_upstream_random_two(proxy, service, workers):
    """Held sessions pile up on nobody."""
    servers = [service(greeting=b"%d" % n) for n in range(4)]
    program = proxy(targets=servers, balance="random_two", top={"workers": workers})
    clients = [program.connect() for _ in range(80)]
    for client in clients:
        client.receive(1)
    loads = sorted(item.active for item in servers)
    assert sum(loads) == 80
    assert loads[0] >= 12
    assert loads[-1] <= 28


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("balance", ["round_robin", "least_connections", "random_two", "source_hash"])
def test_nginx_stream_upstream_max_conns(proxy, service, workers, balance):
    """Exactly at the limit over all workers, then the backup, then "limit"; places that come free are taken again."""
    one, two, spare = (service(greeting=name) for name in (b"1", b"2", b"b"))
    targets = [
        {"address": one.address, "max_connections": 2},
        {"address": two.address, "max_connections": 3},
        {"address": spare.address, "max_connections": 2, "backup": True},
    ]
    program = proxy(targets=targets, balance=balance, top={"workers": workers})
    for _ in range(3):
        clients = [program.connect() for _ in range(12)]
        heard = Counter(client.read_first() for client in clients)
        assert heard == {b"1": 2, b"2": 3, b"b": 2, b"": 5}
        assert all(client.ended == "rst" for client in clients if not client.received)
        for client in clients:
            client.close()
        wait_until(lambda: not (one.active or two.active or spare.active), "free places")
        wait_until(lambda: program.sockets() == 0, "ended sessions")
    assert (one.most, two.most, spare.most) == (2, 3, 2)
    reasons = Counter(record["reason"] for record in program.records(36))
    assert reasons["limit"] == 15


def test_nginx_stream_unix(proxy, service, tmp_path):
    program = proxy(targets=[service(path=tmp_path / "unix.sock")])
    program.connect().send(b"SEE").expect(b"SEE").fin().expect_fin()


def test_nginx_stream_access_log(proxy, target):
    server_side = target()
    program = proxy(targets=[server_side])
    client, server = program.connect(), server_side.accept()
    client.send(b"data")
    server.expect(b"data").send(b"response").fin()
    client.expect(b"response").expect_fin().fin()
    server.expect_fin()
    record = program.record()
    assert (record["bytes_up"], record["bytes_down"]) == (4, 8)
    assert record["listener"] == f"127.0.0.1:{program.port}"
    assert record["target"] == server_side.address
    assert record["client"] == client.address


def test_nginx_stream_tcp_nodelay(proxy, target):
    """101 bytes, one by one, both ways, each answered before the next: Nagle would take 40 ms for each."""
    server_side = target()
    program = proxy(targets=[server_side])
    client, server = program.connect(), server_side.accept()
    watch = Stopwatch()
    for number in range(101):
        client.send(bytes([number]))
        server.expect(bytes([number])).send(bytes([number]))
        client.expect(bytes([number]))
    assert watch.seconds < 8


@pytest.mark.parametrize("path", ["copy", "splice"])
def test_nginx_stream_tcp_nodelay_one_byte_buffers(proxy, target, path):
    """101 bytes one by one, and 20,000 at once, through the smallest buffers that the kernel gives, both ways."""
    server_side = target()
    program = proxy(targets=[server_side])
    client, server = program.connect(), server_side.accept()
    if path == "splice":
        exchange(client, bytes(2 << 20), [], server, bytes(2 << 20), [], fins=False)
    for peer in (client, server):
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    data = bytes(n % 251 for n in range(20101))
    got = exchange(client, data, [1] * 101, server, data, [1] * 101, seconds=50)
    assert got == (data, data)


def test_nginx_worker_shutdown_timeout_stream(proxy, target):
    """`shutdown_grace` of 10 ms: a running session is closed shortly after."""
    server_side = target()
    program = proxy(targets=[server_side], top={"shutdown_grace": 0.01})
    client, server = program.connect(), server_side.accept()
    client.send(b"x")
    server.expect(b"x")
    watch = Stopwatch()
    assert program.stop() == 0
    assert watch.seconds < 8
    client.expect_rst()


def test_nginx_stream_upstream_zone_no_live_upstreams(proxy):
    program = proxy(targets=[f"127.0.0.1:{free_port()}" for _ in range(2)], health={"interval": 0.2, "timeout": 0.2})
    for target in program.config["apps"][0]["targets"]:
        program.wait_log(f"{target} is down")
    assert answer(program, 3) == {"": 3}
    assert program.records(3)[-1]["reason"] == "no_target"
