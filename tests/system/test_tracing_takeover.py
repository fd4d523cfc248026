"""Tracing while one program takes over from another: each span is sent once, whoever has the session at its end."""

import pytest

from kit.api import Api, api_config
from kit.collector import Collector
from kit.takeover import TOP, Succession
from kit.waiting import wait_until


@pytest.fixture
def collector():
    with Collector() as one:
        yield one


def top(collector):
    return {"workers": 2, **TOP, "api": api_config(), "tracing": {"endpoint": collector.endpoint}}


def one_session(program):
    program.connect().send(b"x").expect(b"x").fin().expect_fin()


def end(succession):
    """All have ended; what waited for the collector has been sent."""
    succession.wait_old_workers()
    succession.end()


def test_a_session_that_moves_is_one_span_with_both_processes(proxy, service, servers, collector):
    succession = Succession(proxy(targets=[service()], top=top(collector)), servers)
    old = succession.now
    one_session(old)
    held = [old.connect().send(b"a").expect(b"a") for _ in range(8)]
    before = old.workers()
    new = succession.upgrade()
    succession.wait_old_workers()  # all of them have moved
    for client in held:
        client.send(b"b").expect(b"b").fin().expect_fin()
    one_session(new)
    records = {record["id"]: record for record in new.records(10)}
    collector.wait(10)
    end(succession)
    by_id = {span.attributes["tcp_proxy.session.id"]: span for span in collector.spans}
    assert len(by_id) == len(collector.spans) == 10, "each of them once"
    assert {id: span.trace for id, span in by_id.items()} == {id: record["trace"] for id, record in records.items()}
    moved = [span for span in collector.spans if "tcp_proxy.processes" in span.attributes]
    assert len(moved) == 8
    for span in moved:
        first, second = span.attributes["tcp_proxy.processes"]
        assert first in before
        assert second not in before
        assert span.attributes["tcp_proxy.bytes_up"] == 2
        assert span.resource["service.instance.id"].endswith(f":{new.pid}")


def test_spans_that_the_old_program_has_are_sent_before_it_ends(proxy, service, servers, collector):
    succession = Succession(proxy(targets=[service()], top=top(collector)), servers)
    one_session(succession.now)
    collector.wait(1)  # its exporter runs
    for _ in range(40):
        one_session(succession.now)
    succession.upgrade()
    collector.wait(41)
    end(succession)
    assert len({span.id for span in collector.spans}) == len(collector.spans) == 41


@pytest.mark.parametrize("is_traced", [False, True], ids=["no more", "from now on"])
def test_a_program_that_takes_over_with_other_tracing(proxy, service, servers, collector, is_traced):
    """Who has the session when it ends says whether it is traced, with whom it began."""
    with_it = top(collector)
    without = {key: value for key, value in with_it.items() if key != "tracing"}
    first, second = (without, with_it) if is_traced else (with_it, without)
    succession = Succession(proxy(targets=[service()], top=first), servers)
    held = succession.now.connect().send(b"a").expect(b"a")
    config = {key: value for key, value in {**succession.now.config, **second}.items() if key in second or key != "tracing"}
    new = succession.upgrade(config)
    succession.wait_old_workers()
    held.fin().expect_fin()
    one_session(new)
    records = new.records(2)
    assert ["trace" in record for record in records] == [is_traced] * 2
    new.wait_log("management API on")
    if is_traced:
        collector.wait(2)
        wait_until(lambda: Api.of(new).get("/api/v1/statistics").json["traces"]["exported"] == 2, "they are counted")
    end(succession)
    assert len(collector.spans) == (2 if is_traced else 0)
