"""PostgreSQL behind a failover app: the primary is killed, the standby promoted, and a client writes on.

Replication is synchronous, so what the client was told is written is on both servers.
"""

import os
import signal
import socket
import struct
import subprocess
import threading

import pytest

from kit import programs
from kit.shell import write_script
from kit.waiting import Stopwatch, wait_until

AGAIN = 0.02  # seconds until a client whose connection has failed tries once more


class Connection:
    """A PostgreSQL session, as far as one statement after another goes (protocol 3.0, no password)."""

    def __init__(self, port):
        self._sock = socket.create_connection(("127.0.0.1", port), 20)
        body = struct.pack("!I", 3 << 16) + b"user\0postgres\0database\0postgres\0\0"
        self._sock.sendall(struct.pack("!I", len(body) + 4) + body)
        self._until_ready()

    def run(self, query):
        body = query.encode() + b"\0"
        self._sock.sendall(b"Q" + struct.pack("!I", len(body) + 4) + body)
        self._until_ready()

    def close(self):
        self._sock.close()

    def _until_ready(self):
        kind = b""
        while kind != b"Z":
            kind, size = struct.unpack("!cI", self._read(5))
            body = self._read(size - 4)
            if kind == b"E":
                raise ConnectionError(body)

    def _read(self, count):
        data = b""
        while len(data) < count:
            part = self._sock.recv(count - len(data))
            if not part:
                raise ConnectionError("the end")
            data += part
        return data


class Writer:
    """Writes rows 1, 2, 3 …, each until it is told that it is written. `gap`: the longest time without such a word."""

    def __init__(self, port):
        self.told = []
        self.gap = 0.0
        self.failures = []
        self.sessions = 0
        self._port = port
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="writer")
        self._thread.start()

    def stop(self):
        self._over.set()
        self._thread.join()

    def _run(self):
        connection, watch = None, Stopwatch()
        while not self._over.is_set():
            number = len(self.told) + 1
            try:
                if connection is None:
                    connection = Connection(self._port)
                    self.sessions += 1
                connection.run(f"insert into rows values ({number}) on conflict do nothing")
            except OSError as error:
                self.failures.append(error)
                if connection is not None:
                    connection.close()
                connection = None
                self._over.wait(AGAIN)
                continue
            self.told.append(number)
            self.gap, watch = max(self.gap, watch.seconds), Stopwatch()
        if connection is not None:
            connection.close()


def ask(port, query):
    return programs.run("psql", "-h", "127.0.0.1", "-p", port, "-U", "postgres", "-Atc", query)


@pytest.fixture
def cluster(servers, tmp_path):
    programs.need("ipcrm")  # for `_forget`
    primary = programs.postgres(tmp_path, synchronous_standby_names="*")
    servers.callback(_forget, primary)
    primary.wait_listening()
    standby = programs.postgres(tmp_path, standby_of=primary)
    servers.callback(standby.close)
    standby.wait_listening()
    wait_until(lambda: ask(primary.port, "select sync_state from pg_stat_replication") == "sync\n", "replication", 20)
    return primary, standby


def _forget(primary):
    """A server that was killed leaves a segment of shared memory."""
    lines = (primary.folder / "data" / "postmaster.pid").read_text().splitlines()
    primary.close()
    subprocess.run([programs.need("ipcrm"), "-m", lines[6].split()[1]], stderr=subprocess.DEVNULL, check=False)


@pytest.mark.slow
def test_the_primary_is_killed_and_the_client_writes_on(proxy, cluster, tmp_path):
    primary, standby = cluster
    ask(primary.port, "create table rows (number int primary key)")
    psql = programs.need("psql")
    answers = f'{psql} -h 127.0.0.1 -p "${{1##*:}}" -U postgres -Atc "select pg_is_in_recovery()"'
    check = write_script(tmp_path / "check", f'state=$({answers}) || exit 1; echo "in recovery: $state"')
    become = "setpriv --reuid=postgres --regid=postgres --clear-groups " if os.geteuid() == 0 else ""
    promote = f"{become}{programs.need('pg_ctl')} promote -w -D {standby.folder}/data"
    trigger = write_script(tmp_path / "trigger", f'[ "$({answers})" = f ] || {promote}')
    program = proxy(
        targets=[primary, standby], balance="failover", health=[],
        failover={"check": check, "triggers": [trigger], "on_demotion": "close", "max_backoff": 1},
    )  # fmt: skip
    program.wait_log(f"target {primary.address} is primary")
    program.wait_ready()  # its first scripts are over
    program.uncounted = None
    writer = Writer(program.port)
    try:
        wait_until(lambda: len(writer.told) >= 100 or writer.failures, "rows")
        assert writer.failures == []
        before = len(writer.told)
        os.kill(primary.process.pid, signal.SIGKILL)
        program.wait_log(f"target {standby.address} is primary", 30)
        wait_until(lambda: len(writer.told) >= before + 200, lambda: f"rows after it: {writer.failures[-1:]}", 20)
    finally:
        writer.stop()
    rows = {int(line) for line in ask(standby.port, "select number from rows").split()}
    assert rows >= set(writer.told), "a row that was acknowledged is lost"
    assert rows <= {*writer.told, len(writer.told) + 1}
    assert ask(standby.port, "select pg_is_in_recovery()") == "f\n"
    assert writer.gap < 15
    print(f"{len(writer.told)} rows, {writer.sessions} sessions, longest gap {writer.gap:.2f} s")  # noqa: T201
