"""Mode http: requests on kept connections on both sides, and bodies of 1 MiB; wrk through the proxy to nginx."""

from benchmarks import loads
from benchmarks.lab import Lab
from benchmarks.measures.base import CpuMeter, Figure, Measure, Sample, cpu_figures, latency_figures
from benchmarks.proxies import Contender


def measure_requests(lab: Lab, contender: Contender, seconds: int) -> Sample:
    return measure(lab, contender, seconds, "/", 50)


def measure_bodies(lab: Lab, contender: Contender, seconds: int) -> Sample:
    return measure(lab, contender, seconds, "/mib", 10)


def measure(lab: Lab, contender: Contender, seconds: int, path: str, clients: int) -> Sample:
    proxy = lab.proxy(contender, "http")
    meter = CpuMeter(proxy.pids())
    load = loads.wrk(proxy.port["http"], seconds, clients, path=path)
    return {"rate": load.rate, **meter.per(load.count), "p50": load.p50, "p99": load.p99}


REQUESTS = Measure(
    name="httpkept",
    title="mode http, requests",
    figures=(
        Figure("rate", "rate", "requests/s", "more", 0.95, pure=0.68),
        *cpu_figures("request", 1.05, pure=1.6),
        *latency_figures(p99=1.1),
    ),
    run=measure_requests,
)
BODIES = Measure(
    name="httpbodies",
    title="mode http, answers of 1 MiB",
    figures=(Figure("rate", "rate", "answers/s", "more", 1.0), *cpu_figures("answer"), *latency_figures()),
    run=measure_bodies,
)
