"""What `make run-cluster` does: three proxies that are one, on this machine: an etcd, three echo targets, and what to type.

    python examples/cluster.py [--ports P1,P2,...]

Eleven ports: of the three proxies, of their APIs, of the targets, and two of etcd. Their configurations are in a folder that
is gone at the end. Ctrl-C ends everything; a proxy that is killed meanwhile is not started again: watch the others.
"""

import argparse
import contextlib
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import tempfile

from run import ECHO, catch_signals, end, here, start_echo

PORTS = (8081, 8082, 8083, 8681, 8682, 8683, 9101, 9102, 9103, 12379, 12380)
NAMES = ("one", "two", "three")

Process = subprocess.Popen[bytes]


def main() -> int:
    parser = argparse.ArgumentParser(description="Try three proxies that are one.")
    parser.add_argument("--ports", default=",".join(map(str, PORTS)), help="eleven, with commas between them")
    ports = [int(text) for text in parser.parse_args().ports.split(",")]
    if len(ports) != len(PORTS):
        parser.error(f"found {len(ports)} ports; wanted {len(PORTS)}")
    etcd = shutil.which("etcd")
    if etcd is None:
        print("etcd is not installed (Debian: apt install etcd-server)", file=sys.stderr)
        return 1
    signals = catch_signals()
    echoes: list[subprocess.Popen[str]] = []
    processes: list[Process] = []
    with tempfile.TemporaryDirectory(prefix="tcp-proxy-cluster-") as name:
        folder = pathlib.Path(name)
        try:
            if not all(start_echo(f"127.0.0.1:{port}", echoes) for port in ports[6:9]):
                return 1
            processes.append(_etcd(etcd, folder, *ports[9:]))
            _explain(folder, ports)
            proxies = [_proxy(folder, number, ports) for number in range(3)]
            processes += proxies
            return _wait(proxies, signals)
        finally:
            for process in reversed(processes):
                process.terminate()
                process.wait()
            end(echoes)


def config(number: int, ports: list[int]) -> dict[str, object]:
    """Of one of the three: they differ in their names and in where they listen."""
    targets = [{"name": f"t{at + 1}", "address": f"127.0.0.1:{port}"} for at, port in enumerate(ports[6:9])]
    web = {"name": "web", "bind": "127.0.0.1", "ports": [ports[number]], "targets": targets, "sticky": {"expires": 60}}
    cluster = {"endpoints": [f"http://127.0.0.1:{ports[9]}"], "node": NAMES[number], "lease": 5}
    api = {"listen": f"127.0.0.1:{ports[3 + number]}"}
    return {"workers": 1, "shutdown_grace": 1, "api": api, "cluster": cluster, "apps": [web]}


def _etcd(program: str, folder: pathlib.Path, port: int, peers: int) -> Process:
    urls = [f"http://127.0.0.1:{number}" for number in (port, peers)]
    command = [
        program, "--data-dir", str(folder / "etcd"), "--listen-client-urls", urls[0], "--advertise-client-urls", urls[0],
        "--listen-peer-urls", urls[1], "--initial-advertise-peer-urls", urls[1], "--initial-cluster", f"default={urls[1]}",
    ]  # fmt: skip
    with (folder / "etcd.log").open("wb") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0)


def _proxy(folder: pathlib.Path, number: int, ports: list[int]) -> Process:
    path = folder / f"{NAMES[number]}.json"
    path.write_text(json.dumps(config(number, ports), indent=2))
    return subprocess.Popen([sys.executable, "-m", "tcp_proxy", path], stdin=subprocess.DEVNULL, process_group=0)


def _explain(folder: pathlib.Path, ports: list[int]) -> None:
    python = here(sys.executable)
    ctl = f"{python} -m tcp_proxy.ctl --api 127.0.0.1"
    print(f"""
Three proxies, whose configurations are in {folder}. When each has said "ready", type in another terminal:

    {ctl}:{ports[3]} cluster        # who there is
    {python} {here(ECHO)} ask 127.0.0.1:{ports[0]}  # which target this client belongs to,
    {python} {here(ECHO)} ask 127.0.0.1:{ports[2]}  # on every proxy
    {ctl}:{ports[3]} drain web t1   # said to one of them
    {ctl}:{ports[4]} status web     # and known to all
    kill -9 PROCESS  # of one of them, from its line "ready"; after 5 s the others say that it is gone
    {python} -m tcp_proxy {folder}/one.json  # it comes back, and knows all that

Ctrl-C here stops everything.
""", flush=True)  # fmt: skip


def _wait(proxies: list[Process], signals: int) -> int:
    """Until a signal comes, or no proxy is left: the first one's status, then."""
    poll = select.poll()
    poll.register(signals, select.POLLIN)
    left = {os.pidfd_open(proxy.pid): proxy for proxy in proxies}
    try:
        for fd in left:
            poll.register(fd, select.POLLIN)
        while left:
            for fd, _ in poll.poll():
                if fd == signals:
                    return 0
                poll.unregister(fd)
                os.close(fd)
                left.pop(fd).wait()
        return proxies[0].returncode
    finally:
        for fd in left:
            with contextlib.suppress(OSError):
                os.close(fd)


if __name__ == "__main__":
    sys.exit(main())
