"""Lists of targets become what runs: what cannot be applied changes nothing, and is said once."""

import json
import os

import pytest

from kit.api import Api, api_config
from kit.ports import free_ports
from kit.supervisor import Rig
from kit.waiting import wait_until
from tcp_proxy.control.changes import discovered
from tcp_proxy.control.changes.reload import Stage


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


@pytest.fixture
def rig(monkeypatch):
    made = Rig(monkeypatch, 2, workers=1)
    yield made
    made.close()


def text_of(rig, weight, path):
    """Its file, with a list of targets."""
    file = json.loads(rig.file(weight))
    file["apps"][0]["targets"].append(f"file:{path}")
    return json.dumps(file).encode()


def targets(rig):
    return {target.name: target.weight for target in rig.supervisor._context.config.apps[0].targets}


def test_a_list_that_changes_while_a_reload_waits_for_names_is_what_runs_then(rig, say, monkeypatch):
    """The reload has read the list as it was before."""
    path, states, reload = say("127.7.7.1:80"), rig.supervisor._context.states, rig.supervisor._reload
    rig.text = text_of(rig, 1, path)
    rig.api.ask("reload")
    rig.turn_until(lambda: rig.api.statuses and "127.7.7.1:80" in targets(rig))
    with monkeypatch.context() as patch:
        patch.setattr(states, "is_answered", lambda _hosts: False)
        rig.text, rig.api.statuses = text_of(rig, 2, path), []
        rig.api.ask("reload")
        rig.turn_until(lambda: reload.stage is Stage.RESOLVING)
        rig.supervisor._watches._discovered._file_read(str(path), '["127.7.7.2:80"]', "")
        rig.turn_until(lambda: "127.7.7.2:80" in targets(rig))
    reload.look()
    rig.turn_until(lambda: rig.api.statuses == [200])
    assert targets(rig) == {"t0": 2, "t1": 2, "127.7.7.2:80": 1}


class NoRoom:
    """In the place of what asks whether there is room for counters; counts how often it was asked."""

    asked = 0

    def __call__(self, _blocks):
        self.asked += 1
        raise OSError("no room")


def listing(rig, path):
    """It runs with a file of targets, whose next contents the test says with `heard`."""
    rig.text = text_of(rig, 1, path)
    rig.api.ask("reload")
    rig.turn_until(lambda: rig.api.statuses == [200] and "127.7.7.1:80" in targets(rig))
    (state,) = rig.supervisor._context.sources.values()
    watches = rig.supervisor._watches._discovered
    return state, watches, lambda text: watches._file_read(str(path), text, "")


def test_a_list_for_which_there_was_no_room_is_applied_when_there_is_some(rig, say, monkeypatch):
    """The list says the same as before, so nobody reports it again; what stood in the way is said once."""
    monkeypatch.setattr(discovered, "AGAIN", 0.0)
    state, _, heard = listing(rig, say("127.7.7.1:80"))
    with monkeypatch.context() as patch:
        patch.setattr(rig.supervisor._context.counter_rows.slots, "require", no_room := NoRoom())
        heard('["127.7.7.2:80"]')
        rig.turn_until(lambda: no_room.asked > 2)
        assert "127.7.7.1:80" in targets(rig)
        assert (state.error, state.failures) == ("cannot be applied: no room", 1)
    rig.turn_until(lambda: "127.7.7.2:80" in targets(rig))
    rig.turn_until(lambda: not state.error)
    assert "127.7.7.1:80" not in targets(rig)


def test_a_list_that_could_not_be_applied_is_forgotten_when_it_says_what_runs(rig, say, monkeypatch):
    state, watches, heard = listing(rig, say("127.7.7.1:80"))
    with monkeypatch.context() as patch:
        patch.setattr(rig.supervisor._context.counter_rows.slots, "require", NoRoom())
        heard('["127.7.7.2:80"]')
        rig.turn_until(lambda: state.error)
    assert watches._refused
    heard('["127.7.7.1:80"]')
    assert not watches._refused
    assert not state.error


def test_a_plan_meanwhile_is_not_what_a_reload_was_told(rig, say, monkeypatch):
    """The list is another one by then: it is what is known, though it is not what runs, and nobody would say it again."""
    path, states, reload = say("127.7.7.1:80"), rig.supervisor._context.states, rig.supervisor._reload
    rig.text = text_of(rig, 1, path)
    with monkeypatch.context() as patch:
        patch.setattr(states, "is_answered", lambda _hosts: False)
        rig.api.ask("reload")
        rig.turn_until(lambda: reload.stage is Stage.RESOLVING)
        say("127.7.7.2:80")
        plans = []
        rig.supervisor.operator.plan(plans.append)
        rig.turn_until(lambda: plans)
    reload.look()
    rig.turn_until(lambda: rig.api.statuses == [200])
    rig.turn_until(lambda: "127.7.7.2:80" in targets(rig))


def test_what_a_source_said_to_a_reload_is_known_though_it_had_failed_before(rig, say):
    path = say("127.7.7.1:80")
    path.write_text("[")
    rig.text = text_of(rig, 1, path)
    rig.api.ask("reload")
    context, watches = rig.supervisor._context, rig.supervisor._watches._discovered
    rig.turn_until(lambda: rig.api.statuses == [200])
    watches._file_read(str(path), "", "a fault")
    assert targets(rig).keys() == {"t0", "t1"}
    say("127.7.7.1:80")
    rig.text, rig.api.statuses = text_of(rig, 2, path), []
    rig.api.ask("reload")
    rig.turn_until(lambda: rig.api.statuses == [200])
    assert context.found.texts == {f"file:{path}": '["127.7.7.1:80"]'}
    assert targets(rig) == {"t0": 2, "t1": 2, "127.7.7.1:80": 1}
    [state] = context.sources.values()
    assert (state.error, state.targets) == ("", 1)


def test_what_never_ran_is_not_what_is_known_when_the_next_cannot_be_applied_either(rig, say, monkeypatch):
    """Two lists come one soon after the other, and neither is applied; then the first of them comes again."""
    _, watches, heard = listing(rig, say("127.7.7.1:80"))
    with monkeypatch.context() as patch:
        patch.setattr(rig.supervisor._context.counter_rows.slots, "require", NoRoom())
        heard('["127.7.7.2:80"]')
        heard('["127.7.7.2:80", "127.7.7.3:80"]')
        rig.turn_until(lambda: watches._refused)
    heard('["127.7.7.2:80"]')
    rig.turn_until(lambda: "127.7.7.2:80" in targets(rig))
