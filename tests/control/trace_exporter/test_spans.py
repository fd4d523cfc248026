"""What a record says, as a span: names, attributes, status and times."""

import pytest
from opentelemetry.trace.status import StatusCode

from tcp_proxy.control.trace_exporter.spans import resource, span_of
from tcp_proxy.wire.records import Record, RequestRecord

TRACE = ["a" * 32, "b" * 16, "c" * 16]
OF = resource("edge", "host:1")


def session(**more):
    given = Record(
        "w1-7", "shop", "[::1]:80", "[::1]:4711", "t", [["x", "ECONNREFUSED"]], 0.5, 2.0, 3, 0, "target", "done", "", 100.0,
        trace=TRACE,
    )  # fmt: skip
    return span_of(given._replace(**more), OF)


def request(**more):
    given = RequestRecord(
        "request", "w1-7-1", "shop", "unix:/s", "1.2.3.4:5", "t", "GET /a?b HTTP/1.1", "a.example", 200, 0, 4, 0.5, 2.0, "",
        "agent", "done", 100.0, trace=TRACE,
    )  # fmt: skip
    return span_of(given._replace(**more), OF)


def test_times_and_who_is_above():
    span = session()
    assert (span.start_time, span.end_time) == (98_000_000_000, 100_000_000_000)
    assert [(event.name, event.timestamp) for event in span.events] == [("connected", 98_500_000_000)]
    assert (f"{span.context.trace_id:x}", f"{span.context.span_id:x}", f"{span.parent.span_id:x}") == tuple(TRACE)
    assert session(trace=[*TRACE[:2], ""]).parent is None
    assert list(session(connect_seconds=-1.0).events) == []
    assert span.resource.attributes["service.name"] == "edge"


def test_a_session():
    said = session().attributes
    assert (said["server.address"], said["server.port"]) == ("::1", 80)
    assert (said["client.address"], said["client.port"]) == ("::1", 4711)
    assert said["tcp_proxy.tried"] == ["x: ECONNREFUSED"]
    assert not {"error.type", "tcp_proxy.processes"} & set(said)
    assert session(processes=[377, 812]).attributes["tcp_proxy.processes"] == [377, 812]
    assert session().status.status_code is StatusCode.UNSET
    failed = session(reason="target_reset", errno="ECONNRESET")
    assert (failed.status.status_code, failed.attributes["error.type"]) == (StatusCode.ERROR, "ECONNRESET")
    behind = session(peer="10.0.0.1:99").attributes
    assert (behind["network.peer.address"], behind["network.peer.port"]) == ("10.0.0.1", 99)


def test_a_request():
    span = request()
    said = span.attributes
    assert (span.name, said["url.path"], said["url.scheme"], said["http.response.status_code"]) == ("GET", "/a", "http", 200)
    assert (said["server.address"], "server.port" in said, said["tcp_proxy.listener"]) == ("a.example", False, "unix:/s")
    assert "tcp_proxy.processes" not in said
    assert request(processes=[377, 812]).attributes["tcp_proxy.processes"] == [377, 812]
    assert span.status.status_code is StatusCode.UNSET
    assert request(status=404).status.status_code is StatusCode.UNSET, "that is the client's own"
    failed = request(status=502, reason="connect_failed", error="no target")
    assert (failed.status.status_code, failed.status.description) == (StatusCode.ERROR, "no target")
    assert failed.attributes["error.type"] == "502"
    silent = request(status=0, reason="client_gone")
    assert silent.attributes["error.type"] == "client_gone"
    assert "http.response.status_code" not in silent.attributes
    assert request(tls=["TLSv1.3", "c", False, "", ""]).attributes["tls.protocol.version"] == "1.3"
    assert request(tls=["TLSv1.3", "c", False, "", ""]).attributes["url.scheme"] == "https"


def test_methods_that_somebody_has_made_up_are_one():
    span = request(line="BREW /pot HTTP/1.1")
    said = span.attributes
    assert (span.name, said["http.request.method"], said["http.request.method_original"]) == ("HTTP", "_OTHER", "BREW")
    assert request(line="-").name == "HTTP"


@pytest.mark.parametrize("trace", [[], ["x", "y", "z"], ["a"]])
def test_a_record_without_a_trace_is_refused(trace):
    with pytest.raises(ValueError):  # noqa: PT011  of three kinds
        session(trace=trace)
