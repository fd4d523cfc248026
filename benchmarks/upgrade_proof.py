"""Whether upgrades lose anything: many programs take over from each other, one after another, under load of every kind.

    python -m benchmarks.upgrade_proof [--upgrades 100] [--idle 1000] [--waiting 64]

wrk on kept and on fresh connections, in both modes; pgbench, kept and fresh; iperf3 both ways; and sessions with both ends
in one process (helpers.checked_sessions): bulk, short messages, half-closed, a reader that stopped with `--waiting` MiB on
their way to it, `--idle` that say nothing, Redis's publish and subscribe. Each program is told to take over as soon as the
one before it has. At the end nothing may have failed, every stream be whole by its SHA-256, the counters equal the records
and, where it is known, what the loads did; and nothing may be left: no process, no session's socket, no byte in a pipe, no
descriptor more than at the start. All is on ports of 127.0.0.1. Status 1: something was found, and said.
"""

import argparse
import contextlib
import fcntl
import http.client
import json
import os
import pathlib
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
from collections import Counter
from typing import Any

from benchmarks import procfs, upgrade_loads
from benchmarks.lab import NGINX, raise_descriptor_limit
from benchmarks.ports import SESSION
from benchmarks.programs import Failed, Program, find
from benchmarks.proxies import ROOT, descriptor_limit
from benchmarks.upgrade_loads import Load
from benchmarks.waiting import now, pause, wait_until

SERVERS = ("nginx", "postgres", "iperf", "redis", "checked")
APPS = {"web": "nginx", "plain": "nginx", "pg": "postgres", "iperf": "iperf", "redis": "redis", "checked": "checked"}
# How their sessions may end: wrk breaks off what is under way when it is told to end, and iperf3's server what it sends.
ENDS = {name: {"done", "client_reset", "client_gone"} for name in APPS} | {"checked": {"done"}, "redis": {"done"}}
ENDS["iperf"].add("target_reset")
TAKES_OVER_WITHIN = 120.0  # seconds, on a machine that has much to do
BAD_WORDS = ("Traceback", "internal error", "Exception ignored", "ERROR", "CRITICAL", "WARNING")
MIB = 1 << 20
COUNTERS = "/memfd:tcp_proxy counters (deleted)"


class Line:
    """The programs, one after another, on the same files and ports; the last one runs."""

    def __init__(self, folder: pathlib.Path, config: dict[str, Any]) -> None:
        self.folder, self.port = folder, int(config["api"]["listen"].rpartition(":")[2])
        self.log = folder / "proxy.log"
        self._path = folder / "config.json"
        self._path.write_text(json.dumps(config))
        self.workers: set[int] = set()  # all that there have been
        self._programs: list[subprocess.Popen[bytes]] = []  # the same
        self.process = self._start()
        wait_until(lambda: "ready:" in self._said(self.process), "the program serves", TAKES_OVER_WITHIN)
        self.workers.update(self.family()[1:])

    def _start(self, *flags: str) -> "subprocess.Popen[bytes]":
        with self.log.open("ab") as log:
            self._from = log.tell()
            process = subprocess.Popen(
                [sys.executable, "-m", "tcp_proxy", *flags, str(self._path)], cwd=self.folder, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True,
            )  # fmt: skip
        self._programs.append(process)
        return process

    def _said(self, process: "subprocess.Popen[bytes]") -> str:
        """Since the last one was started."""
        text = self.log.read_bytes()[self._from :].decode(errors="replace")
        if process.poll() is not None:
            raise Failed(f"the program has ended with {process.returncode}: {text[-2000:]}")
        return text

    def upgrade(self) -> None:
        """Another one has taken over, and the one before it has ended well."""
        self.workers.update(self.family()[1:])
        old, new = self.process, self._start("--takeover")
        self.process = new
        wait_until(lambda: "ready:" in self._said(new), "the new program serves", TAKES_OVER_WITHIN)
        if (status := old.wait(TAKES_OVER_WITHIN)) != 0:
            raise Failed(f"the old program has ended with status {status}")
        if (self.folder / "proxy.pid").read_text().strip() != str(new.pid):
            raise Failed("the pid file names another process")

    def family(self) -> list[int]:
        """The program and its workers."""
        found = procfs.tree(self.process.pid)
        lines = {pid: _command_line(pid) for pid in found}
        return [found[0], *(pid for pid in found[1:] if b"tcp_proxy.dataplane.worker" in lines[pid])]

    def wait_old_workers(self) -> None:
        mine = set(self.family())
        wait_until(lambda: not any(map(_is_worker, self.workers - mine)), "the end of all old workers", TAKES_OVER_WITHIN)

    def counted(self, seconds: float = 30.0) -> dict[str, Any] | None:
        """The API's process ends and begins with each program: None when it does not answer in this time."""
        until = now() + seconds
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
                connection.request("GET", "/api/v1/statistics")
                found: dict[str, Any] = json.loads(connection.getresponse().read())
                return found
            if now() > until:
                return None
            pause(0.05)

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(60)

    def kill(self) -> None:
        """Whoever is left of all of them: when one could not take over, that is the one before it, too."""
        for process in self._programs:
            for pid in procfs.tree(process.pid) if process.poll() is None else ():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()
        for pid in filter(_is_worker, self.workers):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def main() -> int:
    parser = argparse.ArgumentParser(description="Whether upgrades lose anything.")
    parser.add_argument("--upgrades", type=int, default=100)
    parser.add_argument("--idle", type=int, default=1000, help="sessions that say nothing")
    parser.add_argument("--waiting", type=int, default=64, help="MiB on their way to a reader that has stopped")
    args = parser.parse_args()
    raise_descriptor_limit()
    for number in (signal.SIGTERM, signal.SIGINT):  # all that was started is ended, also where a shell has SIGINT ignored
        signal.signal(number, lambda *_: sys.exit(1))
    try:
        problems = _prove(args.upgrades, args.idle, args.waiting)
    except (Failed, TimeoutError) as error:
        problems = [str(error)]
    for problem in problems:
        say(f"WRONG: {problem}")
    say("something was lost" if problems else "nothing was lost, nothing is left")
    return 1 if problems else 0


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _prove(upgrades: int, idle: int, waiting: int) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="tcp-proxy-upgrades-") as name, contextlib.ExitStack() as stack:
        folder = pathlib.Path(name)
        servers = dict(zip(SERVERS, SESSION.take(len(SERVERS)), strict=True))
        ports = dict(zip((*APPS, "api"), SESSION.take(len(APPS) + 1), strict=True))
        _start_servers(stack, folder, servers)
        line = Line(folder, _config(ports, servers))
        stack.callback(line.kill)
        line.counted()
        before = [_kinds(pid) for pid in line.family()]
        loads = _start_loads(stack, folder, ports, servers, idle, waiting)
        problems = _upgrade(line, upgrades, loads)
        found = {}
        for load in loads:
            found[load.name], more = load.end()
            problems += more
            say(f"{load.name}: {', '.join(f'{key} {value}' for key, value in found[load.name].items())}")
        line.wait_old_workers()
        problems += _count(line, folder, found, servers)
        problems += _left(line, before)
        if (status := line.stop()) != 0:
            problems.append(f"the last program has ended with status {status}")
        problems += _said(line.log)
    return problems


def _start_servers(stack: contextlib.ExitStack, folder: pathlib.Path, servers: dict[str, int]) -> None:
    config, user = folder / "nginx.conf", "user root;" if os.geteuid() == 0 else ""
    config.write_text(NGINX.format(port=servers["nginx"], folder=folder, descriptors=descriptor_limit()))
    argv = [find("nginx"), "-p", folder, "-e", folder / "error.log", "-g", user, "-c", config]
    programs = [
        Program(argv, folder, [servers["nginx"]]),
        Program([find("iperf3"), "-s", "-B", "127.0.0.1", "-p", servers["iperf"]], folder, [servers["iperf"]]),
        upgrade_loads.redis(folder, servers["redis"]),
    ]
    for program in programs:
        stack.callback(program.stop)
    for program in programs:
        program.wait_listening()
    stack.enter_context(upgrade_loads.postgres(servers["postgres"]))


def _config(ports: dict[str, int], servers: dict[str, int]) -> dict[str, Any]:
    apps: list[dict[str, Any]] = []
    for name, server in APPS.items():
        target: dict[str, Any] = {"name": "t", "address": f"127.0.0.1:{servers[server]}"}
        if name == "plain":
            target["max_connections"] = 40  # a token that each take-over loses would be missed
        app: dict[str, Any] = {"name": name, "bind": "127.0.0.1", "ports": [ports[name]], "targets": [target], "health": []}
        app |= {"timeouts": {"connect": 30}, "access_log_format": "json"}
        if name == "web":
            app |= {"mode": "http", "upstream_idle": 1}  # connections that rest are not what is left
        apps.append(app)
    files = {"pid_file": "proxy.pid", "state": "proxy.state", "access_log": "access.log"}
    return {"workers": 2, **files, "api": {"listen": f"127.0.0.1:{ports['api']}"}, "apps": apps}


def _start_loads(
    stack: contextlib.ExitStack,
    folder: pathlib.Path,
    ports: dict[str, int],
    servers: dict[str, int],
    idle: int,
    waiting: int,
) -> list[Load]:
    told = {"port": ports["checked"], "target": servers["checked"], "redis": ports["redis"]}
    loads = [
        upgrade_loads.checked({**told, "idle": idle, "waiting": waiting * MIB}),
        upgrade_loads.wrk("wrk kept, mode http", folder, ports["web"], kept=True),
        upgrade_loads.wrk("wrk fresh, mode http", folder, ports["web"], kept=False),
        upgrade_loads.wrk("wrk kept, mode tcp", folder, ports["plain"], kept=True),
        upgrade_loads.wrk("wrk fresh, mode tcp", folder, ports["plain"], kept=False),
        upgrade_loads.pgbench("pgbench kept", ports["pg"], "-c", 4, "-j", 1),
        upgrade_loads.pgbench("pgbench fresh", ports["pg"], "-c", 2, "-j", 1, "-C", "-S"),
        upgrade_loads.iperf3(ports["iperf"]),
    ]
    for load in loads:
        stack.callback(load.kill)
    return loads


def _upgrade(line: Line, upgrades: int, loads: list[Load]) -> list[str]:
    times, problems, totals = [], [], 0
    for number in range(1, upgrades + 1):
        start = now()
        line.upgrade()
        times.append(now() - start)
        problems += [problem for load in loads for problem in load.check()]
        if number % 10 == 0 or number == upgrades:
            told = line.counted() or {"sessions": {"total": totals}}
            total = told["sessions"]["total"]
            if total < totals:
                problems.append(f"sessions in all have fallen from {totals} to {total} with upgrade {number}")
            totals = total
            load1 = os.getloadavg()[0]
            say(f"{number} upgrades, {statistics.median(times):.1f} s each, {totals} sessions so far, load {load1:.1f}")
        if problems:
            break
    return problems


def _count(line: Line, folder: pathlib.Path, found: dict[str, dict[str, Any]], servers: dict[str, int]) -> list[str]:
    """The counters against the records, and against what is known otherwise."""
    problems: list[str] = []
    records: dict[str, Counter[str]] = {name: Counter() for name in APPS}
    told: dict[str, Any] = {}

    def are_equal() -> bool:
        """The last records and counts may be on their way."""
        nonlocal told
        problems.clear()
        told = line.counted() or {"apps": {}, "sessions": {"current": "unknown"}}
        for counts in records.values():
            counts.clear()
        ids: Counter[str] = Counter()
        for text in (folder / "access.log").read_text().splitlines():
            record = json.loads(text)
            if "request" in record:
                records[record["app"]][f"{str(record['status'])[0]}xx"] += 1
                continue
            ids[record["id"]] += 1
            records[record["app"]].update({"sessions": 1, "up": record["bytes_up"], "down": record["bytes_down"]})
        problems.extend(f"{count} records of session {one}" for one, count in ids.items() if count > 1)
        problems.extend(compare(told, records, found))
        return not problems

    with contextlib.suppress(TimeoutError):
        wait_until(are_equal, "the counters are exact", 20.0, every=0.5)
    done = found["pgbench kept"].get("transactions")
    history = upgrade_loads.sql(servers["postgres"], "select count(*), sum(delta) from pgbench_history").split("|")
    balance = upgrade_loads.sql(servers["postgres"], "select sum(abalance) from pgbench_accounts")
    if str(done) != history[0] or balance != history[1]:
        problems.append(f"pgbench has done {done} transactions, PostgreSQL {history[0]}; sums {history[1]} and {balance}")
    return problems


def compare(told: dict[str, Any], records: dict[str, Counter[str]], found: dict[str, dict[str, Any]]) -> list[str]:
    problems = []
    if told["sessions"]["current"]:
        problems.append(f"{told['sessions']['current']} sessions are said to be there")
    checked = found["checked sessions"]
    known = {"checked": {"sessions": checked.get("sessions"), "up": checked.get("up"), "down": checked.get("down")}}
    known["redis"] = {"sessions": checked.get("redis_sessions")}
    known["iperf"] = {"sessions": 3}
    for name, app in told["apps"].items():
        counted = {"sessions": app["sessions"]["total"], **app["bytes"]}
        if name != "web" and counted != dict(records[name]):
            problems.append(f"app {name}: {counted} counted, {dict(records[name])} in the records")
        if name == "web":
            statuses = app["targets"]["t"]["requests"]["statuses"]
            answered = {status: count for status, count in statuses.items() if count and status != "none"}
            if set(answered) != {"2xx"} or answered["2xx"] != records[name]["2xx"]:
                problems.append(f"app web: answers {answered} counted, {dict(records[name])} in the records")
        for key, value in known.get(name, {}).items():
            if counted[key] != value:
                problems.append(f"app {name}: {key} {counted[key]} counted, {value} made")
        ends = {reason: count for reason, count in app["session_ends"].items() if count}
        if set(ends) - ENDS[name]:
            problems.append(f"app {name}: sessions have ended by {ends}")
    return problems


def _left(line: Line, before: list[Counter[str]]) -> list[str]:
    """What there is beside what there was before the first client."""
    found: list[str] = []

    def nothing() -> bool:
        found.clear()
        family = line.family()
        inodes = _sessions_sockets()
        for pid, was in zip(family, before, strict=True):
            kinds = _kinds(pid)
            if sockets := _sockets(pid) & set(inodes):
                where = ", ".join(inodes[one] for one in sorted(sockets)[:10])
                found.append(f"process {pid} has {len(sockets)} sockets of sessions: {where}")
            if waiting := _waiting_in_pipes(pid):
                found.append(f"process {pid} has {waiting} bytes in pipes")
            is_worker = pid != family[0]
            # Relay threads and pools of pipes; and each process has the counters' memory once more for each time that it got
            # rows, for workers of programs that were there at once. They are given out again.
            spare = {"pipe": 64, "anon_inode": 8, COUNTERS: 3} if is_worker else {COUNTERS: 3}
            for kind in kinds:
                if kinds[kind] > was[kind] + spare.get(kind, 0):
                    found.append(f"process {pid}: {kinds[kind]} of kind {kind}, {was[kind]} before the first client")
        return not found

    with contextlib.suppress(TimeoutError):
        wait_until(nothing, "nothing is left", 20.0, every=0.2)
    return found


def _said(log: pathlib.Path) -> list[str]:
    lines = log.read_text(errors="replace").splitlines()
    # The API's process is ended when it says nothing for 10 s, as on a machine that has too much to do; it has no traffic.
    bad = [text for text in lines if any(word in text for word in BAD_WORDS) and "management API" not in text]
    return [f"the log says: {text}" for text in bad[:10]]


# -- what /proc says


def _kinds(pid: int) -> Counter[str]:
    links = (link for _, link in _descriptors(pid))
    return Counter(link if link == COUNTERS else "file" if link.startswith("/") else link.split(":")[0] for link in links)


def _sockets(pid: int) -> set[str]:
    return {link[8:-1] for _, link in _descriptors(pid) if link.startswith("socket:[")}


def _descriptors(pid: int) -> list[tuple[str, str]]:
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            found.append((name, os.readlink(f"/proc/{pid}/fd/{name}")))
    return found


def _sessions_sockets() -> dict[str, str]:
    """All TCP sockets that do not listen, by their inodes: from where to where, and in which state."""
    lines = pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
    found = (line.split() for line in lines)
    return {one[9]: f"{_port(one[1])} to {_port(one[2])} in state {one[3]}" for one in found if one[3] != procfs.LISTEN}


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)


def _waiting_in_pipes(pid: int) -> int:
    total = 0
    for name, link in _descriptors(pid):
        if link.startswith("pipe:["):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/fd/{name}", opener=_open) as pipe:
                total += struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))[0]
    return total


def _open(path: str, _flags: int) -> int:
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def _command_line(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def _is_worker(pid: int) -> bool:
    return b"tcp_proxy.dataplane.worker" in _command_line(pid)


if __name__ == "__main__":
    sys.exit(main())
