"""CPU time of a proxy that nobody talks to."""

from benchmarks.lab import Lab
from benchmarks.measures.base import CpuMeter, Figure, Measure, Sample
from benchmarks.proxies import HAPROXY_ONE, NGINX_ONE, PROJECT, Contender
from benchmarks.waiting import pause

SETTLE = 0.5  # seconds, so that the start is not in it
SHOWN = 10.0  # seconds that the figure is for


def measure(lab: Lab, contender: Contender, seconds: int) -> Sample:
    with lab.fresh(contender) as proxy:
        pause(SETTLE)
        meter = CpuMeter(proxy.pids())
        pause(2 * seconds)
        return meter.per(2 * seconds / SHOWN, 1e3)


IDLE = Measure(
    name="idle",
    title="doing nothing",
    figures=(Figure("cpu", "CPU in 10 s", "ms", "less"),),
    run=measure,
    contenders=(PROJECT, HAPROXY_ONE, NGINX_ONE),
    most_rounds=2,
    cost=2.0,
    extra=0.7,
)
