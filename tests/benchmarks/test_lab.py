"""Everything in the Lab runs, and is gone after it; what our proxy complains of is not overheard."""

import pytest

from benchmarks import loads
from benchmarks.lab import Lab
from benchmarks.measures.memory import idle_clients, tell
from benchmarks.measures.start import first_byte
from benchmarks.measures.sticky import STICKY
from benchmarks.programs import PACKAGES, Failed, stream_module
from benchmarks.proxies import HAPROXY_ONE, PROJECT
from benchmarks.sticky_proxies import ASKED
from kit import procfs
from kit.api import Api
from kit.programs import need


@pytest.fixture
def lab(tmp_path, monkeypatch):
    for name in PACKAGES:
        need(name)
    if stream_module() is None:
        pytest.skip("nginx has no stream module")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Lab() as lab:
        yield lab


def test_the_end_of_everything(lab, tmp_path):
    programs = [*lab.servers.values(), lab.proxy(PROJECT), lab.proxy(HAPROXY_ONE)]
    started = [pid for program in programs for pid in program.pids()]
    assert len(started) == len(programs) + 2  # nginx and our proxy have a worker each
    assert lab.proxy(PROJECT) is lab.proxy(PROJECT)
    lab.__exit__(None, None, None)
    assert not any(map(procfs.is_running, started))
    assert not list(tmp_path.iterdir())
    assert lab.self_reports == []


def test_a_proxy_that_died_is_a_failure(lab):
    proxy = lab.proxy(HAPROXY_ONE)
    proxy.process.kill()
    proxy.process.wait()
    with pytest.raises(Failed, match="ended with status -9"):
        lab.proxy(HAPROXY_ONE)


def test_complaints(lab):
    with lab.fresh(PROJECT) as proxy, proxy.log.open("a") as log:
        log.write("WARNING something is wrong\n")
    assert lab.self_reports == ["project says: WARNING something is wrong"]


def test_greetings_come_through_the_proxy(lab):
    with lab.fresh(PROJECT) as proxy, idle_clients(proxy.port["greet"]) as clients:
        assert first_byte(proxy.port["greet"]) == b"!"
        tell(clients, 3)
        tell(clients, 250)
        sockets = [procfs.kinds(pid)["socket"] for pid in proxy.pids()]
    assert max(sockets) > 500


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_echoes(lab, size):
    assert loads.pinger(lab.targets["echo"], 0.1, size) > 1
    with lab.fresh(PROJECT) as proxy:
        assert loads.pinger(proxy.port["blocks"], 0.1, size) > 1


@pytest.mark.parametrize("contender", STICKY.contenders, ids=lambda contender: contender.name)
def test_strangers(lab, contender):
    """Each comes twice; beside somebody who asks without pause."""
    with lab.fresh(contender, "sticky") as proxy:
        with loads.wrk_beside(proxy.port["api"], ASKED[contender.kind], 0.2):
            new, known = loads.strangers(proxy.port["greet"], 0.2, 0)
        assert min(new, known) > 0
        if contender is PROJECT:
            page = Api(proxy.port["api"]).get("/api/v1/apps/greet/sticks").json
            assert page["known"] > 20
            assert page["entries"][0]["key"] == "127.1.0.1"


def test_sessions_that_are_not_to_be_had(lab):
    with lab.fresh(PROJECT) as proxy:
        port = proxy.port["greet"]
    assert first_byte(port) == b""
    with idle_clients(port) as clients, pytest.raises(Failed, match=r"10 sessions were not to be had: .*refused"):
        tell(clients, 10)
