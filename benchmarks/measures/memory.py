"""Memory of idle sessions: PSS of the whole process tree, with 0, 1,000, 5,000 and 9,000 of them; and with 20,000 over two
workers, where all of HAProxy's are one process's.

Every session has its target's connection, over which one byte came. What the kernel needs for sockets is not in PSS.
Levels that the limit of open files does not allow are left out, but for the last one, which is as high as it allows.
"""

import contextlib
import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence

from benchmarks import procfs
from benchmarks.lab import Lab
from benchmarks.measures.base import Figure, Measure, Sample
from benchmarks.programs import Failed
from benchmarks.proxies import HAPROXY_ONE, PROJECT, ROOT, Contender, has_room_for, most_sessions
from benchmarks.waiting import pause

LEVELS = tuple(level for level in (1000, 5000, 9000) if has_room_for(level))
LIMITS = {9000: 4096}  # bytes
WANTED = 20_000  # over two workers
OVER_TWO = most_sessions("project", 2, WANTED)
IN_ONE = most_sessions("haproxy", 1, WANTED)
SETTLE = 0.5  # seconds for what is put off a little


def measure(lab: Lab, contender: Contender, _seconds: int) -> Sample:
    sample = of_levels(lab, contender, LEVELS)
    level = OVER_TWO if contender.kind == "project" else IN_ONE
    of_two = of_levels(lab, dataclasses.replace(contender, workers=2), (level,))
    return sample | {"session@two": of_two[f"session@{level}"]}


def of_levels(lab: Lab, contender: Contender, levels: Sequence[int]) -> Sample:
    with lab.fresh(contender) as proxy, idle_clients(proxy.port["greet"]) as clients:
        pause(SETTLE)
        empty = procfs.pss(proxy.pids())
        sample = {"empty": empty / 1e6}
        for level in levels:
            tell(clients, level)
            pause(SETTLE)
            sample[f"session@{level}"] = (procfs.pss(proxy.pids()) - empty) / level
        return sample


@contextlib.contextmanager
def idle_clients(port: int, helper: str = "idle_clients") -> Iterator["subprocess.Popen[str]"]:
    argv = [sys.executable, "-m", f"benchmarks.helpers.{helper}", str(port)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        argv,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def tell(clients: "subprocess.Popen[str]", number: int) -> None:
    """Until they have done what that means; of idle_clients: so many are open in all, and greeted."""
    assert clients.stdin
    assert clients.stdout
    assert clients.stderr
    clients.stdin.write(f"{number}\n")
    clients.stdin.flush()
    if clients.stdout.readline() != f"{number}\n":  # it has ended
        last = clients.stderr.read().strip().splitlines()[-1:] or ["no word"]
        raise Failed(f"idle clients: {number} sessions were not to be had: {last[0]}")


def over_two(ours: int, theirs: int) -> str:
    """What was measured, where that is not the same on both sides or not what is wanted."""
    return f"a session, of {ours:,} over two workers" + (f" (HAProxy: of {theirs:,})" if theirs != ours else "")


MEMORY = Measure(
    name="memory",
    title="memory of idle sessions",
    figures=(
        Figure("empty", "the empty proxy", "MB", "less"),
        *(
            Figure(f"session@{level}", f"a session, of {level:,}", "bytes", "less", limit=LIMITS.get(level))
            for level in LEVELS
        ),
        Figure("session@two", over_two(OVER_TWO, IN_ONE), "bytes", "less", limit=2048),
    ),
    run=measure,
    contenders=(PROJECT, HAPROXY_ONE),
    most_rounds=3,
    cost=0.0,
    extra=18.0,
)
