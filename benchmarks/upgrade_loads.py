"""What goes on while one program takes over from another, again and again: wrk, pgbench, iperf3, and sessions whose bytes
are all known. Each load goes on until `end`, and then says what it did and what went wrong.
"""

import contextlib
import json
import os
import pathlib
import pwd
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.programs import Failed, Program, find
from benchmarks.waiting import now

LONG = 86_400  # seconds: longer than any run
TIMEOUT = 30  # seconds for one answer: on a busy machine, a slow one is no failed one
END_WITHIN = 150.0  # seconds
REPORT = """
done = function(summary, latency, requests)
    local e = summary.errors
    io.stderr:write(string.format('{"requests": %d, "errors": %d}',
        summary.requests, e.connect + e.read + e.write + e.status + e.timeout))
end
"""
INTERRUPTED = "interrupt - the client has terminated"


class Load:
    """A program that is told to end by `how(process)`; `read(its output, its status)` says what it did, and its problems."""

    def __init__(
        self,
        name: str,
        argv: Sequence[object],
        how: Callable[["subprocess.Popen[str]"], Any],
        read: Callable[[str, int], tuple[dict[str, Any], list[str]]],
    ) -> None:
        self.name = name
        self._how, self._read = how, read
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [str(word) for word in argv], stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<Load {self.name}>"

    def check(self) -> list[str]:
        """It goes on."""
        return [] if self.process.poll() is None else [f"{self.name} has ended by itself"]

    def end(self) -> tuple[dict[str, Any], list[str]]:
        """Once."""
        problems = self.check()
        until, said = now() + END_WITHIN, None
        while said is None:
            if self.process.poll() is None:  # what it hears just before a sleep of its own begins wakes nobody
                self._how(self.process)
            try:
                said = self.process.communicate(timeout=2)[0]
            except subprocess.TimeoutExpired:
                if now() > until:
                    return {}, [f"{self.name} does not end"]
        try:
            found, more = self._read(said, self.process.returncode)
        except (ValueError, LookupError, TypeError) as error:
            return {}, [*problems, f"{self.name} says nothing to go by ({error}): {said[-500:]!r}"]
        return found, [*problems, *(f"{self.name}: {text}" for text in more)]

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


def wrk(name: str, folder: pathlib.Path, port: int, *, kept: bool, connections: int = 4) -> Load:
    """It counts an answer that is not 2xx or 3xx, a connection that breaks, and one that is not made."""
    script = folder / f"{name.replace(' ', '-')}.lua"
    script.write_text(REPORT)
    header = [] if kept else ["-H", "Connection: close"]
    argv = [find("wrk"), "-t1", f"-c{connections}", f"-d{LONG}", f"--timeout={TIMEOUT}", *header, "-s", script]

    def read(said: str, status: int) -> tuple[dict[str, Any], list[str]]:
        told = json.loads(re.findall(r'{"requests".*?}', said)[0])
        problems = [f"{told['errors']} of {told['requests']} requests have failed"] if told["errors"] else []
        return told, problems if told["requests"] and not status else [
            *problems,
            f"status {status}, {told['requests']} requests",
        ]

    return Load(name, [*argv, f"http://127.0.0.1:{port}/"], lambda one: one.send_signal(signal.SIGINT), read)


def pgbench(name: str, port: int, *flags: object) -> Load:
    """SIGALRM is how its own clock ends it."""
    argv = [find("pgbench"), "-h", "127.0.0.1", "-p", port, "-U", "postgres", "-n", "-T", LONG, *flags, "postgres"]

    def read(said: str, status: int) -> tuple[dict[str, Any], list[str]]:
        done = int(re.findall(r"transactions actually processed: (\d+)", said)[0])
        failed = int(re.findall(r"failed transactions: (\d+)", said)[0])
        problems = [f"{failed} transactions have failed"] if failed else []
        if status or "error" in said or "aborted" in said:
            problems.append(f"status {status}: {said[-500:]!r}")
        return {"transactions": done}, problems

    return Load(name, argv, lambda one: one.send_signal(signal.SIGALRM), read)


def iperf3(port: int) -> Load:
    """Both ways at once."""
    argv = [find("iperf3"), "-c", "127.0.0.1", "-p", port, "--bidir", "-b", "200M", "-t", LONG, "-i", 10, "-J"]

    def read(said: str, _status: int) -> tuple[dict[str, Any], list[str]]:
        told = json.loads(said)
        up, down = told["end"]["sum_sent"]["bytes"], told["end"]["sum_received_bidir_reverse"]["bytes"]
        problems = [] if told.get("error", "") == INTERRUPTED else [str(told.get("error"))]
        return {"up": up, "down": down}, problems if up and down else [*problems, f"{up} bytes up, {down} down"]

    return Load("iperf3", argv, lambda one: one.send_signal(signal.SIGINT), read)


def checked(told: dict[str, int]) -> Load:
    """benchmarks.helpers.checked_sessions, once all its sessions are there."""
    argv = [sys.executable, "-m", "benchmarks.helpers.checked_sessions", json.dumps(told)]

    def end(process: "subprocess.Popen[str]") -> None:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError, ValueError):
            process.stdin.write("\n")
            process.stdin.flush()

    def read(said: str, _status: int) -> tuple[dict[str, Any], list[str]]:
        found = json.loads(said.splitlines()[-1])
        return found, found.pop("problems")

    load = Load("checked sessions", argv, end, read)
    assert load.process.stdout is not None
    if (line := load.process.stdout.readline()) != "ready\n":
        load.kill()
        raise Failed(f"checked sessions: {line}")
    return load


def redis(folder: pathlib.Path, port: int) -> Program:
    flags = ["--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder]
    return Program([find("redis-server"), *flags], folder, [port])


@contextlib.contextmanager
def postgres(port: int) -> Iterator[Program]:
    """With pgbench's tables. Root may not run it: the user postgres does."""
    with tempfile.TemporaryDirectory(prefix="tcp-proxy-postgres-") as name, contextlib.ExitStack() as stack:
        folder, who = pathlib.Path(name), []
        if os.geteuid() == 0:
            entry = pwd.getpwnam("postgres")
            os.chown(folder, entry.pw_uid, entry.pw_gid)
            who = [find("setpriv"), f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]
        flags = ["-U", "postgres", "-A", "trust", "--no-sync", "--locale=C", "-E", "UTF8"]
        run([*who, find("initdb"), "-D", folder / "data", *flags], folder)
        options = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": folder, "fsync": "off"}
        more = [word for key, value in options.items() for word in ("-c", f"{key}={value}")]
        program = Program([*who, find("postgres"), "-D", folder / "data", *more], folder, [port])
        stack.callback(program.stop)
        program.wait_listening()
        until = now() + 30
        while sql(port, "select 1", may_fail=True) != "1":  # it listens before it is ready
            program.check()
            if now() > until:
                raise Failed(f"PostgreSQL is not ready: {program.last_words()}")
        run([find("pgbench"), "-h", "127.0.0.1", "-p", port, "-U", "postgres", "-i", "-q", "postgres"], folder)
        yield program


def sql(port: int, text: str, *, may_fail: bool = False) -> str:
    argv = [find("psql"), "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", "-At", "-c", text, "postgres"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode and not may_fail:
        raise Failed(f"psql: {done.stderr}")
    return done.stdout.strip()


def run(argv: Sequence[object], folder: pathlib.Path) -> None:
    done = subprocess.run([str(word) for word in argv], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"{argv[0]}: {done.stderr}")
