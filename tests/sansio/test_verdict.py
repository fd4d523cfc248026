"""Verdicts: rise and fall in a row, the first result alone, what a fall does, and how a verdict describes itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.sansio.verdict import Known, State, Verdict, combine, restored

UP, DRAINING, DOWN = State.UP, State.DRAINING, State.DOWN
RESULTS = {"+": True, "-": False}
SHOWN = {UP: "u", DRAINING: "d", DOWN: "D"}


def play(verdict, results):
    """The states after each result of "+-+": "uDu"."""
    shown = ""
    for result in results:
        verdict.feed(RESULTS[result], "accepted" if result == "+" else "refused")
        shown += SHOWN[verdict.state]
    return shown


def test_states_are_the_words_of_logs_and_messages():
    assert [state.value for state in State] == ["up", "draining", "down"]
    assert State("draining") is DRAINING


def test_it_begins_up_and_unproven():
    verdict = Verdict(rise=3, fall=3)
    assert verdict.state is UP
    assert not verdict.is_proven
    assert str(verdict) == "up (unproven)"
    assert verdict.evidence == "not checked yet"


@pytest.mark.parametrize(("result", "state"), [(True, UP), (False, DOWN)])
def test_the_first_result_decides_alone(result, state):
    verdict = Verdict(rise=5, fall=5)
    assert verdict.feed(result, "as it was") is True
    assert verdict.state is state
    assert verdict.evidence == "as it was (first result)"


@pytest.mark.parametrize(
    ("rise", "fall", "results", "states"),
    [
        (1, 1, "+-+-", "uDuD"),
        (1, 2, "+--+", "uuDu"),
        (2, 1, "+-++-", "uDDuD"),
        (3, 3, "+--+---", "uuuuuuD"),
        (3, 3, "-++-+++", "DDDDDDu"),
        (1, 3, "---+", "DDDu"),  # the first failure needed no second
        (2, 2, "--++--", "DDDuuD"),
    ],
)
def test_rise_and_fall(rise, fall, results, states):
    assert play(Verdict(rise, fall), results) == states


def test_a_threshold_of_one_is_one():
    """weldr's first opposite result only stored a 1: its threshold of 1 behaved as 2, its 2 as 3."""
    assert play(Verdict(rise=1, fall=1), "+-+") == "uDu"
    assert play(Verdict(rise=2, fall=2), "+--++") == "uuDDu"


def test_weldrs_flapping():
    """Its own test: fail, pass, fail, fail with two failures; only two in a row count, and the first result alone."""
    assert play(Verdict(rise=1, fall=2), "-+--") == "DuuD"


def test_flapping_below_the_thresholds_changes_nothing():
    verdict = Verdict(rise=2, fall=2)
    assert play(verdict, "+" + "-+" * 50) == "u" * 101
    assert play(Verdict(rise=2, fall=2), "-" + "+-" * 50) == "D" * 101


@pytest.mark.parametrize(("action", "states"), [("down", "uDu"), ("drain", "udu"), ("ignore", "uuu")])
def test_fall_action(action, states):
    assert play(Verdict(fall_action=action), "+-+") == states


def test_an_ignored_fall_still_says_that_it_fails():
    verdict = Verdict(rise=2, fall_action="ignore")
    verdict.feed(False, "refused")
    assert verdict.state is UP
    assert not verdict.is_passing
    assert str(verdict) == "up (failing) 0/2: refused"


def test_only_changes_and_the_first_result_are_news():
    verdict = Verdict(rise=2, fall=2)
    news = [verdict.feed(RESULTS[result], "x") for result in "++--++"]
    assert news == [True, False, False, True, False, True]


def test_it_describes_itself():
    verdict = Verdict(rise=3, fall=2)
    shown = []
    for result, text in (
        (True, "accepted"),
        (False, "connection refused (ECONNREFUSED)"),
        (False, "timed out"),
        (True, "accepted"),
        (True, "accepted"),
        (True, "accepted"),
    ):
        verdict.feed(result, text)
        shown.append(str(verdict))
    assert shown == [
        "up 2/2",
        "up 1/2: connection refused (ECONNREFUSED)",
        "down 0/3: timed out",
        "down 1/3: timed out",
        "down 2/3: timed out",
        "up 2/2",
    ]
    assert repr(verdict) == "<Verdict up 2/2>"


def test_the_evidence_is_what_agrees_with_the_state():
    """A success that does not suffice yet must not be shown as the reason for `down`."""
    verdict = Verdict(rise=2, fall=2)
    play(verdict, "+--+")
    assert verdict.evidence == "refused (fall 2/2)"
    play(verdict, "+")
    assert verdict.evidence == "accepted (rise 2/2)"


def test_the_worst_of_several_checks_wins():
    up, draining, down, ignored = Verdict(), Verdict(fall_action="drain"), Verdict(), Verdict(fall_action="ignore")
    for verdict in (draining, down, ignored):
        verdict.feed(False, "refused")
    assert combine([up, ignored]).state is UP
    assert combine([up, draining]) is draining
    assert combine([up, down, draining]) is down
    assert combine([]) is None


def naive(results, rise, fall):
    """From the whole history each time: a window of opposite results, as long as its threshold, turns it."""
    passing = results[0]
    for end in range(1, len(results) + 1):
        size = fall if passing else rise
        window = results[max(0, end - size) : end]
        if len(window) == size and all(result is not passing for result in window):
            passing = not passing
    return passing


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 6), st.integers(1, 6), st.sampled_from(["down", "drain"]))
def test_a_naive_model_agrees(results, rise, fall, action):
    verdict = Verdict(rise, fall, action)
    fallen = DOWN if action == "down" else DRAINING
    for seen, result in enumerate(results, 1):
        before = verdict.is_passing if verdict.is_proven else None
        news = verdict.feed(result, "text")
        expected = naive(results[:seen], rise, fall)
        assert verdict.is_passing is expected
        assert verdict.state is (UP if expected else fallen)
        assert news is (before is not expected)
        assert 0 <= verdict.opposed < (fall if expected else rise)


@pytest.mark.parametrize(
    ("is_passing", "opposed", "results", "shown"),
    [(False, 0, "+++", "DDu"), (False, 1, "++", "Du"), (False, 2, "+", "u"), (False, 99, "-++", "DDD"), (True, 1, "-", "D")],
)
def test_a_recalled_verdict_counts_on(is_passing, opposed, results, shown):
    verdict = Verdict(rise=3, fall=2)
    verdict.restore(Known("", is_passing, opposed, "as it was (fall 2/2)"))
    assert verdict.is_proven
    assert verdict.is_passing is is_passing
    assert verdict.evidence == "as it was (fall 2/2)"
    assert play(verdict, results) == shown


def test_more_results_than_today_s_threshold_wait_for_one_more():
    """The configuration may have changed between two lives: a count never decides by itself."""
    verdict = Verdict(rise=1, fall=1)
    verdict.restore(Known("", False, 7, "refused"))
    assert verdict.state is DOWN
    assert play(verdict, "+") == "u"


@pytest.mark.parametrize(("first", "shown"), [(False, "u"), (True, "D")])
def test_a_threshold_that_becomes_lower_waits_for_one_more(first, shown):
    """A reload counts as a restart does."""
    verdict = Verdict(rise=3, fall=3)
    play(verdict, "+--" if first else "-++")
    verdict.change(1, 1, "down")
    assert verdict.opposed == 0
    assert str(verdict).startswith("up 1/1" if first else "down 0/1")
    assert play(verdict, "-" if first else "+") == shown


ILL, WELL = Known("q", False, 1, "refused"), Known("p", True, 2, "accepted")
UNPROVEN = Known("u", True, is_proven=False)


@pytest.mark.parametrize(
    ("questions", "own", "left", "expected"),
    [
        ("q", (), (), [None]),
        ("q", (ILL,), (), [ILL]),
        ("pq", (ILL, WELL), (), [WELL, ILL]),
        ("qq", (ILL, ILL), (), [ILL, ILL]),
        ("n", (ILL,), (), [Known("", False, 0, "refused")]),
        ("n", (WELL, ILL), (), [Known("", False, 0, "refused")]),
        ("pn", (WELL, ILL), (), [WELL, Known("", False, 0, "refused")]),
        ("pn", (WELL,), (), [WELL, Known("", True, 0, "accepted")]),
        ("qn", (ILL,), (), [ILL, Known("", True, 0, "not checked yet")]),
        ("n", (), (WELL, ILL), [Known("", False, 0, "refused")]),
        ("q", (), (WELL, ILL), [ILL]),
        ("pq", (), (WELL, ILL), [WELL, ILL]),
        ("p", (WELL,), (ILL,), [WELL]),
        ("p", (), (Known("p", True, 0), Known("p", True, 2)), [Known("p", True, 2)]),
        ("p", (), (Known("p", True, 2), Known("p", True, 0)), [Known("p", True, 2)]),
        ("q", (), (Known("q", False, 2), Known("q", False, 1)), [Known("q", False, 1)]),
        ("q", (), (Known("q", True, 2), Known("q", False, 1)), [Known("q", False, 1)]),
        ("pu", (WELL, UNPROVEN), (), [WELL, None]),
        ("u", (ILL, UNPROVEN), (), [Known("", False, 0, "refused")]),
        ("n", (UNPROVEN,), (), [None]),
        ("p", (), (UNPROVEN,), [None]),
        ("ab", (Known("", False, 3, "refused"),), (), [Known("", False, 3, "refused")] * 2),
    ],
)
def test_what_a_check_begins_with(questions, own, left, expected):
    """`n` is new, `p` passes, `q` fails, `u` has had no result; "" is a verdict of all."""
    assert restored(tuple(questions), own, left) == expected
