"""What limits, access rules and a queue cost: CPU of a short session beside one without them, and of clients that wait.

    python -m benchmarks.limit_figures [--rounds 60] [--sessions 200] [--at-once 20] [--waiting 10000] [--before FOLDER]

All proxies run at once, on ports of 127.0.0.1, and have their turns in rounds, each in an order of its own (by lot, from a
seed); compared is within a round, so that whatever else the machine does meets all alike. A session is a connection, a byte
to the target and back, and the end; its CPU is that of its worker, by the exact clock of that process. `--at-once`: so many
clients come together, as to a busy proxy; 1: each finds one that sleeps. Two proxies have nothing set: what is between them
is chance, and so is what is not more than that. Said are the median of pairs, and the difference of the least tenths: a
machine that does much else has the first from chance. `--before`: another checkout of the project, without any of it.
"""

import argparse
import contextlib
import json
import os
import pathlib
import random
import resource
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

from benchmarks import procfs
from benchmarks.ports import SESSION
from benchmarks.waiting import pause, wait_until

NETWORKS = [f"10.{number >> 8}.{number & 255}.0/24" for number in range(9_999)]
CLIENTS = 10**6
ACCESS = {"access": {"allow": ["127.0.0.0/8", *NETWORKS[:5_000]], "deny": NETWORKS[5_000:]}}
SESSIONS = {"sessions": CLIENTS}
OF_CLIENTS = {"sessions_per_client": CLIENTS, "rate_per_client": CLIENTS}
NOTHING, CONTROL = "nothing set", "nothing set, once more"
KINDS: dict[str, dict[str, Any]] = {
    NOTHING: {},
    CONTROL: {},
    "10,000 networks": ACCESS,
    "limits.sessions": {"limits": SESSIONS},
    "limits.sessions and a queue": {"limits": {**SESSIONS, "queue": 100}},
    "a rate": {"limits": {"rate": CLIENTS}},
    "limits of each client": {"limits": OF_CLIENTS},
    "all of these": {**ACCESS, "limits": {**SESSIONS, **OF_CLIENTS, "rate": CLIENTS, "queue": 100}},
    "bytes a second": {"limits": {"bytes_per_second": 10**9}},
}
BEFORE = "the build before"
WORKER = b"tcp_proxy.dataplane.worker"
RESET = struct.pack("ii", 1, 0)


def main() -> int:
    parser = argparse.ArgumentParser(description="What limits, access rules and a queue cost.")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--sessions", type=int, default=200, help="of each proxy in a round")
    parser.add_argument("--at-once", type=int, default=20)
    parser.add_argument("--kind", action="append", choices=KINDS, help="beside nothing set; all, if not said")
    parser.add_argument("--waiting", type=int, default=10_000)
    parser.add_argument("--before", type=pathlib.Path)
    args = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        target = stack.enter_context(_target())
        proxies = {}
        if args.before is not None:
            proxies[BEFORE] = stack.enter_context(_proxy(folder, args.before.resolve(), target, {}))
        for name, keys in KINDS.items():
            if args.kind and name not in (NOTHING, CONTROL, *args.kind):
                continue
            proxies[name] = stack.enter_context(_proxy(folder, pathlib.Path.cwd(), target, keys))
        _measure_sessions(proxies, args.rounds, args.sessions, args.at_once)
        if args.waiting:
            _measure_waiting(stack, folder, target, args.waiting)
    return 0


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _measure_sessions(proxies: dict[str, tuple[int, int]], rounds: int, sessions: int, at_once: int) -> None:
    names, lots = list(proxies), random.Random(16)
    workers = {name: [pid for pid in procfs.tree(proxies[name][0]) if _is_worker(pid)] for name in names}
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-1, rounds):  # the first is not counted
        lots.shuffle(names)
        for name in names:
            before = procfs.cpu(workers[name])
            _serve(proxies[name][1], sessions, at_once)
            if number >= 0:
                found[name].append((procfs.cpu(workers[name]) - before).total / sessions * 1e6)
    base = found[NOTHING]
    say(f"{NOTHING}: {statistics.median(base):.1f} us of CPU for a session ({_quiet(base):.1f} in the quiet rounds)")
    for name in [name for name in proxies if name != NOTHING]:
        more = [one - other for one, other in zip(found[name], base, strict=True)]
        ratio = statistics.median(other / one for one, other in zip(found[name], base, strict=True))
        low, median, high = statistics.quantiles(more, n=4)
        quiet = _quiet(found[name]) - _quiet(base)
        text = f"{median:+.1f} us (half of the rounds {low:+.1f} to {high:+.1f}; {quiet:+.1f} in the quiet rounds)"
        say(f"{name}: {text}, a session with nothing set is {ratio:.3f} of it")


def _quiet(values: list[float]) -> float:
    """The tenth of the rounds in which the machine did least beside: what else it does makes each dearer, never cheaper."""
    return statistics.quantiles(values, n=10)[0]


def _is_worker(pid: int) -> bool:
    return WORKER in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()


def _serve(port: int, count: int, at_once: int) -> None:
    for _ in range(count // at_once):
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(at_once)]
            for client in clients:
                client.sendall(b"x")
            for client in clients:
                client.recv(1)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def _measure_waiting(stack: contextlib.ExitStack, folder: pathlib.Path, target: int, count: int) -> None:
    keys = {"limits": {"queue": count + 1, "queue_timeout": 600}}
    pid, port = stack.enter_context(_proxy(folder, pathlib.Path.cwd(), target, keys, most=1))
    pids = procfs.tree(pid)
    held = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
    held.sendall(b"x")
    held.recv(1)
    for waiting in (0, count):
        for _ in range(waiting):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        pause(3)  # what their coming costs is over
        before = procfs.cpu(pids)
        pause(10)
        used = (procfs.cpu(pids) - before).total
        say(f"{waiting} clients wait: {used * 100:.2f} ms of CPU in a second")


@contextlib.contextmanager
def _target() -> Iterator[int]:
    """Its port: each connection has its byte back, and is reset by the client."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as server:

        def run() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=echo, args=(client,), daemon=True).start()

        def echo(client: socket.socket) -> None:
            with client, contextlib.suppress(OSError):
                while data := client.recv(100):
                    client.sendall(data)

        threading.Thread(target=run, daemon=True).start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def _proxy(
    folder: pathlib.Path, source: pathlib.Path, target: int, keys: dict[str, Any], most: int = 0
) -> Iterator[tuple[int, int]]:
    """The process and the port of one with one worker."""
    (port,) = SESSION.take(1)
    where: dict[str, Any] = {"address": f"127.0.0.1:{target}"}
    if most:
        where["max_connections"] = most
    app = {"name": "app", "ports": [port], "targets": [where], "health": [], **keys}
    file = folder / f"{port}.json"
    file.write_text(json.dumps({"workers": 1, "access_log": None, "apps": [app]}))
    env = {**os.environ, "PYTHONPATH": str(source)}
    argv = [sys.executable, "-m", "tcp_proxy", str(file)]
    process = subprocess.Popen(argv, cwd=source, env=env, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: procfs.listens(port) and _answers(port), f"port {port}")
        yield process.pid, port
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as client:
        client.sendall(b"x")
        return client.recv(1) == b"x"
    return False


if __name__ == "__main__":
    sys.exit(main())
