"""System calls for each short session, counted by strace on the whole process tree. The times mean nothing here."""

import contextlib
import pathlib
import re
import signal
import subprocess
from collections.abc import Iterator

from benchmarks import loads, procfs
from benchmarks.lab import Lab
from benchmarks.measures.base import Figure, Measure, Sample
from benchmarks.programs import Failed, find
from benchmarks.proxies import HAPROXY_ONE, NGINX_ONE, PROJECT, Contender
from benchmarks.waiting import wait_until


def measure(lab: Lab, contender: Contender, seconds: int) -> Sample:
    """All system calls; the JSON also has those of each name."""
    proxy = lab.proxy(contender)
    summary = lab.new_folder() / "strace"
    with traced(proxy.pids(), summary):
        sessions = loads.wrk(proxy.port["http"], seconds, 50, loads.SHORT_SESSIONS).count
    calls = parse_strace(summary.read_text())
    return {"calls": sum(calls.values()) / sessions, **{f"calls {name}": count / sessions for name, count in calls.items()}}


@contextlib.contextmanager
def traced(pids: list[int], summary: pathlib.Path) -> Iterator[None]:
    """Counts from when all are held until the end."""
    argv = [find("strace"), "-f", "-c", "-U", "calls,name", "-o", str(summary)]
    argv += [word for pid in pids for word in ("-p", str(pid))]
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as strace:
        try:
            wait_until(lambda: strace.poll() is not None or all(map(procfs.is_traced, pids)), "strace holds the proxy")
            if strace.poll() is not None:
                assert strace.stderr
                raise Failed(f"strace: {strace.stderr.read().strip()} (is ptrace allowed here?)")
            yield
        finally:
            strace.send_signal(signal.SIGINT)
            strace.wait()


def parse_strace(text: str) -> dict[str, int]:
    """{system call: how often}."""
    found = {name: int(count) for count, name in re.findall(r"^\s*(\d+)\s+(\w+)\s*$", text, re.MULTILINE)}
    if found.pop("total", None) != sum(found.values()) or not found:
        raise Failed(f"strace: no table of calls in {text[-300:]!r}")
    return found


SYSCALLS = Measure(
    name="syscalls",
    title="a short session under strace",
    figures=(Figure("calls", "system calls", "", "less"),),
    run=measure,
    contenders=(PROJECT, HAPROXY_ONE, NGINX_ONE),
    most_rounds=2,
)
