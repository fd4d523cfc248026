"""The story of a session: every reason has a sentence, every number its unit, and what failed is said with its meaning."""

import pytest

from tcp_proxy.control.answers import why
from tcp_proxy.dataplane.edge.arrival import EdgeState
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
    assert why.ended(ENDED).splitlines() == [
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
    text = why.ended({**ENDED, "reason": reason.value, "ended_by": "proxy"})
    assert why.ENDS[reason].format(first="proxy") in text
    assert text.endswith(f"(reason: {reason})")
    assert len(set(why.ENDS.values())) == len(Reason)


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
    assert words in why.ended({**ENDED, "reason": reason, "errno": errno})


def test_a_session_without_a_target_was_never_connected():
    text = why.ended({**ENDED, "target": None, "connect_seconds": None, "reason": "connect_failed", "ended_by": "target"})
    assert "connected to target" not in text
    assert "came back" not in text


def test_a_session_that_goes_on():
    assert why.live(LIVE).splitlines() == [
        "Session 69.1-7 of app web: accepted 2 min 5 s ago from 198.51.100.7:4711 by listener 127.0.0.1:80.",
        "It was connected to target b 1.2 ms after it had been accepted.",
        "1 byte went to the target, 0 bytes came back.",
        "Its last event was 500 ms ago.",
        "It goes on.",
    ]


def test_a_session_that_is_being_connected_or_waits_or_ends():
    dialing = {**LIVE, "state": "dialing", "connect_seconds": None}
    assert "It is being connected to target b." in why.live(dialing)
    assert "It waits for a target to be tried again." in why.live({**dialing, "target": None})
    assert "One side has failed" in why.live({**LIVE, "state": "lingering"})


def test_a_session_of_mode_http():
    """It is not connected to one target: its requests are."""
    http = {**LIVE, "state": "exchanging", "connect_seconds": None}
    assert why.live(http).splitlines()[1:3] == [
        "Its request is with target b.", "1 byte went to the target, 0 bytes came back.",
    ]  # fmt: skip
    assert "It has no request under way." in why.live({**http, "state": "reading", "target": None})
    assert "Its last answer is given" in why.live({**http, "state": "closing", "target": None})
    text = why.ended({**ENDED, "connect_seconds": None, "tried": []})
    assert text.splitlines()[1:3] == [
        "Its last request was given to target b.", "310 bytes went to the target, 20,480 bytes came back.",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 ms"), (0.0004, "0.4 ms"), (0.012, "12 ms"), (3.52, "3.5 s"), (125, "2 min 5 s"), (12060, "3 h 21 min")],
)
def test_durations(seconds, text):
    assert why.seconds_text(seconds) == text


def test_a_target_that_reset_before_a_byte_was_not_connected_to():
    unmet = {**ENDED, "target": None, "connect_seconds": None, "reason": "target_reset", "ended_by": "target"}
    assert "accepted, and reset the connection before a byte was exchanged" in why.ended(unmet)
    assert "before a byte" not in why.ended({**ENDED, "reason": "target_reset"})


def test_a_client_that_came_by_a_proxy():
    by_proxy = {"client": "192.0.2.7:1111", "peer": "198.51.100.7:4711"}
    wanted = "from 192.0.2.7:1111 by way of 198.51.100.7:4711, whose PROXY header says so, by listener"
    assert wanted in why.ended({**ENDED, **by_proxy})
    assert wanted in why.live({**LIVE, **by_proxy})


def test_tls_and_what_a_cloud_says():
    tls = {"version": "TLSv1.3", "cipher": "AES", "resumed": True, "server_name": "a.example", "subject": "CN=c"}
    told = {"tls": tls, "notes": "aws_vpce_id=vpce-1"}
    lines = [
        "Noted of it: aws_vpce_id=vpce-1.",
        "It asked for the name a.example.",
        "It speaks TLSv1.3 with AES, in a session that was taken up again.",
        "Its certificate is that of CN=c.",
    ]
    assert why.ended({**ENDED, **told}).splitlines()[1:5] == lines
    assert why.live({**LIVE, **told}).splitlines()[1:5] == lines
    plain = {"version": "TLSv1.2", "cipher": "AES", "resumed": False, "server_name": "", "subject": ""}
    assert why.live({**LIVE, "tls": plain}).splitlines()[1] == "It speaks TLSv1.2 with AES, in a new session."
    failed = {"version": "", "cipher": "", "resumed": False, "server_name": "b", "subject": ""}
    assert why.ended({**ENDED, "tls": failed, "tried": []}).splitlines()[1:3] == [
        "It asked for the name b.", "It was connected to target b 1.2 ms after it had been accepted.",
    ]  # fmt: skip


def test_a_client_that_was_refused_before_it_was_a_session():
    nothing = {"target": None, "connect_seconds": None, "tried": [], "reason": "protocol_error"}
    lines = why.ended({**ENDED, **nothing, "error": "a PROXY line that ends without CR"}).splitlines()
    assert lines[-2:] == ["What was wrong: a PROXY line that ends without CR.", "(reason: protocol_error)"]


@pytest.mark.parametrize("state", [state for state in EdgeState if state.name not in ("NEW", "DONE")])
def test_every_state_before_a_session_is_explained(state):
    assert state.name.lower() in why.EDGE


BEFORE = [("header", "not the whole of it"), ("local", "health check"), ("hello", "ClientHello"), ("handshake", "TLS")]


@pytest.mark.parametrize(("state", "word"), BEFORE)
def test_a_client_that_is_no_session_yet(state, word):
    text = why.live({**LIVE, "state": state, "target": None, "connect_seconds": None})
    assert word in text
    assert "connected to" not in text
