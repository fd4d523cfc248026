"""How long a small message and its answer take: sockperf ping-pong through the proxy, 64 bytes.

Measured twice. On one CPU, which client, proxy and server share, the figure is what the proxy's own work adds, and it
comes out the same again and again. With the kernel free to place them it is mostly the wake-up of idle CPUs, the same
for every proxy, and which placement a run gets is chance.
"""

from benchmarks import loads
from benchmarks.lab import Lab
from benchmarks.measures.base import Figure, Measure, Sample
from benchmarks.placement import on_one_cpu
from benchmarks.proxies import HAPROXY_ONE, NGINX_ONE, PROJECT, PROJECT_LOG, Contender


def measure(lab: Lab, contender: Contender, seconds: int) -> Sample:
    proxy = lab.proxy(contender)
    free = loads.sockperf(proxy.port["ping"], seconds)
    with on_one_cpu([*proxy.pids(), *lab.servers["ping"].pids()]):
        one = loads.sockperf(proxy.port["ping"], seconds)
    return {"p50": one.p50, "p99": one.p99, "free50": free.p50, "free99": free.p99}


ROUND_TRIP = Measure(
    name="roundtrip",
    title="round trip, 64 bytes",
    figures=(
        Figure("p50", "p50 on one CPU", "us", "less", 1.0),
        Figure("p99", "p99 on one CPU", "us", "less", 1.1),
        Figure("free50", "p50, placed freely", "us", "less", 1.0),
        Figure("free99", "p99, placed freely", "us", "less", 1.1),
    ),
    run=measure,
    contenders=(PROJECT, HAPROXY_ONE, NGINX_ONE, PROJECT_LOG),  # one session has but one worker
    cost=2.0,
    extra=2 * loads.SOCKPERF_OWN,
)
