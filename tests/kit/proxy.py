"""The real program, started from its command line, and what must be true of it after every test.

    proxy = Proxy(config, folder).wait_ready()     normally by the fixture `proxy` of conftest.py
    client = proxy.connect()                       a scripted client (kit.peer) on its first port
    proxy.wait_log("target .* is down")            blocks on the program's own words
    record = proxy.record()                        the one session record there is

`check` holds the oracles that every suite of the peers shares: no traceback, no internal error, descriptors back to
their number after the start, no socket in CLOSE_WAIT, nothing left in a pipe, one record for each session, the bytes of
each record equal to the bytes its client moved, memory bounded.
"""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading

from kit import procfs
from kit.peer import connect
from kit.syscalls import STILL, Syscalls
from kit.waiting import PATIENCE, Deadline, pause, wait_until

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = (sys.executable, "-m", "tcp_proxy")
# As a plain user runs it, but with our files readable: root without a single capability. A plain user has none anyway.
WITHOUT_CAPABILITIES = (
    ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", *PROGRAM) if os.geteuid() == 0 else PROGRAM
)
WORKER = b"tcp_proxy.dataplane.worker"
OURS = b"\0-m\0tcp_proxy."  # in the command line of every process of ours but the supervisor
AT_REST = {"LISTEN", "UNIX", "UDP"}  # sockets that stay; a probe's may be in no table before its connect and after a reset
GROWTH = 64 << 20  # bytes of memory that any one process may gain over a test


def run_to_end(*args, cwd, seconds=20.0):
    """The program with these arguments until it ends by itself: a CompletedProcess with text."""
    return subprocess.run(
        [*PROGRAM, *map(str, args)], cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=seconds, check=False,
    )  # fmt: skip


class Proxy:
    """One run of the program. Signals and kills go to its own process id or group, never wider."""

    def __init__(self, config, folder, *, program=PROGRAM, args=(), descriptors=0, cwd=None, passed=()):
        """`config` is a dict (written to a file) or a path; `descriptors`: its hard limit of open files; `passed`: those of
        ours that it has too."""
        self.folder = pathlib.Path(folder)
        self.config = config
        self.clients = []
        self.uncounted = 0  # sessions that the test made without `connect`; None when it cannot know
        self.lines = []
        self.baseline = {}
        self._heard = threading.Condition()
        self._access_log = config.get("access_log") if isinstance(config, dict) else None
        argv = [*program, *args, *([str(self._write(config))] if config is not None else ())]
        if descriptors:
            argv = ["sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh", *argv]
        self.process = subprocess.Popen(
            argv, cwd=cwd or self.folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, pass_fds=passed,
        )  # fmt: skip
        self.pid = self.process.pid
        self.output = bytearray()
        self._seen_workers = set()
        self._readers = [
            threading.Thread(target=self._read_log, name=f"log-of-{self.pid}", daemon=True),
            threading.Thread(target=self._read_output, name=f"output-of-{self.pid}", daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def __repr__(self):
        return f"<Proxy pid={self.pid} {'running' if self.is_running else self.process.returncode}>"

    # -- what it says

    @property
    def log(self):
        """All it has written to stderr."""
        return "\n".join(self.lines)

    def wait_log(self, pattern, seconds=PATIENCE, since=0):
        """The first line, from line number `since` on, in which the pattern is found; waits for it."""
        deadline, at = Deadline(seconds), since
        with self._heard:
            while True:
                for line in self.lines[at:]:
                    if re.search(pattern, line):
                        return line
                at = len(self.lines)
                if not self._heard.wait(deadline.left) or (self.lines[at:] == [] and not self._readers[0].is_alive()):
                    if at != len(self.lines):
                        continue
                    raise TimeoutError(f"no line of the log has {pattern!r}:\n{self.log}")

    def count_log(self, pattern):
        return sum(1 for line in self.lines if re.search(pattern, line))

    def wait_ready(self, seconds=20.0):
        """Until it serves; then remember what it looks like when it has nothing to do."""
        line = self.wait_log("ready:", seconds)
        if isinstance(self.config, dict) and self.config.get("api") is not None:
            self.wait_log("management API on", seconds)
        self._remember(listeners=int((re.findall(r"on (\d+) listener", line) or [0])[0]))
        return self

    def starts(self, seconds=20.0):
        """Whether it gets ready rather than ending."""
        wait_until(lambda: self.count_log("ready:") or not self.is_running, "ready, or ended", seconds)
        return self.is_running

    # -- what it is

    @property
    def is_running(self):
        return self.process.poll() is None

    def workers(self):
        """The process ids of its workers, oldest first."""
        found = sorted(pid for pid, line in procfs.children(self.pid).items() if WORKER in line)
        self._seen_workers.update(found)
        return found

    def family(self):
        """Its own process id and those of its workers."""
        return [self.pid, *self.workers()]

    def syscalls(self):
        """`with program.syscalls() as during:` counts those of all its processes."""
        return Syscalls(self.family(), self.folder)

    def wait_still(self):
        """Until it makes hardly a system call in a second."""

        def is_still():
            with self.syscalls() as during:
                pause(1.0)
            return during.total < STILL

        wait_until(is_still, "nothing to do")

    def sockets(self):
        """How many sockets its workers have beyond those they started with."""
        known = [pid for pid in self.workers() if pid in self.baseline]
        return sum(procfs.kinds(pid)["socket"] - self.baseline[pid]["socket"] for pid in known)

    # -- its clients

    @property
    def port(self):
        """The first port of the first app."""
        return int(str(self.config["apps"][0]["ports"][0]).split("-", maxsplit=1)[0])

    def connect(self, port=None, **how):
        """A scripted client; it is closed, and its record compared with it, at the end of the test."""
        client = connect(port or self.port, **how)
        self.clients.append(client)
        return client

    def wait_greeting(self, *greetings):
        """Until a new client is greeted so: the supervisor's log is a moment ahead of what its workers know."""
        wait_until(lambda: self.connect().read_first() in greetings, lambda: f"one of {greetings} greets new clients")

    def close_clients(self):
        for client in self.clients:
            client.close()

    # -- its session records

    @property
    def access_log(self):
        return self.folder / self._access_log

    def records_now(self):
        """The session records that are in the file now."""
        if not self._access_log or not self.access_log.exists():
            return []
        whole, _, _ = self.access_log.read_bytes().rpartition(b"\n")
        return [json.loads(line) for line in whole.splitlines()]

    def records(self, count, seconds=PATIENCE):
        """Exactly this many records, in the order of their ends; waits for them."""
        wait_until(lambda: len(self.records_now()) >= count, lambda: f"{count} records: {self.records_now()}", seconds)
        found = self.records_now()
        assert len(found) == count, f"{len(found)} records, {count} wanted: {found}"
        return found

    def record(self, seconds=PATIENCE):
        """The one record there is."""
        return self.records(1, seconds)[0]

    # -- its end

    def signal(self, number):
        self.process.send_signal(number)

    def signal_group(self, number):
        os.killpg(self.pid, number)

    def wait(self, seconds=PATIENCE):
        """The exit status, once it and its log have ended."""
        status = self.process.wait(seconds)
        if not any(procfs.is_running(pid) for pid in self._seen_workers):  # who would hold the log open
            for reader in self._readers:
                reader.join(seconds)
        return status

    def stop(self, seconds=PATIENCE):
        """SIGTERM, and the exit status."""
        self.workers()
        if self.is_running:
            self.signal(signal.SIGTERM)
        return self.wait(seconds)

    def kill(self):
        """The end without a word, of it and of every worker it ever had; frees everything this object holds."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            self.workers()
        if self.is_running:
            self.process.kill()
        self.process.wait()
        for pid in self._seen_workers:
            if procfs.is_running(pid) and WORKER in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
        for reader in self._readers:
            reader.join()
        self.process.stdout.close()
        self.process.stderr.close()

    # -- what must be true of it

    def check(self):
        """After a test, its targets and clients closed: AssertionError with everything that is not as it should be.

        While it runs its descriptors are looked at; when it has ended well, its records, for then all are written.
        """
        self.close_clients()
        faults = list(self._log_faults())
        if self.is_running and self.baseline:
            faults += self._leaks()
        elif self.process.returncode == 0 and self.baseline:
            faults += self._record_faults()
        assert not faults, "\n".join([*faults, "The log:", self.log])

    def _log_faults(self):
        for sign in ("Traceback (most recent call last)", "internal error", "Exception ignored", "ResourceWarning"):
            if sign in self.log:
                yield f"the log has {sign!r}"
        for record in self.records_now():
            if record["reason"] == "internal_error":
                yield f"an internal error ended a session: {record}"

    def _record_faults(self):
        if not self._access_log or self.uncounted is None:
            return
        wanted = len(self.clients) + self.uncounted
        records = self.records_now()
        if len(records) != wanted:
            yield f"{len(records)} records for {wanted} sessions: {records[:20]}"
        if len({record["id"] for record in records}) != len(records):
            yield f"an id appears twice in {records[:20]}"
        by_client = {}
        for record in records:
            by_client.setdefault(record["client"], []).append(record)
        for client in self.clients:
            found = its_own(by_client.get(client.address, []), client.port)
            if found and not any(_bytes_agree(record, client) for record in found):
                yield f"{client!r} did not move what its record says: {found[-1]}"

    def _leaks(self):
        """The descriptors of the supervisor and of each worker, waited for: the last sessions may be ending."""
        found = []

        def nothing_left():
            found[:] = self._leaks_now()
            return not found

        with contextlib.suppress(TimeoutError):
            wait_until(nothing_left, "everything given back", 5.0)
        for pid in self.family() if found else ():
            found.append(f"process {pid} has these sockets: {dict(procfs.sockets(pid))}")
        return found

    def _leaks_now(self):
        for pid in self.family():
            before, now = self.baseline.get(pid), procfs.kinds(pid)
            if before is None:  # a worker that replaced another one: compare it with that kind
                continue
            relays = procfs.threads(pid) - before["threads"] if pid != self.pid else 0
            pools = relays + (pid != self.pid and self._has_http())
            spare = {"socket": 0, "pipe": 16 * pools, "anon_inode": 2 * relays, "file": 0}
            for kind, allowed in spare.items():
                if not 0 <= now[kind] - before[kind] <= allowed:
                    yield f"process {pid}: {now[kind]} of kind {kind}, {before[kind]} after the start, spare {allowed}"
            if pid != self.pid and procfs.waiting_in_pipes(pid):
                yield f"process {pid}: {procfs.waiting_in_pipes(pid)} bytes lie in its pipes"
            if procfs.resident(pid) - before["resident"] > GROWTH:
                yield f"process {pid} grew from {before['resident']} to {procfs.resident(pid)} bytes"

    # -- helpers

    def _remember(self, listeners):
        """Clients may come as soon as it is ready; but the workers are complete only when they hold every listener, and
        the wire to the stick tables if there are any."""
        family, sockets = self.family(), 1 + listeners + self._has_sticks()
        for pid in self.workers():
            wait_until(lambda pid=pid: procfs.kinds(pid)["socket"] >= sockets, "everything is passed")
            # Certificates and libraries that are being loaded: what stays open is the supervisor's, too.
            wait_until(lambda pid=pid: procfs.files(pid) <= procfs.files(self.pid), "everything is loaded")
        self._look(family)
        if self._has_checks() or self._has_elections():  # the first probes and scripts come at once
            wait_until(lambda: self._is_quiet(family), "no TCP socket but those that listen, and no script")
        for pid in family:
            self.baseline[pid] |= {"threads": procfs.threads(pid), "resident": procfs.resident(pid)}

    def _is_quiet(self, family):
        """Whether no probe and no script was met by the look: the table of sockets, which may be long, is read between two
        looks, and after them, for another script may have begun where one had ended."""
        self._look(family)
        before = dict(self.baseline)
        is_settled = self._settled(family)
        self._look(family)
        return is_settled and self.baseline == before and self._settled(family)

    def _look(self, family):
        for pid in family:
            self.baseline[pid] = dict(procfs.kinds(pid))

    def _has_checks(self):
        if not isinstance(self.config, dict):  # a file, of whatever form
            return True
        apps = self.config.get("apps", [])
        targets = [target for app in apps for target in app.get("targets", []) if isinstance(target, dict)]
        return any(one.get("health", {}) != [] for one in apps) or any(one.get("health", []) != [] for one in targets)

    def _has_elections(self):
        apps = self.config.get("apps", []) if isinstance(self.config, dict) else []
        return any(app.get("balance") == "failover" for app in apps)

    def _has_sticks(self):
        apps = self.config.get("apps", []) if isinstance(self.config, dict) else []
        return any(app.get("sticky") is not None and app.get("mode") != "http" for app in apps)

    def _has_http(self):
        """In mode http the event loop has pipes too."""
        apps = self.config.get("apps", []) if isinstance(self.config, dict) else []
        return any(app.get("mode") == "http" for app in apps)

    def _settled(self, family):
        """Of a script the supervisor gives its pidfd back last."""
        is_script = (OURS not in procfs.command_line(child) for child in procfs.watched_processes(self.pid))
        at_rest = AT_REST | ({"in no table"} if self._has_elections() else set())  # ports that are closed for now
        return not any(is_script) and all(set(+procfs.sockets(pid)) <= at_rest for pid in family)

    def _write(self, config):
        if not isinstance(config, dict):
            return config
        path = self.folder / f"config-{id(self):x}.json"
        path.write_text(json.dumps(config, indent=2))
        return path

    def _read_log(self):
        for line in self.process.stderr:
            with self._heard:
                self.lines.append(line.decode(errors="replace").rstrip("\n"))
                self._heard.notify_all()
        with self._heard:
            self._heard.notify_all()

    def _read_output(self):
        for chunk in iter(lambda: self.process.stdout.read1(65536), b""):
            self.output += chunk


@contextlib.contextmanager
def running(config, folder):
    """The program for many tests, ready; at the end it stops well and has left nothing behind."""
    program = Proxy(config, folder)
    try:
        yield program.wait_ready()
        program.check()
        assert program.stop() == 0
        program.check()
    finally:
        program.kill()


def its_own(records, port):
    """Of the records of one client's address those of the listener at `port`, if any names it: the kernel gives one port to
    two clients at once when they go to two listeners."""
    return [record for record in records if record.get("listener", "").endswith(f":{port}")] or records


def _bytes_agree(record, client):
    """After a clean end exactly; a reset may lose what was on its way, and never makes bytes up."""
    if record["reason"] == "done":
        return record["bytes_up"] == client.sent and record["bytes_down"] >= client.received
    return record["bytes_up"] <= client.sent and record["bytes_down"] >= client.received
