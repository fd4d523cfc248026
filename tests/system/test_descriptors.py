"""Thousands of sessions: idle ones cost nothing, short ones leave nothing, too many wait, all are spread evenly."""

import json
import re
import signal
import socket

import pytest

from kit import procfs
from kit.load import Load
from kit.peer import Peer
from kit.ports import free_port
from kit.waiting import settled, wait_until

MANY = 2000


@pytest.mark.slow
def test_2000_idle_sessions_cost_no_cpu_and_every_descriptor_comes_back(proxy, service):
    program = proxy(targets=[service()])
    for _ in range(MANY):
        program.connect().send(b"x").expect(b"x")
    assert program.sockets() == 2 * MANY
    program.wait_still()
    for client in program.clients:
        client.close()
    wait_until(lambda: program.sockets() == 0, "every descriptor back")
    assert len(program.records(MANY)) == MANY


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_20000_short_sessions_leave_no_descriptor_and_no_memory(proxy, service):
    program = proxy(targets=[service()])
    program.uncounted = None
    with Load(program.port, clients=8) as load:
        load.wait_sessions(2000, 60)
        warm = {pid: procfs.resident(pid) for pid in program.family()}
        load.wait_sessions(18000, 90)
    assert load.failures == []
    wait_until(lambda: program.sockets() == 0, "every descriptor back")
    grown = {pid: procfs.resident(pid) - warm[pid] for pid in program.family()}
    assert max(grown.values()) < 4 << 20, grown
    assert len(program.records(load.done)) == load.done
    assert all(procfs.threads(pid) == program.baseline[pid]["threads"] for pid in program.family())


@pytest.mark.slow
@pytest.mark.parametrize("how", ["one after another", "all at once"])
def test_2000_held_connections_over_two_workers_none_with_more_than_60_percent(proxy, service, how):
    echo = service()
    program = proxy(targets=[echo], top={"workers": 2})
    if how == "one after another":
        for _ in range(MANY):
            program.connect()
    else:
        program.clients += connect_at_once(program.port, MANY)
    wait_until(lambda: echo.active == MANY, lambda: f"{echo.active} of {MANY} sessions", 20)
    extra = [procfs.kinds(pid)["socket"] - program.baseline[pid]["socket"] for pid in program.workers()]
    shares = [count / (2 * MANY) for count in extra]
    assert sum(shares) == 1
    assert max(shares) <= 0.6, shares


def connect_at_once(port, count):
    """Clients whose SYNs are all under way before the first is answered."""
    socks = []
    for _ in range(count):
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", port))
        socks.append(sock)
    return [Peer(sock) for sock in socks]


def test_out_of_descriptors_accepting_pauses_with_one_log_line_and_resumes(proxy, service):
    """A worker with 256 descriptors has room for about 80 sessions; 150 clients come."""
    echo = service()
    program = proxy(targets=[echo], descriptors=256)
    clients = [program.connect() for _ in range(150)]
    program.wait_log("accepting pauses")
    wait_until(lambda: settled(lambda: echo.active), "the sessions there is room for")
    served = echo.active
    assert served < 120
    program.wait_still()
    assert echo.active == served
    clients[0].send(b"those inside are served").expect(b"those inside are served")
    for client in clients[:100]:
        client.close()
    for client in clients[100:]:
        client.send(b"at last").expect(b"at last")
    assert program.count_log("accepting pauses") == 1
    assert program.count_log("accepting goes on") == 1


def test_out_of_descriptors_over_and_over(proxy, service):
    """150 clients at a time through 80 places, in turns: everyone is served, nothing leaks, nothing crashes."""
    program = proxy(targets=[service()], descriptors=256)
    for _ in range(3):
        clients = [program.connect() for _ in range(150)]
        for client in clients:
            client.send(b"x")
        for client in clients:
            client.expect(b"x").fin().expect_fin()
    assert {record["reason"] for record in program.records(450)} == {"done"}


TOO_FEW = (
    r"too few descriptors: a process may have {have} \(ulimit -n\), and this configuration needs {least}, "
    r"{listeners} of them for listeners, so that each worker has room for 16 sessions: raise the limit"
)


def test_a_limit_that_leaves_room_for_too_few_sessions_refuses_the_start(proxy, service):
    """"ready" with nobody served is worse than no start."""
    program = proxy(targets=[service()], ports=[free_port() for _ in range(30)], descriptors=87, ready=False)
    assert not program.starts()
    assert program.wait() == 1
    program.wait_log("^cannot start: " + TOO_FEW.format(have=87, least=88, listeners=30) + "$")


def test_with_the_least_limit_the_sessions_that_the_log_names_are_served_and_new_ones_after_them(proxy, service):
    echo = service()
    ports = [free_port() for _ in range(30)]
    program = proxy(targets=[echo], ports=ports, descriptors=88)
    room = int(re.search("with room for ([0-9]+) sessions", program.log).group(1))
    assert room >= 16
    for _ in range(2):
        clients = [program.connect(port) for port in (ports * 3)[:room]]
        for client in clients:
            client.send(b"x").expect(b"x")
        over = [program.connect(port) for port in ports]
        wait_until(lambda: settled(lambda: echo.active), "the sessions there is room for")
        for client in clients:
            client.fin().expect_fin()
        for client in over:
            client.send(b"y").expect(b"y").fin().expect_fin()


def test_a_reload_that_would_leave_room_for_too_few_sessions_is_refused(proxy, service):
    program = proxy(targets=[service()], descriptors=100)
    first, path = program.port, next(program.folder.glob("config-*.json"))
    more = {**program.config["apps"][0], "ports": [first, *(free_port() for _ in range(42))]}
    path.write_text(json.dumps({**program.config, "apps": [more]}))
    program.signal(signal.SIGHUP)
    program.wait_log("SIGHUP: nothing was changed")
    program.wait_log("SIGHUP: " + TOO_FEW.format(have=100, least=101, listeners=43))
    program.connect(first).send(b"x").expect(b"x").fin().expect_fin()
    path.write_text(json.dumps({**program.config, "apps": [{**more, "ports": more["ports"][:-1]}]}))
    program.signal(signal.SIGHUP)
    program.wait_log("SIGHUP: done, 41 changes")
    for port in more["ports"][:-1]:
        program.connect(port).send(b"x").expect(b"x").fin().expect_fin()
    path.write_text(json.dumps(program.config))
    program.signal(signal.SIGHUP)
    program.wait_log("SIGHUP: done, 41 changes", since=len(program.lines))
