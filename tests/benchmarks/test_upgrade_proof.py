"""Upgrades under load of every kind lose nothing and leave nothing: the short form, of three (make test-upgrades is the long
one). And what is wrong would be found."""

import re
import subprocess
import sys
from collections import Counter

import pytest

from benchmarks import upgrade_proof
from benchmarks.helpers.checked_sessions import Sent, Wrong, compared
from benchmarks.upgrade_loads import Load
from kit.programs import need
from kit.proxy import ROOT


@pytest.mark.alone  # it takes all of the machine, and others would wait
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_three_upgrades_lose_nothing():
    for name in ("wrk", "pgbench", "postgres", "iperf3", "nginx", "redis-server"):
        need(name)
    command = [sys.executable, "-m", "benchmarks.upgrade_proof", "--upgrades", "3", "--idle", "100", "--waiting", "16"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("3 upgrades, ")
    assert lines[-1] == "nothing was lost, nothing is left"
    told = next(line for line in lines if line.startswith("checked sessions: "))
    assert "sessions 126," in told
    assert "streams 252," in told  # both ways of each
    for kind in ("kept", "fresh"):
        for mode in ("http", "tcp"):
            assert re.search(rf"^wrk {kind}, mode {mode}: requests [1-9]\d*, errors 0$", done.stdout, re.MULTILINE), (
                done.stdout
            )
        assert re.search(rf"^pgbench {kind}: transactions [1-9]", done.stdout, re.MULTILINE), done.stdout


def sent(*pieces):
    made = Sent()
    for piece in pieces:
        made.add(piece)
    return made


def test_a_stream_is_equal_whatever_its_pieces_are_and_nothing_else_is():
    assert compared("up", sent(b"ab", b"c"), sent(b"abc")) == 3
    for other in (b"ab", b"acb", b"abcc", b""):
        with pytest.raises(Wrong, match=r"up: 3 bytes, SHA-256 .* were sent, "):
            compared("up", sent(b"abc"), sent(other))


APP = {"sessions": {"total": 2}, "bytes": {"up": 5, "down": 7}, "session_ends": {"done": 2}}


@pytest.mark.parametrize(
    ("app", "record", "wrong"),
    [
        ({}, {}, []),
        ({"bytes": {"up": 5, "down": 6}}, {}, ["in the records"]),
        ({}, {"sessions": 1}, ["in the records"]),
        ({"sessions": {"total": 3}}, {"sessions": 3}, ["sessions 3 counted, 2 made"]),
        ({"session_ends": {"done": 1, "internal_error": 1}}, {}, ["sessions have ended by"]),
    ],
)
def test_a_counter_that_is_not_exact_is_found(app, record, wrong):
    told = {"sessions": {"current": 0}, "apps": {"checked": APP | app}}
    records = {"checked": Counter({"sessions": 2, "up": 5, "down": 7} | record)}
    known = {
        "checked sessions": {
            "sessions": 2,
            "up": app.get("bytes", APP["bytes"])["up"],
            "down": told["apps"]["checked"]["bytes"]["down"],
        }
    }
    found = upgrade_proof.compare(told, records, known)
    assert len(found) == len(wrong)
    assert all(text in one for text, one in zip(wrong, found, strict=True))


def test_a_load_that_ends_by_itself_or_says_nothing_is_found():
    load = Load("one", [sys.executable, "-c", ""], lambda _: None, lambda said, _status: ({"n": int(said)}, []))
    load.process.wait()
    found, problems = load.end()
    assert found == {}
    assert problems[0] == "one has ended by itself"
    assert "says nothing to go by" in problems[1]
