"""TLS with clients, ended by the proxy in mode tcp, with the targets in clear: TLS 1.3, AES-GCM, a certificate with P-256.

- new: clients that resume nothing, so each connection is a full handshake, one request, one answer, the end;
- resumed: wrk over https with a connection for each request; it takes up its last session each time;
- kept: wrk over https on 50 connections that stay;
- bulk: as many streams as workers, first all from the target to the client ("get"), then all the other way ("put");
- idle: PSS of the process tree for each of SESSIONS that are idle; then again QUIET seconds after each has sent SAID bytes.
"""

from benchmarks import loads, procfs
from benchmarks.lab import Lab
from benchmarks.measures.base import CpuMeter, Figure, Measure, Sample, cpu_figures, latency_figures
from benchmarks.measures.memory import SETTLE, idle_clients, tell
from benchmarks.proxies import HAPROXY_ONE, HAPROXY_TWO, PROJECT, PROJECT_TWO, Contender
from benchmarks.waiting import pause

ONE = (PROJECT, HAPROXY_ONE)
CLIENTS = 8  # processes that make new connections
SESSIONS, SAID = 300, 1 << 20
QUIET = 11.0  # seconds: ours gives memory back when it looks at a session and finds it quiet, every 10 s


def measure_new(lab: Lab, contender: Contender, seconds: int) -> Sample:
    proxy = lab.proxy(contender, "tls")
    meter = CpuMeter(proxy.pids())
    count, rate = loads.tls_clients(proxy.port["http"], seconds, CLIENTS)
    return {"rate": rate, **meter.per(count)}


def measure_resumed(lab: Lab, contender: Contender, seconds: int) -> Sample:
    return measure_wrk(lab, contender, seconds, loads.SHORT_SESSIONS)


def measure_kept(lab: Lab, contender: Contender, seconds: int) -> Sample:
    return measure_wrk(lab, contender, seconds, ())


def measure_wrk(lab: Lab, contender: Contender, seconds: int, options: tuple[str, ...]) -> Sample:
    proxy = lab.proxy(contender, "tls")
    meter = CpuMeter(proxy.pids())
    load = loads.wrk(proxy.port["http"], seconds, options=options, scheme="https")
    return {"rate": load.rate, **meter.per(load.count), "p50": load.p50, "p99": load.p99}


def measure_bulk(lab: Lab, contender: Contender, seconds: int) -> Sample:
    proxy, sample = lab.proxy(contender, "tls"), Sample()
    for what in ("get", "put"):
        meter = CpuMeter(proxy.pids())
        load = loads.tls_bulk(proxy.port["flood"], seconds, contender.workers, what)
        sample |= {f"rate@{what}": load.rate / 1e9, f"cpu@{what}": meter.per(load.count / 1e9, 1e3)["cpu"]}
    return sample


def measure_idle(lab: Lab, contender: Contender, _seconds: int) -> Sample:
    with lab.fresh(contender, "tls") as proxy, idle_clients(proxy.port["greet"], "tls_idle_clients") as clients:
        pause(SETTLE)
        empty = procfs.pss(proxy.pids())
        sample = Sample()
        for key, number, settle in (("session", SESSIONS, SETTLE), ("moved", SAID, QUIET)):
            tell(clients, number)
            pause(settle)
            sample[key] = (procfs.pss(proxy.pids()) - empty) / SESSIONS / 1024
        return sample


NEW = Measure(
    name="tlsnew",
    title="TLS, new connections",
    figures=(Figure("rate", "rate", "connections/s", "more", 0.9), *cpu_figures("connection", 1.1)),
    run=measure_new,
    contenders=ONE,
)
RESUMED = Measure(
    name="tlsresumed",
    title="TLS, resumed connections",
    figures=(Figure("rate", "rate", "connections/s", "more", 0.8), *cpu_figures("connection"), *latency_figures()),
    run=measure_resumed,
    contenders=ONE,
)
KEPT = Measure(
    name="tlskept",
    title="TLS, kept requests",
    figures=(Figure("rate", "rate", "requests/s", "more", 0.8), *cpu_figures("request"), *latency_figures()),
    run=measure_kept,
    contenders=ONE,
)
BULK = Measure(
    name="tlsbulk",
    title="TLS, bulk, one stream a worker",
    figures=(
        Figure("rate@get", "rate to the client", "GB/s", "more", 1.0),
        Figure("cpu@get", "CPU per GB to the client", "ms", "less", 0.9),
        Figure("rate@put", "rate from the client", "GB/s", "more", 1.0),
        Figure("cpu@put", "CPU per GB from the client", "ms", "less", 0.9),
    ),
    run=measure_bulk,
    contenders=(*ONE, PROJECT_TWO, HAPROXY_TWO),
    cost=2.0,
)
IDLE = Measure(
    name="tlsidle",
    title="TLS, memory of idle sessions",
    figures=(
        Figure("session", f"a session, of {SESSIONS}", "KiB", "less", 1.0),
        Figure("moved", "the same once it has sent 1 MiB", "KiB", "less", 1.0),
    ),
    run=measure_idle,
    contenders=ONE,
    most_rounds=3,
    cost=0.0,
    extra=15.0,
)
ALL = (NEW, RESUMED, KEPT, BULK, IDLE)
