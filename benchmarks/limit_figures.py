"""What limits, access rules and a queue cost: CPU of a short session beside one without them, and of clients that wait.

    python -m benchmarks.limit_figures [--rounds 15] [--sessions 1500] [--waiting 10000] [--before FOLDER]

All proxies run at once, on ports of 127.0.0.1, and have their turns in rounds of a second or less, each round beginning with
another one; compared is within a round, so that whatever else the machine does meets all alike. A session is a connection, a
byte to the target and back, and the end; its CPU is that of all processes of the proxy. `--before`: another checkout of the
project, which is measured without any of it.
"""

import argparse
import contextlib
import json
import os
import pathlib
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
from benchmarks.waiting import pause, wait_until

NETWORKS = [f"10.{number >> 8}.{number & 255}.0/24" for number in range(9_999)]
CLIENTS = 10**6
ACCESS = {"access": {"allow": ["127.0.0.0/8", *NETWORKS[:5_000]], "deny": NETWORKS[5_000:]}}
SESSIONS = {"sessions": CLIENTS}
OF_CLIENTS = {"sessions_per_client": CLIENTS, "rate_per_client": CLIENTS}
KINDS: dict[str, dict[str, Any]] = {
    "nothing set": {},
    "10,000 networks": ACCESS,
    "limits.sessions": {"limits": SESSIONS},
    "limits of each client": {"limits": OF_CLIENTS},
    "all of these": {**ACCESS, "limits": {**SESSIONS, **OF_CLIENTS}},
}
BEFORE = "the build before"
RESET = struct.pack("ii", 1, 0)


def main() -> int:
    parser = argparse.ArgumentParser(description="What limits, access rules and a queue cost.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--sessions", type=int, default=1500, help="of each proxy in a round")
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
            proxies[name] = stack.enter_context(_proxy(folder, pathlib.Path.cwd(), target, keys))
        _measure_sessions(proxies, args.rounds, args.sessions)
        _measure_waiting(stack, folder, target, args.waiting)
    return 0


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _measure_sessions(proxies: dict[str, tuple[int, int]], rounds: int, sessions: int) -> None:
    names = list(proxies)
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-1, rounds):  # the first is not counted
        for name in names[number % len(names) :] + names[: number % len(names)]:
            pid, port = proxies[name]
            pids = procfs.tree(pid)
            before = procfs.cpu(pids)
            _serve(port, sessions)
            if number >= 0:
                found[name].append((procfs.cpu(pids) - before).total / sessions * 1e6)
    base = found["nothing set"]
    for name, times in found.items():
        more = statistics.median(one - other for one, other in zip(times, base, strict=True))
        ratio = statistics.median(other / one for one, other in zip(times, base, strict=True))
        text = f"{name}: {statistics.median(times):.1f} us of CPU for a session"
        say(text if name == "nothing set" else f"{text}, {more:+.1f} us (a session with nothing set is {ratio:.3f} of it)")


def _serve(port: int, count: int) -> None:
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"x")
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
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
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
