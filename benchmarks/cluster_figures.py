"""What a cluster costs: a client whose key is new, beside one whose key is known and beside a round trip to etcd; and a node
that joins when there are 100,000 keys.

    python -m benchmarks.cluster_figures [--keys 100000] [--clients 300]

An etcd, two proxies and a target, on ports of 127.0.0.1; everything ends with the program. The three kinds of
times are taken in turn, so that whatever else the machine does meets all alike. What has a bound is said beside it.
"""

import argparse
import base64
import contextlib
import http.client
import json
import pathlib
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

ECHO = pathlib.Path(__file__).parents[1] / "examples" / "echo.py"
PREFIX = "/tcp-proxy/default/"
AT_ONCE = 100  # keys in one transaction
# Bounds: milliseconds over a round trip; seconds that 100,000 keys may take; how fast a known key is beside no cluster.
NEW_KEY, JOIN, KNOWN_KEY = 2.0, 3.0, 0.98


class Etcd:
    """Spoken to over one connection, as a client of its gateway."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port)

    def ask(self, path: str, body: dict[str, object]) -> dict[str, object]:
        self._connection.request("POST", f"/v3/{path}", json.dumps(body), {"Content-Type": "application/json"})
        found: dict[str, object] = json.loads(self._connection.getresponse().read())
        return found

    def create(self, keys: list[str], value: str) -> None:
        """Each of them, where there is none."""
        compare = [{"key": _encoded(key), "target": "CREATE", "create_revision": "0"} for key in keys]
        puts = [{"request_put": {"key": _encoded(key), "value": _encoded(value)}} for key in keys]
        if not self.ask("kv/txn", {"compare": compare, "success": puts}).get("succeeded"):
            raise RuntimeError(f"{keys[0]} is there already")


def main() -> int:
    parser = argparse.ArgumentParser(description="What a cluster costs.")
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=300)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder, ports = pathlib.Path(name), free_ports(6)
        etcd = _start_etcd(stack, folder, *ports[:2])
        stack.enter_context(running([sys.executable, str(ECHO), "serve", f"127.0.0.1:{ports[2]}"], "listening"))
        stack.enter_context(_proxy(folder, "one", ports[3], ports))
        stack.enter_context(_proxy(folder, "", ports[5], ports))
        _sessions(etcd, ports[3], ports[5], args.clients)
        empty = _join(folder, ports)
        for begin in range(0, args.keys, AT_ONCE):
            numbers = range(begin, min(begin + AT_ONCE, args.keys))
            etcd.create([f"{PREFIX}sticks/web/client-{number}" for number in numbers], '{"target": "t1"}')
        full = _join(folder, ports)
    for keys, (taken, used) in ((0, empty), (args.keys, full)):
        say(f"a node that starts is ready after {taken:.2f} s, {used:.2f} s of CPU, with {keys} keys")
    more = full[0] - empty[0]
    say(f"{args.keys} keys take {beside(more, JOIN, 's')} and {full[1] - empty[1]:.2f} s of CPU more than none")
    return 0


def beside(found: float, bound: float, unit: str) -> str:
    """A figure and its bound."""
    return f"{found:.2f} {unit} (at most {bound:g}: {'within' if found <= bound else 'ABOVE'})"


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _sessions(etcd: Etcd, port: int, alone: int, clients: int) -> None:
    """Milliseconds until the target's first byte; the first ones are not counted. `alone`: of a proxy without a cluster."""
    names = ("etcd round trip", "new key", "known key", "known key without a cluster")
    figures: dict[str, list[float]] = {name: [] for name in names}
    for number in range(clients + 20):
        source = f"127.{1 + (number >> 8 & 127)}.{number & 255}.1"
        _session(alone, source)
        taken = (
            _timed(lambda key=f"/bench/{number}": etcd.create([key], "x")),  # type: ignore[misc]
            _timed(lambda at=source: _session(port, at)),  # type: ignore[misc]
            _timed(lambda at=source: _session(port, at)),  # type: ignore[misc]
            _timed(lambda at=source: _session(alone, at)),  # type: ignore[misc]
        )
        if number >= 20:
            for seconds, figure in zip(taken, figures.values(), strict=True):
                figure.append(1000 * seconds)
    for name, figure in figures.items():
        say(f"{name}: p50 {statistics.median(figure):.2f} ms, p90 {statistics.quantiles(figure, n=10)[8]:.2f} ms")
    above = statistics.median(figures["new key"]) - statistics.median(figures["etcd round trip"])
    speed = statistics.median(figures[names[3]]) / statistics.median(figures["known key"])
    say(f"a known key is {speed:.2f} times as fast as without a cluster (at least {KNOWN_KEY:g})")
    say(f"a new key takes {beside(above, NEW_KEY, 'ms')} more than a round trip")


def _session(port: int, source: str) -> None:
    with socket.create_connection(("127.0.0.1", port), source_address=(source, 0)) as client:
        client.recv(1)


def _join(folder: pathlib.Path, ports: list[int]) -> tuple[float, float]:
    """Of another node: seconds from its start until it serves; and of CPU, with its end and all its processes."""
    start, used = time.perf_counter(), _cpu_of_ended()
    with _proxy(folder, "two", ports[4], ports):
        taken = time.perf_counter() - start
    return taken, _cpu_of_ended() - used


def _cpu_of_ended() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _timed(do: Callable[[], object]) -> float:
    start = time.perf_counter()
    do()
    return time.perf_counter() - start


def _start_etcd(stack: contextlib.ExitStack, folder: pathlib.Path, port: int, peers: int) -> Etcd:
    urls = [f"http://127.0.0.1:{number}" for number in (port, peers)]
    own = ["--listen-client-urls", urls[0], "--advertise-client-urls", urls[0], "--listen-peer-urls", urls[1]]
    command = ["etcd", "--data-dir", str(folder / "etcd"), *own, "--initial-advertise-peer-urls", urls[1]]
    command += ["--initial-cluster", f"default={urls[1]}"]
    stack.enter_context(running(command, "ready to serve client requests"))
    return Etcd(port)


def _proxy(folder: pathlib.Path, node: str, port: int, ports: list[int]) -> "contextlib.AbstractContextManager[int]":
    targets = [{"name": "t1", "address": f"127.0.0.1:{ports[2]}"}]
    sticky = {"size": 1_000_000, "expires": 3600}
    app = {"name": "web", "bind": "127.0.0.1", "ports": [port], "targets": targets, "sticky": sticky, "health": []}
    cluster = {"cluster": {"endpoints": [f"http://127.0.0.1:{ports[0]}"], "node": node}} if node else {}
    path = folder / f"{node or 'alone'}.json"
    path.write_text(json.dumps({"workers": 1, "shutdown_grace": 1, **cluster, "apps": [app]}))
    return running([sys.executable, "-m", "tcp_proxy", str(path)], "ready:")


@contextlib.contextmanager
def running(command: list[str], ready: str) -> Iterator[int]:
    """A program, from its line that has these words on: its process."""
    output = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with tempfile.TemporaryFile("w+") as log:
        program = subprocess.Popen(command, text=True, **output)  # type: ignore[call-overload]
        try:
            for line in program.stdout:
                log.write(line)
                if ready in line:
                    break
            else:
                log.seek(0)
                raise RuntimeError(f"{command[0]} has ended: {log.read()}")
            yield program.pid
        finally:
            program.terminate()
            program.communicate()


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(sock.getsockname()[1]) for sock in socks]


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


if __name__ == "__main__":
    sys.exit(main())
