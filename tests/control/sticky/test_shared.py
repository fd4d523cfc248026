"""The tables of a node of a cluster: the agent is the other end of a real wire, and says what the test wants."""

import pytest

from kit.waiting import wait_until
from tcp_proxy.config.model import App, Sticky
from tcp_proxy.control.sticky.shared import AT_ONCE
from tcp_proxy.control.sticky.store import SavedStick
from tcp_proxy.control.sticky.tables import StickTables
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.wire import shared_sticks as say
from tcp_proxy.wire.stick_table import ASK, ASK_BY_HASH, BY_HASH, CLOSED, OPENED, Wire
from tests.control.sticky.test_tables import Rig, Store, Worker


class Agent:
    """What it has heard, in order, but for APPS and PLACES."""

    def __init__(self, loop, sock):
        self.loop, self.heard, self.apps, self.places = loop, [], None, None
        self.wire = Wire(loop, sock, self.hear, lambda: None)

    def hear(self, items):
        for item in items:
            if item[0] == say.APPS:
                self.apps = item[1]
            elif item[0] == say.PLACES:
                self.places = item[1]
            else:
                self.heard.append(item)

    def say(self, *items):
        self.wire.send(list(items))

    def next(self, kind):
        """The first item of this kind, which is taken off."""
        wait_until(lambda: self.loop.run_once(0.01) or any(item[0] == kind for item in self.heard), f"kind {kind}")
        found = next(item for item in self.heard if item[0] == kind)
        self.heard.remove(found)
        return found


class Shared(Rig):
    def __init__(self, store=None, is_joined=True, **sticky):
        self.loop = Loop("main")
        self.store = store or Store()
        self.tables = StickTables(self.loop, self.store, lambda: 1e9, is_shared=True)
        self.workers, self.online = [], []
        self.tables.online = self.online.append
        self.configure(Sticky(**sticky))
        self.agent = None
        if is_joined:
            self.join()

    def join(self, *entries):
        """A new agent, which tells of these entries."""
        if self.agent is not None:
            self.agent.wire.close()
        self.agent = Agent(self.loop, self.tables.attach_agent())
        told = [(say.NEWS, "web", key, target) for key, target in entries]
        self.agent.say((say.BEGIN,), *told, (say.DONE,), (say.ONLINE,))
        wait_until(lambda: self.loop.run_once(0.01) or self.online[-1:] == [True], "online")
        return self.agent

    def ask(self, worker, key, proposal, seen=0, kind=ASK):
        """Asked; the number of the question."""
        worker.number += 1
        worker.wire.send([(kind, worker.number, "web", key, proposal, seen)])
        return worker.number

    def under_way(self, kind, count):
        """So many of this kind are heard, and no more though the tables have had another turn; they are taken off."""
        found = [self.agent.next(kind) for _ in range(count)]
        self.entries()
        self.loop.run_once(0)
        assert [item for item in self.agent.heard if item[0] == kind] == []
        return found

    def answer(self, worker, number):
        worker.turn(lambda: number in worker.answers)
        return worker.answers[number]

    def until(self, entries):
        wait_until(lambda: self.entries() == entries, lambda: f"{entries}, it is {self.entries()}")

    def close(self):
        if self.agent is not None:
            self.agent.wire.close()
        super().close()


@pytest.fixture
def rig():
    made = []
    yield lambda **how: made.append(Shared(**how)) or made[-1]
    for one in made:
        one.close()


def test_a_new_key_is_asked_for_once_and_the_winner_counts(rig):
    node = rig()
    one, two = node.worker(), node.worker()
    first, second = node.ask(one, "k", "a"), node.ask(two, "k", "b")
    _, number, app, key, target = node.agent.next(say.CREATE)
    assert (app, key, target) in {("web", "k", "a"), ("web", "k", "b")}
    node.agent.say((say.ANSWER, number, "c"))
    assert node.answer(one, first) == ("c", 1)
    assert node.answer(two, second) == ("c", 1)
    assert node.agent.next(say.OPENED) == (say.OPENED, "web", "k")
    assert node.agent.heard == [], "it was asked once"
    assert node.agent.apps == {"web": Sticky().expires}


def test_a_known_key_costs_no_question(rig):
    node = rig(is_joined=False)
    agent, worker = node.join(("k", "a")), node.worker()
    number = node.ask(worker, "k", "b")
    assert node.answer(worker, number)[0] == "a"
    assert agent.next(say.OPENED) == (say.OPENED, "web", "k")
    worker.say((CLOSED, "web", "k"))
    assert agent.next(say.IDLE) == (say.IDLE, "web", "k")
    worker.say((OPENED, "web", "k", "a"))
    assert agent.next(say.OPENED) == (say.OPENED, "web", "k")
    assert agent.heard == []


def test_a_target_that_cannot_be_used_is_left_by_all(rig):
    node = rig(is_joined=False)
    agent, worker = node.join(("k", "a")), node.worker()
    _, version = node.answer(worker, node.ask(worker, "k", "b"))
    number = node.ask(worker, "k", "b", version)
    asked = agent.next(say.MOVE)
    assert asked[2:] == ("web", "k", "b", "a")
    agent.say((say.ANSWER, asked[1], "c"))
    target, newer = node.answer(worker, number)
    assert (target, newer > version) == ("c", True)
    node.until({"k": "c"})


def test_what_others_do_is_told_to_workers(rig):
    node = rig(is_joined=False)
    agent, worker = node.join(("k", "a"), ("idle", "a")), node.worker()
    node.answer(worker, node.ask(worker, "k", "b"))
    agent.say((say.NEWS, "web", "k", "c"), (say.NEWS, "web", "new", "a"), (say.NEWS, "web", "idle", ""))
    agent.say((say.NEWS, "of nobody", "k", "a"))
    worker.turn(lambda: worker.news)
    assert worker.news[0][:3] == ("web", "k", "c")
    node.until({"k": "c", "new": "a"})


def test_an_entry_that_is_in_use_here_is_made_again_when_it_is_gone(rig):
    node = rig(is_joined=False)
    agent, worker = node.join(("k", "a")), node.worker()
    node.answer(worker, node.ask(worker, "k", "b"))
    agent.say((say.NEWS, "web", "k", ""))
    asked = agent.next(say.CREATE)
    assert asked[2:] == ("web", "k", "a")
    agent.say((say.ANSWER, asked[1], "b"))
    worker.turn(lambda: worker.news)
    assert worker.news[0][:3] == ("web", "k", "b"), "somebody was faster"


def test_without_an_agent_workers_decide_by_hash_and_offer_it_later(rig):
    node = rig(is_joined=False)
    worker = node.worker()
    assert node.answer(worker, node.ask(worker, "k", "a")) == ("", BY_HASH)
    assert node.answer(worker, node.ask(worker, "k", "h", kind=ASK_BY_HASH)) == ("h", 1)
    assert node.answer(worker, node.ask(worker, "lost", "h", kind=ASK_BY_HASH)) == ("h", 2)
    worker.say((CLOSED, "web", "k"))
    agent = node.join(("lost", "winner"))
    worker.turn(lambda: worker.news)
    assert worker.news[0][:3] == ("web", "lost", "winner"), "the one that was there first stands"
    asked = agent.next(say.CREATE)
    assert asked[2:] == ("web", "k", "h")
    agent.say((say.ANSWER, asked[1], "h"))
    node.until({"k": "h", "lost": "winner"})
    assert [item for item in agent.heard if item[0] == say.CREATE] == []


@pytest.mark.parametrize("how", ["offline", "no target", "gone"])
def test_a_question_without_an_answer_is_decided_by_hash(rig, how):
    node = rig()
    worker = node.worker()
    number = node.ask(worker, "k", "a")
    asked = node.agent.next(say.CREATE)
    if how == "offline":
        node.agent.say((say.OFFLINE,))
    elif how == "no target":
        node.agent.say((say.ANSWER, asked[1], ""))
    else:
        node.agent.wire.close()
    assert node.answer(worker, number) == ("", BY_HASH)
    assert node.answer(worker, node.ask(worker, "k", "h", kind=ASK_BY_HASH))[0] == "h"


def test_a_target_that_cannot_be_used_without_an_agent(rig):
    node = rig(is_joined=False)
    node.join(("k", "a"))
    worker = node.worker()
    _, version = node.answer(worker, node.ask(worker, "k", "b"))
    node.agent.say((say.OFFLINE,))
    wait_until(lambda: node.loop.run_once(0.01) or node.online[-1] is False, "offline")
    assert node.answer(worker, node.ask(worker, "k", "b", version)) == ("", BY_HASH)
    assert node.answer(worker, node.ask(worker, "k", "h", version, kind=ASK_BY_HASH))[0] == "h"
    node.agent.say((say.ONLINE,))
    assert node.agent.next(say.CREATE)[2:] == ("web", "k", "h")


def test_what_an_agent_does_not_tell_of_is_gone_but_for_what_is_used(rig):
    node = rig(is_joined=False)
    node.join(("idle", "a"), ("used", "a"), ("both", "a"))
    worker = node.worker()
    node.answer(worker, node.ask(worker, "used", "b"))
    again = node.join(("both", "a"))
    assert again.next(say.OPENED) == (say.OPENED, "web", "used"), "another agent hears of what is in use"
    asked = again.next(say.CREATE)
    assert asked[2:] == ("web", "used", "a")
    node.until({"used": "a", "both": "a"})


def test_nothing_expires_here(rig):
    node = rig(expires=0.01)
    node.agent.say((say.NEWS, "web", "k", "a"))
    node.until({"k": "a"})
    found = node.change(lambda table, now: (table.find("k", now + 100).target, table.expire(now + 100, 10)))
    assert found == ("a", [])


def test_orders_of_an_operator_are_the_clusters(rig):
    node = rig(is_joined=False)
    agent = node.join(("k", "a"), ("m", "a"))
    node.change(lambda table, now: table.set("k", "b", now) and None)
    assert agent.next(say.SET)[2:] == ("web", "k", "b")
    node.change(lambda table, _now: table.delete_all(["k", "m"]))
    assert {agent.next(say.SET)[2:], agent.next(say.SET)[2:]} == {("web", "k", ""), ("web", "m", "")}
    agent.say((say.NEWS, "web", "k", ""), (say.NEWS, "web", "m", ""), (say.NEWS, "web", "n", "a"))
    node.until({"n": "a"})
    assert agent.heard == []


def test_what_the_state_file_has_is_offered(rig):
    store = Store({"web": [SavedStick("web", "mine", "a", 5, 1e9), SavedStick("web", "theirs", "a", 6, 1e9)]})
    node = rig(store=store, is_joined=False)
    agent = node.join(("theirs", "b"))
    assert agent.next(say.CREATE)[2:] == ("web", "mine", "a")
    node.until({"mine": "a", "theirs": "b"})


def test_a_worker_that_dies_gets_no_answer(rig):
    """Another one may have its place, and questions of the same numbers."""
    node = rig()
    node.worker()
    node.ask(node.workers[0], "k", "a")
    asked = node.agent.next(say.CREATE)
    node.tables.detach("worker 0")
    node.workers[0].wire.close()
    node.workers[0] = Worker(node.loop, node.tables.attach("worker 0 again"))
    node.agent.say((say.ANSWER, asked[1], "a"), (say.NEWS, "web", "k", "a"))
    node.until({"k": "a"})
    assert node.workers[0].answers == {}


def test_another_time_to_live_is_told(rig):
    node = rig()
    node.configure(Sticky(expires=7.0))
    wait_until(lambda: node.loop.run_once(0.01) or node.agent.apps == {"web": 7.0}, "it is told")
    node.tables.configure([App("plain", (), ())])
    wait_until(lambda: node.loop.run_once(0.01) or node.agent.apps == {}, "it is told")
    node.agent.say((say.NEWS, "web", "k", "a"), (say.ANSWER, 99, "a"))


def test_what_could_not_be_shared_is_offered_again(rig):
    node = rig()
    worker = node.worker()
    number = node.ask(worker, "k", "a")
    node.agent.say((say.ANSWER, node.agent.next(say.CREATE)[1], ""))
    assert node.answer(worker, number) == ("", BY_HASH)
    assert node.answer(worker, node.ask(worker, "k", "h", kind=ASK_BY_HASH))[0] == "h"
    asked = node.agent.next(say.CREATE)
    assert asked[2:] == ("web", "k", "h")
    node.agent.say((say.ANSWER, asked[1], ""))
    asked = node.agent.next(say.CREATE)
    node.agent.say((say.ANSWER, asked[1], "b"))
    worker.turn(lambda: worker.news)
    assert worker.news[0][:3] == ("web", "k", "b")


def test_a_copy_that_was_used_when_its_entry_was_gone_is_offered(rig):
    node = rig()
    worker = node.worker()
    worker.say((OPENED, "web", "k", "a"))
    assert node.agent.next(say.CREATE)[2:] == ("web", "k", "a")
    node.until({"k": "a"})


# -- a take-over


def paused(rig):
    """What the tables tell a program that takes over."""
    found = []
    rig.tables.pause(found.append)
    wait_until(lambda: rig.loop.run_once(0.01) or found, "paused")
    return found[0]["shared"]


def test_what_the_agent_says_while_the_tables_are_told_to_another_program_is_heard_when_they_go_on(rig):
    one = rig()
    one.agent.say((say.NEWS, "web", "k", "a"))
    one.until({"k": "a"})
    told = paused(one)
    assert told == {"is_online": True, "own": {"web": []}, "orders": [], "asked": []}
    one.agent.say((say.NEWS, "web", "k", "b"))
    one.tables.resume()
    one.until({"k": "b"})


def test_a_question_that_was_under_way_is_asked_once_more_by_the_program_that_has_taken_over(rig):
    old, new = rig(), rig(is_joined=False)
    worker = old.worker()
    number = old.ask(worker, "k", "a")
    assert old.agent.next(say.CREATE)[2:] == ("web", "k", "a")
    told = paused(old)
    assert told["asked"] == [["web", "k", "a", "", [(0, number)]]]
    new.tables.reserve([0])
    new.agent = Agent(new.loop, new.tables.attach_agent())
    new.agent.say((say.NEWS, "web", "early", "a"))
    new.tables.adopt({}, [], told)
    wait_until(lambda: new.loop.run_once(0.01) or new.online == [True], "it is online, as the old one was")
    asked = new.agent.next(say.CREATE)
    assert asked[2:] == ("web", "k", "a")
    new.until({"early": "a"})
    old.tables.resume()


def test_without_the_old_ones_place_in_the_cluster_it_is_decided_by_hash(rig):
    new = rig(is_joined=False)
    new.tables.reserve([0])
    new.agent = Agent(new.loop, new.tables.attach_agent())
    new.tables.adopt({}, [], {"is_online": False, "own": {"web": ["k"]}, "asked": [["web", "k", "a", "", [[0, 1]]]]})
    new.agent.say((say.BEGIN,), (say.DONE,))
    new.agent.say((say.ONLINE,))
    wait_until(lambda: new.loop.run_once(0.01) or new.online == [True], "not before its agent is")


def lost(rig):
    """The agent is gone, and the tables have seen it."""
    rig.agent.wire.close()
    wait_until(lambda: rig.loop.run_once(0.01) or None in (rig.tables._shared._held or ()), "it is seen")


@pytest.mark.parametrize("is_seen", [True, False])
def test_an_agent_that_is_replaced_while_it_waits_for_the_other_program_leaves_nothing_to_the_next_one(rig, is_seen):
    new = rig(is_joined=False)
    new.tables.reserve([0])
    new.agent = Agent(new.loop, new.tables.attach_agent())
    new.agent.say((say.NEWS, "web", "early", "a"))
    if is_seen:
        lost(new)
    else:
        new.agent.wire.close()
    new.agent = Agent(new.loop, new.tables.attach_agent())
    new.tables.adopt({}, [], {"is_online": True, "own": {"web": []}, "asked": [["web", "k", "a", "", [[0, 1]]]]})
    asked = new.agent.next(say.CREATE)
    assert asked[2:] == ("web", "k", "a")
    assert new.online == [True]
    assert new.entries() == {}, "and by then it has heard that the worker which asked is gone"
    new.agent.say((say.NEWS, "web", "late", "b"), (say.ANSWER, asked[1], "a"))
    new.until({"late": "b"})


def test_one_that_is_replaced_while_the_tables_are_told_is_not_waited_for_when_they_go_on(rig):
    old = rig()
    worker = old.worker()
    number = old.ask(worker, "k", "a")
    old.agent.next(say.CREATE)
    paused(old)
    lost(old)
    old.agent = Agent(old.loop, old.tables.attach_agent())
    wait_until(lambda: old.loop.run_once(0.01) or old.agent.apps, "it is there")
    assert worker.answers == {}, "the other program was told of this question"
    old.agent.say((say.BEGIN,), (say.NEWS, "web", "late", "b"), (say.DONE,), (say.ONLINE,))
    old.tables.resume()
    assert old.answer(worker, number) == ("", BY_HASH)
    old.until({"late": "b"})
    assert old.online == [True, False, True]
    old.ask(worker, "other", "a")
    assert old.agent.next(say.CREATE)[2:] == ("web", "other", "a")


def test_orders_that_no_agent_has_answered_are_given_once_more_by_the_program_that_has_taken_over(rig):
    old, new = rig(is_joined=False), rig(is_joined=False)
    old.join(("k", "a"), ("m", "a"))
    old.change(lambda table, now: table.set("done", "a", now) and None)
    old.agent.say((say.STANDS, old.agent.next(say.SET)[1]), (say.NEWS, "web", "seen", "a"))
    old.until({"k": "a", "m": "a", "done": "a", "seen": "a"})
    old.change(lambda table, now: table.set("k", "b", now) and None)
    old.change(lambda table, now: table.set("k", "c", now) and None)
    old.change(lambda table, _now: table.delete_all(["m"]))
    told = paused(old)
    assert told["orders"] == [["web", "k", "c"], ["web", "m", ""]]
    new.tables.reserve([0])
    new.agent = Agent(new.loop, new.tables.attach_agent())
    new.tables.adopt({}, [], told)
    assert [new.agent.next(say.SET)[2:], new.agent.next(say.SET)[2:]] == [("web", "k", "c"), ("web", "m", "")]
    old.tables.resume()


@pytest.mark.parametrize("target", ["b", ""])
@pytest.mark.parametrize("how", ["refused", "gone", "offline"])
def test_an_order_is_given_until_it_stands(rig, how, target):
    """Whether another entry is there or not: an operator has said so, and was told that it is done."""
    node = rig(is_joined=False)
    agent = node.join(("k", "a"))
    node.until({"k": "a"})
    if how == "offline":
        agent.wire.close()
        wait_until(lambda: node.loop.run_once(0.01) or node.online[-1:] == [False], "the agent is gone")
    node.change(lambda table, now: (table.set("k", "b", now) if target else table.delete("k")) and None)
    if how != "offline":
        asked = agent.next(say.SET)
        assert asked[2:] == ("web", "k", target)
    if how == "refused":
        agent.say((say.ANSWER, asked[1], ""))
    else:
        agent = node.join(("k", "a"))
    asked = agent.next(say.SET)
    assert asked[2:] == ("web", "k", target)
    agent.say((say.NEWS, "web", "k", target), (say.STANDS, asked[1]))
    there = {"k": "b"} if target else {}
    node.until(there)
    agent = node.join(*there.items(), ("m", "a"))
    node.until({**there, "m": "a"})
    node.change(lambda table, now: table.set("last", "a", now) and None)
    assert agent.next(say.SET)[2:] == ("web", "last", "a"), "and then never again"


def test_the_last_of_several_orders_for_a_key_is_given_again(rig):
    node = rig()
    node.change(lambda table, now: table.set("k", "b", now) and None)
    node.change(lambda table, now: table.set("k", "c", now) and None)
    first = node.agent.next(say.SET)
    assert node.agent.next(say.SET)[2:] == ("web", "k", "c")
    node.agent.say((say.STANDS, first[1]), (say.NEWS, "web", "heard", "a"))
    wait_until(lambda: node.entries().get("heard") == "a", "it is heard")
    assert node.join().next(say.SET)[2:] == ("web", "k", "c")


def test_of_many_orders_some_are_under_way_and_the_others_wait_for_their_turn(rig):
    """All entries of a table may be forgotten at once."""
    node = rig(is_joined=False)
    keys = [f"k{number}" for number in range(3 * AT_ONCE)]
    agent = node.join(*((key, "a") for key in keys))
    node.until(dict.fromkeys(keys, "a"))
    node.change(lambda table, _now: table.delete_all(keys) and None)
    given = node.under_way(say.SET, AT_ONCE)
    assert [item[2:] for item in given] == [("web", key, "") for key in keys[:AT_ONCE]]
    agent.say(*((say.STANDS, item[1]) for item in given[:5]))
    assert [item[3] for item in node.under_way(say.SET, 5)] == keys[AT_ONCE : AT_ONCE + 5]
    worker = node.worker()
    node.ask(worker, keys[-1], "b")
    agent.next(say.CREATE)
    assert [item[3] for item in node.under_way(say.SET, 1)] == keys[-1:], "it comes before the question"


def test_of_many_offers_some_are_under_way_and_the_others_wait_for_their_turn(rig):
    """etcd has lost everything."""
    node = rig(is_joined=False)
    keys = [f"k{number}" for number in range(2 * AT_ONCE + 5)]
    node.change(lambda table, now: [table.set(key, "a", now) for key in keys] and None)
    agent = node.join()
    while keys:
        given = node.under_way(say.CREATE, min(len(keys), AT_ONCE))
        assert not {item[3] for item in given} - set(keys)
        keys = [key for key in keys if key not in {item[3] for item in given}]
        agent.say(*((say.ANSWER, item[1], item[4]) for item in given))


def test_an_order_does_not_stand_by_an_earlier_one_that_said_the_same(rig):
    node = rig()
    for target in ("b", "c", "b"):
        node.change(lambda table, now, target=target: table.set("k", target, now) and None)
    first = node.under_way(say.SET, 3)[0]
    node.agent.say((say.STANDS, first[1]), (say.NEWS, "web", "heard", "a"))
    wait_until(lambda: node.entries().get("heard") == "a", "it is heard")
    assert node.join().next(say.SET)[2:] == ("web", "k", "b")


def test_an_order_that_comes_while_the_tables_are_told_is_given_to_the_agent_that_is_there_when_they_go_on(rig):
    node, answers = rig(), []
    paused(node)
    node.agent.wire.close()
    node.agent = Agent(node.loop, node.tables.attach_agent())
    node.tables.change("web", lambda table, now: table.set("k", "b", now).target, answers.append)
    node.agent.say((say.BEGIN,), (say.NEWS, "web", "m", "a"), (say.DONE,), (say.ONLINE,))
    assert node.entries() == {}
    assert answers == []
    node.tables.resume()
    asked = node.agent.next(say.SET)
    assert (asked[2:], answers) == (("web", "k", "b"), ["b"])
    node.agent.say((say.STANDS, asked[1]))
    node.until({"k": "b", "m": "a"})


def test_what_a_node_that_is_cut_off_for_long_has_evicted_takes_no_memory(rig):
    node = rig(size=5)
    worker = node.worker()
    node.agent.say((say.OFFLINE,))
    wait_until(lambda: node.loop.run_once(0.01) or node.online[-1:] == [False], "offline")
    asked = [node.ask(worker, f"k{number}", "a", kind=ASK_BY_HASH) for number in range(30)]
    assert node.answer(worker, asked[-1])[0] == "a"
    own = node.tables._shared._own
    wait_until(lambda: own["web"] == node.entries().keys(), lambda: f"{own}")
