"""The story of a session: every reason has a sentence, every number its unit, and what failed is said with its meaning."""

import pytest

from tcp_proxy.control import story
from tcp_proxy.sansio.reasons import Reason

ENDED = {
    "id": "69.1-7", "app": "web", "listener": "127.0.0.1:80", "client": "198.51.100.7:4711", "target": "b",
    "tried": [{"target": "a", "error": "ECONNREFUSED"}], "connect_seconds": 0.0012, "seconds": 3.5, "bytes_up": 310,
    "bytes_down": 20480, "ended_by": "client", "reason": "done", "errno": "", "ended_at": 1_700_000_003.5,
}  # fmt: skip
LIVE = {
    "id": "69.1-7", "app": "web", "listener": "127.0.0.1:80", "client": "198.51.100.7:4711", "target": "b", "tried": [],
    "state": "relaying", "seconds": 125.0, "idle_seconds": 0.5, "connect_seconds": 0.0012, "bytes_up": 1, "bytes_down": 0,
    "worker": 0, "thread": "loop",
}  # fmt: skip


def test_the_whole_story_of_a_session():
    assert story.ended(ENDED).splitlines() == [
        "Session 69.1-7 of app web: accepted at 2023-11-14T22:13:20.000Z from 198.51.100.7:4711 by listener 127.0.0.1:80.",
        "Target a was tried and failed: ECONNREFUSED (nothing listens there).",
        "It was connected to target b 1.2 ms after it had been accepted.",
        "310 bytes went to the target, 20,480 bytes came back.",
        "It ended at 2023-11-14T22:13:23.500Z, after 3.5 s, by the client.",
        "Both sides had ended their direction, the client first, and everything had been delivered.",
        "(reason: done)",
    ]


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_its_sentence(reason):
    text = story.ended({**ENDED, "reason": reason.value, "ended_by": "proxy"})
    assert story.ENDS[reason].format(first="proxy") in text
    assert text.endswith(f"(reason: {reason})")
    assert len(set(story.ENDS.values())) == len(Reason)


@pytest.mark.parametrize(
    ("reason", "errno", "words"),
    [
        ("target_reset", "ECONNRESET", "The last error was ECONNRESET (the other side cut the connection off)."),
        ("client_gone", "ETIMEDOUT", "The last error was ETIMEDOUT (no answer came in time)."),
        ("connect_failed", "EMFILE", "The last error was EMFILE (the proxy had no descriptors left)."),
        ("connect_failed", "ENETDOWN", "The last error was ENETDOWN (Network is down)."),
        ("connect_failed", "4711", "The last error was 4711."),
    ],
)
def test_an_errno_is_said_with_what_it_means(reason, errno, words):
    assert words in story.ended({**ENDED, "reason": reason, "errno": errno})


def test_a_session_without_a_target_was_never_connected():
    text = story.ended({**ENDED, "target": None, "connect_seconds": None, "reason": "connect_failed", "ended_by": "target"})
    assert "connected to target" not in text
    assert "came back" not in text


def test_a_session_that_goes_on():
    assert story.live(LIVE).splitlines() == [
        "Session 69.1-7 of app web: accepted 2 min 5 s ago from 198.51.100.7:4711 by listener 127.0.0.1:80.",
        "It was connected to target b 1.2 ms after it had been accepted.",
        "1 byte went to the target, 0 bytes came back.",
        "Its last event was 500 ms ago.",
        "It goes on.",
    ]


def test_a_session_that_is_being_connected_or_waits_or_ends():
    dialing = {**LIVE, "state": "dialing", "connect_seconds": None}
    assert "It is being connected to target b." in story.live(dialing)
    assert "It waits for a target to be tried again." in story.live({**dialing, "target": None})
    assert "One side has failed" in story.live({**LIVE, "state": "lingering"})


def test_a_session_of_mode_http():
    """It is not connected to one target: its requests are."""
    http = {**LIVE, "state": "exchanging", "connect_seconds": None}
    assert story.live(http).splitlines()[1:3] == [
        "Its request is with target b.", "1 byte went to the target, 0 bytes came back.",
    ]  # fmt: skip
    assert "It has no request under way." in story.live({**http, "state": "reading", "target": None})
    assert "Its last answer is given" in story.live({**http, "state": "closing", "target": None})
    text = story.ended({**ENDED, "connect_seconds": None, "tried": []})
    assert text.splitlines()[1:3] == [
        "Its last request was given to target b.", "310 bytes went to the target, 20,480 bytes came back.",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 ms"), (0.0004, "0.4 ms"), (0.012, "12 ms"), (3.52, "3.5 s"), (125, "2 min 5 s"), (12060, "3 h 21 min")],
)
def test_durations(seconds, text):
    assert story._duration(seconds) == text
