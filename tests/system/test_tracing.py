"""Tracing: spans of sessions and requests reach a collector that decodes OTLP with the format's own package; whatever the
collector and the exporter do, clients do not notice."""

import json
import os
import signal

import pytest

from kit import procfs
from kit.api import Api, api_config
from kit.certificates import Authority
from kit.collector import Collector
from kit.dialogue import OK, OK_PASSED, head
from kit.waiting import wait_until

MODULE = b"tcp_proxy.control.trace_exporter.server"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def collector():
    with Collector() as one:
        yield one


def exporter_pid(program):
    """None between a death and the next one."""
    return next((pid for pid, line in procfs.children(program.pid).items() if MODULE in line), None)


def traced(collector, **more):
    return {"tracing": {"endpoint": collector.endpoint, **more}, "api": api_config()}


def ask(client, *fields):
    lines = b"GET /a?secret=1 HTTP/1.1", b"Host: shop.example:80", *fields
    client.send(b"".join(b"%b\r\n" % line for line in lines) + b"\r\n")


def field(asked, name):
    """Its only value in a head."""
    found = [line.partition(b": ")[2].decode() for line in asked.split(b"\r\n") if line.lower().startswith(name + b":")]
    assert len(found) < 2, found
    return found[0] if found else None


def test_a_session_is_a_span(proxy, service, collector):
    echo = service()
    program = proxy(targets=["127.0.0.1:1", echo], name="shop", health=[], top=traced(collector, service_name="edge"))
    program.connect().send(b"12345").expect(b"12345").fin().expect_fin()
    record = program.record()
    (span,) = collector.wait(1)
    assert (span.name, span.kind, span.parent, span.status) == ("session shop", "SPAN_KIND_SERVER", "", "STATUS_CODE_UNSET")
    assert record["trace"] == span.trace, "the access log says which trace it is"
    assert span.attributes["tcp_proxy.session.id"] == record["id"]
    assert span.attributes["tcp_proxy.target"] == echo.address
    assert (span.attributes["tcp_proxy.bytes_up"], span.attributes["tcp_proxy.bytes_down"]) == (5, 5)
    assert f"{span.attributes['client.address']}:{span.attributes['client.port']}" == program.clients[0].address
    assert span.attributes["server.port"] == program.port
    assert span.begun <= span.events["connected"] <= span.ended
    assert span.resource["service.name"] == "edge"


def test_requests_take_up_a_trace_and_pass_it_on(http, target, collector):
    """Over one connection: plain ones and others, with a trace and without one, and one that is none."""
    server = target()
    program = http(server, name="web", top=traced(collector, headers={"X-Token": "t"}))
    client = program.connect()
    given = (
        (), (), (b"traceparent: 00-%b-%b-01" % (TRACE.encode(), PARENT.encode()), b"tracestate: a=1"),
        (b"traceparent: 00-%b-%b-00" % (TRACE.encode(), PARENT.encode()), b"tracestate: a=1"),
        (b"traceparent: 00-%b-%b-01" % (TRACE.upper().encode(), PARENT.encode()), b"tracestate: a=1"),
        (b"traceparent: 00-%b-%b-01" % (TRACE.encode(), PARENT.encode()),) * 2,
    )  # fmt: skip
    told = []
    upstream = None
    for fields in given:
        ask(client, *fields)
        upstream = upstream or server.accept()
        asked = head(upstream)
        told.append((field(asked, b"traceparent"), field(asked, b"tracestate")))
        upstream.send(OK)
        client.expect(OK_PASSED)
    spans = collector.wait(5)
    by_id = {span.id: span for span in spans}
    for told_parent, told_state in (told[0], told[1], told[4], told[5]):
        version, trace, parent, flags = told_parent.split("-")
        assert (version, flags, told_state) == ("00", "03", None), "begun anew, with random bits"
        assert trace != TRACE
        assert (by_id[parent].trace, by_id[parent].parent) == (trace, "")
    _, trace, parent, flags = told[2][0].split("-")
    assert (trace, flags, told[2][1]) == (TRACE, "01", "a=1")
    assert (by_id[parent].trace, by_id[parent].parent) == (TRACE, PARENT)
    assert told[3] == (f"00-{TRACE}-{PARENT}-00", "a=1"), "nobody records it: it goes on as it came"
    assert len({span.id for span in spans}) == len(spans) == 5
    span = spans[0]
    assert (span.name, span.kind, span.status) == ("GET", "SPAN_KIND_SERVER", "STATUS_CODE_UNSET")
    wanted = {
        "http.request.method": "GET", "url.path": "/a", "url.scheme": "http", "http.response.status_code": 200,
        "server.address": "shop.example", "server.port": 80, "tcp_proxy.app": "web", "network.protocol.version": "1.1",
        "tcp_proxy.target": server.address, "client.address": "127.0.0.1", "tcp_proxy.reason": "done",
    }  # fmt: skip
    assert {key: span.attributes.get(key) for key in wanted} == wanted
    assert span.begun <= span.events["answer"] <= span.ended
    assert span.headers["x-token"] == "t"
    counted = wait_until(lambda: (found := statistics(program))["exported"] == 5 and found, "they are counted")
    assert counted == {"exported": 5, "dropped": 0, "failing": False}


def statistics(program):
    return Api.of(program).get("/api/v1/statistics").json["traces"]


def one_session(program):
    program.connect().send(b"x").expect(b"x").fin().expect_fin()


def test_a_collector_that_refuses_or_hangs_costs_spans_and_nothing_else(proxy, service, collector):
    collector.status = 400  # it will not be asked again
    program = proxy(targets=[service()], top=traced(collector, timeout=1))
    one_session(program)
    text = f"the collector at {collector.endpoint}/v1/traces does not take spans: .*400.*; spans are dropped until"
    program.wait_log(text)
    wait_until(lambda: statistics(program) == {"exported": 0, "dropped": 1, "failing": True}, "that is counted")
    metrics = Api.of(program).get("/metrics").text
    assert "tcp_proxy_spans_dropped_total 1.0" in metrics
    assert "tcp_proxy_spans_failing 1.0" in metrics
    collector.status = 200
    one_session(program)
    program.wait_log("the collector takes spans again; 1 was dropped so far")
    collector.stalls = True
    one_session(program)
    wait_until(lambda: collector.requests == 3, "it has been asked")
    one_session(program)
    program.records(4)
    program.signal(signal.SIGTERM)
    assert program.wait() == 0


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_a_collector_with_tls_is_spoken_to_if_its_certificate_is_right(proxy, service, tmp_path, monkeypatch, name):
    authority, other = Authority(), tmp_path / "other.pem"
    (tmp_path / "ca.pem").write_text(authority.pem)
    other.write_text(Authority("another").pem)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other))  # the file that the configuration names is what counts
    with Collector(authority.issue(name).write(tmp_path)) as collector:
        endpoint = collector.endpoint.replace("127.0.0.1", name)
        tracing = {"endpoint": endpoint, "ca": str(tmp_path / "ca.pem"), "headers": {"X-Token": "t"}}
        program = proxy(targets=[service()], name="shop", top={"tracing": tracing})
        one_session(program)
        (span,) = collector.wait(1)
        assert (span.name, span.headers["x-token"]) == ("session shop", "t")


@pytest.mark.parametrize(
    ("trusted", "issued_for", "why"),
    [
        ("another", "127.0.0.1", "unable to get local issuer certificate"),
        (None, "127.0.0.1", "unable to get local issuer certificate"),
        ("tests", "other.example", "IP address mismatch, certificate is not valid for '127.0.0.1'."),
    ],
    ids=["another authority", "no authority of ours", "another name"],
)
def test_a_collector_with_a_wrong_certificate_gets_nothing(proxy, service, tmp_path, trusted, issued_for, why):
    authority = Authority()
    tracing = {}
    if trusted is not None:
        file = tmp_path / "ca.pem"
        file.write_text((authority if trusted == "tests" else Authority(trusted)).pem)
        tracing["ca"] = str(file)
    with Collector(authority.issue(issued_for).write(tmp_path)) as collector:
        program = proxy(targets=[service()], top=traced(collector, **tracing))
        held = program.connect().send(b"x").expect(b"x")
        one_session(program)
        program.wait_log(f"the collector at {collector.endpoint}/v1/traces does not take spans: TLS: {why}; spans are")
        wait_until(lambda: statistics(program)["dropped"] == 1, "that is counted")
        held.send(b"y").expect(b"y").fin().expect_fin()
        wait_until(lambda: statistics(program) == {"exported": 0, "dropped": 2, "failing": True}, "and so is the next one")
        assert program.log.count("does not take spans") == 1
        assert (collector.requests, collector.spans) == (0, [])


def test_an_exporter_that_dies_is_replaced_and_sessions_do_not_notice(proxy, service, collector):
    program = proxy(targets=[service()], top=traced(collector))
    client = program.connect().send(b"x").expect(b"x")
    before = exporter_pid(program)
    os.kill(before, signal.SIGSTOP)
    one_session(program)
    program.records(1)  # it lies in the socket, which the next one has
    os.kill(before, signal.SIGKILL)
    program.wait_log("trace exporter .* ended: SIGKILL")
    collector.wait(1)
    assert exporter_pid(program) != before
    client.send(b"y").expect(b"y").fin().expect_fin()
    collector.wait(2)


def test_a_reload_changes_the_access_log_beside_it(proxy, service, collector):
    program = proxy(targets=[service()], top=traced(collector, headers={"Authorization": "secret"}))
    file = next(program.folder.glob("config-*.json"))
    other = {**json.loads(file.read_text()), "access_log": "other.log", "tracing": None}
    file.write_text(json.dumps(other))
    program.signal(signal.SIGHUP)
    said = program.wait_log("SIGHUP: tracing: ")
    assert "-> none (at the next start)" in said
    assert "secret" not in said
    assert "Authorization" in said
    program.wait_log("SIGHUP: done, 2 changes")
    program.uncounted = None  # they are in the other log
    one_session(program)
    (span,) = collector.wait(1)
    wait_until(lambda: span.trace in (program.folder / "other.log").read_text(), "it is in the other log")
    assert not program.access_log.read_text()


def test_a_reload_changes_how_much_is_sampled(http, target, collector):
    """To look at a trouble while it lasts: connections that are there have it, too."""
    server = target()
    program = http(server, top=traced(collector, sample=0))
    file = next(program.folder.glob("config-*.json"))
    config = json.loads(file.read_text())
    client, servers = program.connect(), []

    def flags():
        ask(client)
        servers[:] = servers or [server.accept()]
        told = field(head(servers[0]), b"traceparent")[-2:]
        servers[0].send(OK)
        client.expect(OK_PASSED)
        return told

    assert flags() == "02"
    for sample, wanted in ((1, "03"), (0, "02")):
        file.write_text(json.dumps({**config, "tracing": {**config["tracing"], "sample": sample, "service_name": "other"}}))
        program.signal(signal.SIGHUP)
        program.wait_log(f"SIGHUP: tracing.sample: .* -> {sample}\\b")
        wait_until(lambda wanted=wanted: flags() == wanted, "the worker has it")
    span = collector.wait(1)[0]
    assert span.resource["service.name"] == "tcp_proxy", "all else is read at the start"
    shown = Api.of(program).get("/api/v1/config").json["tracing"]
    assert (shown["sample"], shown["service_name"]) == (0.0, "tcp_proxy")


def test_nothing_is_there_without_the_key(http, target):
    server = target()
    program = http(server)
    client = program.connect()
    line = b"traceparent: 00-%b-%b-01" % (TRACE.encode(), PARENT.encode())
    ask(client, line, line, b"tracestate: a=1")
    upstream = server.accept()
    asked = head(upstream)
    assert asked.count(line + b"\r\n") == 2
    assert b"tracestate: a=1\r\n" in asked
    upstream.send(OK)
    client.expect(OK_PASSED)
    ask(client)
    assert b"traceparent" not in head(upstream).lower()
    upstream.send(OK)
    client.expect(OK_PASSED)
    assert exporter_pid(program) is None
