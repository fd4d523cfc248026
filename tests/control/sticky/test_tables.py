"""The stick tables in their thread: workers are the other ends of real wires, everything else is as in the supervisor."""

import pytest

from kit.waiting import wait_until
from tcp_proxy.config.model import App, Sticky
from tcp_proxy.control.sticky.lists import Listing
from tcp_proxy.control.sticky.store import SavedStick, StickStore
from tcp_proxy.control.sticky.tables import StickTables
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.wire.stick_table import ASK, CLOSED, OPENED, Wire


class Worker:
    """The worker's end. `ask` returns what it is answered."""

    def __init__(self, loop, sock):
        self.loop, self.answers, self.news, self.number = loop, {}, [], 0
        self.wire = Wire(loop, sock, self.hear, lambda: None)

    def hear(self, items):
        for item in items:
            if isinstance(item[0], int):
                self.answers[item[0]] = item[1:]
            else:
                self.news.append(item)

    def ask(self, key, proposal="t", seen=0, app="web"):
        self.number += 1
        self.wire.send([(ASK, self.number, app, key, proposal, seen)])
        self.turn(lambda: self.number in self.answers)
        return self.answers[self.number]

    def say(self, *items):
        self.wire.send(list(items))

    def turn(self, until):
        for _ in range(1000):
            if until():
                return
            self.loop.run_once(0.01)
        raise AssertionError("it did not happen")


class Store(StickStore):
    """A file that is a dictionary."""

    is_kept = True

    def __init__(self, known=None):
        self.known, self.rows, self.gone, self.renewed = known or {}, {}, [], False

    def take_all(self):
        return self.known

    def save(self, sticks):
        self.rows.update({(one.app, one.key): one for one in sticks})

    def forget_app(self, app):
        self.gone.append(app)

    def wants_all(self):
        renewed, self.renewed = self.renewed, False
        return renewed


class Rig:
    def __init__(self, store=None, wall=lambda: 1e9, **sticky):
        self.loop = Loop("main")
        self.store = store or Store()
        self.tables = StickTables(self.loop, self.store, wall)
        self.workers = []
        self.configure(Sticky(**sticky))

    def configure(self, sticky):
        self.tables.configure([App("web", (), (), sticky=sticky), App("plain", (), ())])

    def worker(self):
        name = f"worker {len(self.workers)}"
        self.workers.append(Worker(self.loop, self.tables.attach(name)))
        return self.workers[-1]

    def page(self, app="web", **listing):
        return self.wait(lambda reply: self.tables.page(app, Listing(**listing), reply))

    def change(self, call):
        return self.wait(lambda reply: self.tables.change("web", call, reply))

    def wait(self, ask):
        got = []
        ask(got.append)
        wait_until(lambda: self.loop.run_once(0.01) or got, "an answer")
        return got[0]

    def entries(self, **listing):
        return {entry["key"]: entry["target"] for entry in self.page(**listing)["entries"]}

    def close(self):
        for worker in self.workers:
            worker.wire.close()
        self.loop.run_once(0)
        self.tables.stop()
        self.loop.close()


@pytest.fixture
def rig():
    made = []
    yield lambda **how: made.append(Rig(**how)) or made[-1]
    for one in made:
        one.close()


def test_two_workers_get_one_target_for_one_key(rig):
    both = rig()
    one, two = both.worker(), both.worker()
    assert one.ask("k", "a") == ("a", 1)
    assert two.ask("k", "b") == ("a", 1)
    assert two.ask("other", "b") == ("b", 2)
    assert two.ask("nobody", "") == ("", 0)
    assert one.ask("k", app="plain") == ("", 0)


def test_a_rewritten_key_is_told_to_those_who_know_it(rig):
    both = rig()
    one, two = both.worker(), both.worker()
    one.ask("k", "a")
    two.ask("k", "a")
    assert two.ask("k", "b", seen=1) == ("b", 2)
    one.turn(lambda: one.news)
    assert (one.news, two.news) == ([("web", "k", "b", 2)], [])


def test_use_is_counted_over_workers_and_a_dead_one_releases_its_keys(rig):
    both = rig(expires=1000.0)
    one, two = both.worker(), both.worker()
    one.ask("k")
    two.ask("k")
    two.say((CLOSED, "web", "k"), (OPENED, "web", "copied", "t"))
    wait_until(lambda: len(both.entries(in_use=True)) == 2, "both in use")
    both.tables.detach("worker 0")
    wait_until(lambda: list(both.entries(in_use=True)) == ["copied"], "k is idle")
    both.tables.detach("worker 0")  # once more is nothing
    assert both.tables.attach("worker 1") is None


def test_entries_expire_by_themselves(rig):
    one = rig(expires=0.05)
    worker = one.worker()
    worker.ask("k")
    worker.say((CLOSED, "web", "k"))
    wait_until(lambda: one.page()["known"] == 0, "it has expired")
    wait_until(lambda: one.store.rows or True, "")


def test_pages_go_by_key_and_filters_hold(rig):
    one = rig()
    worker = one.worker()
    for number in range(25):
        worker.ask(f"k{number:02}", "ab"[number % 2])
    worker.say((CLOSED, "web", "k07"))
    wait_until(lambda: one.page()["in_use"] == 24, "one is idle")
    first = one.page(limit=10)
    assert [entry["key"] for entry in first["entries"]] == [f"k{number:02}" for number in range(10)]
    assert (first["next"], first["known"], first["by_target"]) == ("k09", 25, {"a": 13, "b": 12})
    assert list(one.entries(after="k09", limit=100)) == [f"k{number:02}" for number in range(10, 25)]
    assert one.page(after="k09", limit=100)["next"] is None
    assert set(one.entries(target="b").values()) == {"b"}
    assert list(one.entries(contains="7")) == ["k07", "k17"]
    assert list(one.entries(in_use=False)) == ["k07"]
    assert one.page("plain")["entries"] == []


def test_a_change_reaches_the_workers(rig):
    one = rig()
    worker = one.worker()
    worker.ask("k", "a")
    assert one.change(lambda table, now: table.set("k", "b", now).version) == 2
    assert one.change(lambda table, _now: table.delete("k")) is True
    worker.turn(lambda: len(worker.news) == 2)
    assert worker.news == [("web", "k", "b", 2), ("web", "k", "", 3)]


def test_a_renamed_target_and_a_smaller_table(rig):
    one = rig()
    worker = one.worker()
    worker.ask("k", "a")
    one.tables.rename("web", "a", "new")
    worker.turn(lambda: worker.news)
    assert worker.news == [("web", "k", "new", 1)]
    worker.ask("l", "a")
    one.configure(Sticky(size=1))
    assert one.entries() == {"l": "a"}


def test_what_is_known_is_saved_and_restored_without_what_has_expired():
    rig = Rig(wall=lambda: 5000.0, expires=100.0)
    worker = rig.worker()
    worker.ask("open", "a")
    worker.ask("idle", "b")
    worker.say((CLOSED, "web", "idle"))
    wait_until(lambda: rig.page()["in_use"] == 1, "one is idle")
    rig.close()
    saved = rig.store.rows
    assert (saved["web", "open"].target, saved["web", "open"].at) == ("a", 0.0)
    assert 4990.0 < saved["web", "idle"].at <= 5000.0
    known = {"web": [*saved.values(), SavedStick("web", "old", "a", 7, 4900.0)], "gone": [SavedStick("gone", "k", "a", 1)]}
    again = Rig(Store(known), wall=lambda: 5050.0, expires=100.0)
    assert again.entries() == {"idle": "b", "open": "a"}
    assert again.page()["entries"][0]["expires_in"] <= 50.5
    again.close()
    assert again.store.gone == ["gone"]
    assert again.store.rows["web", "old"].target == ""


def test_a_file_that_was_begun_anew_gets_everything():
    rig = Rig()
    worker = rig.worker()
    worker.ask("k", "a")
    wait_until(lambda: rig.store.rows, "saved", 15.0)
    rig.store.rows.clear()
    rig.store.renewed = True
    wait_until(lambda: ("web", "k") in rig.store.rows, "saved again", 15.0)
    rig.close()


def test_without_a_sticky_app_there_is_no_thread():
    loop = Loop("main")
    tables = StickTables(loop, StickStore())
    tables.configure([App("plain", (), ())])
    assert not tables.is_wanted
    tables.stop()
    loop.close()


def test_what_is_ordered_while_another_program_is_told_how_the_tables_are_waits_until_they_go_on(rig):
    """It would be done, and unknown to the program that goes on."""
    one = rig()
    one.change(lambda table, now: table.set("k", "a", now) and None)
    told, answers = [], []
    one.tables.pause(told.append)
    one.tables.change("web", lambda table, now: answers.append(table.set("k", "b", now).target), answers.append)
    wait_until(lambda: one.loop.run_once(0.01) or told, "paused")
    assert one.entries() == {"k": "a"}, "and whoever reads is answered"
    assert answers == []
    one.tables.resume()
    wait_until(lambda: one.loop.run_once(0.01) or len(answers) == 2, "it is done")
    assert (one.entries(), answers) == ({"k": "b"}, ["b", None])
