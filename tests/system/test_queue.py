"""The queue of an app beside what else it may have: a primary, TLS and routes by name, sticky clients."""

import contextlib
import socket
import ssl

from kit.api import Api, api_config
from kit.certificates import Authority
from kit.waiting import wait_until


def waiting(program):
    return Api.of(program).get("/api/v1/statistics").json["apps"]["app"]["queue"]["current"]


def test_those_who_wait_for_a_primary_go_to_the_next_one(proxy, service):
    one, two = service(greeting=b"one"), service(greeting=b"two")
    targets = [{"address": each.address, "max_connections": 1} for each in (one, two)]
    program = proxy(targets=targets, balance="failover", limits={"queue": 5}, top={"api": api_config()})
    program.wait_log("is primary")
    held = program.connect().expect(b"one")
    clients = [program.connect() for _ in range(2)]
    wait_until(lambda: waiting(program) == 2, "both wait")
    Api.of(program).post(f"/api/v1/apps/app/targets/{two.address}/promote", status=202)
    clients[0].expect(b"two")
    wait_until(lambda: waiting(program) == 1, "one waits")
    clients[1].expect_silence(0.05)
    held.send(b"goes on").expect(b"goes on")
    clients[0].close()
    clients[1].expect(b"two")


def test_with_tls_and_routes_by_name_each_route_is_a_line_of_its_own(proxy, service, tmp_path):
    root, ends = Authority(), {name: service(greeting=name.encode()) for name in ("one", "two")}
    tls = {"certificates": [root.issue("a.example", "b.example").write(tmp_path, "a")]}
    targets = [{"name": name, "address": each.address, "max_connections": 1} for name, each in ends.items()]
    routes = [{"sni": "a.example", "targets": ["one"]}, {"sni": "b.example", "targets": ["two"]}]
    program = proxy(targets=targets, tls=tls, routes=routes, limits={"queue": 5}, top={"api": api_config()})
    program.uncounted = None
    context = ssl.create_default_context(cadata=root.pem)
    with contextlib.ExitStack() as stack:

        def connect(name):
            plain = stack.enter_context(socket.create_connection(("127.0.0.1", program.port), 10))
            return stack.enter_context(context.wrap_socket(plain, server_hostname=name))

        held = connect("a.example")
        assert held.recv(3) == b"one"
        waits = connect("a.example")
        wait_until(lambda: waiting(program) == 1, "it waits, with its handshake done")
        assert connect("b.example").recv(3) == b"two", "nobody of its line is before it"
        held.close()
        assert waits.recv(3) == b"one"
