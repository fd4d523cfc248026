"""Where it listens and where targets are: IPv4, IPv6, both at once, lists, ranges, UNIX sockets, names, kept ports."""

import contextlib
import socket

import pytest

from kit.peer import connect
from kit.ports import free_ports
from kit.waiting import Stopwatch


def round_trip(client, server):
    client.send(b"question").fin()
    server.expect(b"question").expect_fin().send(b"answer").fin()
    client.expect(b"answer").expect_fin()


@pytest.mark.parametrize(("listen", "serve"), [("::1", "::1"), ("::1", "127.0.0.1"), ("127.0.0.1", "::1")])
def test_ipv6_on_either_side(proxy, target, listen, serve):
    server_side = target(host=serve)
    program = proxy(targets=[server_side], bind=listen)
    round_trip(program.connect(host=listen), server_side.accept())
    record = program.record()
    bracketed = f"[{listen}]" if ":" in listen else listen
    assert record["listener"] == f"{bracketed}:{program.port}"
    assert record["client"] == program.clients[0].address
    assert record["target"] == server_side.address


def test_the_star_listens_on_both_kinds_and_shows_ipv4_clients_as_ipv4(proxy, target):
    server_side = target()
    program = proxy(targets=[server_side], bind="*")
    for host in ("127.0.0.1", "::1"):
        round_trip(program.connect(host=host), server_side.accept())
    assert {record["client"] for record in program.records(2)} == {client.address for client in program.clients}
    assert program.records(2)[0]["client"].startswith("127.0.0.1:")


def test_an_explicit_ipv6_wildcard_leaves_ipv4_alone(proxy, target):
    server_side = target()
    program = proxy(targets=[server_side], bind="::")
    round_trip(program.connect(host="::1"), server_side.accept())
    with pytest.raises(ConnectionRefusedError):
        connect(program.port)


def test_a_list_of_addresses(proxy, target):
    server_side = target()
    program = proxy(targets=[server_side], bind=["127.0.0.1", "127.0.0.2", "::1"])
    for host in ("127.0.0.1", "127.0.0.2", "::1"):
        round_trip(program.connect(host=host), server_side.accept())
    listeners = {record["listener"] for record in program.records(3)}
    assert listeners == {f"127.0.0.1:{program.port}", f"127.0.0.2:{program.port}", f"[::1]:{program.port}"}


def test_many_ports_ranges_and_apps(proxy, service):
    """Every port belongs to its own app, and to no other one."""
    one, two = service(greeting=b"one"), service(greeting=b"two")
    ports = free_ports(8)
    program = proxy({
        "apps": [
            {"name": "one", "ports": [f"{ports[0]}-{ports[3]}", ports[4]], "targets": [one.address], "health": []},
            {"name": "two", "ports": [ports[5], f"{ports[6]}-{ports[7]}"], "targets": [two.address], "health": []},
        ]
    })
    for port in ports:
        program.connect(port).expect(b"one" if port <= ports[4] else b"two").fin().expect_fin()
    records = program.records(8)
    assert [record["app"] for record in records] == ["one"] * 5 + ["two"] * 3
    assert [record["listener"] for record in records] == [f"127.0.0.1:{port}" for port in ports]


@pytest.mark.slow
def test_a_thousand_listeners(proxy, service):
    """More descriptors than fit in one message to a worker."""
    ports = free_ports(250)
    addresses = [f"127.0.0.{n}" for n in range(1, 5)]
    echo = service()
    program = proxy({
        "apps": [{"name": "wide", "bind": addresses, "ports": ports, "targets": [echo.address], "health": []}],
        "workers": 2,
    })
    for host, port in zip(addresses, (ports[0], ports[100], ports[200], ports[-1]), strict=True):
        program.connect(port, host=host).send(b"x").expect(b"x")


def test_a_unix_target(proxy, target, tmp_path):
    server_side = target(path=tmp_path / "server.sock")
    program = proxy(targets=[server_side])
    round_trip(program.connect(), server_side.accept())
    assert program.record()["target"] == f"unix:{tmp_path}/server.sock"


def test_a_unix_target_that_closes_with_unread_bytes(proxy, target, tmp_path):
    """It has no RST of its own, but its early end must not look like a complete answer if the client still sends."""
    server_side = target(path=tmp_path / "server.sock")
    program = proxy(targets=[server_side])
    client, server = program.connect(), server_side.accept()
    client.send(b"unread")
    server.wait_readable().close()
    client.read_to_end()
    assert client.ended == "rst"
    assert program.record()["reason"] == "target_reset"


def test_a_client_reset_closes_a_unix_target(proxy, target, tmp_path):
    server_side = target(path=tmp_path / "server.sock")
    program = proxy(targets=[server_side])
    client, server = program.connect(), server_side.accept()
    client.send(b"x")
    server.expect(b"x")
    client.rst()
    server.read_to_end()
    assert program.record()["reason"] == "client_reset"


def test_a_name_is_resolved(proxy, target):
    server_side = target()
    program = proxy(targets=[f"localhost:{server_side.port}"])
    for _ in range(6):
        round_trip(program.connect(), server_side.accept())
    records = program.records(6)
    assert {record["reason"] for record in records} == {"done"}
    assert {record["target"] for record in records} == {f"localhost:{server_side.port}"}


@pytest.mark.slow
def test_a_name_that_does_not_resolve_at_start_is_a_down_target_with_that_reason(proxy, target):
    server_side = target()
    watch = Stopwatch()
    program = proxy(targets=["no-such-host.invalid:80", server_side])
    assert watch.seconds < 32
    program.wait_log("no-such-host.invalid")
    for _ in range(4):
        round_trip(program.connect(), server_side.accept())
    assert all(record["tried"] == [] for record in program.records(4))


@pytest.mark.slow
def test_only_a_name_that_does_not_resolve_is_no_target(proxy):
    program = proxy(targets=["no-such-host.invalid:80"])
    program.connect().expect_rst()
    assert program.record()["reason"] == "no_target"


def test_a_named_target_is_called_by_its_name(proxy, target):
    server_side = target()
    program = proxy(targets=[{"address": server_side.address, "name": "blue"}])
    round_trip(program.connect(), server_side.accept())
    assert program.record()["target"] == "blue"


def test_a_unix_target_that_passes_a_descriptor_in_mid_stream(proxy, target, tmp_path):
    """A read stops at such a message, short and not at the end (9.1); the descriptor goes nowhere, the bytes all do."""
    server_side = target(path=tmp_path / "server.sock")
    program = proxy(targets=[server_side])
    client, server = program.connect(), server_side.accept()
    for _ in range(20):
        server.send(b"before")
        server.sent += socket.send_fds(server.sock, [b"with"], [server.sock.fileno()])
        server.send(b"after")
    server.fin()
    client.expect(b"beforewithafter" * 20).expect_fin().fin()
    server.expect_fin()
    assert program.record()["bytes_down"] == 300


def test_two_apps_that_lead_to_each_other_by_name_do_not_go_round(proxy, service):
    """The address that closes the circle is left out when it is resolved; the other app, and all others, serve."""
    server = service(greeting=b"hello")
    one, two, three = free_ports(3)
    apps = [
        {"name": "one", "ports": [one], "targets": [f"localhost:{two}"], "health": []},
        {"name": "two", "ports": [two], "targets": [f"localhost:{one}"], "health": []},
        {"name": "three", "ports": [three], "targets": [server.address], "health": []},
    ]
    program = proxy({"apps": apps})
    program.uncounted = None
    program.wait_log("ready:")
    for port in (one, two):
        # It may be reset before it has heard that it is connected.
        with contextlib.suppress(ConnectionResetError), socket.create_connection(("127.0.0.1", port), 5) as client:
            client.settimeout(5)
            assert client.recv(1) == b""
    with socket.create_connection(("127.0.0.1", three), 5) as client:
        client.settimeout(5)
        assert client.recv(5) == b"hello"
    ends = [record["app"] for record in program.records(4)]
    assert sorted(ends) in (["one", "one", "three", "two"], ["one", "three", "two", "two"]), "nobody went round"
