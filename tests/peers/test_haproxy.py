"""Cases of HAProxy's reg-tests that apply to a TCP balancer, named after their files."""

import pytest

from kit.exchange import exchange
from kit.peer import connect
from kit.ports import free_port
from kit.waiting import wait_until

FAST = {"interval": 0.2, "timeout": 0.2}


def greetings(program, count):
    """Who answers `count` clients that come one after another."""
    found = []
    for _ in range(count):
        client = program.connect()
        found.append(client.receive(2).decode())
        client.fin().expect_fin()
    return found


def test_haproxy_balance_rr(proxy, service):
    servers = [service(greeting=b"s%d" % n, hang_up=True) for n in (1, 2, 3, 4)]
    program = proxy(targets=servers)
    assert greetings(program, 5) == ["s1", "s2", "s3", "s4", "s1"]


def test_haproxy_balance_hash_maxconn(proxy, service):
    """A key's second session leaves its server only while that is at its limit."""
    servers = [service(greeting=b"s%d" % n) for n in (1, 2)]
    targets = [{"address": item.address, "max_connections": 1} for item in servers]
    program = proxy(targets=targets, balance="source_hash")
    first = program.connect()
    home = first.receive(2)
    second = program.connect()
    assert second.receive(2) != home
    for client in (first, second):
        client.fin().expect_fin()
    wait_until(lambda: not any(item.active for item in servers), "both free")
    program.records(2)
    assert set(greetings(program, 4)) == {home.decode()}


def test_haproxy_checks_1be_40srv_odd_health_checks(proxy, service):
    """Only the servers that are to be checked are."""
    servers = [service() for _ in range(40)]
    targets = [{"address": item.address, "disabled": n % 2 == 0} for n, item in enumerate(servers)]
    program = proxy(targets=targets, health=FAST)
    for item in servers[1::2]:
        program.wait_log(f"target {item.address} is up")
    wait_until(lambda: all(item.accepted >= 2 for item in servers[1::2]), "two rounds")
    assert [item.accepted for item in servers[::2]] == [0] * 20


def test_haproxy_checks_4be_1srv_health_checks(proxy, service):
    """Four apps, a server each: what the log says when one goes and comes back, and of no other one."""
    ports = [free_port() for _ in range(4)]
    servers = [service(port=port) for port in ports]
    program = proxy({
        "apps": [
            {"name": f"be{n}", "ports": [free_port()], "targets": [item.address], "health": FAST}
            for n, item in enumerate(servers)
        ]
    })
    for item in servers:
        program.wait_log(f"target {item.address} is up")
    servers[1].close()
    program.wait_log(f"app be1: target {servers[1].address} is down .was up.: .*ECONNREFUSED")
    program.connect(program.config["apps"][1]["ports"][0]).expect_rst()
    service(port=ports[1])
    program.wait_log(f"app be1: target {servers[1].address} is up .was down")
    assert program.count_log("app be[023]: target .* is down") == 0


def test_haproxy_stream_set_retries(proxy):
    """retries + 1 attempts, each at another server."""
    for retries in (0, 1, 3):
        targets = [f"127.0.0.1:{free_port()}" for _ in range(5)]
        program = proxy(targets=targets, retries=retries)
        program.connect().expect_rst()
        tried = [entry["target"] for entry in program.record()["tried"]]
        assert len(set(tried)) == len(tried) == retries + 1


def test_haproxy_filters_random_forwarding(proxy, target):
    """36,000 bytes and 1 MiB through a raw tunnel in pieces of every size."""
    server_side = target()
    program = proxy(targets=[server_side])
    client, server = program.connect(), server_side.accept()
    for size in (36_000, 1 << 20):
        data = bytes(n * 31 % 251 for n in range(size))
        cuts = [n % 997 + 1 for n in range(0, 40_000, 7)]
        assert exchange(client, data, cuts, server, data, cuts[::-1], fins=False) == (data, data)


def test_haproxy_log_wrong_ip_port_logging(proxy, target):
    """The addresses in the record are right although both sides are gone when it is written."""
    server_side = target()
    program = proxy(targets=[server_side], timeouts={"idle": 0.1})
    client, server = program.connect(), server_side.accept()
    name = client.address
    client.expect_rst()
    server.expect_rst()
    client.close()
    server.close()
    server_side.close()
    record = program.record()
    assert (record["client"], record["listener"]) == (name, f"127.0.0.1:{program.port}")
    assert record["target"] == server_side.address
    assert record["reason"] == "idle_timeout"


def test_haproxy_lua_close_wait_lf(proxy, service):
    """100 clients send a request with bare line feeds and hang up; no CLOSE_WAIT is left (checked in every test)."""
    program = proxy(targets=[service(answer=lambda data: b"400\n", hang_up=False)])
    for _ in range(100):
        client = program.connect()
        client.send(b"GET / HTTP/1.1\n\n").expect(b"400\n")
        client.close()
    program.records(100)


def test_haproxy_connection_tcp_half_close_reaches_a_server_that_waits_for_it(proxy, target):
    server_side = target()
    program = proxy(targets=[server_side])
    for _ in range(100):
        client, server = program.connect(), server_side.accept()
        client.send(b"all of it").fin()
        assert server.read_to_end() == b"all of it"
        server.send(b"thanks").fin()
        assert client.read_to_end() == b"thanks"


@pytest.mark.parametrize("count", [1, 3])
def test_haproxy_issue_2729_backups_are_used_only_when_no_primary_is_there(proxy, service, count):
    port = free_port()
    primary = service(greeting=b"s1", hang_up=True, port=port)
    backups = [service(greeting=b"b%d" % n, hang_up=True) for n in range(count)]
    targets = [primary.address, *({"address": item.address, "backup": True} for item in backups)]
    program = proxy(targets=targets, health=FAST)
    program.wait_log(f"target {primary.address} is up")
    assert set(greetings(program, 6)) == {"s1"}
    primary.close()
    program.wait_log(f"target {primary.address} is down")
    program.wait_greeting(b"b0", b"b1", b"b2")
    assert set(greetings(program, 6)) == {f"b{n}" for n in range(count)}
    service(greeting=b"s1", hang_up=True, port=port)
    program.wait_log(f"target {primary.address} is up .was down")
    program.wait_greeting(b"s1")
    assert set(greetings(program, 6)) == {"s1"}


def test_haproxy_issue_136_close_wait_after_a_client_that_never_closes(proxy, target):
    """The target ends, the client never does: half_closed ends it, nothing stays in CLOSE_WAIT for ever."""
    server_side = target()
    program = proxy(targets=[server_side], timeouts={"half_closed": 0.3})
    client, server = program.connect(), server_side.accept()
    server.send(b"bye").fin()
    client.expect(b"bye").expect_fin()
    client.expect_rst()
    assert program.record()["reason"] == "half_closed_timeout"
    wait_until(lambda: program.sockets() == 0, "its sockets")


def test_haproxy_startup_a_second_instance_on_the_same_port_does_not_take_over(proxy, service):
    echo = service(greeting=b"me")
    program = proxy(targets=[echo])
    other = proxy(targets=[echo], ports=[program.port], ready=False)
    assert other.wait() == 1
    assert f"127.0.0.1:{program.port}" in other.log
    with connect(program.port) as client:
        client.expect(b"me")
    program.uncounted = 1
