"""The configurations with TLS are accepted by those they are for; clients of the benchmark are served by both."""

import pytest

from benchmarks import loads
from benchmarks.lab import Lab
from benchmarks.measures.memory import idle_clients, tell
from benchmarks.programs import PACKAGES, Failed, stream_module
from benchmarks.proxies import HAPROXY_ONE, PROJECT
from benchmarks.tls_proxies import WRITERS
from kit.programs import need, run
from tcp_proxy.config.load import load_file

PORTS, TARGETS = {"http": 11001}, {"http": 12001}
BOTH = pytest.mark.parametrize("contender", [PROJECT, HAPROXY_ONE], ids=lambda c: c.name)


@BOTH
def test_each_is_accepted(contender, tmp_path):
    argv, _ = WRITERS[contender.kind](contender, PORTS, TARGETS, tmp_path)
    if contender.kind == "project":
        assert load_file(str(argv[-1])).apps[0].tls.certificates[0].algorithm.startswith("EC")
    else:
        run("haproxy", "-c", "-f", argv[-1])


@BOTH
def test_the_loads_of_tls(contender):
    for name in PACKAGES:
        need(name)
    if stream_module() is None:
        pytest.skip("nginx has no stream module")
    with Lab() as lab:
        with lab.fresh(contender, "tls") as proxy, idle_clients(proxy.port["greet"], "tls_idle_clients") as clients:
            assert loads.tls_clients(proxy.port["http"], 0.2, 2)[0] > 0
            assert loads.wrk(proxy.port["http"], 1, 2, scheme="https").count > 0
            assert loads.tls_bulk(proxy.port["flood"], 0.2, 2, "get").count > 0
            assert loads.tls_bulk(proxy.port["flood"], 0.2, 2, "put").count > 0
            tell(clients, 3)
            tell(clients, 1 << 18)
        with pytest.raises(Failed, match=r"tls_client ended with status 1: ssl\.SSLError"):
            loads.tls_clients(lab.targets["http"], 0.2, 1)  # speaks no TLS
        assert lab.self_reports == []
