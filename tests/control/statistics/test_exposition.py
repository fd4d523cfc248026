"""The text is the client library's own, for the same samples, in both formats; quiet rows are written as any other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder

from tcp_proxy.control.statistics.exposition import (
    COUNTER,
    GAUGE,
    Row,
    at,
    encoded,
    histogram,
    label,
    of_rows,
    one,
    some,
    split,
)

FORMATS = ("", "application/openmetrics-text; version=1.0.0")
TIMES = {"bounds": [0.5, 1.0], "upto": [1, 2], "count": 4, "sum": 1.25}


class Of:
    """What the library registers."""

    def __init__(self, *metrics):
        self.metrics = metrics

    def describe(self):
        return ()

    def collect(self):
        return self.metrics


def theirs(metric, accept):
    registry = CollectorRegistry()
    registry.register(Of(metric))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def ours(family, accept):
    pieces, content_type = encoded([family], accept)
    return b"".join(pieces), content_type


@pytest.mark.parametrize("accept", FORMATS)
@pytest.mark.parametrize("value", [0, 1, True, 7_000_000, 1 << 60, 0.25, 1.7e9, -3])
def test_one_value(value, accept):
    assert ours(one(COUNTER, "a", "Text.", value), accept) == theirs(CounterMetricFamily("a", "Text.", value), accept)
    assert ours(one(GAUGE, "a", "Text.", value), accept) == theirs(GaugeMetricFamily("a", "Text.", value), accept)


@pytest.mark.parametrize("accept", FORMATS)
@given(names=st.lists(st.text(), min_size=2, max_size=2))
def test_labels(names, accept):
    """Whatever they hold, they are in one order."""
    for kind, theirs_of in ((COUNTER, CounterMetricFamily), (GAUGE, GaugeMetricFamily)):
        metric = theirs_of("a", "Text.", labels=["target", "app"])
        metric.add_metric(names, 3)
        labels = dict(zip(("target", "app"), names, strict=True))
        assert ours(some(kind, "a", "Text.", [(labels, 3)]), accept) == theirs(metric, accept)
        row = Row({"n": 3}, names[1], f",{label('target', names[0])}")
        assert ours(of_rows(kind, "a", "Text.", [row], at("n")), accept) == theirs(metric, accept)


@pytest.mark.parametrize("accept", FORMATS)
def test_parts_of_a_whole(accept):
    metric = CounterMetricFamily("a", "Text.", labels=["app", "reason", "target"])
    for part, count in (("eof", 1), ("idle", 0)):
        metric.add_metric(["x", part, "y"], count)
    row = Row({"ends": {"eof": 1, "idle": 0}}, "x", f",{label('target', 'y')}")
    assert ours(split(COUNTER, "a", "Text.", "reason", [row], at("ends")), accept) == theirs(metric, accept)


@pytest.mark.parametrize("accept", FORMATS)
def test_a_histogram(accept):
    metric = HistogramMetricFamily("a", "Text.", labels=["app"])
    metric.add_metric(["x"], [("0.5", 1), ("1.0", 2), ("+Inf", 4)], 1.25)
    assert ours(histogram("a", "Text.", [Row({"n": TIMES}, "x")], at("n")), accept) == theirs(metric, accept)


def test_quiet_rows():
    """Some beside others, of two apps; one's name looks like what stands in its place."""
    views = [TIMES, {**TIMES, "upto": [0, 0], "count": 0, "sum": 0.0}]
    of = [("x", "a", 1), ("x", "b", 0), ("x", "\n\0", 1), ("y", "\0", 1), ("y", "d", 0), ("y", "e", 1)]
    loud = [Row({"n": views[number]}, app, f",{label('target', name)}") for app, name, number in of]
    some_quiet = [Row({"n": views[number]}, app, f",{label('target', name)}", number == 1) for app, name, number in of]
    texts = [ours(histogram("a", "Text.", rows, at("n")), "")[0] for rows in (loud, some_quiet)]
    assert texts[0] == texts[1]
    parts = [
        split(COUNTER, "a", "Text.", "by", rows, lambda view: {"k": view["n"]["count"]}, True) for rows in (loud, some_quiet)
    ]
    assert ours(parts[0], "") == ours(parts[1], "")


def test_many_rows_in_pieces():
    rows = [Row({"n": {}}, "x") for _ in range(1000)] + [Row({"n": {"k": 1}}, "y")]
    pieces, _ = encoded([split(GAUGE, "a", "Text.", "by", rows, at("n"))], "")
    assert b"".join(pieces).endswith(b'a{app="y",by="k"} 1.0\n')
