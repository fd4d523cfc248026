"""What 1,000 and 20,000 targets cost: the start, a reload that adds one, statistics, memory; and how each grows from the one
to the other. Twenty times as many targets may cost twenty times as much.

Whole process trees are measured. A session is held over the reload, so that the process of HAProxy that is replaced is still
there to be asked for its CPU time.
"""

import contextlib
import socket
from collections.abc import Callable, Iterator

from benchmarks import procfs
from benchmarks.growth_proxies import PER_APP, Crowded, crowded
from benchmarks.lab import Lab
from benchmarks.measures.base import CpuMeter, Figure, Measure, Sample
from benchmarks.programs import Failed
from benchmarks.proxies import HAPROXY_ONE, PROJECT, Contender
from benchmarks.waiting import now, pause, wait_until

TARGETS = (1000, 20_000)
TIMES = TARGETS[-1] / TARGETS[0]
WITHIN = 60.0  # seconds
BETWEEN = 0.001  # seconds between two attempts to connect
QUIET, QUIET_CPU = 0.2, 0.02  # seconds, and of CPU time: who uses less in that time is done
KINDS = {  # unit, title, and what the larger number of targets may cost beside HAProxy
    "start": ("s", "start", 2.0),
    "startcpu": ("s", "start, CPU", None),
    "reload": ("s", "a reload", 2.0),
    "reloadcpu": ("s", "a reload, CPU", 2.0),
    "metrics": ("s", "metrics", 1.0),
    "metricscpu": ("s", "metrics, CPU", None),
    "status": ("s", "status", 1.0),
    "list": ("s", "all targets", 1.0),
    "memory": ("MB", "memory", 1.0),
    "supervisor": ("MB", "memory of the supervisor", None),
    "worker": ("MB", "memory of the worker", None),
    "asked": ("MB", "memory once metrics were asked for", None),
}


def measure(lab: Lab, contender: Contender, _seconds: int) -> Sample:
    sample: Sample = {}
    for targets in TARGETS:
        with crowded(lab, contender, targets // PER_APP) as proxy:
            sample |= {f"{key}@{targets}": value for key, value in one(proxy).items()}
    for key in KINDS:
        sample[f"growth {key}"] = sample[f"{key}@{TARGETS[-1]}"] / sample[f"{key}@{TARGETS[0]}"]
    return sample


def one(proxy: Crowded) -> Sample:
    """All figures of one that has just been started."""
    sample = {"start": first_from(proxy, b"!", proxy.started)}
    wait_until(lambda: all(map(procfs.listens, proxy.ports)), f"{proxy!r} answers questions", WITHIN, 0.1)
    settle(proxy)
    supervisor, *others = proxy.pids()
    sample["startcpu"] = procfs.cpu([supervisor, *others]).total
    sample["memory"] = procfs.pss([supervisor, *others]) / 1e6
    sample["supervisor"] = procfs.pss([supervisor]) / 1e6
    sample["worker"] = procfs.pss(others[:1]) / 1e6
    sample["metrics"], sample["metricscpu"] = timed(proxy, proxy.metrics)
    sample["status"], _ = timed(proxy, proxy.status)
    sample["list"], _ = timed(proxy, proxy.list)
    sample["asked"] = procfs.pss(proxy.pids()) / 1e6
    with held(proxy.last):
        before = {pid: procfs.cpu([pid]).total for pid in proxy.pids()}
        began = now()
        proxy.reload()
        sample["reload"] = first_from(proxy, b"+", began)
        settle(proxy)
        sample["reloadcpu"] = sum(procfs.cpu([pid]).total - before.get(pid, 0.0) for pid in proxy.pids())
    return sample


def timed(proxy: Crowded, ask: Callable[[], int]) -> tuple[float, float]:
    """Seconds until the whole answer is there, and of CPU time."""
    settle(proxy)
    meter, began = CpuMeter(proxy.pids()), now()
    if not ask():
        raise Failed(f"{proxy!r} has answered nothing")
    return now() - began, meter.used().total


def first_from(proxy: Crowded, wanted: bytes, began: float) -> float:
    """Seconds until a session gets this from its target."""
    while greeting(proxy.last) != wanted:
        proxy.check()
        if now() - began > WITHIN:
            raise Failed(f"{proxy!r} has led nobody to the target within {WITHIN:g} s")
        pause(BETWEEN)
    return now() - began


def greeting(port: int) -> bytes:
    """Nothing while nobody listens, or when the connection is lost."""
    with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), timeout=WITHIN) as sock:
        return sock.recv(1)
    return b""


@contextlib.contextmanager
def held(port: int) -> Iterator[None]:
    """One session."""
    with socket.create_connection(("127.0.0.1", port), timeout=WITHIN) as sock:
        if not sock.recv(1):
            raise Failed("the session that is to be held was not greeted")
        yield


def settle(proxy: Crowded) -> None:
    """Until it has nothing to do any more."""
    end = now() + WITHIN
    while now() < end:
        meter = CpuMeter(proxy.pids())
        pause(QUIET)
        if meter.used().total < QUIET_CPU:
            return
    raise Failed(f"{proxy!r} works on for {WITHIN:g} s")


def figures() -> Iterator[Figure]:
    for targets in TARGETS:
        for key, (unit, title, bound) in KINDS.items():
            is_last = targets == TARGETS[-1]
            yield Figure(f"{key}@{targets}", f"{targets:,} targets: {title}", unit, "less", bound if is_last else None)
    for key, (_, title, _) in KINDS.items():
        yield Figure(f"growth {key}", f"growth: {title}", "times", "less", limit=TIMES)


GROWTH = Measure(
    name="growth",
    title="1,000 and 20,000 targets",
    figures=tuple(figures()),
    run=measure,
    contenders=(PROJECT, HAPROXY_ONE),
    most_rounds=3,
    cost=0.0,
    extra=20.0,
)
