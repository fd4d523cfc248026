"""Reloads at the worst moments: what an attack on them found, and must not find again."""

import contextlib
import itertools
import os
import pathlib
import signal
import socket
import threading

import pytest

from kit import procfs
from kit.api import Api, api_config
from kit.clogged import clog
from kit.ports import free_port
from kit.waiting import settled, wait_until
from tests.system.test_reload import Config, messages


def greeted(program, count, patience=0.5):
    """How many of so many new clients are served."""
    clients = [program.connect() for _ in range(count)]
    return sum(is_served(client, patience) for client in clients)


def is_served(client, patience):
    client.sock.settimeout(patience)
    try:
        return client.sock.recv(1) != b""
    except (ConnectionResetError, TimeoutError):
        return False


def test_a_worker_that_dies_before_it_knows_of_a_limit_gives_back_no_tokens(proxy, service):
    """Its sessions began without any: to write them into the new semaphore would raise the limit for ever."""
    echo = service(greeting=b"x")
    program = proxy(targets=[echo], top={"workers": 1})
    program.uncounted = None
    file = Config(program)
    assert greeted(program, 5) == 5
    (worker,) = program.workers()
    os.kill(worker, signal.SIGSTOP)
    file.app["targets"] = [{"address": echo.address, "max_connections": 2}]
    file.write()
    program.signal(signal.SIGHUP)
    program.wait_log("max_connections: 0 -> 2")
    since = len(program.lines)
    os.kill(worker, signal.SIGKILL)
    program.wait_log("done, 1 change")
    program.wait_log("worker 0 .* serves", since=since)
    assert greeted(program, 6) == 2
    program.baseline.clear()


def test_a_listener_that_is_taken_over_has_the_keepalive_of_its_new_app(proxy, service):
    echo, ports = service(), [free_port(), free_port()]
    apps = [
        {"name": name, "ports": [port], "targets": [echo.address], "timeouts": {"keepalive": seconds}, "health": []}
        for name, port, seconds in (("quick", ports[0], 10), ("slow", ports[1], 1000))
    ]
    program = proxy({"apps": apps})
    file = Config(program)
    for first, second in ((0, 1), (1, 0)):
        apps[0]["ports"], apps[1]["ports"] = [ports[first]], [ports[second]]
        file.reload()
        for port, most, least in ((ports[first], 10, 5), (ports[second], 1000, 500)):
            client = program.connect(port).send(b"x").expect(b"x")
            assert least < keepalive_left(program, port, client) <= most


def keepalive_left(program, port, client):
    """Seconds until the proxy's end of a silent client is asked whether it is there."""
    theirs = f"{int(client.address.rpartition(':')[2]):04X}"
    for line in pathlib.Path(f"/proc/{program.pid}/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, _, timer, *_ = line.split()
        if local.endswith(f":{port:04X}") and remote.endswith(f":{theirs}"):
            kind, when = timer.split(":")
            return int(when, 16) / procfs.TICKS if kind == "02" else None
    raise AssertionError("the connection is not there")


def test_a_reload_that_comes_while_the_program_ends_is_none(proxy, service):
    program = proxy(targets=[service()], top={"workers": 2})
    file = Config(program)
    stays = program.connect().send(b"x").expect(b"x")
    program.signal(signal.SIGTERM)
    program.wait_log("no new clients")
    file.config["workers"], file.app["targets"] = 3, ["127.0.0.1:1"]
    file.write()
    for number in (signal.SIGHUP, signal.SIGUSR1):
        program.signal(number)
    stays.send(b"y").expect(b"y").fin().read_to_end()
    assert program.wait() == 0, program.log
    assert not program.count_log("reading the configuration")


@pytest.mark.parametrize("after", ["reading the configuration", "done", "added", "removed"])
def test_a_stop_at_every_stage_of_a_reload_is_a_clean_end(proxy, service, after):
    """Names that are slow to answer, listeners that change places, workers that come and go: all at once."""
    program = proxy(targets=[service()], top={"workers": 2})
    file = Config(program)
    file.app.update(ports=[*file.app["ports"], free_port()], bind="*", targets=["nowhere.invalid:1", *file.app["targets"]])
    file.config["workers"] = 3
    file.write()
    program.signal(signal.SIGHUP)
    program.wait_log(f"SIGHUP: .*{after}")
    program.signal(signal.SIGTERM)
    assert program.wait() == 0, program.log


def test_checks_that_change_while_their_probes_are_in_the_air(proxy, target, service):
    """A listener that never answers holds each probe for its whole timeout; the last word is that of the last checks."""
    silent, other = target(backlog=0), service()
    with clog(silent):
        program = proxy(targets=[silent, other], health={"interval": 60, "timeout": 30}, ready=False)
        program.wait_log("ready:")
        file = Config(program)
        name = f"127.0.0.1:{silent.port}"
        for health in ({"interval": 50, "timeout": 20}, [], {"interval": 40, "timeout": 10, "fall": 2}):
            file.app["health"] = health
            file.reload()
        file.app["health"] = {"type": "tcp", "port": other.port, "interval": 0.1, "timeout": 0.1}
        file.reload()
        program.wait_log(f"target {name} is up: tcp 127.0.0.1:{other.port}: accepted")
        file.app["health"] = {"interval": 0.1, "timeout": 0.05}
        file.reload()
        program.wait_log(f"target {name} is down")
        file.app["targets"] = [{"address": name, "name": "silent"}, other.address]
        file.app["health"] = {"interval": 0.1, "timeout": 0.05, "fall_action": "drain"}
        file.reload()
        program.wait_log("target silent is draining")
    program.uncounted = None
    program.baseline.clear()


def test_names_are_looked_up_while_reloads_take_them_away_and_bring_them_back(proxy, service):
    one = service(greeting=b"one")
    program = proxy(targets=[f"localhost:{one.port}"])
    file = Config(program)
    for n in range(20):
        names = [f"n{n % 3}.invalid:1", f"n{n % 2}.invalid:2"][: n % 3]
        file.app["targets"] = [f"localhost:{one.port}", *names] if n % 4 else [one.address]
        file.write()
        program.signal(signal.SIGHUP)
    file.app["targets"] = [f"localhost:{one.port}"]
    file.reload()
    program.wait_greeting(b"one")
    wait_until(lambda: not file.reload()[-1].count("done"), "all of them are over")
    assert program.connect().read_first() == b"one"


@contextlib.contextmanager
def taken(program, file):
    """The program wants its port on all addresses and does not get it; nor does it get the old one back, for somebody has
    been quicker. Entered when it has said that it will try again until it works."""
    port, found, over = program.port, [], threading.Event()

    def take():
        while not over.is_set():
            with contextlib.suppress(OSError):
                found.append(socket.create_server(("127.0.0.1", port)))
                return

    thread = threading.Thread(target=take, name="taker")
    with socket.create_server(("127.0.0.2", port)):
        thread.start()
        file.app["bind"] = "*"
        lines = messages(file.reload())
        assert lines[-1] == "SIGHUP: nothing was changed"
        program.wait_log("tried again until it works")
    over.set()
    thread.join()
    del file.app["bind"]
    yield found[0]
    found[0].close()


def test_a_listener_that_could_not_come_back_is_that_of_the_app_that_has_it_now(proxy, service):
    echo = service(greeting=b"x")
    program = proxy(targets=[echo])
    file, port = Config(program), program.port
    with taken(program, file) as other:
        file.app["ports"] = [free_port()]
        file.config["apps"].append({"name": "other", "ports": [port], "targets": [echo.address], "health": []})
        assert messages(file.reload())[-1].startswith("SIGHUP: done")
        other.close()
        program.wait_log("listens again")
        program.connect(port).expect(b"x")
    program.baseline.clear()  # there is one listener more


def test_a_listener_that_could_not_come_back_and_is_bound_by_a_reload_is_not_bound_twice(proxy, service):
    program = proxy(targets=[service(greeting=b"x")])
    file, port = Config(program), program.port
    with taken(program, file) as other:
        file.app["ports"] = [free_port()]
        file.reload()
        other.close()
        file.app["ports"] = [port]
        assert messages(file.reload())[-1].startswith("SIGHUP: done")
        program.connect(port).expect(b"x")
        assert settled(lambda: program.count_log("tried again until it works"), seconds=2.5)
        program.connect(port).expect(b"x")


def test_a_listener_that_could_not_come_back_opens_where_ports_are_closed_without_a_primary(proxy, service):
    refuse = {"while_electing": "refuse"}
    program = proxy(targets=[service(greeting=b"x")], balance="failover", failover=refuse)
    file, port = Config(program), program.port
    with taken(program, file) as other:
        other.close()
        program.wait_log("listens again")
        opened = (procfs.tcp_sockets(pid)["LISTEN"] for pid in itertools.cycle(program.workers()))
        wait_until(lambda: next(opened), "the port is opened too, for there is a primary")
        program.connect(port).expect(b"x")


def test_more_listeners_than_the_workers_have_descriptors_for(proxy, service):
    """To be passed them would end a worker, and every session in it: the reload is refused, and works when there is room."""
    echo = service()
    program = proxy(targets=[echo], descriptors=256, top={"workers": 2})
    clients = [program.connect() for _ in range(200)]
    program.wait_log("accepting pauses")
    wait_until(lambda: settled(lambda: echo.active), "as many sessions as there is room for")
    file, first = Config(program), program.port
    workers, served = program.workers(), echo.active
    file.app["ports"] = [first, *(free_port() for _ in range(80))]
    lines = messages(file.reload())  # beside those of a worker that goes on accepting
    assert any("80 more descriptors are needed in each worker, and worker" in line for line in lines)
    assert "SIGHUP: nothing was changed" in lines
    assert (program.workers(), echo.active) == (workers, served)
    for client in clients:
        client.close()
    wait_until(lambda: echo.active == 0, "the end of all sessions")
    assert "SIGHUP: done, 80 changes" in messages(file.reload())
    program.connect(file.app["ports"][-1]).send(b"x").expect(b"x")
    file.app["ports"] = [first]
    file.reload()
    program.uncounted = None


def test_the_limits_of_all_targets_change_while_no_worker_listens(proxy, service):
    """The semaphores wait for them and are not duplicated: there is no room for that, and a worker that cannot be given what
    it needs would be ended, with all its sessions."""
    echo, count = service(greeting=b"x"), 300
    targets = [{"name": f"t{number}", "address": echo.address, "max_connections": 5} for number in range(count)]
    networks = [f"10.{number >> 8}.{number & 255}.0/24" for number in range(500)]  # the worker is told of with each change
    accepts = {"from": networks, "others": "accept"}
    top = {"workers": 2, "api": api_config()}
    program = proxy(targets=targets, accept_proxy=accepts, top=top, descriptors=2 * count + 150)
    program.uncounted = None
    file, api = Config(program), Api.of(program)
    client = program.connect().expect(b"x")
    workers = program.workers()
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    for number in range(100):  # their channels are full then
        api.ask("PATCH", "/api/v1/apps/app/targets/t1", {"weight": 1 + number % 2}, status=200)
    for target in targets:
        target["max_connections"] = 2
    file.app["targets"] = targets
    file.write()
    program.signal(signal.SIGHUP)
    program.wait_log("max_connections: 5 -> 2")
    for worker in workers:
        os.kill(worker, signal.SIGCONT)
    program.wait_log(f"done, {count} changes")
    client.send(b"still").expect(b"still")
    assert program.workers() == workers, program.log
    assert not program.count_log("cannot be given")
    program.baseline.clear()
