"""Apps that lead to each other are an error that names the way round."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.config.load import ConfigErrors, load_text
from tcp_proxy.config.loops import find_loop
from tcp_proxy.config.model import App, Target
from tcp_proxy.sansio.address import ListenAddress, parse_target


def app(number, *leads_to, host="127.0.0.1"):
    targets = tuple(Target(f"t{other}", parse_target(f"{host}:{5000 + other}")) for other in leads_to)
    return App(f"a{number}", (ListenAddress("127.0.0.1", 5000 + number),), targets)


@given(st.lists(st.sets(st.integers(0, 5), max_size=3), min_size=1, max_size=6))
def test_there_is_one_exactly_when_one_can_go_round(edges):
    apps = [app(number, *(other for other in leads if other != number)) for number, leads in enumerate(edges)]
    known = {
        number: {other for other in leads if other != number and other < len(apps)} for number, leads in enumerate(edges)
    }
    reach = {number: set(leads) for number, leads in known.items()}
    for _ in apps:
        for number in reach:
            reach[number] |= set(itertools.chain.from_iterable(reach[other] for other in reach[number]))
    loop = find_loop(apps)
    assert bool(loop) == any(number in reach[number] for number in reach)
    for one, other in zip(loop, loop[1:] + loop[:1], strict=True):
        assert other in known[one]


def test_a_long_chain_is_none():
    apps = [app(number, number + 1) for number in range(3000)]
    assert find_loop(apps) == ()
    assert find_loop([*apps, app(3000, 0)]) == tuple(range(3001))


def config(*leads, bind="127.0.0.1", host="127.0.0.1"):
    apps = [
        {"name": f"a{number}", "bind": bind, "ports": [5000 + number], "targets": ["192.0.2.1:1", f"{host}:{5000 + other}"]}
        for number, other in enumerate(leads)
    ]
    return json.dumps({"apps": apps}).encode()


@pytest.mark.parametrize(("bind", "host"), [("127.0.0.1", "127.0.0.1"), ("*", "127.0.0.2"), ("::1", "[::]")])
def test_two_apps_that_name_each_other(bind, host):
    with pytest.raises(ConfigErrors) as caught:
        load_text(config(1, 0, bind=bind, host=host), "c.json")
    assert "apps lead to each other: a0 -> a1 -> a0" in str(caught.value)
    assert "1:" in str(caught.value), "where"


def test_a_chain_of_apps_is_right():
    assert len(load_text(config(1, 2, 77), "c.json").apps) == 3
