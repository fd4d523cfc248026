"""One session that moves as much as it can: iperf3 through the proxy."""

from benchmarks import loads
from benchmarks.lab import Lab
from benchmarks.measures.base import CpuMeter, Figure, Measure, Sample, cpu_figures
from benchmarks.proxies import Contender


def measure(lab: Lab, contender: Contender, seconds: int, streams: int = 1) -> Sample:
    proxy = lab.proxy(contender)
    meter = CpuMeter(proxy.pids())
    load = loads.iperf3(proxy.port["bulk"], seconds, streams)
    return {"rate": load.rate / 1e9, **meter.per(load.count / 1e9, 1e3)}


BULK = Measure(
    name="bulk",
    title="bulk, one stream",
    figures=(Figure("rate", "rate", "GB/s", "more", 1.0), *cpu_figures("GB", 1.0, "ms")),
    run=measure,
)
