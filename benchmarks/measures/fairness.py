"""Whether a session that says little is held up by one that moves much: ping-pong alone, then beside a bulk session."""

from benchmarks import loads
from benchmarks.lab import Lab
from benchmarks.measures.base import Figure, Measure, Sample
from benchmarks.proxies import HAPROXY_ONE, PROJECT, Contender


def measure(lab: Lab, contender: Contender, seconds: int) -> Sample:
    ports = lab.proxy(contender).port
    alone = loads.sockperf(ports["ping"], seconds)
    with loads.iperf3_beside(ports["bulk"], seconds) as bulk:
        beside = loads.sockperf(ports["ping"], seconds)
    rate = bulk.result().rate / 1e9
    return {
        "alone50": alone.p50,
        "alone99": alone.p99,
        "beside50": beside.p50,
        "beside99": beside.p99,
        "rate": rate,
    }


FAIRNESS = Measure(
    name="fairness",
    title="ping-pong beside bulk",
    figures=(
        Figure("alone50", "p50 alone", "us", "less"),
        Figure("alone99", "p99 alone", "us", "less"),
        Figure("beside50", "p50 beside", "us", "less"),
        Figure("beside99", "p99 beside", "us", "less"),
        Figure("rate", "rate of the bulk session", "GB/s", "more"),
    ),
    run=measure,
    contenders=(PROJECT, HAPROXY_ONE),
    cost=2.0,
    extra=7.0,
)
