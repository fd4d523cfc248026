"""checks and unhealthy: what a person sees of a target's health, and a target's own report."""

from kit.api import api_config
from kit.ctl import Ctl
from kit.waiting import wait_until


def test_the_last_results(proxy, service):
    server = service(greeting=b"220 x\r\n", hang_up=True)
    checks = [{"interval": 60}, {"type": "exchange", "preset": "smtp", "interval": 60, "interval_down": 60}]
    targets = [{"address": server.address, "name": "one"}, {"address": server.address, "name": "two", "health": []}]
    ctl = Ctl.of(proxy(targets=targets, health=checks, top={"api": api_config()}))
    wait_until(lambda: all(one["probes"] for one in ctl.json("checks", "app", "one")), "the first round")
    tcp, first, smtp, second = ctl("checks", "app", "one").text.splitlines()
    assert tcp == "tcp every 60 s: up 1/1"
    assert first.split("  ")[-1] == f"tcp {server.address}: accepted"
    assert " success " in first
    assert smtp.startswith("smtp every 60 s: down 0/1: smtp ")
    assert " failure " in second
    assert "ended the connection" in second
    assert ctl("checks", "app", "two").text == "app app: target two is not checked\n"
    assert "no target" in ctl("checks", "app", "three", status=1).errors


def test_its_own_word(program, ctl):
    said = ctl("unhealthy", "app", "one", "60", "--why", "disk full").text
    assert said == "app app: target one is down (unhealthy by its own report, for 60 s: disk full)\n"
    assert "disk full" in ctl("status").text
    assert ctl.json("unhealthy", "app", "one", "0")["state"] == "up"
    assert "for" in ctl("unhealthy", "app", "one", "-1", status=1).errors
