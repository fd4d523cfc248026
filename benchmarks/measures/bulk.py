"""One session that moves as much as it can: iperf3 through the proxy.

On the loopback device a packet is sent and received in the time of whoever causes it, so beside the CPU of the proxy there
is that of client, proxy and server together: what one has less of another may have more of.
"""

from benchmarks import loads
from benchmarks.lab import Lab
from benchmarks.measures.base import CpuMeter, Figure, Measure, Sample, cpu_figures, of_load_programs
from benchmarks.proxies import Contender

ALL = "CPU per GB of client, proxy and server"


def measure(lab: Lab, contender: Contender, seconds: int, streams: int = 1) -> Sample:
    proxy = lab.proxy(contender)
    meter, server, before = CpuMeter(proxy.pids()), CpuMeter(lab.servers["bulk"].pids()), of_load_programs()
    load = loads.iperf3(proxy.port["bulk"], seconds, streams)
    client = of_load_programs() - before
    gigabytes = load.count / 1e9
    sample = {"rate": load.rate / 1e9, **meter.per(gigabytes, 1e3)}
    return {**sample, "all": sample["cpu"] + server.per(gigabytes, 1e3)["cpu"] + client * 1e3 / gigabytes}


BULK = Measure(
    name="bulk",
    title="bulk, one stream",
    figures=(Figure("rate", "rate", "GB/s", "more", 1.0), *cpu_figures("GB", 1.0, "ms"), Figure("all", ALL, "ms", "less")),
    run=measure,
)
