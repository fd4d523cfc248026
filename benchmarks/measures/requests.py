"""New connections, and requests on kept connections: wrk through the proxy to nginx."""

from benchmarks import loads
from benchmarks.lab import Lab
from benchmarks.measures.base import CpuMeter, Figure, Measure, Sample, cpu_figures, latency_figures
from benchmarks.proxies import Contender


def measure_fresh(lab: Lab, contender: Contender, seconds: int) -> Sample:
    return measure(lab, contender, seconds, loads.SHORT_SESSIONS)


def measure_kept(lab: Lab, contender: Contender, seconds: int) -> Sample:
    return measure(lab, contender, seconds, ())


def measure(lab: Lab, contender: Contender, seconds: int, options: tuple[str, ...], clients: int = 50) -> Sample:
    proxy = lab.proxy(contender)
    meter = CpuMeter(proxy.pids())
    load = loads.wrk(proxy.port["http"], seconds, clients, options)
    return {"rate": load.rate, **meter.per(load.count), "p50": load.p50, "p99": load.p99}


FRESH = Measure(
    name="fresh",
    title="new connections",
    figures=(
        Figure("rate", "rate", "connections/s", "more", 1.0),
        *cpu_figures("connection", 0.97, pure=1.0),
        *latency_figures(),
    ),
    run=measure_fresh,
)
KEPT = Measure(
    name="kept",
    title="kept requests",
    figures=(
        Figure("rate", "rate", "requests/s", "more", 1.05, pure=1.0),
        *cpu_figures("request", 0.95, pure=1.0),
        *latency_figures(),
    ),
    run=measure_kept,
)
