"""What all measures have in common, and how a growth is found."""

import pytest

from benchmarks.measures.memory import IN_ONE, OVER_TWO, over_two
from benchmarks.measures.registry import MEASURES
from benchmarks.measures.scaling import counted, figures, walk
from benchmarks.proxies import HAPROXY_ONE, PROJECT
from tcp_proxy import build


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_every_measure(measure):
    assert measure.name.isalnum(), "it is a word of ONLY"
    keys = [figure.key for figure in measure.figures]
    assert len(set(keys)) == len(keys) > 0
    assert {PROJECT, HAPROXY_ONE} <= set(measure.contenders)


def test_the_bounds_of_the_design():
    wanted = {
        ("fresh", "rate"): 1.0, ("fresh", "cpu"): 0.97, ("kept", "rate"): 1.05, ("kept", "cpu"): 0.95,
        ("bulk", "rate"): 1.0, ("bulk", "cpu"): 1.0, ("roundtrip", "p50"): 1.0, ("roundtrip", "p99"): 1.1,
        ("memory", "session@9000"): 4096, ("start", "start"): 0.15,
        ("growth", "start@20000"): 2.0, ("growth", "reload@20000"): 2.0, ("growth", "metrics@20000"): 1.0,
        ("growth", "status@20000"): 1.0, ("growth", "list@20000"): 1.0, ("growth", "memory@20000"): 1.0,
        ("growth", "growth start"): 20, ("growth", "growth reload"): 20, ("growth", "growth metrics"): 20,
        ("growth", "growth memory"): 20, ("sticky", "more"): 200.0, ("sticky", "morebeside"): 200.0,
        ("tlsnew", "rate"): 0.9, ("tlsnew", "cpu"): 1.1, ("tlsresumed", "rate"): 0.8, ("tlskept", "rate"): 0.8,
        ("tlsbulk", "rate@get"): 1.0, ("tlsbulk", "cpu@get"): 0.9, ("tlsbulk", "rate@put"): 1.0, ("tlsbulk", "cpu@put"): 0.9,
        ("tlsidle", "session"): 1.0, ("tlsidle", "moved"): 1.0,
        ("httpkept", "rate"): 0.95, ("httpkept", "cpu"): 1.05, ("httpkept", "p99"): 1.1, ("httpbodies", "rate"): 1.0,
        ("streams", "cpu@1"): 1.0, ("streams", "cpu@2"): 1.0, ("streams", "cpu@4"): 1.0, ("streams", "cpu@8"): 1.0,
    }  # fmt: skip
    assert wanted.items() <= bounds("compiled").items()
    pure = {
        ("fresh", "rate"): 1.0, ("fresh", "cpu"): 1.0, ("kept", "rate"): 1.0, ("kept", "cpu"): 1.0,
        ("httpkept", "rate"): 0.68, ("httpkept", "cpu"): 1.6,
    }  # fmt: skip
    assert (wanted | pure).items() <= bounds("pure Python").items()
    assert bounds(build()) == bounds("pure Python" if build().startswith("pure") else "compiled")


def bounds(build):
    measures = [measure.of(build) for measure in MEASURES.values()]
    return {(m.name, f.key): f.bound or f.limit for m in measures for f in m.figures if f.bound or f.limit}


def test_as_many_sessions_as_there_is_room_for_are_measured_over_two_workers():
    two = {figure.key: figure for figure in MEASURES["memory"].figures}["session@two"]
    assert (two.limit, two.title) == (2048, over_two(OVER_TWO, IN_ONE))


def test_a_level_that_is_not_the_same_on_both_sides_says_so():
    assert over_two(20_000, 20_000) == "a session, of 20,000 over two workers"
    assert over_two(18_700, 9_800) == "a session, of 18,700 over two workers (HAProxy: of 9,800)"


def test_a_growth_is_the_cost_over_that_of_the_first_step():
    run = walk(lambda lab, contender, seconds, step: {"rate": 1.0, "cpu": 2.0 * step}, (1, 4))
    assert run(None, PROJECT, 1) == {
        "rate@1": 1.0, "cpu@1": 2.0, "growth@1": 1.0, "rate@4": 1.0, "cpu@4": 8.0, "growth@4": 4.0,
    }  # fmt: skip
    keys = [figure.key for figure in figures(counted((1, 4), "client"), "requests/s", "us each")]
    assert keys == ["rate@1", "cpu@1", "rate@4", "cpu@4", "growth@4"]
