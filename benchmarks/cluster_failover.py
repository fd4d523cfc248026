"""How long clients are without a primary: with one proxy, with three that are one, and when the node that decides has died.

    python -m benchmarks.cluster_failover [--rounds 10] [--deaths 3] [--lease 10]

An etcd, three proxies in a cluster, one without, and two targets, on ports of 127.0.0.1. In each round the primary gives up
its port, and a client asks until the other target has greeted it; the kinds are taken in turn. A death is SIGKILL to all
processes of the node that decides, and the primary's end in the same moment; the client is at another node.
"""

import argparse
import contextlib
import json
import os
import pathlib
import signal
import socket
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from typing import Any

from benchmarks.cluster_figures import _start_etcd, beside, running, say
from benchmarks.ports import SESSION

WITHIN = 120.0  # seconds
MORE, AFTER_DEATH = 0.5, 1.0  # bounds, in seconds: beside one proxy; beside the lease
DEATH = "a node's death"


class Target:
    """It greets with its name, while it is open."""

    def __init__(self, name: str) -> None:
        self.name, self.port = name, 0
        self._listener: socket.socket | None = None
        self.open()

    def open(self) -> None:
        listener = self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = int(listener.getsockname()[1])
        threading.Thread(target=self._serve, args=(listener,), daemon=True).start()

    def close(self) -> None:
        assert self._listener is not None
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread up
        self._listener.close()

    def _serve(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                client.sendall(self.name.encode())
                client.close()


class Lab:
    """`ports` of clients and `apis`, by node; "alone" is none."""

    def __init__(self, stack: contextlib.ExitStack, folder: pathlib.Path, lease: int) -> None:
        self._folder, self._lease = folder, lease
        self._stacks: dict[str, contextlib.ExitStack] = {}
        numbers = SESSION.take(10)
        self._etcd = numbers[0]
        _start_etcd(stack, folder, *numbers[:2])
        names = ("alone", "a", "b", "c")
        self.ports = dict(zip(names, numbers[2:6], strict=True))
        self.apis = dict(zip(names, numbers[6:10], strict=True))
        self.targets = {name: Target(name) for name in "pq"}
        self.pids: dict[str, int] = {}
        stack.callback(self.stop)
        for name in names:
            self.start(name)

    def start(self, node: str) -> None:
        targets = [{"name": name, "address": f"127.0.0.1:{one.port}"} for name, one in self.targets.items()]
        failover = {"election_wait": 600}
        app = {"name": "db", "bind": "127.0.0.1", "ports": [self.ports[node]], "targets": targets, "balance": "failover",
               "failover": failover, "health": []}  # fmt: skip
        config: dict[str, Any] = {"workers": 1, "shutdown_grace": 1, "api": {"listen": f"127.0.0.1:{self.apis[node]}"}}
        if node != "alone":
            config["cluster"] = {"endpoints": [f"http://127.0.0.1:{self._etcd}"], "node": node, "lease": self._lease}
        path = self._folder / f"{node}.json"
        path.write_text(json.dumps({**config, "apps": [app]}))
        stack = self._stacks[node] = contextlib.ExitStack()
        self.pids[node] = stack.enter_context(running([sys.executable, "-m", "tcp_proxy", str(path)], "ready:"))

    def stop(self) -> None:
        for stack in self._stacks.values():
            stack.close()

    def kill(self, node: str) -> None:
        for pid in _tree(self.pids[node]):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._stacks.pop(node).close()

    def leader(self) -> str:
        """As soon as all nodes say the same."""
        end = time.monotonic() + WITHIN
        while time.monotonic() < end:
            told = {self._election(node).get("leader") for node in self._stacks if node != "alone"}
            if len(told) == 1 and told <= self._stacks.keys():
                return str(told.pop())
        raise RuntimeError(f"the nodes do not agree on a leader: {told}")

    def _election(self, node: str) -> dict[str, Any]:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{self.apis[node]}/api/v1/apps/db/election", timeout=10) as answer,
        ):
            found: dict[str, Any] = json.load(answer)
            return found
        return {}

    def greeted(self, node: str) -> str:
        """ "" for a client that is reset."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.ports[node]), WITHIN) as client:
            return client.recv(1).decode()
        return ""

    def failover(self, node: str, died: str = "") -> float:
        """Seconds, from the end of the primary until a client of the node is greeted by the other target."""
        old = self.greeted(node)
        start = time.monotonic()
        self.targets[old].close()
        if died:
            self.kill(died)
        while self.greeted(node) in ("", old):
            if time.monotonic() - start > WITHIN:
                raise RuntimeError("nobody is primary")
        taken = time.monotonic() - start
        self.targets[old].open()
        return taken


def _tree(pid: int) -> list[int]:
    children: list[int] = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            children += map(int, pathlib.Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    return [pid, *(one for child in children for one in _tree(child))]


def main() -> int:
    parser = argparse.ArgumentParser(description="How long clients are without a primary.")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--deaths", type=int, default=3)
    parser.add_argument("--lease", type=int, default=10)
    args = parser.parse_args()
    figures: dict[str, list[float]] = {
        "one proxy": [],
        "the node that decides": [],
        "another node": [],
        DEATH: [],
    }
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        lab = Lab(stack, pathlib.Path(name), args.lease)
        for _ in range(args.rounds):
            figures["one proxy"].append(lab.failover("alone"))
            leader = lab.leader()
            figures["the node that decides"].append(lab.failover(leader))
            leader = lab.leader()
            other = next(node for node in "abc" if node != leader)
            figures["another node"].append(lab.failover(other))
        for _ in range(args.deaths):
            leader = lab.leader()
            other = next(node for node in "abc" if node != leader)
            figures[DEATH].append(lab.failover(other, died=leader))
            lab.start(leader)
    for kind, times in figures.items():
        if times:
            say(f"{kind}: median {statistics.median(times):.3f} s, at most {max(times):.3f} s, of {len(times)}")
    alone = statistics.median(figures["one proxy"]) if args.rounds else 0.0
    for kind in ("the node that decides", "another node"):
        more = max(figures[kind], default=alone) - alone
        say(f"{kind}: at most {beside(more, MORE, 's')} more than one proxy's median")
    if args.deaths:
        say(f"a node's death: at most {beside(max(figures[DEATH]), args.lease + AFTER_DEATH, 's')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
