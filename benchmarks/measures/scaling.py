"""How the cost of a unit grows with the number of sessions, of clients, and with the size of a message.

One sample walks all steps, so that each cost is divided by that of the first step of the same sample: a growth. The
question is whether ours is greater than HAProxy's.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from benchmarks import loads
from benchmarks.lab import Lab
from benchmarks.measures import bulk, requests
from benchmarks.measures.base import CpuMeter, Figure, Measure, Sample
from benchmarks.placement import on_one_cpu
from benchmarks.proxies import HAPROXY_ONE, PROJECT, Contender, has_room_for

STREAMS = (1, 2, 4, 8)
CLIENTS = tuple(clients for clients in (1, 10, 100, 1000) if has_room_for(clients))
SIZES = {1: "1 B", 1 << 10: "1 KiB", 1 << 15: "32 KiB", 1 << 20: "1 MiB"}
BLOCK = 1 << 15  # from here on HAProxy is better off when splicing is forced on it

Step = Callable[[Lab, Contender, int, int], Sample]


def measure_streams(lab: Lab, contender: Contender, seconds: int, streams: int) -> Sample:
    return bulk.measure(lab, contender, seconds, streams)


def measure_fresh(lab: Lab, contender: Contender, seconds: int, clients: int) -> Sample:
    return requests.measure(lab, contender, seconds, loads.SHORT_SESSIONS, clients)


def measure_kept(lab: Lab, contender: Contender, seconds: int, clients: int) -> Sample:
    return requests.measure(lab, contender, seconds, (), clients)


def measure_messages(lab: Lab, contender: Contender, seconds: int, size: int) -> Sample:
    """One client that waits for each answer, so that no batching helps; all on one CPU, so that placement has no say."""
    proxy, service = lab.proxy(contender), "blocks" if size >= BLOCK else "echo"
    with on_one_cpu([*proxy.pids(), *lab.servers[service].pids()]):
        meter = CpuMeter(proxy.pids())
        count = loads.pinger(proxy.port[service], seconds, size)
    return {"rate": count / seconds, **meter.per(count)}


def walk(step: Step, steps: Sequence[int]) -> Callable[[Lab, Contender, int], Sample]:
    """A run over all steps: rate, CPU and growth of each; and the CPU of all together, where it is known."""

    def run(lab: Lab, contender: Contender, seconds: int) -> Sample:
        sample: Sample = {}
        for value in steps:
            found = step(lab, contender, seconds, value)
            sample |= {f"rate@{value}": found["rate"], f"cpu@{value}": found["cpu"]}
            sample[f"growth@{value}"] = found["cpu"] / sample[f"cpu@{steps[0]}"]
            if "all" in found:
                sample[f"all@{value}"] = found["all"]
        return sample

    return run


def figures(steps: dict[int, str], rate: str, cost: str) -> tuple[Figure, ...]:
    first = next(iter(steps))
    found = []
    for value, title in steps.items():
        found.append(Figure(f"rate@{value}", f"{title}: rate", rate, "more"))
        found.append(Figure(f"cpu@{value}", f"{title}: CPU", cost, "less"))
        if value != first:
            found.append(Figure(f"growth@{value}", f"{title}: growth of CPU", "times", "less", 1.0))
    return tuple(found)


def scaling(name: str, title: str, step: Step, steps: dict[int, str], units: tuple[str, str]) -> Measure:
    return Measure(
        name=name,
        title=title,
        figures=figures(steps, *units),
        run=walk(step, tuple(steps)),
        contenders=(PROJECT, HAPROXY_ONE),
        most_rounds=3,
        cost=float(len(steps)),
        extra=0.3 * len(steps),
    )


def counted(numbers: Sequence[int], noun: str) -> dict[int, str]:
    return {number: f"{number:,} {noun}{'s' if number > 1 else ''}" for number in numbers}


ONE_TO_EIGHT = scaling(
    "streams", "1 to 8 bulk sessions at once", measure_streams, counted(STREAMS, "session"), ("GB/s", "ms per GB")
)
MANY_STREAMS = replace(  # whose ratios vary most
    ONE_TO_EIGHT,
    figures=(
        *(replace(figure, bound=1.0) if figure.key.startswith("cpu@") else figure for figure in ONE_TO_EIGHT.figures),
        *(
            Figure(f"all@{n}", f"{title}: CPU of client, proxy and server", "ms per GB", "less")
            for n, title in counted(STREAMS, "session").items()
        ),
    ),
    most_rounds=bulk.BULK.most_rounds,
)
MANY_FRESH = scaling(
    "freshmany",
    "new connections of 1 to 1,000 clients",
    measure_fresh,
    counted(CLIENTS, "client"),
    ("connections/s", "us each"),
)
MANY_KEPT = scaling(
    "keptmany",
    "kept requests of 1 to 1,000 clients",
    measure_kept,
    counted(CLIENTS, "client"),
    ("requests/s", "us each"),
)
MESSAGES = scaling(
    "messages",
    "echoes of 1 B to 1 MiB",
    measure_messages,
    SIZES,
    ("echoes/s", "us each"),
)
