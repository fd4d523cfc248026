"""Which line says what is wrong with a collector. That it takes spans, over TLS too: tests/system/test_tracing.py."""

import logging

import pytest
import requests

from kit.collector import Collector as Server
from kit.ports import free_port
from tcp_proxy.control.trace_exporter.collector import Collector, root
from tcp_proxy.wire.messages import ExportTraces
from tests.control.trace_exporter.test_spans import session as a_span


@pytest.fixture(autouse=True)
def loggers():
    """A process that exports has one collector, which has these loggers for good."""
    known = [logging.getLogger(name) for name in ("opentelemetry", "urllib3", "requests")]
    before = [(one.handlers[:], one.propagate) for one in known]
    yield
    for one, (handlers, propagate) in zip(known, before, strict=True):
        one.handlers[:], one.propagate = handlers, propagate


def collector(endpoint, **more):
    return Collector(ExportTraces(endpoint, "edge", (), 0.5, "", "info"), **more)


@pytest.mark.parametrize(
    ("status", "why"), [(400, "400 Bad Request"), (401, "401 Unauthorized"), (503, "503 Service Unavailable")]
)
def test_a_collector_that_refuses(status, why):
    with Server() as server:
        server.status = status
        one = collector(f"{server.endpoint}/v1/traces")
        assert one.export([a_span()]) == f"the collector at {server.endpoint}/v1/traces does not take spans: {why}"
        server.status = 200
        assert one.export([a_span()]) == ""
        assert len(server.spans) == 1


def test_nobody_who_listens():
    said = collector(f"http://127.0.0.1:{free_port()}/").export([a_span()])
    assert said.endswith("does not take spans: Connection refused")


def test_what_the_environment_says_for_others_is_not_for_us(monkeypatch):
    """A proxy, which a collector on this machine would be asked by."""
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    with Server() as server:
        assert collector(f"{server.endpoint}/v1/traces").export([a_span()]) == ""


def test_an_exporter_that_raises_ends_no_thread():
    """As OpenTelemetry's did in version 1.36 where nobody listens."""

    class Raises:
        def __init__(self, endpoint, session, **_):
            self._endpoint, self._session = endpoint, session

        def export(self, _spans):
            self._session.post(self._endpoint)

    said = collector(f"http://127.0.0.1:{free_port()}/", make=Raises).export([])
    assert said.endswith("does not take spans: Connection refused")


def test_the_root_of_errors_that_go_round():
    one, two = requests.ConnectionError("one"), requests.ConnectionError("two")
    one.__cause__, two.__cause__ = two, one
    assert root(one) == "two"
    assert root(ValueError()) == "ValueError"
