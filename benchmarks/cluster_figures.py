"""What a cluster costs: a client whose key is new, beside one whose key is known and beside a round trip to etcd; and a node
that joins when there are 100,000 keys.

    python -m benchmarks.cluster_figures [--keys 100000] [--clients 300] [--passes 5] [--starts 3]

An etcd, two proxies and a target, on ports of 127.0.0.1; everything ends with the program, and is there all the time. What
is compared is done in turn, in an order that changes, so that whatever else the machine does meets both alike; nothing is
timed beside what a new key leaves to be done (its watch, its lease). What has a bound is said beside it.

The round trip is what the product asks of etcd, by a client that does nothing else: the same transaction, under a lease,
over a connection that stays, in one segment. Nobody watches its key, for who is told of it is the product's.
"""

import argparse
import base64
import contextlib
import http.client
import json
import pathlib
import random
import re
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

from benchmarks.ports import SESSION
from benchmarks.waiting import pause
from tcp_proxy.control.etcd.client import PAGE

ECHO = pathlib.Path(__file__).parents[1] / "examples" / "echo.py"
PREFIX = "/tcp-proxy/default/"
AT_ONCE = 100  # keys in one transaction
# Bounds: milliseconds over a round trip; seconds that 100,000 keys may take; how fast a known key is beside no cluster.
NEW_KEY, JOIN, KNOWN_KEY = 2.0, 3.0, 0.98
FIRST = 20  # clients that are not counted
SETTLED = 0.004  # seconds between two that are timed
VALUE = '{"target": "t1", "place": "127.0.0.1:10000"}'  # as that of an entry


class Etcd:
    """Spoken to over one connection, as a client of its gateway."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lease = str(json.loads(self.ask("lease/grant", {"TTL": "3600"}))["ID"])

    def ask(self, path: str, body: dict[str, object]) -> bytes:
        """The body of the answer, as it comes: a long one is in chunks."""
        text = json.dumps(body).encode()
        head = (
            f"POST /v3/{path} HTTP/1.1\r\nHost: etcd\r\nContent-Type: application/json\r\nGrpc-Metadata-hasleader: true\r\n"
        )
        self._socket.sendall(f"{head}Content-Length: {len(text)}\r\n\r\n".encode() + text)
        answer = bytearray()
        while not _is_whole(answer):
            more = self._socket.recv(65536)
            if not more:
                raise RuntimeError("etcd has ended the connection")
            answer += more
        return bytes(answer.partition(b"\r\n\r\n")[2])

    def create(self, keys: list[str], value: str) -> None:
        """Each of them, where there is none."""
        compare = [{"key": _encoded(key), "target": "CREATE", "result": "EQUAL", "create_revision": "0"} for key in keys]
        puts = [{"request_put": {"key": _encoded(key), "value": _encoded(value), "lease": self._lease}} for key in keys]
        gets = [{"request_range": {"key": _encoded(key)}} for key in keys]
        if not self.ask("kv/txn", {"compare": compare, "success": puts, "failure": gets}).count(b'"succeeded":true'):
            raise RuntimeError(f"{keys[0]} is there already")


def _is_whole(answer: bytearray) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    size = re.search(rb"content-length: (\d+)", head.lower())
    if size is None:
        return bool(end) and body.endswith(b"\r\n0\r\n\r\n")
    return bool(end) and len(body) == int(size[1])


def main() -> int:
    parser = argparse.ArgumentParser(description="What a cluster costs.")
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=300)
    parser.add_argument("--passes", type=int, default=5, help="sessions of each client whose key is known")
    parser.add_argument("--starts", type=int, default=3, help="of a node, without keys and with them")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder, ports = pathlib.Path(name), SESSION.take(6)
        etcd = _start_etcd(stack, folder, *ports[:2])
        stack.enter_context(running([sys.executable, str(ECHO), "serve", f"127.0.0.1:{ports[2]}"], "listening"))
        stack.enter_context(_proxy(folder, "one", ports[3], ports))
        stack.enter_context(_proxy(folder, "", ports[5], ports))
        sources = [f"127.{1 + (number >> 8 & 127)}.{number & 255}.1" for number in range(args.clients + FIRST)]
        new, trip = _new_keys(etcd, ports[3], sources)
        known = _known_keys(ports[3], ports[5], sources, args.passes)
        own = f"{new - trip - known:.2f} ms of it more than a known one"
        say(f"a new key takes {beside(new - trip, NEW_KEY, 'ms')} more than a round trip, {own}")
        empty = _join(folder, ports, args.starts)
        for begin in range(0, args.keys, AT_ONCE):
            numbers = range(begin, min(begin + AT_ONCE, args.keys))
            etcd.create([f"{PREFIX}sticks/web/client-{number}" for number in numbers], '{"target": "t1"}')
        full = _join(folder, ports, args.starts)
        alone = statistics.median([_timed(lambda: _read(ports[0])) for _ in range(args.starts)])
    for keys, (taken, used) in ((0, empty), (args.keys, full)):
        say(f"a node that starts is ready after {taken:.2f} s, {used:.2f} s of CPU, with {keys} keys")
    more = full[0] - empty[0]
    say(f"{args.keys} keys take {beside(more, JOIN, 's')} and {full[1] - empty[1]:.2f} s of CPU more than none")
    say(f"etcd's gateway alone takes {alone:.2f} s for them, when nobody looks at what it says")
    return 0


def beside(found: float, bound: float, unit: str) -> str:
    """A figure and its bound."""
    return f"{found:.2f} {unit} (at most {bound:g}: {'within' if found <= bound else 'ABOVE'})"


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _new_keys(etcd: Etcd, port: int, sources: list[str]) -> tuple[float, float]:
    """Milliseconds until the target's first byte, and of a round trip to etcd. The first ones are not counted."""
    trips: list[float] = []
    new: list[float] = []
    for number, source in enumerate(sources):
        trips.append(_timed(lambda key=f"/bench/{number}": etcd.create([key], VALUE)))  # type: ignore[misc]
        _settle()
        new.append(_timed(lambda at=source: _session(port, at)))  # type: ignore[misc]
        _settle()
    return _figure("new key", new[FIRST:]), _figure("etcd round trip", trips[FIRST:])


def _known_keys(port: int, alone: int, sources: list[str], passes: int) -> float:
    """Milliseconds of the sessions whose key is known. `alone`: of a proxy without a cluster, asked in turn."""
    for source in sources:
        _session(alone, source)
    dice, pairs = random.Random(1), []
    for source in [*sources[:FIRST], *sources[FIRST:] * passes]:
        taken = {}
        for at in dice.sample([port, alone], 2):
            _settle()
            taken[at] = _timed(lambda to=at, of=source: _session(to, of))  # type: ignore[misc]
        pairs.append((taken[port], taken[alone]))
    pairs = pairs[FIRST:]
    known = _figure("known key", [pair[0] for pair in pairs])
    _figure("known key without a cluster", [pair[1] for pair in pairs])
    speed = statistics.median([without / clustered for clustered, without in pairs])
    bound = f"at least {KNOWN_KEY:g}; the median of {len(pairs)} pairs"
    say(f"a known key is {speed:.2f} times as fast as without a cluster ({bound})")
    return known


def _figure(name: str, seconds: list[float]) -> float:
    """Its median, in milliseconds."""
    say(
        f"{name}: p50 {1000 * statistics.median(seconds):.2f} ms, p90 {1000 * statistics.quantiles(seconds, n=10)[8]:.2f} ms"
    )
    return 1000 * statistics.median(seconds)


def _settle() -> None:
    """What the last one has left to be done is done before the next one is timed."""
    pause(SETTLED)


def _session(port: int, source: str) -> None:
    with socket.create_connection(("127.0.0.1", port), source_address=(source, 0)) as client:
        client.recv(1)


def _join(folder: pathlib.Path, ports: list[int], starts: int) -> tuple[float, float]:
    """Of another node: seconds from its start until it serves; and of CPU, with its end and all its processes; medians."""
    taken, used = [], []
    for _ in range(starts):
        before = _cpu_of_ended()

        def start() -> float:
            begin = time.perf_counter()
            with _proxy(folder, "two", ports[4], ports):
                return time.perf_counter() - begin

        taken.append(start())
        used.append(_cpu_of_ended() - before)
    return statistics.median(taken), statistics.median(used)


def _read(port: int) -> None:
    """All keys, in parts as the product has them; of each answer nothing is looked at but its last key."""
    connection, key = http.client.HTTPConnection("127.0.0.1", port), _encoded(PREFIX)
    text = b'"more":true'
    while b'"more":true' in text:
        body = {"key": key, "range_end": _encoded(f"{PREFIX[:-1]}0"), "limit": str(PAGE)}
        connection.request("POST", "/v3/kv/range", json.dumps(body), {"Content-Type": "application/json"})
        text = connection.getresponse().read()
        last = base64.b64decode(text[text.rindex(b'"key":"') + 7 :].partition(b'"')[0])
        key = base64.b64encode(last + b"\0").decode()
    connection.close()


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
    return running([sys.executable, "-m", "tcp_proxy", str(path)], "ready:", "is cut off")


@contextlib.contextmanager
def running(command: list[str], ready: str, wrong: str = "") -> Iterator[int]:
    """A program, from its line that has these words on: its process. `wrong`: words that no line before it has."""
    output = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with tempfile.TemporaryFile("w+") as log:
        program = subprocess.Popen(command, text=True, **output)  # type: ignore[call-overload]
        try:
            for line in program.stdout:
                log.write(line)
                if wrong and wrong in line:
                    raise RuntimeError(line)
                if ready in line:
                    break
            else:
                log.seek(0)
                raise RuntimeError(f"{command[0]} has ended: {log.read()}")
            yield program.pid
        finally:
            program.terminate()
            program.communicate()


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


if __name__ == "__main__":
    sys.exit(main())
