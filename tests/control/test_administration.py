"""The operations by name: answers, refusals, answers that come later, and mistakes that end nobody."""

import json

import pytest

from tcp_proxy.control.administration import Administration, Later, Refused


def refuse(arguments):
    raise Refused(409, f"not {arguments['what']}", [{"line": 1}])


def ask(operations, operation, **arguments):
    replies = []
    Administration(operations).ask(operation, json.dumps(arguments), lambda *reply: replies.append(reply))
    return replies


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
    later, replies = Later(), []
    if early:
        later.answer({"x": 1})
    Administration({"wait": lambda _: later}).ask("wait", "{}", lambda *reply: replies.append(reply))
    if not early:
        assert replies == []
        later.answer({"x": 1})
    later.refuse(Refused(409, "too late"))
    assert replies == [(200, {"x": 1})]
