"""Ejections carried out: states, timers, events, success rates, and what a new configuration does to them."""

import itertools
import os

import pytest

from tcp_proxy.config.model import Outlier
from tcp_proxy.control.targets import outliers as module
from tcp_proxy.sansio.outlier import Kind
from tcp_proxy.wire.counters import CONNECTS, OUTLIER_FAILURES, Counters
from tcp_proxy.wire.messages import TargetFailed
from tests.control.targets.test_panic import Rig as Plain
from tests.control.targets.test_panic import target


class Rig(Plain):
    """With counters, and what workers say."""

    def __init__(self, *targets, outlier=Outlier(), **keys):  # noqa: B008  frozen
        super().__init__(*targets, panic=0)
        self.memory, fd = Counters.create(2, 1 << 12)
        os.close(fd)
        self.states._memory = self.memory
        self.states.is_serving = True
        self.reload(outlier=outlier, **keys)

    def fails(self, name, times=1, successes=0, kind=Kind.CONNECT):
        for _ in range(times):
            self.states.target_failed(TargetFailed("web", name, ((int(kind), successes, 1),), "connect: ECONNREFUSED"))

    def pass_time(self, seconds):
        self.loop._clock.turn(seconds)
        self.turn()

    @property
    def said(self):
        return [event.data for event in self.events.since(0) if event.kind == "outlier"]

    def close(self):
        super().close()
        self.memory.close()


@pytest.fixture
def rig():
    made = []
    yield lambda *targets, **more: made.append(Rig(*targets, **more)) or made[-1]
    for one in made:
        one.close()


WHY = "5 failed connects in a row, the last: connect: ECONNREFUSED"


def test_who_is_ejected_is_down_with_the_evidence_and_comes_back_when_its_time_is_over(rig):
    web = rig(*map(target, "abc"))
    web.fails("a", 4)
    assert web.told["a"] == "up"
    web.fails("a")
    known = web.targets.find("web", "a")
    assert (web.told["a"], known.why, known.ejections) == ("down", f"ejected for 30 s: {WHY}", {"consecutive_failures": 1})
    web.pass_time(29.9)
    assert web.told["a"] == "down"
    web.pass_time(0.2)
    assert (web.told["a"], known.why, known.since) == ("up", "not checked yet", web.loop.now)
    web.fails("a", 5)
    assert known.why.startswith("ejected for 60 s, the 2. time: ")
    assert [(data["target"], data["state"], data.get("times")) for data in web.said] == [
        ("a", "ejected", 1), ("a", "back", None), ("a", "ejected", 2),
    ]  # fmt: skip


def test_several_that_are_out_come_back_each_in_its_time(rig):
    web = rig(*map(target, "abcd"))
    web.fails("a", 5)
    web.pass_time(10.0)
    web.fails("b", 5)
    assert [web.told[name] for name in "ab"] == ["down", "down"]
    web.pass_time(20.0)
    assert [web.told[name] for name in "ab"] == ["up", "down"]
    web.pass_time(10.0)
    assert [web.told[name] for name in "ab"] == ["up", "up"]


def test_one_that_checks_have_found_down_is_not_ejected_too(rig):
    web = rig(*map(target, "abc"))
    web.found("a", "down")
    web.fails("a", 9)
    assert web.said == []
    assert web.targets.find("web", "a").why == "evidence"


def test_a_check_that_passes_does_not_bring_it_back(rig):
    web = rig(*map(target, "abc"))
    web.fails("a", 5)
    web.found("a", "up")
    assert (web.told["a"], web.targets.find("web", "a").state) == ("down", "down")


def test_sessions_of_one_that_is_ejected_go_on_whatever_on_down_says(rig):
    web = rig(*map(target, "abc"), on_down="close")
    messages = []
    web.states._send = messages.append
    web.fails("a", 5)
    assert {type(message).__name__ for message in messages} == {"TargetChanged"}


def test_success_rates_are_made_of_the_counters_of_an_interval(rig):
    web = rig(*map(target, "abcdef"), outlier=Outlier(consecutive_failures=0))
    slots = {name: web.targets.find("web", name).slot for name in "abcdef"}

    def sessions(name, good, bad):
        web.memory.rows[1][slots[name] + CONNECTS] += good
        web.memory.rows[1][slots[name] + OUTLIER_FAILURES] += bad

    for name in "abcde":
        sessions(name, 200, 0)
    sessions("f", 1000, 100)
    web.pass_time(10.0)
    assert web.told["f"] == "down"  # 91 per cent where the others have 100
    assert web.targets.find("web", "f").why.startswith("ejected for 30 s: a success rate of 90.91 % in 10 s")
    web.pass_time(30.0)
    assert web.told["f"] == "up"
    web.pass_time(10.0)  # nothing new has happened: nobody is compared
    assert set(web.told.values()) == {"up"}


def test_counters_of_many_are_read_in_turns_of_the_loop(rig, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 2)
    web = rig(*map(target, "abcdefg"))
    web.turn()
    web.turn()
    reads = []
    sums = web.memory.sums
    monkeypatch.setattr(web.memory, "sums", lambda *what: reads.append(what) or sums(*what))
    web.loop._clock.turn(10.0)
    each = []
    for _ in range(6):
        web.loop.run_once(0)
        each.append(len(reads))
    assert each[0] <= 2
    assert max(after - before for before, after in itertools.pairwise([0, *each])) == 2
    assert each[-1] == 7


def test_what_was_an_operator_s_word_or_another_address_takes_it_back(rig):
    web = rig(*map(target, "abcd"), outlier=Outlier(max_ejected=100))
    for name in "ab":
        web.fails(name, 5)
    web.reload(targets=(target("a", disabled=True), target("b"), target("c"), target("d")))
    web.reload(targets=tuple(map(target, "abcd")))
    assert [web.told[name] for name in "ab"] == ["up", "down"]
    web.fails("a", 4)
    assert web.told["a"] == "up"
    web.fails("a")
    assert web.told["a"] == "down"
    web.reload(targets=(target("a"), target("c"), target("d")))
    web.pass_time(200.0)
    assert web.told == {"a": "up", "c": "up", "d": "up"}


def test_another_weight_or_name_changes_nothing_of_it_whether_it_is_checked_or_not(rig):
    web = rig(*map(target, "abc"), health=())
    web.fails("a", 5)
    web.reload(targets=(target("a", weight=7), target("b"), target("c")))
    assert web.told["a"] == "down"
    web.pass_time(31.0)
    assert web.told["a"] == "up"


def test_without_the_key_everybody_is_back_at_once_and_nothing_is_heard(rig):
    web = rig(*map(target, "abc"))
    web.fails("a", 5)
    web.reload(outlier=None)
    assert web.told["a"] == "up"
    web.fails("a", 50)
    web.pass_time(100.0)
    assert set(web.told.values()) == {"up"}


def test_what_comes_while_the_configuration_changes_is_heard_afterwards(rig):
    web = rig(*map(target, "abc"))
    web.states.hold()
    web.fails("a", 5)
    assert web.told["a"] == "up"
    web.states.release()
    assert web.told["a"] == "down"


def test_where_no_app_has_the_key_nothing_is_loaded(rig):
    web = rig(*map(target, "ab"), outlier=None)
    web.fails("a", 50)
    assert web.states._outliers is None


def test_the_program_that_takes_over_has_who_is_ejected_for_the_rest_of_its_time(rig):
    web = rig(*map(target, "abcd"))
    web.fails("b", 5)
    web.pass_time(30.0)  # it is back: the next time is longer
    web.fails("a", 5)
    web.pass_time(10.0)
    given = web.states.ejections()
    assert [(one["target"], one["times"]) for one in given] == [("a", 1), ("b", 1)]
    after = rig(*map(target, "abcd"), outlier=None)
    after.pass_time(web.loop.now - after.loop.now)
    after.states.ejections_taken = [*given, {**given[0], "target": "gone"}, {**given[0], "app": "gone"}]
    after.reload(outlier=Outlier())
    known = after.targets.find("web", "a")
    assert [after.told[name] for name in "ab"] == ["down", "up"]
    assert known.why == f"ejected for 30 s: {WHY}"
    after.pass_time(19.9)
    assert after.told["a"] == "down"
    after.pass_time(0.2)
    assert after.told["a"] == "up"
    after.fails("b", 5)
    assert after.targets.find("web", "b").why.startswith("ejected for 60 s, the 2. time: ")


def test_whose_time_is_over_by_then_is_in(rig):
    web = rig(*map(target, "abc"))
    web.fails("a", 5)
    given = web.states.ejections()
    after = rig(*map(target, "abc"), outlier=None)
    after.pass_time(web.loop.now - after.loop.now + 31.0)
    after.states.ejections_taken = given
    after.reload(outlier=Outlier())
    assert (after.targets.find("web", "a").state, after.states.ejections()[0]["until"]) == ("up", None)


def test_a_later_reload_takes_nothing_of_it_again(rig):
    web = rig(*map(target, "abc"))
    web.fails("a", 5)
    after = rig(*map(target, "abc"), outlier=None)
    after.pass_time(web.loop.now - after.loop.now)
    after.states.ejections_taken = web.states.ejections()
    for outlier, state in ((Outlier(), "down"), (None, "up"), (Outlier(), "up")):
        after.reload(outlier=outlier)
        assert after.targets.find("web", "a").state == state
