"""Three members of etcd, three proxies, three targets and their clients, each in a network of its own, joined by one router;
and what can be done to them. For root: networks, and the nodes' own clocks, are namespaces.

What is cut is dropped by the router, without a word, as by a cable that is out. Each node has its own monotonic clock, as on
a machine of its own: b's is a day and c's a year ahead. There is no namespace of the wall clock: a node is told another one
by replacing time.time in its processes (a sitecustomize of theirs).
"""

import contextlib
import itertools
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from selectors import EVENT_READ, DefaultSelector
from typing import Any

from benchmarks import procfs
from benchmarks.history import Election
from benchmarks.networks import Networks
from benchmarks.programs import Failed, find
from benchmarks.proxies import ROOT
from benchmarks.waiting import now, wait_until

MEMBERS, NODES, TARGETS = ("e0", "e1", "e2"), ("a", "b", "c"), ("p", "q", "r")
EVERYBODY = (*MEMBERS, *NODES, *TARGETS, "clients")
HOSTS = {name: f"10.77.{number}.2" for number, name in enumerate(EVERYBODY, 1)}
CLIENTS = "10.88"  # all addresses that begin like this are the clients'
DB, WEB, API, SERVER = 7001, 7002, 7003, 7004
DAY = 86_400  # seconds
AHEAD = {"a": 0, "b": DAY, "c": 365 * DAY}
WITHIN = 120.0  # seconds until something is as it has to be, on a machine that has much to do
QUOTA = 16 << 20  # bytes of a member's file
MIB = 1 << 20
CLOCK = """\
import os, time
_time, _time_ns, _ahead = time.time, time.time_ns, int(os.environ["CLOCK_AHEAD"])
time.time = lambda: _time() + _ahead
time.time_ns = lambda: _time_ns() + _ahead * 10**9
"""


class Running:
    """A program in a network, with all its processes."""

    def __init__(self, argv: list[str], log: pathlib.Path, env: dict[str, str] | None = None) -> None:
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env, start_new_session=True
            )

    def check(self) -> None:
        if self.process.poll() is not None:
            last = " | ".join(self.log.read_text(errors="replace").splitlines()[-5:])
            raise Failed(f"{self.log.stem} has ended with status {self.process.returncode}: {last}")

    def kill(self) -> None:
        for pid in procfs.tree(self.process.pid):
            _signal(pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """Every process of it stands still, also those that it has started meanwhile."""
        stopped: set[int] = set()
        while new := set(procfs.tree(self.process.pid)) - stopped:
            for pid in new:
                _signal(pid, signal.SIGSTOP)
            stopped |= new

    def go_on(self) -> None:
        for pid in procfs.tree(self.process.pid):
            _signal(pid, signal.SIGCONT)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


class Targets:
    """Each greets whoever has said something by its name and what was said. One thread serves all."""

    def __init__(self, networks: Networks) -> None:
        self._selector = DefaultSelector()
        for name in TARGETS:
            listener = networks.call(name, socket.create_server, (HOSTS[name], SERVER), backlog=1024)
            listener.setblocking(False)
            self._selector.register(listener, EVENT_READ, name)
        self._wakes, self._end = socket.socketpair()
        self._selector.register(self._wakes, EVENT_READ, None)
        self._thread = threading.Thread(target=self._run, name="targets", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._end.close()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                sock: Any = key.fileobj
                if key.data is None:
                    return
                with contextlib.suppress(OSError):
                    self._serve(sock, key.data)

    def _serve(self, sock: socket.socket, name: str) -> None:
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            client, _ = sock.accept()
            client.setblocking(False)
            self._selector.register(client, EVENT_READ, name)
            return
        try:
            if said := sock.recv(100):
                sock.send(name.encode() + said)
        finally:
            self._selector.unregister(sock)
            sock.close()


class Lab:
    def __init__(self, stack: contextlib.ExitStack, folder: pathlib.Path, lease: int) -> None:
        self._folder, self.lease = folder, lease
        self.networks = stack.enter_context(Networks())
        self._join()
        targets = Targets(self.networks)
        stack.callback(targets.close)
        self.running: dict[str, Running] = {}
        stack.callback(self._kill_all)
        self.refusal = ""  # what etcdctl said last, when it failed
        self.runs = folder / "runs"
        self._script = folder / "trigger"
        self._script.write_text(f'#!/bin/sh\nread -r up _ </proc/uptime\necho "$TCP_PROXY_EPOCH $1 $up" >>{self.runs}\n')
        self._started = now(), time.clock_gettime(time.CLOCK_BOOTTIME)
        self._script.chmod(0o755)
        clock = folder / "clock"
        clock.mkdir()
        (clock / "sitecustomize.py").write_text(CLOCK)
        for name in MEMBERS:
            self.start_member(name)
        self.until_led()
        for name in NODES:
            self.start_node(name)

    def _join(self) -> None:
        networks = self.networks
        for number, name in enumerate(EVERYBODY, 1):
            networks.join(name, f"10.77.{number}.2/30", "router", f"10.77.{number}.1/30")
            networks.ip(name, "route", "add", "default", "via", f"10.77.{number}.1")
        networks.ip("clients", "route", "add", "local", f"{CLIENTS}.0.0/16", "dev", "lo")
        networks.ip("router", "route", "add", f"{CLIENTS}.0.0/16", "via", HOSTS["clients"])
        networks.run("router", "sysctl", "-qw", "net.ipv4.ip_forward=1")

    def _kill_all(self) -> None:
        for running in self.running.values():
            running.kill()

    # -- programs

    def start_member(self, name: str) -> None:
        host, peers = HOSTS[name], ",".join(f"{one}=http://{HOSTS[one]}:2380" for one in MEMBERS)
        client, peer = f"http://{host}:2379", f"http://{host}:2380"
        argv = [
            os.environ.get("TCP_PROXY_ETCD") or find("etcd"),
            "--name", name, "--data-dir", str(self._folder / name), "--log-level", "warn",
            "--initial-cluster", peers, "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--quota-backend-bytes", str(QUOTA),
            "--heartbeat-interval", "100", "--election-timeout", "1000",
        ]  # fmt: skip
        self._start(name, argv)

    def start_node(self, name: str, clock: int = 0) -> bool:
        """Whether it serves with what the others know. `clock`: seconds that its wall clock is ahead."""
        path = self._folder / f"{name}.json"
        path.write_text(json.dumps(self._config(name)))
        ahead = str(AHEAD[name])
        argv = ["unshare", "--time", "--monotonic", ahead, "--boottime", ahead, "--fork", "--kill-child"]
        python = str(ROOT) if not clock else f"{self._folder / 'clock'}:{ROOT}"
        env = {**os.environ, "PYTHONPATH": python, "CLOCK_AHEAD": str(clock)}
        log = self._folder / f"{name}.log"
        known = log.stat().st_size if log.exists() else 0
        self._start(name, [*argv, sys.executable, "-m", "tcp_proxy.parent", str(path)], env)  # it stays over upgrades
        wait_until(lambda: self._answers(name), f"node {name} serves", WITHIN, every=0.05)
        return b"is cut off, traffic goes on" not in log.read_bytes()[known:]

    def _start(self, name: str, argv: list[str], env: dict[str, str] | None = None) -> None:
        inside = ["nsenter", f"--net={self.networks.path(name)}", *argv]
        self.running[name] = Running(inside, self._folder / f"{name}.log", env)

    def _config(self, name: str) -> dict[str, Any]:
        targets = [{"name": one, "address": f"{HOSTS[one]}:{SERVER}"} for one in TARGETS]
        app = {"bind": HOSTS[name], "targets": targets, "timeouts": {"connect": 4}}
        failover = {"triggers": [str(self._script)], "election_wait": 30, "max_backoff": 1}
        check = {"type": "tcp", "interval": 2, "timeout": 2, "fall": 3, "rise": 2}
        db = {**app, "name": "db", "ports": [DB], "balance": "failover", "failover": failover, "health": []}
        web = {**app, "name": "web", "ports": [WEB], "sticky": {"expires": 300}, "health": [check]}
        cluster = {"endpoints": [f"http://{HOSTS[one]}:2379" for one in MEMBERS], "node": name, "lease": self.lease}
        api = {"listen": f"127.0.0.1:{API}"}
        pid_file = str(self._folder / f"{name}.pid")
        return {"workers": 1, "shutdown_grace": 5, "pid_file": pid_file, "cluster": cluster, "api": api, "apps": [db, web]}

    def kill(self, name: str) -> None:
        self.running.pop(name).kill()

    def end_node(self, name: str) -> None:
        """By SIGTERM, with its grace."""
        running = self.running.pop(name)
        for pid in procfs.tree(running.process.pid)[1:2]:
            os.kill(pid, signal.SIGTERM)
        running.process.wait(WITHIN)

    def upgrade(self, name: str) -> None:
        """Another program has taken over from it, and says so itself."""
        old = self.ask(name, "upgrade", "POST")["pid"]

        def has_taken_over() -> bool:
            now = self.told(name, "upgrade")
            if now.get("state") == "failed":
                raise Failed(f"node {name} was not taken over from: {now['error']}")
            return now.get("pid", old) != old and self.state(name) != ""

        self._until(has_taken_over, f"another program has taken over from node {name}")

    def check(self) -> None:
        for running in self.running.values():
            running.check()

    # -- the network

    @contextlib.contextmanager
    def cut(self, ones: Iterable[str], others: Iterable[str]) -> Iterator[None]:
        """Nothing of the ones comes to the others, nor back."""
        pairs = [(HOSTS[one], HOSTS[other]) for one, other in itertools.product(ones, others) if one != other]
        rules = sorted({(way[0], way[1]) for pair in pairs for way in (pair, pair[::-1])})
        try:
            for source, to in rules:
                self.networks.ip("router", "rule", "add", "from", source, "to", to, "blackhole")
            yield
        finally:
            for source, to in rules:
                self.networks.ip("router", "rule", "del", "from", source, "to", to, "blackhole")

    # -- what nodes say

    def ask(self, node: str, path: str, method: str = "GET") -> Any:
        return self.networks.call(node, _ask, path, method)

    def told(self, node: str, path: str) -> Any:
        """{}: it does not say anything."""
        with contextlib.suppress(OSError):
            return self.ask(node, path)
        return {}

    def _answers(self, node: str) -> bool:
        self.running[node].check()
        return bool(self.told(node, "status"))

    def state(self, node: str) -> str:
        return str(self.told(node, "cluster").get("state", ""))

    def primary(self, nodes: Iterable[str] = NODES) -> tuple[str, str]:
        """The primary and who decides; ("", ""): the nodes do not agree."""
        told = [self.told(node, "apps/db/election") for node in nodes]
        said = {(one.get("primary", ""), one.get("leader", ""), one.get("epoch")) for one in told}
        found = said.pop()
        return ("", "") if said or "" in found else (found[0], found[1])

    def epoch(self) -> int:
        """Of the last election, as the first node knows it."""
        return int(self.ask(NODES[0], "apps/db/election")["epoch"])

    def leases(self) -> set[tuple[str, int]]:
        """Of each node, under which its key is in etcd."""
        found = json.loads(self.ctl("get", "--prefix", "/tcp-proxy/default/nodes/", "-w", "json"))["kvs"]
        return {(one["key"], one["lease"]) for one in found}

    def until_agreed(self, nodes: Iterable[str] = NODES) -> tuple[str, str]:
        nodes = tuple(nodes)
        found = ("", "")

        def is_agreed() -> bool:
            nonlocal found
            found = self.primary(nodes)
            return all(found) and found[1] in nodes

        self._until(is_agreed, f"nodes {', '.join(nodes)} agree on a primary and on who decides")
        return found

    def until_whole(self) -> None:
        """All nodes know each other, who is primary, and of which target each key is."""

        def is_whole() -> bool:
            told = [self.told(node, "cluster") for node in NODES]
            return all(one.get("state") == "joined" and len(one["members"]) == len(NODES) for one in told)

        self._until(is_whole, "all nodes are joined")
        self.until_agreed()
        self._until(lambda: self._are_equal(self.sticks), "all nodes have the same stick table")
        self._until(lambda: self._are_equal(self._states), "all nodes say the same of targets")

    def _are_equal(self, look: Callable[[str], Any]) -> bool:
        first, *others = [look(node) for node in NODES]
        return all(one == first for one in others)

    def _states(self, node: str) -> dict[str, str]:
        return {one["name"]: one["state"] for one in self.told(node, "apps/web/targets") or []}

    def sticks(self, node: str) -> dict[str, str]:
        """By key."""
        found: dict[str, str] = {}
        after = ""
        while after is not None:
            page = self.ask(node, f"apps/web/sticks?limit=1000&after={after}")
            found |= {one["key"]: one["target"] for one in page["entries"]}
            after = page["next"]
        return found

    def promote(self, node: str, target: str) -> str:
        """Why the order is refused; "" when it is not."""
        try:
            self.ask(node, f"apps/db/targets/{target}/promote", "POST")
        except OSError as error:
            return str(error)
        return ""

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        def holds() -> bool:
            self.check()
            return condition()

        wait_until(holds, what, WITHIN, every=0.05)

    # -- etcd, asked from the router

    def ctl(self, *args: str, at: Iterable[str] = MEMBERS, stdin: bytes = b"") -> str:
        """What etcdctl prints; "" when it fails."""
        endpoints = ",".join(f"http://{HOSTS[one]}:2379" for one in at)
        flags = ["--endpoints", endpoints, "--command-timeout", "10s", "--dial-timeout", "5s"]
        argv = ["nsenter", f"--net={self.networks.path('router')}", find("etcdctl"), *flags, *args]
        env = {**os.environ, "ETCDCTL_API": "3"}
        done = subprocess.run(argv, capture_output=True, input=stdin, env=env, check=False)
        self.refusal = done.stderr.decode() if done.returncode else ""
        return "" if done.returncode else done.stdout.decode()

    def has_done(self, *args: str, at: Iterable[str] = MEMBERS) -> bool:
        self.ctl(*args, at=at)
        return not self.refusal

    def leader(self, among: Iterable[str] = MEMBERS) -> str:
        """A member that says of itself that it leads; "": none does."""
        for name in among:
            if name in self.running and (text := self.ctl("endpoint", "status", "-w", "json", at=[name])):
                status = json.loads(text)[0]["Status"]
                if status.get("leader") == status["header"]["member_id"]:
                    return name
        return ""

    def until_led(self, among: Iterable[str] = MEMBERS) -> str:
        found = ""

        def is_led() -> bool:
            nonlocal found
            found = self.leader(among)
            return bool(found)

        self._until(is_led, f"{', '.join(among)} have a leader")
        return found

    def elections(self) -> list[Election]:
        """Of each run of the trigger, in order. A node's clock is whole days ahead, and shows hundredths of a second."""
        lines = self.runs.read_text().splitlines() if self.runs.exists() else []
        names = {f"{HOSTS[one]}:{SERVER}": one for one in TARGETS}
        ours, theirs = self._started
        found = []
        for epoch, address, up in map(str.split, lines):
            earliest = ours - 0.01 + (float(up) - theirs + 0.01) % DAY
            found.append(Election(int(epoch), names[address], earliest, earliest + 0.02))
        return found


def _ask(path: str, method: str) -> Any:
    request = urllib.request.Request(f"http://127.0.0.1:{API}/api/v1/{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            raise OSError(error.read().decode()) from error
