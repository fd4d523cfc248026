"""The operations by name: answers, refusals, answers that come later or in pieces, and mistakes that end nobody."""

import json

import pytest

from tcp_proxy.control.answers.administration import Administration
from tcp_proxy.control.long_answer import Long, Parts
from tcp_proxy.control.replies import InTurn, Later, Refused
from tcp_proxy.control.slices import Slices
from tcp_proxy.runtime.loop import Loop


class Written:
    """What is said of the questions, by their numbers."""

    def __init__(self, operations):
        self.loop = Loop("main")
        self.administration = Administration(operations, Slices(self.loop))
        self.replies = []
        self.parts = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.loop.close()

    def ask(self, operation, **arguments):
        parts = []

        def written(status, text, *, more=False):
            parts.append(text)
            self.parts.append(text)
            if not more:
                self.replies.append((status, json.loads("".join(parts) if status == 200 else text)))

        self.administration.ask(operation, json.dumps(arguments), written)
        return self.replies


def refuse(arguments):
    raise Refused(409, f"not {arguments['what']}", [{"line": 1}])


def ask(operations, operation, **arguments):
    with Written(operations) as asked:
        return asked.ask(operation, **arguments)


def test_an_operation_answers():
    assert ask({"add": lambda arguments: arguments["a"] + arguments["b"]}, "add", a=1, b=2) == [(200, 3)]


def test_an_operation_refuses():
    assert ask({"x": refuse}, "x", what="now") == [(409, {"detail": "not now", "errors": [{"line": 1}]})]


def test_an_operation_that_nobody_knows():
    ((status, body),) = ask({}, "nothing")
    assert (status, "nothing" in body["detail"]) == (501, True)


def test_a_mistake_is_answered_and_logged_and_ends_nobody(caplog):
    ((status, body),) = ask({"fails": lambda arguments: arguments["none"]}, "fails")
    assert status == 500
    assert "internal error" in caplog.text
    assert "the log has the details" in body["detail"]


@pytest.mark.parametrize("early", [True, False])
def test_an_answer_may_come_later_and_comes_once(early):
    later = Later()
    if early:
        later.answer({"x": 1})
    with Written({"wait": lambda _: later}) as asked:
        replies = asked.ask("wait")
        if not early:
            assert replies == []
            later.answer({"x": 1})
        later.refuse(Refused(409, "too late"))
        assert replies == [(200, {"x": 1})]


def test_a_long_answer_comes_in_pieces_and_what_is_in_turn_after_it():
    """A change that is asked for while it is written comes after it; what is done in one turn comes in between."""
    known = list(range(5000))

    def change(_):
        known.clear()

    operations = {"all": InTurn(lambda _: Parts({"n": Long(known[n] for n in range(5000))})), "change": InTurn(change)}
    with Written({**operations, "count": lambda _: len(known)}) as asked:
        asked.ask("all")
        asked.ask("change")
        assert asked.ask("count") == [(200, 5000)]
        while len(asked.replies) < 3:
            asked.loop.run_once(0)
        assert asked.replies[1:] == [(200, {"n": list(range(5000))}), (200, None)]
        assert len(asked.parts) > 10
        assert asked.ask("count")[3] == (200, 0)


def test_a_mistake_in_the_middle_is_an_error_and_the_next_has_its_turn(caplog):
    def members():
        yield from range(5000)
        raise LookupError("gone")

    with Written({"fails": InTurn(lambda _: Long(members())), "next": InTurn(lambda _: 1)}) as asked:
        asked.ask("fails")
        asked.ask("next")
        while len(asked.replies) < 2:
            asked.loop.run_once(0)
        assert [status for status, _ in asked.replies] == [500, 200]
        assert "gone" in caplog.text
