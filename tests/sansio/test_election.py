"""The election: its rules one by one, then whatever order things happen in."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tcp_proxy.sansio.election import LEAST_WAIT, Check, Connect, Election, Pause, Phase, Serve, Trigger, Wait

EVEN = 0.5  # the draw that leaves a wait as it is


def made(*candidates, check=False, max_backoff=60.0):
    election = Election(check, max_backoff)
    election.candidates = candidates
    return election


def begin(election, first=""):
    return election.paused(election.elect(first).epoch, EVEN)


def test_the_first_that_accepts_and_passes_is_primary_when_the_triggers_have_run():
    election = made("a", "b", "c", check=True)
    pause = election.elect()
    assert pause == Pause(1)
    step = election.paused(1, EVEN)
    assert (type(step), step.name) == (Connect, "a")
    step = election.answered(step.step, False, EVEN)
    assert (type(step), step.name) == (Connect, "b")
    step = election.answered(step.step, True, EVEN)
    assert (type(step), step.name) == (Check, "b")
    step = election.answered(step.step, False, EVEN)
    assert (type(step), step.name) == (Connect, "c")
    step = election.answered(step.step, True, EVEN)
    step = election.answered(step.step, True, EVEN)
    assert (type(step), step.name) == (Trigger, "c")
    assert election.primary == ""
    assert election.triggered(step.step) == Serve(1, "c")
    assert election.primary == "c"


def test_without_a_check_a_connection_is_enough():
    election = made("a")
    connect = begin(election)
    assert isinstance(election.answered(connect.step, True, EVEN), Trigger)


@pytest.mark.parametrize(
    ("max_backoff", "waits"),
    [
        (60.0, [1, 2, 4, 8, 16, 32, 60, 60]),
        (3.0, [1, 2, 3, 3]),
        (0.5, [0.5, 0.5]),
        (0.0, [0.1, 0.1, 0.1]),
    ],
)
def test_waits_between_rounds(max_backoff, waits):
    election = made("a", max_backoff=max_backoff)
    step, found = begin(election), []
    for _ in waits:
        wait = election.answered(step.step, False, EVEN)
        found.append(wait.seconds)
        step = election.waited(wait.step, EVEN)
    assert found == waits


def test_waits_begin_anew_with_every_election():
    election = made("a")
    for _ in range(3):
        assert election.answered(begin(election).step, False, EVEN).seconds == 1


@pytest.mark.parametrize(("draw", "seconds"), [(0.0, 0.9), (1.0, 1.1)])
def test_waits_have_jitter(draw, seconds):
    election = made("a")
    assert election.answered(begin(election).step, False, draw).seconds == pytest.approx(seconds)


def test_the_floor_holds_with_jitter():
    election = made("a", max_backoff=0.1)
    assert election.answered(begin(election).step, False, 0.0).seconds == LEAST_WAIT


def test_a_new_election_begins_with_the_first_again():
    election = made("a", "b")
    step = election.answered(begin(election).step, False, EVEN)
    election.triggered(election.answered(step.step, True, EVEN).step)
    assert election.primary == "b"
    assert begin(election).name == "a"


def test_an_error_of_this_machine_gives_nobody_the_place_of_another():
    election = made("a", "b")
    wait = election.answered(begin(election).step, None, EVEN)
    assert isinstance(wait, Wait)
    assert election.waited(wait.step, EVEN).name == "a"


def test_a_promoted_one_is_tried_first_once():
    election = made("a", "b", "c")
    order = [step := begin(election, "c")]
    while isinstance(step := election.answered(step.step, False, EVEN), Connect):
        order.append(step)
    assert [step.name for step in order] == ["c", "a", "b"]
    assert election.waited(step.step, EVEN).name == "a"


def test_a_promoted_one_that_is_no_candidate_is_nobody():
    assert begin(made("a"), "z").name == "a"


def test_one_that_leaves_in_the_middle_of_a_round_is_not_tried():
    election = made("a", "b", "c")
    step = begin(election)
    election.candidates = ("a", "c")
    assert election.answered(step.step, False, EVEN).name == "c"


def test_one_that_shows_up_in_the_middle_of_a_round_is_tried_in_it():
    election = made("b", "c")
    step = begin(election)
    election.candidates = ("a", "b", "c", "d")
    order = [step]
    while isinstance(step := election.answered(step.step, False, EVEN), Connect):
        order.append(step)
    assert [step.name for step in order] == ["b", "a", "c", "d"]


@pytest.mark.parametrize("asked", [Connect, Check])
def test_one_that_leaves_while_it_is_asked_does_not_win(asked):
    """Its health check fails, while a long check by script is well."""
    election = made("a", "b", check=True)
    step = begin(election)
    if asked is Check:
        step = election.answered(step.step, True, EVEN)
    election.candidates = ("b",)
    step = election.answered(step.step, True, EVEN)
    assert (type(step), step.name) == (Connect, "b")


def test_one_that_was_asked_and_is_better_now_is_asked_again_soon():
    """When the others have been asked: one that comes and goes all the time does not keep them from it."""
    election = made("a", "b")
    connect = begin(election)
    assert election.wake(["a"]) is None
    step = election.answered(connect.step, False, EVEN)
    assert (type(step), step.name) == (Connect, "b")
    wait = election.answered(step.step, False, EVEN)
    assert wait.seconds == LEAST_WAIT
    step = election.waited(wait.step, EVEN)
    assert (type(step), step.name) == (Connect, "a")
    assert election.wake(["b"]) is None  # which is next in any case
    step = election.answered(step.step, False, EVEN)
    assert election.answered(step.step, False, EVEN).seconds == 1


def test_without_candidates_it_waits():
    assert isinstance(begin(made()), Wait)


def test_news_shorten_a_wait():
    election = made("a")
    assert election.wake(["a"]) is None
    old = election.answered(begin(election).step, False, EVEN)
    new = election.wake(["a"])
    assert new.seconds == LEAST_WAIT
    assert election.waited(old.step, EVEN) is None
    assert isinstance(election.waited(new.step, EVEN), Connect)


def test_stop():
    election = made("a")
    step = begin(election)
    election.stop()
    assert (election.answered(step.step, True, EVEN), election.phase, election.candidate) == (None, Phase.IDLE, "")


NAMES = st.lists(st.sampled_from("abcd"), unique=True).map(tuple)


class Anything(RuleBasedStateMachine):
    """Whatever comes, in whatever order, late answers included."""

    def __init__(self):
        super().__init__()
        self.election = Election(has_check=True)
        self.asked = []  # every action so far
        self.epochs = []
        self.has_paused = True

    def took(self, action):
        if action is None:
            return
        self.asked.append(action)
        if isinstance(action, Pause):
            self.epochs.append(action.epoch)
            self.has_paused = False
        elif isinstance(action, Wait):
            assert action.seconds >= LEAST_WAIT
            assert action.seconds <= 60 * 1.1
        else:
            assert self.has_paused, "somebody is looked for while workers still serve another one"
        if isinstance(action, Serve):
            assert (action.epoch, action.name) == (self.epochs[-1], self.election.primary)

    @rule(names=NAMES)
    def candidates(self, names):
        self.election.candidates = names

    @rule(first=st.sampled_from(["", "a", "b"]))
    def elect(self, first):
        self.took(self.election.elect(first))

    @rule(back=st.integers(0, 2), draw=st.floats(0, 1))
    def paused(self, back, draw):
        if len(self.epochs) > back:
            epoch = self.epochs[-1 - back]
            self.has_paused = self.has_paused or epoch == self.election.epoch
            self.took(self.election.paused(epoch, draw))

    @precondition(lambda self: self.asked)
    @rule(back=st.integers(0, 3), success=st.sampled_from([True, False, None]), draw=st.floats(0, 1))
    def happens(self, back, success, draw):
        """An answer to the latest question, or to one of those before."""
        action, election = self.asked[max(0, len(self.asked) - 1 - back)], self.election
        before = (election.phase, election.candidate, election.epoch)
        if isinstance(action, Connect | Check):
            answer = election.answered(action.step, success, draw)
        elif isinstance(action, Trigger):
            answer = election.triggered(action.step)
        elif isinstance(action, Wait):
            answer = election.waited(action.step, draw)
        else:
            return
        if action is not self.asked[-1]:
            assert answer is None
            assert (election.phase, election.candidate, election.epoch) == before
        self.took(answer)

    @rule(better=st.sets(st.sampled_from(["a", "b", "c"])))
    def wake(self, better):
        self.took(self.election.wake(better))

    @invariant()
    def epochs_rise(self):
        assert self.epochs == sorted(set(self.epochs))

    @invariant()
    def it_is_never_stuck(self):
        """Some answer is always expected, but while somebody serves or nobody was ever wanted."""
        phase = self.election.phase
        if phase not in (Phase.IDLE, Phase.SERVING):
            kinds = {"pausing": Pause, "connecting": Connect, "checking": Check, "triggering": Trigger, "waiting": Wait}
            assert isinstance(self.asked[-1], kinds[phase])


Anything.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestAnything = Anything.TestCase
