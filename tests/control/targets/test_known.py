"""What the supervisor knows of its targets: states from configuration, names and checks; slots; tokens."""

import dataclasses
import itertools
import os
import socket

import pytest

from tcp_proxy.config.delta import of_apps, whole
from tcp_proxy.config.model import App, Http, SessionLimits, Sticky, Target
from tcp_proxy.config.tls_model import TargetTls
from tcp_proxy.control.health.probe import subject_of
from tcp_proxy.control.health.runner import Finding
from tcp_proxy.control.statistics.counter_slots import CounterSlots
from tcp_proxy.control.targets.all_targets import Targets
from tcp_proxy.control.targets.resolver import Answer
from tcp_proxy.sansio.address import Address, ListenAddress
from tcp_proxy.sansio.verdict import State
from tcp_proxy.wire.messages import TargetChanged

ONE = (int(socket.AF_INET), "127.0.0.1")
TWO = (int(socket.AF_INET6), "::1")


def target(name, host="127.0.0.1", port=80, **more):
    return Target(name, Address(host, port), **more)


def app(*targets, name="web"):
    return App(name, (), targets)


@pytest.fixture
def known():
    """known(app, ...): Targets, closed at the end."""
    made = []
    yield lambda *apps: made.append(Targets(apps, CounterSlots())) or made[-1]
    for targets in made:
        targets.close()


def configure(targets, apps, generation, answers=None):
    before = [known.config for known in targets.apps.values()]
    return targets.configure(of_apps(before, apps), generation, answers)


def finding(state, target="t", app="web", evidence="refused (fall 1/1)", changed=True):
    return Finding(app, target, state, evidence, changed)


def tokens(target):
    """How many are left: taken, counted and given back."""
    count = 0
    while True:
        try:
            os.eventfd_read(target.tokens)
        except BlockingIOError:
            break
        count += 1
    if count:
        os.eventfd_write(target.tokens, count)
    return count


# -- its own listeners


def test_an_address_of_a_name_that_is_the_apps_own_listener_is_left_out(known):
    """And comes back when the app no longer listens there."""
    here, there = ListenAddress("127.0.0.1", 80), ListenAddress("127.0.0.1", 81)
    named = target("t", "db")
    targets = known(App("web", (here,), (named,)))
    found = targets.find("web", "t")
    both = Answer("db", (ONE, TWO), "")
    targets.answered(both)
    assert found.endpoints == ((int(socket.AF_INET6), ("::1", 80, 0, 0)),)
    configure(targets, (App("web", (there,), (named,)),), 1, {"db": both})
    assert len(found.endpoints) == 2
    configure(targets, (App("web", (ListenAddress("*", 80),), (named,)),), 2, {"db": both})
    assert (found.state, found.why) == (State.DOWN, "db leads to the app's own listener")
    assert targets.is_resolved()


def test_a_target_added_at_run_time_may_meet_a_listener_that_comes_later(known):
    targets = known(App("web", (ListenAddress("127.0.0.1", 81),), (target("t"),)))
    found = targets.find("web", "t")
    assert found.state is State.UP
    configure(targets, (App("web", (ListenAddress("127.0.0.1", 80),), (target("t"),)),), 1)
    assert (found.state, found.why) == (State.DOWN, "127.0.0.1 leads to the app's own listener")


def test_a_name_that_leads_back_over_another_app_is_left_out(known):
    """Where the circle is closed, by whoever is resolved last; it comes back when it leads somewhere else."""
    a = App("a", (ListenAddress("127.0.0.1", 80),), (target("t", "to-b", 81), target("other", "192.0.2.1", 80)))
    b = App("b", (ListenAddress("127.0.0.1", 81),), (target("t", "to-c", 82),))
    c = App("c", (ListenAddress("*", 82),), (target("t", "127.0.0.1", 80),))
    targets = known(a, b, c)
    ours, far = Answer("to-b", (ONE,), ""), Answer("to-c", ((int(socket.AF_INET), "192.0.2.9"),), "")
    targets.answered(ours)
    targets.answered(far)
    assert [found.state for found in targets] == [State.UP] * 4
    targets.answered(Answer("to-c", (ONE,), ""))
    closing = targets.find("b", "t")
    assert (closing.state, closing.why) == (State.DOWN, "to-c leads back over other apps")
    assert [found.state for found in targets if found is not closing] == [State.UP] * 3
    targets.answered(Answer("to-c", (ONE, (int(socket.AF_INET), "192.0.2.9")), ""))
    assert [address[0] for _, address in closing.endpoints] == ["192.0.2.9"]
    targets.answered(far)
    assert closing.state is State.UP
    targets.remove("c", 1)
    targets.answered(Answer("to-c", (ONE,), ""))
    assert closing.state is State.UP, "nobody leads back any more"


def test_what_many_targets_have_in_common_or_have_twice_is_there_once(known):
    """Of 20,000 targets this is a tenth of what the supervisor has of them."""
    one, two = known(app(target("one"), target("two", port=81)))
    assert one.located is one.answers
    assert one.endpoints is one.located[0]
    assert one.circles is two.circles


def test_of_an_answer_that_comes_later_nothing_is_in_what_was_there(known):
    targets = known(app(target("named", "db")))
    (found,) = targets
    before, where = found.located, dict(found.located)
    targets.answered(Answer("db", (ONE,), ""))
    assert found.located != before == where


def test_an_interface_that_goes_and_comes_back_is_another_one(known):
    """A link-local address belongs to one of them: the number of that is looked up anew."""
    targets = known(app(target("t", "fe80::1%lo")))
    for number in (1, 7):
        targets.answered(Answer("fe80::1%lo", ((int(socket.AF_INET6), f"fe80::1%{number}"),), ""))
        assert targets.find("web", "t").endpoints == ((int(socket.AF_INET6), ("fe80::1", 80, 0, number)),)


# -- groups


GROUP = Target("g", Address(), ports=((5001, Address("127.0.0.1", 81)), (5002, Address("db", 82))))
LISTENERS = (ListenAddress("127.0.0.1", 5001), ListenAddress("::1", 5001), ListenAddress("127.0.0.1", 5002))


@pytest.fixture
def group(known):
    targets = known(App("web", LISTENERS, (GROUP,)))
    return targets, targets.find("web", "g")


def test_a_group_is_down_until_each_of_its_servers_has_an_address(group):
    targets, found = group
    assert (found.state, found.why, found.is_named) == (State.DOWN, "db is not resolved yet", True)
    targets.answered(Answer("db", ((int(socket.AF_INET), "127.0.0.2"),), ""))
    assert found.state is State.UP
    wanted = ((5001, ((2, ("127.0.0.1", 81)),)), (5002, ((2, ("127.0.0.2", 82)),)))
    assert found.view().servers == found.change().servers == wanted
    assert found.endpoints == (wanted[0][1][0], wanted[1][1][0])
    targets.answered(Answer("db", (), "no such name"))
    assert (found.state, found.why) == (State.DOWN, "no such name")


@pytest.mark.parametrize("order", [("bad", "db"), ("db", "bad")])
def test_a_name_of_a_group_that_fails_has_had_its_answer_whatever_the_others_have(known, order):
    two = Target("g", Address(), ports=((5001, Address("bad", 81)), (5002, Address("db", 82))))
    targets = known(App("web", LISTENERS, (two,)))
    found, answers = targets.find("web", "g"), {"bad": Answer("bad", (), "no such name"), "db": Answer("db", (ONE,), "")}
    targets.answered(answers[order[0]])
    assert not targets.is_resolved()
    targets.answered(answers[order[1]])
    assert (found.why, targets.is_resolved()) == ("no such name", True)
    targets.answered(Answer("bad", (ONE,), ""))
    targets.answered(Answer("db", (ONE,), "the DNS is gone"))
    assert found.state is State.UP


def test_any_server_of_a_group_decides_for_all_of_it(group):
    targets, found = group
    targets.answered(Answer("db", ((int(socket.AF_INET), "127.0.0.2"),), ""))
    one, two = targets.apps["web"].endpoints()
    assert targets.find_subject("web", one) is targets.find_subject("web", two) is found
    assert targets.find_subject("web", "g") is None
    found.found(finding(State.UP, one, evidence="accepted"))
    whole = found.found(finding(State.DOWN, two))
    assert (whole.target, whole.state, whole.evidence) == ("g", State.DOWN, "port 5002: refused (fall 1/1)")
    assert found.found(finding(State.UP, one)).state is State.DOWN
    assert found.found(finding(State.DRAINING, two)).state is State.DRAINING
    assert found.found(finding(State.UP, two, evidence="accepted")).state is State.UP
    assert found.state is State.UP


def test_a_bare_host_has_a_server_for_each_port_that_is_listened_on(known):
    bare = Target("h", Address("127.0.0.9"))
    targets = known(App("web", LISTENERS, (bare,)))
    found = targets.find("web", "h")
    assert [port for port, _ in found.servers()] == [5001, 5002]
    assert found.endpoints == ((2, ("127.0.0.9", 5001)), (2, ("127.0.0.9", 5002)))
    configure(targets, (App("web", LISTENERS[:1], (bare,)),), 1)
    assert found.servers() == ((5001, ((2, ("127.0.0.9", 5001)),)),)


def test_a_group_that_is_renamed_keeps_what_is_thought_of_it(group):
    targets, found = group
    targets.answered(Answer("db", ((int(socket.AF_INET), "127.0.0.2"),), ""))
    one, two = found.subjects()
    found.found(finding(State.DOWN, two))
    configure(targets, (App("web", LISTENERS, (dataclasses.replace(GROUP, name="new"),)),), 1)
    assert targets.find("web", "new") is found
    assert found.found(finding(State.UP, one.replace("g", "new", 1))).state is State.DOWN


# -- states


def test_a_target_with_an_address_begins_up_and_unproven(known):
    found = known(app(target("t"))).find("web", "t")
    assert (found.state, found.why) == (State.UP, "not checked yet")
    assert found.endpoints == ((int(socket.AF_INET), ("127.0.0.1", 80)),)


def test_a_unix_target_needs_no_name(known):
    targets = known(app(Target("t", Address(path="/run/x.sock"))))
    assert targets.find("web", "t").endpoints == ((int(socket.AF_UNIX), "/run/x.sock"),)
    assert targets.by_host == {}


@pytest.mark.parametrize("state", State)
def test_its_state_is_what_the_checks_say(known, state):
    targets = known(app(target("t"), target("other")))
    assert targets.found(finding(state)) is targets.find("web", "t")
    assert (targets.find("web", "t").state, targets.find("web", "t").why) == (state, "refused (fall 1/1)")
    assert targets.find("web", "other").state is State.UP


def test_checks_speak_of_the_target_of_their_own_app(known):
    targets = known(app(target("t")), app(target("t"), name="shop"))
    targets.found(finding(State.DOWN, app="shop"))
    assert [item.state for item in targets] == [State.UP, State.DOWN]


@pytest.mark.parametrize("health", State)
def test_a_disabled_target_is_down_whatever_the_checks_say(known, health):
    targets = known(app(target("t", disabled=True)))
    targets.found(finding(health))
    assert targets.find("web", "t").state is State.DOWN
    assert targets.find("web", "t").why == "disabled"


def test_a_disabled_target_is_not_probed(known):
    targets = known(app(target("t", disabled=True), target("other")))
    assert set(targets.apps["web"].endpoints()) == {"other"}


def test_a_name_without_an_answer_is_down_and_then_what_the_checks_say(known):
    targets = known(app(target("t", host="db.internal", port=5432)))
    found = targets.find("web", "t")
    assert not targets.is_resolved()
    assert (found.state, found.why) == (State.DOWN, "db.internal is not resolved yet")
    assert targets.answered(Answer("db.internal", (ONE, TWO), "")) == [found]
    assert targets.is_resolved()
    assert found.state is State.UP
    assert [(family, sockaddr[:2]) for family, sockaddr in found.endpoints] == [
        (ONE[0], ("127.0.0.1", 5432)), (TWO[0], ("::1", 5432)),
    ]  # fmt: skip
    targets.found(finding(State.DRAINING))
    assert found.state is State.DRAINING


def test_a_name_that_was_never_found_says_why_and_holds_up_nobody(known):
    targets = known(app(target("t", host="db.internal")))
    targets.answered(Answer("db.internal", (), "Name or service not known"))
    assert targets.is_resolved()
    assert targets.find("web", "t").state is State.DOWN
    assert targets.find("web", "t").why == "Name or service not known"


def test_a_name_that_is_lost_keeps_its_last_good_answer(known):
    targets = known(app(target("t", host="db.internal")))
    targets.answered(Answer("db.internal", (ONE,), ""))
    targets.answered(Answer("db.internal", (ONE,), "Temporary failure in name resolution"))
    assert targets.find("web", "t").state is State.UP
    assert targets.is_resolved()


def test_one_answer_is_for_every_target_of_that_name_each_with_its_port(known):
    shop = app(target("c", "db", 3), target("d", "other"), name="shop")
    targets = known(app(target("a", "db", 1), target("b", "db", 2)), shop)
    assert set(targets.by_host) == {"db", "other"}
    assert [found.config.name for found in targets.answered(Answer("db", (ONE,), ""))] == ["a", "b", "c"]
    assert [found.endpoints[0][1][1] for found in targets if found.endpoints] == [1, 2, 3]
    assert not targets.is_resolved()
    targets.answered(Answer("other", (), "no"))
    assert targets.is_resolved()


def test_an_answer_nobody_asked_for_changes_nothing(known):
    targets = known(app(target("t")))
    assert targets.answered(Answer("stranger", (ONE,), "")) == []
    assert targets.is_resolved()


# -- what the workers are told


def test_a_change_tells_state_and_addresses(known):
    targets = known(app(target("t")))
    targets.found(finding(State.DOWN))
    wanted = TargetChanged("web", "t", "down", ((int(socket.AF_INET), ("127.0.0.1", 80)),))
    assert targets.find("web", "t").change() == wanted


def test_the_view_of_an_app_is_all_that_a_worker_needs(known):
    targets = known(app(target("a", weight=5, max_connections=1), target("b", backup=True, disabled=True)))
    view = targets.apps["web"].view()
    assert (view.name, view.balance, view.retries) == ("web", "round_robin", 3)
    assert [(item.name, item.weight, item.backup, item.limited, item.state) for item in view.targets] == [
        ("a", 5, False, True, "up"), ("b", 1, True, False, "down"),
    ]  # fmt: skip


def test_a_worker_of_mode_http_knows_how_targets_are_written(known):
    config = App("web", (ListenAddress("*", 80), ListenAddress("*", 81)), (
        target("a", "Shop.Example", 8080), Target("u", Address(path="/s")), Target("g", Address("db")),
        Target("p", Address(), ports=((80, Address("one", 1)), (81, Address("::1", 80)))),
    ))  # fmt: skip
    targets = known(dataclasses.replace(config, http=Http()))
    assert [item.hosts for item in targets.apps["web"].view().targets] == [
        ((0, "Shop.Example:8080"),), ((0, "localhost"),), ((80, "db"), (81, "db:81")), ((80, "one:1"), (81, "[::1]")),
    ]  # fmt: skip
    assert not any(item.hosts for item in known(config).apps["web"].view().targets)


def test_the_checks_know_how_targets_are_written(known):
    config = App("web", (ListenAddress("*", 80),), (target("a", "shop"), Target("g", Address("db"))))
    app = known(config).apps["web"]
    assert app.hosts() == {"a": "shop", subject_of("g", 80): "db"}
    assert app.hosts().keys() == app.endpoints().keys()


def test_every_target_has_counters_of_its_own(known):
    targets = known(app(target("a"), target("b")), app(target("a"), name="shop"))
    assert len({item.slot for item in targets} | {known.slot for known in targets.apps.values()}) == 5
    assert repr(targets) == "<Targets of 2 apps>"


# -- tokens


def test_a_limited_target_has_as_many_tokens_as_connections(known):
    targets = known(app(target("a", max_connections=3), target("b")))
    assert tokens(targets.find("web", "a")) == 3
    assert targets.find("web", "b").tokens == -1
    assert not os.get_inheritable(targets.find("web", "a").tokens)


def test_the_tokens_of_a_dead_workers_sessions_come_back(known):
    targets = known(app(target("a", max_connections=3), target("b", max_connections=5), target("c")))
    a, b, c = targets
    for item in (a, a, b):
        os.eventfd_read(item.tokens)
    blocks = [((item.app, item.config.name), item.slot) for item in targets]
    targets.give_back_tokens([*blocks, (("web", "a"), 1), (("web", "gone"), 2)], {a.slot: 2, b.slot: 0, c.slot: 4, 1: 6})
    assert [tokens(a), tokens(b)] == [3, 4]


def test_a_gauge_that_is_not_positive_gives_nothing_back(known):
    targets = known(app(target("a", max_connections=3)))
    (a,) = targets
    block = ("web", "a"), a.slot
    targets.give_back_tokens([block], {a.slot: -2})
    targets.give_back_tokens([block], {})
    assert tokens(a) == 3


def test_close_gives_every_semaphore_back():
    before = len(os.listdir("/proc/self/fd"))
    targets = Targets((app(*(target(f"t{n}", max_connections=1) for n in range(10))),), CounterSlots())
    assert len(os.listdir("/proc/self/fd")) == before + 10
    targets.close()
    targets.close()
    assert len(os.listdir("/proc/self/fd")) == before


# -- since when


def test_who_comes_into_an_app_that_was_there_says_since_when_and_who_was_there_does_not(known):
    old, new = target("t", "192.0.2.1"), target("u", "192.0.2.2")
    targets = known(App("web", LISTENERS, (old,)))
    changed = targets.configure(of_apps([App("web", LISTENERS, (old,))], [App("web", LISTENERS, (old, new))]), 1, {}, 50.0)
    assert [one.since for one in targets.apps["web"].targets.values()] == [0.0, 50.0]
    assert [one.since for one in changed.apps[0].app.view().targets] == [0.0, 50.0]


def test_in_an_app_that_is_new_nobody_is_newer_than_others(known):
    targets = known()
    targets.configure([whole(App("web", LISTENERS, (target("t", "192.0.2.1"),)))], 1, {}, 50.0)
    assert targets.find("web", "t").since == 0.0


def test_one_that_was_disabled_or_drained_comes_back_and_one_with_another_weight_was_there(known):
    apps = [App("web", LISTENERS, (dataclasses.replace(target("t", "192.0.2.1"), **how),)) for how in (
        {}, {"weight": 5}, {"disabled": True}, {}, {"drain": True}, {"weight": 2}
    )]  # fmt: skip
    targets, since = known(apps[0]), []
    for generation, (was, now) in enumerate(itertools.pairwise(apps), 1):
        targets.configure(of_apps([was], [now]), generation, {}, 10.0 * generation)
        since.append(targets.find("web", "t").since)
    assert since == [0.0, 0.0, 30.0, 30.0, 50.0]


@pytest.mark.parametrize(
    ("more", "needs_none"),
    [
        ({}, True), ({"balance": "least_connections"}, True), ({"http": Http()}, True), ({"slow_start": 5.0}, True),
        ({"balance": "source_hash"}, False), ({"balance": "maglev"}, False), ({"balance": "failover"}, False),
        ({"sticky": Sticky()}, False), ({"limits": SessionLimits(sessions=1, queue=5)}, False),
    ],
)  # fmt: skip
def test_workers_need_no_targets_where_nothing_is_worked_out_from_them(known, more, needs_none):
    one = dataclasses.replace(app(target("a"), target("b")), **more)
    assert known(one).apps["web"].needs_no_targets() is needs_none


@pytest.mark.parametrize("special", [{"max_connections": 5}, {"tls": TargetTls()}, {"port": 0}])
def test_workers_need_targets_beside_which_something_comes(known, special):
    assert not known(app(target("a"), target("b", **special))).apps["web"].needs_no_targets()


def test_workers_need_the_targets_of_a_big_app(known):
    assert not known(app(*(target(f"t{n}") for n in range(251)))).apps["web"].needs_no_targets()
    assert not known(app()).apps["web"].needs_no_targets(), "it has none"
