"""Groups: targets that are a server for each listening port, with one state."""

import pytest

from kit.servers import Service
from kit.waiting import wait_until


@pytest.fixture
def trio(service, free_port):
    """Three ports to listen on, and servers: trio(name) -> the `ports` of a group, greeting with name and port."""
    ports = [free_port() for _ in range(3)]
    made = {}

    def group(name):
        made[name] = {port: service(greeting=f"{name}{number}".encode()) for number, port in enumerate(ports)}
        return {"name": name, "ports": {str(port): one.address for port, one in made[name].items()}}

    return ports, group, made


def greeting(program, port):
    with program.connect(port) as client:
        return client.receive(2)


def test_each_port_has_its_server(proxy, trio):
    ports, group, _ = trio
    program = proxy(targets=[group("a")], ports=ports)
    assert [greeting(program, port) for port in ports] == [b"a0", b"a1", b"a2"]


def test_a_bare_host_keeps_the_port(proxy, servers, free_port):
    ports = [free_port() for _ in range(2)]
    for number, port in enumerate(ports):
        servers.enter_context(Service(greeting=f"h{number}".encode(), host="127.0.0.9", port=port))
    program = proxy(targets=["127.0.0.9"], ports=ports)
    assert [greeting(program, port) for port in ports] == [b"h0", b"h1"]


def test_one_server_that_fails_takes_the_whole_group_down(proxy, trio):
    ports, group, made = trio
    targets = [group("a"), group("b")]
    program = proxy(targets=targets, ports=ports, health={"interval": 0.2})
    wait_until(lambda: {greeting(program, ports[0]) for _ in range(4)} == {b"a0", b"b0"}, "both serve")
    made["a"][ports[2]].close()
    program.wait_log("target a is down.*port .*refused")
    wait_until(lambda: {greeting(program, ports[0]) for _ in range(4)} == {b"b0"}, "b alone serves")
