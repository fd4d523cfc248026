"""Lists of targets become what runs: what cannot be applied changes nothing, and is said once."""

import json
import os

import pytest

from kit.api import Api, api_config
from kit.ports import free_ports
from kit.waiting import wait_until


@pytest.fixture
def say(tmp_path):
    """say(target, …): the file of targets is another one."""
    path = tmp_path / "targets.json"

    def write(*targets):
        new = path.with_suffix(".new")
        new.write_text(json.dumps(list(targets)))
        os.replace(new, path)
        return path

    return write


def test_what_contradicts_the_rest_is_not_applied_and_the_next_one_is(proxy, service, say):
    """A loop over two apps, which the list alone does not show."""
    echo, (here, there) = service(), free_ports(2)
    first = {"name": "first", "ports": [here], "targets": [f"file:{say(echo.address)}"], "health": []}
    second = {"name": "second", "ports": [there], "targets": [f"127.0.0.1:{here}"], "health": []}
    program = proxy({"apps": [first, second]}, top={"api": api_config()})
    program.uncounted = None
    api = Api.of(program)
    say(f"127.0.0.1:{there}")
    line = program.wait_log("cannot be applied: .*; what was known before stays")
    assert "lead" in line
    (state,) = api.get("/api/v1/discoveries").json
    assert (state["failures"], state["changes"]) == (1, 1)
    program.connect(here).send(b"x").expect(b"x").fin().expect_fin()
    say(echo.address, "127.0.0.1:1")
    wait_until(lambda: len(api.get("/api/v1/apps/first/targets").json) == 2, "the next list")
    (state,) = api.get("/api/v1/discoveries").json
    assert (state["error"], state["targets"]) == ("", 2)


def test_two_apps_may_have_one_list(proxy, service, say):
    echo = service()
    path = say(echo.address)
    apps = [
        {"name": name, "ports": [port], "targets": [f"file:{path}"], "health": []}
        for name, port in zip(("one", "two"), free_ports(2), strict=True)
    ]
    program = proxy({"apps": apps}, top={"api": api_config()})
    for app in apps:
        program.connect(app["ports"][0]).send(b"x").expect(b"x").fin().expect_fin()
    (state,) = Api.of(program).get("/api/v1/discoveries").json
    assert state["apps"] == ["one", "two"]
