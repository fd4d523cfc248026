"""The resources under /api/v1/, of a real program: what they say is what is, and errors say what to do."""

import time
from urllib.parse import quote

import pytest
from pydantic import TypeAdapter

from kit.api import Api, api_config, path_of
from kit.ports import free_port
from kit.proxy import running
from kit.waiting import wait_until
from tcp_proxy import __version__
from tcp_proxy.control.api import schemas

ODD = "a/b %41?ü"


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """One program for all tests here; they do not change it."""
    web = {"name": "web", "ports": [free_port()], "targets": [{"address": "127.0.0.1:1", "name": "one"}], "health": []}
    odd = {
        "name": ODD, "ports": [free_port()], "balance": "random_two", "health": {"type": "tcp", "interval": 60, "fall": 2},
        "targets": ["unix:/nowhere/x.sock", {"address": "[::1]:1", "disabled": True, "weight": 7, "max_connections": 3}],
    }  # fmt: skip
    config = {"workers": 1, "api": api_config(), "apps": [web, odd], "shutdown_grace": 1}
    with running(config, tmp_path_factory.mktemp("api")) as program:
        yield program


@pytest.fixture
def api(program):
    return Api.of(program)


def test_the_index_leads_everywhere(api):
    index = api.get("/api/v1/").json
    assert index["version"] == __version__
    for link in index["links"]:
        if not link["href"].endswith("stream"):
            api.get(link["href"])


def test_status(api, program):
    status = api.get("/api/v1/status").json
    assert status["pid"] == program.pid
    assert status["state"] == "serving"
    assert status["targets"] == {"up": 1, "draining": 0, "down": 2}
    assert (status["apps"], status["workers"]) == (2, 1)
    assert status["first_expiry"] is None
    assert api.get("/api/v1/certificates").json == []


def test_apps_and_one_app(api, program):
    apps = api.get("/api/v1/apps").json
    assert [app["name"] for app in apps] == ["web", ODD]
    assert api.get(path_of(ODD)).json == apps[1]
    assert apps[1]["balance"] == "random_two"
    assert apps[1]["listeners"] == [f"127.0.0.1:{program.config['apps'][1]['ports'][0]}"]
    assert apps[1]["health"][0]["fall"] == 2


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/api/v1/apps", list[schemas.App]),
        (path_of("web"), schemas.App),
        (path_of("web", None, "targets"), list[schemas.Target]),
    ],
)
def test_what_is_passed_on_as_the_supervisor_wrote_it_is_what_the_description_says(api, path, kind):
    described, answer = TypeAdapter(kind), api.get(path)
    assert answer.headers["content-type"] == "application/json"
    assert described.dump_python(described.validate_python(answer.json), mode="json") == answer.json


def test_targets_and_one_target(api):
    socket, host = api.get(path_of(ODD, None, "targets")).json
    assert api.get(path_of(ODD, "unix:/nowhere/x.sock")).json == socket
    assert (socket["state"], socket["endpoints"]) == ("down", ["unix:/nowhere/x.sock"])
    assert "no such file" in socket["why"]
    assert api.get(path_of(ODD, "[::1]:1")).json == host
    assert (host["state"], host["why"]) == ("down", "disabled")
    assert (host["weight"], host["max_connections"], host["admin"]) == (7, 3, "disabled")


def test_the_configuration_as_it_runs_is_one_that_can_be_loaded(api):
    import json

    from tcp_proxy.config.load import load_text

    config = api.get("/api/v1/config").json
    assert load_text(json.dumps(config).encode(), "running").apps[1].name == ODD
    assert config["apps"][0]["timeouts"]["connect"] == 5, "every default is filled in"


def test_workers(api, program):
    (worker,) = api.get("/api/v1/workers").json
    assert (worker["index"], worker["state"]) == (0, "serving")
    assert [worker["pid"]] == program.workers()


def test_limits(api, program):
    limits = api.get("/api/v1/limits").json
    (worker,) = limits["workers"]
    assert [worker["pid"]] == program.workers()
    assert worker["capacity"] > worker["descriptors"] > 3
    assert 3 < limits["descriptors"]["open"] < limits["descriptors"]["limit"]
    assert limits["targets"] == [{"app": ODD, "target": "[::1]:1", "max_connections": 3, "sessions": 0}]


def test_health_history(api):
    (event,) = api.get(path_of(ODD, "unix:/nowhere/x.sock", "health")).json
    assert (event["data"]["state"], event["data"]["was"]) == ("down", "up")
    assert api.get(path_of("web", "one", "health")).json == []


def test_probes(api):
    path = path_of(ODD, "unix:/nowhere/x.sock", "probes")
    wait_until(lambda: api.get(path).json[0]["probes"], "the first round")
    (history,) = api.get(path).json
    assert history["check"]["interval"] == 60
    assert "path" not in history["check"], "a key of another type"
    assert (history["port"], history["verdict"].split(":")[0]) == (None, "down 0/1")
    probed = history["probes"][0]  # while it is down more follow
    assert (probed["success"], "no such file" in probed["text"]) == (False, True)
    assert 0 <= probed["seconds"] < 5
    assert 0 < time.time() - probed["at"] < 600
    assert api.get(path_of("web", "one", "probes")).json == []


def test_events(api):
    events = api.get("/api/v1/events").json
    assert [event["kind"] for event in events].count("target") >= 1
    assert api.get(f"/api/v1/events?after={events[-1]['number']}").json == []


def test_healthz_and_readyz(api):
    assert api.get("/healthz").text == "ok\n"
    assert "1 app without a target" in api.get("/readyz", status=503).text


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/api/v1/apps/nobody", 404, "no app named 'nobody'"),
        ("GET", "/api/v1/apps/web/targets/nobody", 404, "app 'web' has no target named 'nobody'"),
        ("GET", "/api/v1/apps/%ff%00", 404, "no app"),
        ("GET", "/api/v1/nothing", 404, "/spec/v1/"),
        ("GET", "/api/v1/apps/", 404, "nothing at"),
        ("PUT", "/api/v1/apps", 405, "takes GET"),
        ("GET", "/api/v1/events?after=-1", 422, "query.after"),
        ("GET", "/api/v1/events?after=99999999999999999999999", 422, "query.after"),
    ],
)
def test_every_error_is_a_problem_with_a_useful_text(api, method, path, status, words):
    reply = api.ask(method, path, status=status)
    assert words in reply.detail
    if status == 405:
        assert reply.headers["allow"] == "GET"


def test_head_of_what_is_refused_is_an_answer_and_no_line_of_the_log(api, program):
    for path, status in (("/api/v1/nothing", 404), ("/api/v1/events?after=-1", 422), ("/api/v1/apps/nobody", 404)):
        reply = api.ask("HEAD", path, status=status)
        assert (reply.headers["content-type"], reply.body) == ("application/problem+json", b"")
    assert api.ask("HEAD", "/", headers={"Host": "evil"}, status=421).body == b""
    assert not program.count_log("Traceback|internal error|Exception")


def test_names_as_long_as_they_may_be(proxy):
    """Their length is what it is in the file, not what it is in a path."""
    app, target, address = "\U0001f40d" * 100, "\U0001f40c" * 255, f"{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 61}:65535"
    targets = [{"name": target, "address": "127.0.0.1:1"}, address]
    apps = [{"name": app, "ports": [free_port()], "targets": targets, "health": []}]
    api = Api.of(proxy({"api": api_config(), "apps": apps}))
    for name in (target, address):
        assert api.get(path_of(app, name)).json["name"] == name
        assert api.get(f"/api/v1/sessions?target={quote(name)}&app={quote(app)}").json["sessions"] == []
    assert api.get(path_of(app + "x"), status=422).detail == "path.app: String should have at most 100 characters"


def test_head_is_get_without_its_body(api):
    reply = api.ask("HEAD", "/api/v1/apps", status=200)
    assert reply.body == b""
    assert int(reply.headers["content-length"]) == len(api.get("/api/v1/apps").body)
