"""Clients that stay with their target: over ports, workers, reloads, deaths of workers and restarts."""

import collections
import concurrent.futures
import json
import os
import signal
import socket

import pytest

from kit.api import Api, api_config, path_of
from kit.proxy import Proxy, run_to_end
from kit.waiting import wait_until

OVER = "SIGHUP: (done|nothing)"


@pytest.fixture
def farm(service, free_port):
    """farm(targets, ports): the listening ports, and targets that are groups; every server greets with its target's name."""

    def make(targets=4, ports=3):
        numbers = [free_port() for _ in range(ports)]
        groups = []
        for number in range(targets):
            servers = {str(port): service(greeting=f"t{number}".encode()).address for port in numbers}
            groups.append({"name": f"t{number}", "ports": servers})
        return numbers, groups

    return make


@pytest.fixture
def sticky(proxy):
    """The program; its sessions are too many to compare one by one."""

    def start(ports, targets, workers=1, **how):
        app = {"name": "app", "ports": ports, "targets": targets, "health": [], "sticky": {}, **how}
        program = proxy({"workers": workers, "api": api_config(), "apps": [app]})
        program.uncounted = None
        return program

    return start


def open_one(port, source="127.0.0.1", first=b""):
    client = socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(source, 0))
    if first:
        client.sendall(first)
    return client


def ask(port, source="127.0.0.1", first=b""):
    """Who serves this client?"""
    with open_one(port, source, first) as client:
        return client.recv(2, socket.MSG_WAITALL).decode()


def ask_all(pairs):
    """{(port, source): target}, eight at a time."""
    pairs = list(pairs)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return dict(zip(pairs, pool.map(lambda pair: ask(*pair), pairs), strict=True))


def known(program):
    """How many keys each target has."""
    return Api.of(program).get(path_of("app") + "/sticks").json["by_target"]


def addresses(count):
    return [f"127.7.{number // 250}.{number % 250 + 1}" for number in range(count)]


def reload(program, change):
    path = next(program.folder.glob("config-*.json"))
    change(program.config["apps"][0])
    path.write_text(json.dumps(program.config))
    since = len(program.lines)
    program.signal(signal.SIGHUP)
    program.wait_log(OVER, since=since)


@pytest.mark.timeout(180)
def test_a_thousand_clients_stay_with_one_target_each_on_all_ports_in_all_workers_and_over_a_reload(sticky, farm):
    ports, targets = farm(targets=4, ports=3)
    program = sticky(ports, targets, workers=2)
    sources = addresses(1000)
    first = ask_all((ports[number % 3], source) for number, source in enumerate(sources))
    home = {source: target for (_, source), target in first.items()}
    counts = collections.Counter(home.values())
    assert sorted(counts) == ["t0", "t1", "t2", "t3"]
    assert max(counts.values()) - min(counts.values()) <= 0.2 * 250, counts
    again = ask_all((port, source) for source in sources[::3] for port in ports)
    reload(program, lambda app: app.update(retries=2))
    again |= ask_all((port, source) for source in sources[1::3] for port in ports)
    moved = [(where, target) for where, target in again.items() if target != home[where[1]]]
    assert moved == []
    assert len(program.workers()) == 2


def test_a_drain_under_load_keeps_its_clients_and_ends_when_they_do(sticky, farm):
    ports, targets = farm(targets=2, ports=2)
    program = sticky(ports, targets, workers=2, sticky={"expires": 1.0})
    sources = addresses(40)
    clients = {source: open_one(ports[0], source) for source in sources}
    home = {source: client.recv(2, socket.MSG_WAITALL).decode() for source, client in clients.items()}
    reload(program, lambda app: app["targets"][0].update(drain=True))
    mine = [source for source in sources if home[source] == "t0"]
    assert 10 <= len(mine) <= 30
    old = ask_all((ports[1], source) for source in sources)
    assert {source: target for (_, source), target in old.items()} == home
    new = ask_all((ports[1], f"127.8.0.{number}") for number in range(1, 40))
    assert set(new.values()) == {"t1"}
    for source, client in clients.items():
        client.sendall(b"x")
        assert client.recv(1) == b"x", source
        client.close()
    wait_until(lambda: known(program).get("t0", 0) == 0, "the drain has ended", 20.0)
    assert set(ask_all((ports[0], source) for source in mine).values()) == {"t1"}


@pytest.mark.parametrize("action", ["down", "drain", "ignore"])
def test_a_target_that_fails_its_checks_and_comes_back(sticky, service, free_port, action):
    port, two = free_port(), service(greeting=b"t1")
    one, check = service(greeting=b"t0"), service()
    health = [{"type": "tcp", "interval": 0.1, "fall_action": action}]
    targets = [{"address": one.address, "name": "t0"}, {"address": two.address, "name": "t1"}]
    targets[0]["health"] = [{**health[0], "port": check.port}]
    program = sticky([port], targets, health=health)
    home = ask_all((port, source) for source in addresses(8))
    mine = [source for (_, source), target in home.items() if target == "t0"]
    check.close()
    if action != "ignore":
        program.wait_log("target t0 is (down|draining)")
    if action == "down":
        wait_until(lambda: ask(port, mine[0]) == "t1", "rewritten")
        assert set(ask_all((port, source) for source in mine).values()) == {"t1"}
    else:
        assert set(ask_all((port, source) for source in mine).values()) == {"t0"}
    sources = (f"127.8.0.{number}" for number in range(1, 255))
    wanted = {"t0", "t1"} if action == "ignore" else {"t1"}  # the log is a moment ahead of the worker
    wait_until(lambda: set(ask_all((port, next(sources)) for _ in range(8)).values()) == wanted, f"for newcomers {wanted}")
    since = len(program.lines)
    service(port=check.port)
    if action != "ignore":
        program.wait_log("target t0 is up", since=since)
        later = (f"127.8.2.{number}" for number in range(1, 255))  # the log is a moment ahead of the worker
        wait_until(lambda: ask(port, next(later)) == "t0", "newcomers go there again")
    assert set(ask_all((port, f"127.8.1.{number}") for number in range(1, 9)).values()) == {"t0", "t1"}
    stayed = set(ask_all((port, source) for source in mine).values())
    assert stayed == {"t1" if action == "down" else "t0"}, "a key that was given away stays there"


def test_a_restart_keeps_every_entry_that_has_not_expired(proxy, farm, tmp_path):
    ports, targets = farm(targets=3, ports=1)
    config = {
        "state": str(tmp_path / "state.db"),
        "apps": [{"name": "app", "ports": ports, "targets": targets, "sticky": {}, "health": []}],
    }
    program = proxy(config)
    program.uncounted = None
    home = ask_all((ports[0], source) for source in addresses(30))
    held = open_one(ports[0], "127.8.0.1")
    name = held.recv(2, socket.MSG_WAITALL).decode()
    held.close()
    assert program.stop() == 0
    again = proxy(config)
    again.uncounted = None
    assert "31 of 31 stick entries" in again.log
    assert ask_all(home) == home
    assert ask(ports[0], "127.8.0.1") == name


def test_a_crash_forgets_only_the_last_seconds(proxy, farm, tmp_path):
    ports, targets = farm(targets=3, ports=1)
    config = {
        "state": str(tmp_path / "state.db"),
        "apps": [{"name": "app", "ports": ports, "targets": targets, "sticky": {}, "health": []}],
    }
    program = proxy(config)
    program.uncounted = None
    held = open_one(ports[0], "127.8.0.1")
    name = held.recv(2, socket.MSG_WAITALL).decode()
    database = tmp_path / "state.db"
    wait_until(lambda: b"127.8.0.1" in database.read_bytes(), "it is saved", 20.0)
    program.kill()
    held.close()
    again = proxy(config)
    again.uncounted = None
    assert ask(ports[0], "127.8.0.1") == name


def test_a_worker_that_dies_releases_its_keys(sticky, farm):
    ports, targets = farm(targets=2, ports=1)
    program = sticky(ports, targets, workers=1, sticky={"expires": 1.0})
    clients = [open_one(ports[0], source) for source in addresses(10)]
    for client in clients:
        client.recv(2, socket.MSG_WAITALL)
    os.kill(program.workers()[0], signal.SIGKILL)
    for client in clients:
        with client:
            client.settimeout(20)
            try:
                assert client.recv(1) == b""
            except ConnectionResetError:
                pass
    program.wait_log("worker 0 .*ended", seconds=20)
    reload(program, lambda app: app["targets"][0].update(drain=True))
    wait_until(lambda: not known(program), "the keys of the dead worker have expired", 20.0)
    assert set(ask_all((ports[0], source) for source in addresses(10)).values()) == {"t1"}


def test_clients_behind_one_address_are_told_apart_by_their_first_bytes(sticky, service, free_port):
    port = free_port()
    servers = [service(answer=lambda data, name=name: name + data) for name in (b"t0", b"t1", b"t2")]
    key = {"key": "source_ip+first_bytes", "slice": [0, 5]}
    sticky([port], [{"address": server.address, "name": f"t{n}"} for n, server in enumerate(servers)], sticky=key)
    users = [f"user{number} says hello".encode() for number in range(6)]
    home = {user: ask(port, first=user) for user in users}
    assert set(home.values()) == {"t0", "t1", "t2"}
    assert all(ask(port, first=user[:5] + b"!") == target for user, target in home.items())


def test_who_says_nothing_is_known_by_the_address(sticky, service, free_port):
    port = free_port()
    targets = [service(greeting=name) for name in (b"t0", b"t1")]
    key = {"key": "source_ip+first_bytes", "slice": [0, 5]}
    sticky(
        [port],
        [{"address": server.address, "name": f"t{n}"} for n, server in enumerate(targets)],
        sticky=key,
        timeouts={"first_bytes": 0.2},
    )
    assert len({ask(port) for _ in range(4)}) == 1
    assert len({ask(port, source) for source in addresses(4)}) == 2


def test_a_reload_makes_an_app_sticky_and_not_sticky_any_more(sticky, farm):
    ports, targets = farm(targets=3, ports=1)
    program = sticky(ports, targets, sticky=None, workers=2)
    assert len({ask(ports[0]) for _ in range(9)}) == 3
    reload(program, lambda app: app.update(sticky={"expires": 50}))
    assert len({ask(ports[0]) for _ in range(9)}) == 1
    assert sum(known(program).values()) == 1
    held = open_one(ports[0])
    assert held.recv(2, socket.MSG_WAITALL)
    reload(program, lambda app: app.update(sticky=None))
    assert len({ask(ports[0]) for _ in range(9)}) == 3
    held.sendall(b"x")
    assert held.recv(1) == b"x"
    held.close()
    program.baseline.clear()  # the way to the tables, one socket in each worker, stays
    reload(program, lambda app: app.update(sticky={}))
    assert len({ask(ports[0]) for _ in range(9)}) == 1


def test_a_target_that_is_renamed_keeps_its_clients(sticky, service, free_port):
    port, servers = free_port(), [service(greeting=name) for name in (b"t0", b"t1")]
    targets = [{"address": one.address, "name": f"n{number}"} for number, one in enumerate(servers)]
    program = sticky([port], targets)
    home = ask_all((port, source) for source in addresses(10))
    reload(program, lambda app: [target.update(name=target["name"] + "x") for target in app["targets"]])
    assert ask_all(home) == home
    assert set(known(program)) == {"n0x", "n1x"}


def test_tcpffees_configuration_runs(proxy, service, free_port, tmp_path):
    ports = [free_port() for _ in range(2)]
    servers = {name: [service(greeting=name.encode()) for _ in ports] for name in ("t0", "t1")}
    text = f"""
    bind_addr = "127.0.0.1"
    stats_bind_socket = "127.0.0.1:{free_port()}"
    ports = {ports}
    expiration = 60
    """
    for name, ours in servers.items():
        text += f"[groups.{name}.portmap]\n"
        text += "".join(f'{port} = "{one.address}"\n' for port, one in zip(ports, ours, strict=True))
        text += f"[[groups.{name}.healthchecks]]\ninterval = 1\nfall = 1\n"
    (tmp_path / "tcpffee.toml").write_text(text)
    done = run_to_end("--import", "tcpffee.toml", cwd=tmp_path)
    assert done.returncode == 0
    program = proxy({**json.loads(done.stdout), "workers": 1})
    program.uncounted = None
    home = ask_all((ports[0], source) for source in addresses(10))
    assert set(home.values()) == {"t0", "t1"}
    servers["t0"][1].close()
    program.wait_log("target t0 is draining")
    assert ask_all(home) == home
    assert set(ask_all((ports[0], f"127.8.0.{number}") for number in range(1, 9)).values()) == {"t1"}


def test_tcpffees_own_file_is_run_and_read_again(servers, service, free_port, tmp_path, monkeypatch):
    """Its environment counts when it is started; SIGUSR1 reads the file again."""
    port, api, one, two = free_port(), free_port(), service(greeting=b"t1"), service(greeting=b"t2")
    path = tmp_path / "tcpffee.toml"

    def write(*groups):
        head = f'bind_addr = "127.0.0.1"\nports = [{port}]\nexpiration = 0.1\nstats_bind_socket = "127.0.0.1:{api}"\n'
        path.write_text(head + "".join(f'[groups.{name}.portmap]\n{port} = "{where}"\n' for name, where in groups))

    write(("g1", one.address))
    monkeypatch.setenv("TCPFFEE_CONFIG_PATH", str(path))
    monkeypatch.setenv("TCPFFEE_PID_PATH", str(tmp_path / "pid"))
    monkeypatch.setenv("RUST_LOG", "info")
    program = Proxy(None, tmp_path)
    servers.callback(program.kill)
    program.wait_ready()
    assert (tmp_path / "pid").read_text().strip() == str(program.pid)
    assert program.count_log("tcpffee.toml: stats_bind_socket: the management API listens there")
    assert ask_all([(port, "127.8.0.1")]) == {(port, "127.8.0.1"): "t1"}
    write(("g2", two.address), ("mine", f"127.0.0.1:{port}"))
    program.signal(signal.SIGUSR1)
    program.wait_log("SIGUSR1: done")
    program.wait_log("groups.mine: .*own listener.*it is left out")
    wait_until(lambda: ask_all([(port, "127.8.0.2")]) == {(port, "127.8.0.2"): "t2"}, "the new group serves")
    path.write_text("ports = [")
    program.signal(signal.SIGUSR1)
    program.wait_log("SIGUSR1: .*tcpffee.toml: this is no TOML")
    assert program.stop() == 0


def test_an_ipv4_client_of_a_dual_stack_socket_is_an_ipv4_key(sticky, farm):
    ports, targets = farm(targets=2, ports=1)
    program = sticky(ports, targets, bind="*")
    ask(ports[0], "127.0.0.1")
    with socket.create_connection(("::1", ports[0]), timeout=20) as client:
        assert client.recv(2, socket.MSG_WAITALL)
    entries = Api.of(program).get(path_of("app") + "/sticks").json["entries"]
    assert [entry["key"] for entry in entries] == ["127.0.0.1", "::/64"]
    one = Api.of(program).get(path_of("app") + "/sticks/%3A%3A%2F64").json
    assert one["key"] == "::/64"


def test_many_new_clients_at_once_meet_one_target_each_whatever_worker_they_come_to(sticky, farm):
    ports, targets = farm(targets=4, ports=3)
    program = sticky(ports, targets, workers=2)
    for source in addresses(20):
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            found = set(pool.map(lambda port, source=source: ask(port, source), ports * 2))
        assert len(found) == 1, source
    assert sum(known(program).values()) == 20
