"""Differences between configurations: nothing is left out, nothing is made up, every one is a line to read."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.config.diff import Change, applied, diff, listeners_of, match_targets, overlapped
from tcp_proxy.config.log_model import Log, Tracing
from tcp_proxy.config.model import App, Check, Config, Target, Timeouts
from tcp_proxy.sansio.address import Address, ListenAddress, parse_target

A, B, C = (parse_target(f"192.0.2.{n}:80") for n in (1, 2, 3))


def web(*targets, ports=(80,), host="127.0.0.1", **more):
    return App("web", tuple(ListenAddress(host, port) for port in ports), targets or (Target("a", A),), **more)


def texts(old, new):
    return [str(change) for change in diff(old, new)]


def config(*apps, **more):
    return Config(apps or (web(),), **more)


# -- the words


def test_settings_of_the_top_level():
    old, new = config(), config(workers=3, log=Log(level="debug"), access_log="a.log", shutdown_grace=1.5)
    assert texts(old, new) == [
        "workers: none -> 3", "shutdown_grace: 30 -> 1.5", 'access_log: none -> "a.log"', 'log.level: "info" -> "debug"',
    ]  # fmt: skip


def test_what_is_read_once_says_so():
    (change,) = diff(config(), config(pid_file="p"))
    assert change.needs_restart
    assert str(change) == 'pid_file: none -> "p" (at the next start)'


def test_what_of_tracing_is_not_read_once():
    one, two = Tracing("http://a/"), Tracing("http://b/", sample=0.5)
    changes = diff(config(tracing=one), config(tracing=two))
    assert {change.key: change.needs_restart for change in changes} == {"tracing.endpoint": True, "tracing.sample": False}
    assert applied(config(tracing=one), config(tracing=two)).tracing == Tracing("http://a/", sample=0.5)
    assert applied(config(tracing=one), config(pid_file="p")) == config(tracing=one)
    assert applied(config(), config(tracing=two)) == config()


def test_apps_come_and_go():
    other = App("mail", (ListenAddress("*", 25),), (Target("m", B),))
    assert texts(config(web()), config(web(), other)) == ["app mail added, listening on *:25; target m"]
    gone = "app mail removed, with its listener *:25; its sessions go on to their end"
    assert texts(config(web(), other), config(web())) == [gone]


def test_settings_of_an_app():
    new = web(retries=1, balance="random_two", timeouts=Timeouts(idle=5.0), health=(Check(interval=5.0), Check("ping")))
    assert texts(config(), config(new)) == [
        'app web: balance: "round_robin" -> "random_two"',
        "app web: health: [tcp] -> [tcp interval=5, ping]",
        "app web: retries: 3 -> 1",
        "app web: timeouts.idle: 3600 -> 5",
    ]


def test_targets_come_go_and_change():
    new = web(Target("a", B, weight=3, backup=True), Target("c", C))
    assert texts(config(web(Target("a", A), Target("b", A))), config(new)) == [
        "app web: target a: address: 192.0.2.1:80 -> 192.0.2.2:80",
        "app web: target a: weight: 1 -> 3",
        "app web: target a: backup: false -> true",
        "app web: target c added",
        "app web: target b removed; its sessions go on to their end",
    ]


def test_a_target_of_another_name_at_the_same_address_is_the_same():
    assert texts(config(web(Target("a", A))), config(web(Target("b", A)))) == ['app web: target a: name: "a" -> "b"']


def test_targets_in_another_order():
    """Which a failover app goes by."""
    a, b, c = Target("a", A), Target("b", B), Target("c", C)
    (change,) = diff(config(web(a, b)), config(web(b, a)))
    assert (str(change), change.key) == ("app web: its targets are in another order", "targets")
    assert texts(config(web(a, b)), config(web(Target("d", A), c, b))) == [
        'app web: target a: name: "a" -> "d"', "app web: target c added",
    ]  # fmt: skip


def test_listeners_come_go_and_are_taken_over():
    mail = App("mail", (ListenAddress("127.0.0.1", 25),), (Target("m", B),))
    old = config(web(ports=(80, 81)), mail)
    new = config(web(ports=(80, 25)), dataclasses.replace(mail, listeners=(ListenAddress("127.0.0.1", 26),)))
    assert texts(old, new) == [
        "app web: listener 127.0.0.1:81 removed",
        "app web: listener 127.0.0.1:25 taken over from app mail",
        "app mail: listener 127.0.0.1:26 added",
    ]


def test_an_overlap_is_told():
    changes = diff(config(web()), config(web(host="*")))
    assert list(map(str, changes)) == [
        "app web: listener 127.0.0.1:80 removed (closed for a moment)", "app web: listener *:80 added",
    ]  # fmt: skip
    assert [change.closes for change in changes] == [True, False]


def test_an_overlap_with_another_app_is_told_too():
    other = App("other", (ListenAddress("*", 80),), (Target("o", C),))
    assert "app web: listener 127.0.0.1:80 removed (closed for a moment)" in texts(config(), config(other))


def test_addresses_overlap_by_port_and_host():
    one, two, v6 = ListenAddress("127.0.0.1", 80), ListenAddress("127.0.0.2", 80), ListenAddress("::1", 80)
    every = ListenAddress("*", 80)
    assert overlapped([one, v6], [every, two]) == {one, v6}
    assert overlapped([one], [two, ListenAddress("*", 81), one]) == set()


# -- who is who


def test_a_name_comes_before_an_address():
    old = (Target("a", A), Target("b", B))
    new = (Target("b", A), Target("c", B))
    assert match_targets(old, new) == [(old[1], new[0]), (None, new[1]), (old[0], None)]


# -- properties

names = st.sampled_from("abcd")
targets = st.builds(
    Target, name=names, address=st.sampled_from([A, B, C]), weight=st.integers(0, 3), backup=st.booleans(),
    max_connections=st.integers(0, 2), disabled=st.booleans(),
)  # fmt: skip
listen = st.builds(ListenAddress, host=st.sampled_from(["*", "127.0.0.1", "::1"]), port=st.integers(1, 3))
apps = st.builds(
    App,
    name=names,
    listeners=st.lists(listen, unique=True, max_size=3).map(tuple),
    targets=st.lists(targets, unique_by=lambda target: target.name, min_size=1, max_size=4).map(tuple),
    balance=st.sampled_from(["round_robin", "random_two"]),
    health=st.lists(st.builds(Check, rise=st.integers(1, 2)), max_size=2).map(tuple),
    timeouts=st.builds(Timeouts, idle=st.sampled_from([1.0, 2.0])),
)
configs = st.builds(
    Config,
    apps=st.lists(apps, unique_by=lambda app: app.name, max_size=3).map(tuple),
    workers=st.sampled_from([None, 1, 2]),
    log=st.builds(Log, level=st.sampled_from(["info", "debug"])),
)


@given(configs)
def test_nothing_is_different_from_itself(one):
    assert diff(one, one) == []


@given(configs, configs)
def test_every_difference_is_named(old, new):
    """What no change names is equal in both."""
    changes = diff(old, new)
    assert all(isinstance(change, Change) and change.text for change in changes)
    named = {(change.app, change.subject, change.key.split(".")[0]) for change in changes}
    before, after = ({app.name: app for app in one.apps} for one in (old, new))
    for key in ("workers", "log", "access_log", "shutdown_grace", "pid_file"):
        assert (getattr(old, key) == getattr(new, key)) is (("", "", key) not in named)
    for name in before.keys() | after.keys():
        if name not in before or name not in after:
            assert (name, "", "") in named
            continue
        for key in ("balance", "health", "on_down", "retries", "timeouts"):
            assert (getattr(before[name], key) == getattr(after[name], key)) is ((name, "", key) not in named)
        pairs = match_targets(before[name].targets, after[name].targets)
        stay = [was.name for was, target in pairs if was and target]
        same = stay == [target.name for target in before[name].targets if target.name in stay]
        assert same is ((name, "", "targets") not in named)
        for was, target in pairs:
            one = was or target
            if was is None or target is None:
                assert (name, one.name, "") in named
                continue
            for field in dataclasses.fields(Target):
                same = getattr(was, field.name) == getattr(target, field.name)
                assert same is ((name, was.name, field.name) not in named)
    stay = before.keys() & after.keys()
    ours, theirs = listeners_of(old), listeners_of(new)
    for address in ours.keys() | theirs.keys():
        if ours.get(address) != theirs.get(address) and {ours.get(address), theirs.get(address)} - {None} <= stay:
            assert any(change.subject == str(address) for change in changes if change.kind.startswith("listener"))


@given(configs, configs)
def test_the_way_back_has_as_much_to_say(old, new):
    assert bool(diff(old, new)) is bool(diff(new, old))


@given(st.lists(targets, unique_by=lambda one: one.name), st.lists(targets, unique_by=lambda one: one.name))
def test_everybody_is_matched_once(old, new):
    pairs = match_targets(old, new)
    assert [target for _, target in pairs if target] == new
    assert sorted(map(repr, (was for was, _ in pairs if was))) == sorted(map(repr, old))


@pytest.mark.timeout(20)
def test_targets_by_the_ten_thousand_are_matched_quickly():
    """Not each with each: this is done several times whenever something is said of one target."""
    old = [Target(f"a{n}", Address(f"host{n}", 80)) for n in range(20_000)]
    new = [Target(f"b{n}", Address(f"host{n}", 80)) for n in range(20_000)]
    assert match_targets(old, old) == list(zip(old, old, strict=True))
    assert match_targets(old, new) == list(zip(old, new, strict=True))
