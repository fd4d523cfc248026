"""Targets that the DNS, or a file, lists: they come and go while the program serves, and nobody loses a session."""

import json
import os
import pathlib
import re

import pytest

from kit.api import Api, api_config
from kit.dns_server import DnsServer
from kit.load import Load
from kit.waiting import wait_until
from system.test_reload import Config, messages

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "discovery.md"
NAME = "_db._tcp.example."


class List:
    """A file of targets that is replaced as a whole."""

    def __init__(self, folder):
        self.path = folder / "targets.json"

    def say(self, *targets, text=None):
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps([getattr(one, "address", one) for one in targets]) if text is None else text)
        os.replace(new, self.path)
        return self


@pytest.fixture
def listed(tmp_path):
    return List(tmp_path)


def served(program):
    """Who greets."""
    return program.connect().fin().read_to_end()


def names(api):
    return {target["name"] for target in api.get("/api/v1/apps/app/targets").json}


def wait_names(api, *services):
    wanted = {service.address for service in services}
    wait_until(lambda: names(api) == wanted, lambda: f"{wanted}, not {names(api)}")


def test_a_file_is_there_at_the_start_and_changes(proxy, service, listed):
    one, two = service(greeting=b"one"), service(greeting=b"two")
    listed.say(one)
    program = proxy(targets=[f"file:{listed.path}"], top={"api": api_config(), "workers": 2})
    api = Api.of(program)
    assert served(program) == b"one"
    held = program.connect().expect(b"one")
    listed.say(two)
    wait_names(api, two)
    assert served(program) == b"two"
    held.send(b"x").expect(b"x").fin().expect_fin()
    (state,) = api.get("/api/v1/discoveries").json
    assert state == {
        "source": f"file:{listed.path}", "apps": ["app"], "targets": 1, "changes": 2, "failures": 0, "error": "",
        "is_answered": True,
    }  # fmt: skip
    found = [event["data"] for event in api.get("/api/v1/events").json if event["kind"] == "discovery"]
    assert found[-1]["added"] == [two.address]
    assert found[-1]["removed"] == [one.address]
    metrics = api.get("/metrics").text
    assert f'tcp_proxy_discovery_targets{{source="file:{listed.path}"}} 1.0' in metrics
    assert f'tcp_proxy_discovery_changes_total{{source="file:{listed.path}"}} 2.0' in metrics


def test_wrong_content_is_named_and_the_last_good_one_stays(proxy, service, listed):
    one, two = service(greeting=b"one"), service(greeting=b"two")
    listed.say(one)
    program = proxy(targets=[f"file:{listed.path}"], top={"api": api_config()})
    listed.say(text='["127.0.0.1:1",\n {"address": "127.0.0.1:2", "weigth": 1}]')
    line = program.wait_log("what was known before stays")
    assert "targets.json:2:" in line
    assert "did you mean" in line
    assert served(program) == b"one"
    assert 'tcp_proxy_discovery_failing{source="file:' in Api.of(program).get("/metrics").text
    file = Config(program)
    file.app["retries"] = 1
    assert messages(file.reload())[-1] == "SIGHUP: done, 1 change"
    assert served(program) == b"one"
    listed.say(two)
    program.wait_log("added " + re.escape(two.address))
    assert served(program) == b"two"


def test_an_operator_s_word_outlives_the_absence_of_its_target(proxy, service, listed):
    one, two = service(greeting=b"one"), service(greeting=b"two")
    listed.say(one, two)
    program = proxy(targets=[f"file:{listed.path}"], top={"api": api_config()})
    api = Api.of(program)
    wait_names(api, one, two)
    api.ask("PATCH", f"/api/v1/apps/app/targets/{one.address}", {"admin": "drain"}, status=200)
    listed.say(two)
    wait_names(api, two)
    file = Config(program)
    file.app["retries"] = 1
    file.reload()
    listed.say(one, two)
    wait_names(api, one, two)
    assert {served(program) for _ in range(4)} == {b"two"}


@pytest.mark.slow
def test_a_change_costs_nobody_a_session(proxy, service, listed):
    services = [service(greeting=b"%d" % number) for number in range(4)]
    listed.say(*services)
    program = proxy(targets=[f"file:{listed.path}"], top={"api": api_config(), "workers": 2})
    program.uncounted = None
    api = Api.of(program)
    wait_names(api, *services)
    with Load(program.port, clients=4) as load:
        for number in range(6):
            some = services[number % 3 : number % 3 + 2]
            listed.say(*some)
            wait_names(api, *some)
            load.wait_sessions(30)
    assert load.failures == []


def test_records_of_a_real_dns_server(proxy, service, tmp_path):
    one, two, three = (service(greeting=name) for name in (b"one", b"two", b"three"))
    with DnsServer(tmp_path) as dns:
        dns.serve(NAME, [f"10 5 {one.port} localhost.", f"20 5 {two.port} localhost."])
        program = proxy(
            targets=[{"address": f"srv:{NAME}", "max_connections": 50}],
            top={"api": api_config(), "nameservers": [dns.address]},
        )
        api = Api.of(program)
        assert served(program) == b"one"
        found = {target["name"]: target for target in api.get("/api/v1/apps/app/targets").json}
        assert set(found) == {f"localhost:{one.port}", f"localhost:{two.port}"}
        assert [found[f"localhost:{one.port}"]["priority"], found[f"localhost:{two.port}"]["priority"]] == [0, 1]
        assert {target["max_connections"] for target in found.values()} == {50}
        dns.serve(NAME, [f"10 5 {three.port} localhost."])
        wait_until(lambda: names(api) == {f"localhost:{three.port}"}, "the other records")
        assert served(program) == b"three"
        dns.stop()
        program.wait_log(r"srv:.*: the DNS says: .*; what was known before stays")
        assert served(program) == b"three"
        program.baseline.clear()  # it may just be asking again


def test_a_reload_adds_and_removes_a_source(proxy, service, listed):
    one, two = service(greeting=b"one"), service(greeting=b"two")
    listed.say(two)
    program = proxy(targets=[one], top={"api": api_config()})
    api, file = Api.of(program), Config(program)
    file.app["targets"] = [one.address, f"file:{listed.path}"]
    file.reload()
    wait_names(api, one, two)
    assert api.get("/api/v1/config").json["apps"][0]["targets"][0] == f"file:{listed.path}"
    file.app["targets"] = [one.address]
    file.reload()
    wait_names(api, one)
    assert api.get("/api/v1/discoveries").json == []


def test_an_app_that_a_reload_gives_a_list_has_its_targets_at_once(proxy, service, listed):
    one, two = service(greeting=b"one"), service(greeting=b"two")
    listed.say(two)
    program = proxy(targets=[one], top={"api": api_config()})
    api, file = Api.of(program), Config(program)
    file.app["targets"] = [f"file:{listed.path}"]
    assert f"SIGHUP: app app: target {two.address} added" in messages(file.reload())
    assert served(program) == b"two"
    (state,) = api.get("/api/v1/discoveries").json
    assert (state["targets"], state["changes"], state["is_answered"], state["error"]) == (1, 1, True, "")
    listed.say(one)
    wait_names(api, one)
    (state,) = api.get("/api/v1/discoveries").json
    assert state["changes"] == 2
    file.app["targets"] = [one.address]
    file.reload()
    wait_names(api, one)


def test_the_examples_of_the_page(proxy, service, listed):
    one = service(greeting=b"one")
    text = re.search(r"^```text\n(\[.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)[1]
    entries = json.loads(text)
    assert len(entries) > 1
    entries[0] = one.address
    listed.say(*entries)
    program = proxy(targets=[f"file:{listed.path}"], top={"api": api_config()})
    wait_until(lambda: len(names(Api.of(program))) == len(entries), "all of them")
