"""Questions end: with all answers, with those of who is alive, or with the names of the silent; pages miss nothing."""

import json

import pytest

from tcp_proxy.control.answers.sessions import DEADLINE, LIMIT_MOST, Questions, SessionFilter
from tcp_proxy.control.answers.why import live
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.wire.inquiries import (
    AskRequests,
    AskSession,
    AskSessions,
    CloseSession,
    EndedView,
    RequestsTold,
    RequestView,
    SessionClosed,
    SessionsTold,
    SessionTold,
    SessionView,
    Tried,
)
from tests.dataplane.house import Clock


def view(number, **more):
    fields = {
        "number": number, "app": "web", "listener": "127.0.0.1:80", "client": "127.0.0.1:4711", "target": "t0",
        "state": "relaying", "tried": (), "age": 2.0, "idle": 1.0, "connect_seconds": 0.5, "bytes_up": 3, "bytes_down": 4,
        "thread": "loop",
    }  # fmt: skip
    return SessionView(**{**fields, **more})


def record(number, **more):
    fields = {
        "id": f"69.1-{number}", "app": "web", "listener": "127.0.0.1:80", "client": "127.0.0.1:4711", "target": "t0",
        "tried": (Tried("t1", "ECONNREFUSED"),), "connect_seconds": 0.5, "seconds": 2.0, "bytes_up": 3, "bytes_down": 4,
        "ended_by": "client", "reason": "done", "errno": "", "ended_at": 1_700_000_000.0,
    }  # fmt: skip
    return EndedView(**{**fields, **more})


class Fake:
    """A worker that notes what it is asked."""

    def __init__(self, index, incarnation):
        self.index = index
        self.incarnation = incarnation
        self.asked = []

    def send(self, message):
        self.asked.append(message)

    @property
    def question(self):
        return self.asked[-1].question


class Rig:
    def __init__(self, workers=2):
        self.clock = Clock()
        self.loop = Loop("test", self.clock)
        self.workers = [Fake(n, f"69.{n + 1}") for n in range(workers)]
        self.questions = Questions(self.loop, lambda: self.workers)
        self.answers = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.loop.close()

    @property
    def answer(self):
        (answer,) = self.answers
        json.dumps(answer)
        assert repr(self.questions) == "<Questions 0 open>"
        return answer

    def ask(self, **wanted):
        self.questions.sessions(SessionFilter(**wanted), self.answers.append)

    def told(self, worker, *numbers, is_last=True):
        views = tuple(view(number) for number in numbers)
        self.questions.told(self.workers[worker], SessionsTold(self.workers[worker].question, views, is_last))

    def ids(self):
        return [session["id"] for session in self.answer["sessions"]]


def test_all_are_asked_and_their_answers_put_together_in_order():
    with Rig() as rig:
        rig.ask(app="web", target="t0", client="127.0.0.1", listener="127.0.0.1:80", limit=10)
        for worker in rig.workers:
            assert worker.asked == [AskSessions(1, "web", "t0", "127.0.0.1", "127.0.0.1:80", 0, 11)]
        rig.told(1, 2, 9)
        assert rig.answers == []
        rig.told(0, 5, is_last=False)
        rig.told(0, 7)
        assert rig.ids() == ["69.1-5", "69.1-7", "69.2-2", "69.2-9"]
        assert (rig.answer["next"], rig.answer["silent"]) == (None, [])
        assert [session["worker"] for session in rig.answer["sessions"]] == [0, 0, 1, 1]


def test_a_session_is_told_with_units_in_its_names():
    with Rig(1) as rig:
        rig.ask()
        views = (view(1, tried=(Tried("t1", "ECONNREFUSED"),)), view(2, target="", state="dialing", connect_seconds=-1.0))
        rig.questions.told(rig.workers[0], SessionsTold(1, views, True))
        first, second = rig.answer["sessions"]
        assert first == {
            "id": "69.1-1", "app": "web", "listener": "127.0.0.1:80", "client": "127.0.0.1:4711", "target": "t0",
            "peer": None, "tls": None, "notes": None, "state": "relaying",
            "tried": [{"target": "t1", "error": "ECONNREFUSED"}], "seconds": 2.0, "idle_seconds": 1.0,
            "connect_seconds": 0.5, "bytes_up": 3, "bytes_down": 4, "worker": 0, "thread": "loop", "processes": None,
        }  # fmt: skip
        assert (second["target"], second["connect_seconds"]) == (None, None)


def test_pages_follow_each_other_over_the_workers():
    """What each worker has: 3 sessions. Pages of 2: every session once, in order, and the last page says that it is."""
    with Rig(3) as rig:
        seen, after = [], ""
        for _ in range(5):
            rig.answers.clear()
            for worker in rig.workers:
                worker.asked.clear()
            rig.ask(limit=2, after=after)
            for worker in list(rig.workers):
                if worker.asked:
                    since, limit = worker.asked[0].after, worker.asked[0].limit
                    rig.told(worker.index, *[number for number in (1, 2, 3) if number > since][:limit])
            seen += rig.ids()
            after = rig.answer["next"]
            if after is None:
                break
        assert seen == [f"69.{worker}-{number}" for worker in (1, 2, 3) for number in (1, 2, 3)]


def test_workers_before_the_page_are_not_asked():
    with Rig() as rig:
        rig.ask(after="69.2-5")
        assert rig.workers[0].asked == []
        assert rig.workers[1].asked[0].after == 5
        rig.told(1)
        assert rig.answer == {"sessions": [], "next": None, "silent": []}


def test_nobody_is_asked_for_more_than_a_page_holds():
    with Rig(1) as rig:
        rig.ask(limit=10**9)
        assert rig.workers[0].asked[0].limit == LIMIT_MOST + 1
        rig.told(0, 1)
        rig.answers.clear()
        rig.ask(limit=-5)
        rig.told(0, 1)
        assert rig.ids() == []


def test_a_silent_worker_is_named_and_the_others_answers_count():
    with Rig(3) as rig:
        rig.ask()
        rig.told(0, 1)
        rig.told(2, 8, is_last=False)
        rig.clock.now += DEADLINE - 0.1
        rig.loop.run_once(0)
        assert rig.answers == []
        rig.clock.now += 0.2
        rig.loop.run_once(0)
        assert rig.ids() == ["69.1-1", "69.3-8"]
        assert rig.answer["silent"] == [1, 2]
        rig.told(1, 5)
        assert len(rig.answers) == 1, "who answers too late is not heard"


def test_a_worker_that_dies_meanwhile_is_left_out():
    with Rig() as rig:
        rig.ask()
        rig.told(1, 5, is_last=False)
        dead = rig.workers.pop(1)
        rig.questions.left(dead)
        assert rig.answers == []
        rig.told(0, 1)
        assert rig.ids() == ["69.1-1"]
        assert rig.answer["silent"] == []


def test_without_workers_the_answer_is_empty():
    with Rig(0) as rig:
        rig.ask()
        assert rig.answer == {"sessions": [], "next": None, "silent": []}


def test_a_worker_that_has_not_been_introduced_is_not_asked():
    with Rig() as rig:
        rig.workers[0].incarnation = ""
        rig.ask()
        rig.told(1)
        assert rig.workers[0].asked == []


@pytest.mark.parametrize("id", ["", "x", "69.1", "69.1-", "69.1-x", "69-1", ".-1", "69.x-1", "69.1-1²", f"69.1-{'9' * 30}"])
def test_what_is_no_id_is_refused(id):
    with Rig() as rig:
        for ask in (rig.questions.session, rig.questions.close_session, rig.questions.why):
            with pytest.raises(ValueError, match=r"69200e71\.1-17"):
                ask(id, rig.answers.append)
        if id:
            with pytest.raises(ValueError, match=r"69200e71\.1-17"):
                rig.ask(after=id)
        assert rig.answers == []


# -- one session


def test_only_the_worker_of_a_session_is_asked_for_it():
    with Rig() as rig:
        rig.questions.session("69.2-7", rig.answers.append)
        assert rig.workers[0].asked == []
        assert rig.workers[1].asked == [AskSession(1, 7)]
        rig.questions.told(rig.workers[1], SessionTold(1, (view(7),), ()))
        assert rig.answer["session"]["id"] == "69.2-7"


def test_an_ended_session_does_not_go_on():
    with Rig() as rig:
        rig.questions.session("69.1-7", rig.answers.append)
        rig.questions.told(rig.workers[0], SessionTold(1, (), (record(7),)))
        assert rig.answer == {"session": None, "silent": []}


def test_a_session_of_a_worker_that_is_gone():
    with Rig() as rig:
        rig.questions.session("69.9-7", rig.answers.append)
        assert rig.answer == {"session": None, "silent": []}
        rig.answers.clear()
        rig.questions.session("6a.1-7", rig.answers.append)
        assert rig.answer == {"session": None, "silent": []}, "another supervisor's"


@pytest.mark.parametrize("found", [True, False])
def test_close(found):
    with Rig() as rig:
        rig.questions.close_session("69.1-7", rig.answers.append)
        assert rig.workers[0].asked == [CloseSession(1, 7)]
        rig.questions.told(rig.workers[0], SessionClosed(1, found))
        assert rig.answer == {"closed": found, "silent": []}


def test_close_by_a_worker_that_is_silent():
    with Rig() as rig:
        rig.questions.close_session("69.1-7", rig.answers.append)
        rig.clock.now += DEADLINE + 0.1
        rig.loop.run_once(0)
        assert rig.answer == {"closed": False, "silent": [0]}


def test_sessions_that_have_moved_are_found_in_any_worker():
    with Rig() as rig:
        rig.questions._have_moved = lambda: True
        rig.questions.session("69.1-7", rig.answers.append)
        assert rig.workers[0].asked == [AskSession(1, 7, id="69.1-7")]
        assert rig.workers[1].asked == [AskSession(1, -1, id="69.1-7")]
        rig.questions.told(rig.workers[0], SessionTold(1, (), ()))
        moved = view(3, id="69.1-7", processes=(11, 12))
        rig.questions.told(rig.workers[1], SessionTold(1, (moved,), ()))
        found = rig.answer["session"]
        assert (found["id"], found["worker"], found["processes"]) == ("69.1-7", 1, [11, 12])
        assert "It has moved: it has lived in the processes 11 and 12." in live(found)
        rig.answers.clear()
        rig.ask(after="69.1-5", limit=10)
        assert [worker.asked[-1] for worker in rig.workers] == [AskSessions(2, "", "", "", "", 5, 11, 1)] * 2


# -- why


def why(rig, id="69.1-7"):
    rig.answers.clear()
    rig.questions.why(id, rig.answers.append)


def test_why_of_a_session_that_goes_on():
    with Rig() as rig:
        why(rig)
        rig.questions.told(rig.workers[0], SessionTold(1, (view(7),), ()))
        assert (rig.answer["id"], rig.answer["state"], rig.answer["session"]["id"]) == ("69.1-7", "live", "69.1-7")
        assert rig.answer["story"].endswith("It goes on.")


def test_why_of_one_that_has_ended():
    with Rig() as rig:
        why(rig)
        rig.questions.told(rig.workers[0], SessionTold(1, (), (record(7),)))
        assert (rig.answer["state"], rig.answer["session"]["reason"]) == ("ended", "done")
        assert "Target t1 was tried and failed: ECONNREFUSED (nothing listens there)." in rig.answer["story"]


def test_why_of_one_that_nobody_knows():
    with Rig() as rig:
        why(rig)
        rig.questions.told(rig.workers[0], SessionTold(1, (), ()))
        assert (rig.answer["state"], rig.answer["session"]) == ("unknown", None)
        assert "more than 10,000" in rig.answer["story"]
        why(rig, "69.9-1")
        assert "its worker has ended" in rig.answer["story"]
        why(rig)
        rig.clock.now += DEADLINE + 0.1
        rig.loop.run_once(0)
        assert "did not answer within 2 s" in rig.answer["story"]
        assert rig.answer["silent"] == [0]


def test_those_that_have_ended_since_are_asked_for_by_what_was_seen():
    with Rig() as rig:
        first, second = rig.workers
        rig.questions.ended(None, rig.answers.append)
        assert [worker.asked[-1] for worker in rig.workers] == [AskSession(1, -1, since=True)] * 2
        rig.questions.told(first, SessionTold(1, (), (), 7))
        rig.clock.now += DEADLINE
        rig.loop.run_once(0)
        assert rig.answer == {"sessions": [], "seen": {"69.1": 7}, "left_out": 0, "silent": [1]}
        rig.answers.clear()
        rig.questions.ended({"69.1": 7}, rig.answers.append)
        assert first.asked[-1] == AskSession(2, 7, since=True)
        assert second.asked[-1] == AskSession(2, 0, since=True), "all that it has kept: it is new, or was silent"
        rig.questions.told(first, SessionTold(2, (), (record(9, ended_at=2.0),), 9))
        rig.questions.told(second, SessionTold(2, (), (record(3, ended_at=1.0),), 3, 5))
        assert [view["ended_at"] for view in rig.answer["sessions"]] == [1.0, 2.0]
        assert (rig.answer["seen"], rig.answer["left_out"]) == ({"69.1": 9, "69.2": 3}, 5)


def request(session, number, **more):
    fields = {
        "session": session, "number": number, "app": "web", "listener": "127.0.0.1:80", "client": "127.0.0.1:4711",
        "line": "GET / HTTP/1.1", "own_id": "", "target": "t0", "tried": (), "status": 200, "bytes_up": 0, "bytes_down": 0,
        "answer_seconds": 0.1, "seconds": 0.2, "ended_at": 1.0, "reason": "done", "error": "",
    }  # fmt: skip
    return RequestView(**{**fields, **more})


def test_a_request_is_asked_of_the_worker_that_had_it():
    with Rig() as rig:
        first, second = rig.workers
        rig.questions.requests("69.2-7-3", rig.answers.append)
        assert (first.asked, second.asked) == ([], [AskRequests(1, 7, 3)])
        rig.questions.told(second, RequestsTold(1, (request(7, 3),)))
        assert (rig.answer["state"], rig.answer["requests"][0]["id"]) == ("ended", "69.2-7-3")
        assert rig.answer["story"].startswith("Request 69.2-7-3 of app web: GET / HTTP/1.1\n")


def test_a_request_whose_client_may_have_moved_is_asked_of_all():
    with Rig() as rig:
        first, second = rig.workers
        questions = Questions(rig.loop, lambda: rig.workers, lambda: True)
        questions.requests("69.2-7-3", rig.answers.append)
        assert (first.asked, second.asked) == ([AskRequests(1, -1, 3, id="69.2-7")], [AskRequests(1, 7, 3, id="69.2-7")])
        questions.told(second, RequestsTold(1, ()))
        questions.told(first, RequestsTold(1, (request(0, 3, session_id="69.2-7"),)))
        assert (rig.answer["state"], rig.answer["requests"][0]["id"]) == ("ended", "69.2-7-3")
        assert "in session 69.2-7." in rig.answer["story"]


def test_a_client_s_own_id_is_asked_of_all_and_the_newest_comes_first():
    with Rig() as rig:
        rig.questions.requests("trace/ü-1", rig.answers.append)
        assert [worker.asked for worker in rig.workers] == [[AskRequests(1, 0, 0, "trace/ü-1")]] * 2
        rig.questions.told(rig.workers[0], RequestsTold(1, (request(1, 1, ended_at=5.0), request(1, 2, ended_at=3.0))))
        rig.questions.told(rig.workers[1], RequestsTold(1, (request(2, 9, ended_at=0.0, reason="", status=0),)))
        assert rig.answer["state"] == "live"
        assert [one["id"] for one in rig.answer["requests"]] == ["69.2-2-9", "69.1-1-1", "69.1-1-2"]
        assert len(rig.answer["story"].split("\n\n")) == 3


def test_a_request_that_nobody_knows():
    with Rig() as rig:
        rig.questions.requests("69.9-1-1", rig.answers.append)
        assert rig.answer["state"] == "unknown"
        assert "the access log may have it" in rig.answer["story"].lower()
        rig.answers.clear()
        rig.questions.requests("nobody", rig.answers.append)
        rig.clock.now += DEADLINE
        rig.loop.run_once(0)
        assert (rig.answer["silent"], "ask again" in rig.answer["story"]) == ([0, 1], True)
