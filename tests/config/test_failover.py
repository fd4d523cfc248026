"""The failover part of an app: scripts must be there, and what would have no effect is refused."""

import os

import pytest

from tcp_proxy.config.failover import target_fault
from tcp_proxy.config.model import Failover, Target
from tcp_proxy.sansio.address import Address


@pytest.fixture
def scripts(tmp_path):
    """Names in a folder, by what is wrong with them."""
    (tmp_path / "folder").mkdir()
    for name, mode in (("good", 0o755), ("plain", 0o644)):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(mode)
    (tmp_path / "link").symlink_to("good")
    (tmp_path / "dangling").symlink_to("nothing")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


def test_all_its_values(app, scripts):
    check, folder = str(scripts / "link"), str(scripts / "folder")
    keys = {
        "check": check, "triggers": [folder, check], "script_timeout": 1, "max_backoff": 0, "while_electing": "refuse",
        "election_wait": 3, "on_demotion": "close", "failback": True, "failback_after": 0, "environment": ["A", "B=c"],
    }  # fmt: skip
    made = app(balance="failover", failover=keys)
    assert made.failover == Failover(check, (folder, check), 1.0, 0.0, "refuse", 3.0, "close", True, 0.0, ("A", "B=c"))
    assert (made.has_primary, made.refuses) == (True, True)


def test_left_out(app):
    made = app(balance="failover")
    assert made.failover == Failover()
    assert (made.has_primary, made.refuses) == (True, False)
    assert not app().has_primary


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("missing", "there is no such file; wanted an executable file"),
        ("dangling", "there is no such file; wanted an executable file"),
        ("folder", "this is a folder; wanted an executable file"),
        ("pipe", "this is not a regular file; wanted an executable file"),
        ("plain", "it is not executable (see: chmod +x); wanted an executable file"),
        ("\0", "a zero character in a path"),
    ],
)
def test_a_check_that_cannot_be_run(app_complaints, scripts, name, fault):
    (found,) = app_complaints({"balance": "failover", "failover": {"check": str(scripts / name)}})
    assert found.startswith("$.apps[0].failover.check: ")
    assert found.endswith(f": {fault}")


@pytest.mark.parametrize("name", ["missing", "pipe", "plain"])
def test_a_trigger_that_cannot_be_run(app_complaints, scripts, name):
    triggers = [str(scripts / "folder"), str(scripts / name)]
    (found,) = app_complaints({"balance": "failover", "failover": {"triggers": triggers}})
    assert found.startswith("$.apps[0].failover.triggers[1]: ")
    assert "wanted an executable file or a folder" in found


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        (
            {"failover": {"max_backoff": 1}},
            '$.apps[0].failover: there is no primary with this "balance"; '
            'wanted "balance": "failover", or no "failover"',
        ),
        (
            {"balance": "failover", "health": [], "failover": {"failback": True}},
            "$.apps[0].failover.failback: without health checks nobody notices that a target has come back",
        ),
        (
            {"balance": "failover", "targets": ["a:1", {"address": "b:1", "weight": 2}]},
            '$.apps[0].targets[1].weight: weight has no meaning with "balance": "failover": '
            "one target gets all sessions, and their order in the list says who comes first",
        ),
        (
            {"balance": "failover", "retries": 0},
            '$.apps[0].retries: retries has no meaning with "balance": "failover": '
            "a client whose connect failed waits until it is clear who is primary",
        ),
        (
            {"balance": "round_robin", "without_quorum": "stop"},
            '$.apps[0].without_quorum: "stop" is for apps with "balance": "failover"',
        ),
        (
            {"balance": "failover", "slow_start": 5},
            '$.apps[0].slow_start: slow_start has no meaning with "balance": "failover": '
            "one target gets all sessions, and none rises beside others",
        ),
        (
            {"balance": "failover", "panic": 50},
            '$.apps[0].panic: panic has no meaning with "balance": "failover": '
            "one target gets all sessions, and without it clients wait for the next",
        ),
        ({"balance": "failover", "mode": "http"}, '$.apps[0].balance: "failover" is for mode "tcp"'),
        (
            {"balance": "failover", "targets": ["a:1", "b"]},
            '$.apps[0].targets[1]: "b" is a group; with "balance": "failover" a target is one server: "host:port"',
        ),
        (
            {"balance": "failover", "targets": ["a:1", {"address": "b:1", "backup": True}]},
            '$.apps[0].targets[1].backup: backup has no meaning with "balance": "failover": '
            "one target gets all sessions, and their order in the list says who comes first",
        ),
    ],
)
def test_what_would_have_no_effect(app_complaints, keys, complaint):
    assert app_complaints(keys) == [complaint]


def test_usual_values_may_be_said(app):
    assert app(balance="failover", retries=3, targets=[{"address": "a:1", "weight": 1, "backup": False}]).has_primary


def test_a_target_that_is_added_later(app):
    one = Target("x", Address("127.0.0.1", 1), weight=2)
    assert "no meaning" in target_fault(app(balance="failover"), one)
    assert target_fault(app(), one) == ""
    assert "group" in target_fault(app(balance="failover"), Target("x", Address("127.0.0.1", 0)))
