"""What the API may order: each order's effect on clients, and its refusals."""

import json
import os
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from kit.api import Api, api_config, path_of
from kit.ports import free_port, free_ports
from kit.proxy import running
from kit.waiting import wait_until
from tcp_proxy.control.answers.orders import Orders
from tcp_proxy.control.replies import Refused

SCRIPT = {"type": "script", "command": "/bin/true"}
ALL = path_of("app", None, "targets")


@pytest.fixture
def one(service):
    return service(greeting=b"one")


@pytest.fixture
def two(service):
    return service(greeting=b"two")


def greetings(program, count=4):
    return {program.connect().read_first() for _ in range(count)}


@pytest.fixture
def program(proxy, one):
    return proxy(targets=[one], top={"api": api_config()})


@pytest.fixture
def api(program):
    return Api.of(program)


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """The API of a program that these tests do not change."""
    app = {"name": "app", "ports": [free_port()], "targets": ["127.0.0.1:1"], "health": []}
    with running({"workers": 1, "api": api_config(), "apps": [app]}, tmp_path_factory.mktemp("orders")) as program:
        yield Api.of(program)


def test_a_target_that_is_the_apps_own_listener_is_refused(program, api):
    reply = api.post(ALL, f"127.0.0.1:{program.port}", status=422)
    assert "leads to the app's own listener" in reply.detail


def test_a_target_that_closes_a_circle_of_apps_is_refused(tmp_path):
    ports = free_ports(2)
    apps = [
        {"name": "a", "ports": [ports[0]], "targets": ["127.0.0.1:1"], "health": []},
        {"name": "b", "ports": [ports[1]], "targets": [f"127.0.0.1:{ports[0]}"], "health": []},
    ]
    with running({"workers": 1, "api": api_config(), "apps": apps}, tmp_path) as program:
        reply = Api.of(program).post("/api/v1/apps/a/targets", f"127.0.0.1:{ports[1]}", status=409)
        assert "apps lead to each other: a -> b -> a" in reply.detail
        assert len(Api.of(program).get("/api/v1/apps/a").json["targets"]) == 1


def test_one_is_added_under_the_name_of_one_that_was_removed(program, api, one, two):
    place = path_of("app", one.address)
    api.ask("DELETE", place, status=204)
    api.post(ALL, {"name": one.address, "address": two.address}, status=201)
    assert [(target["name"], target["address"]) for target in api.get(ALL).json] == [(one.address, two.address)]
    wait_until(lambda: greetings(program) == {b"two"}, "the new one alone")
    reloaded = api.post("/api/v1/reload").json
    assert reloaded["changes"] == []
    assert [one["key"] for one in reloaded["overrides"]] == ["added"]
    assert greetings(program) == {b"two"}
    api.ask("DELETE", place, status=204)
    assert api.get(ALL).json == []


def test_a_weight_means_nothing_where_one_target_gets_all_sessions(proxy, one):
    api = Api.of(proxy(targets=[one], balance="failover", top={"api": api_config()}))
    reply = api.ask("PATCH", path_of("app", one.address), {"weight": 3}, status=409)
    assert reply.detail == 'weight has no meaning in app app: its "balance" is "failover"'
    assert api.ask("PATCH", path_of("app", one.address), {"admin": "drain"}, status=200).json["admin"] == "drain"


def test_a_body_that_does_not_say_that_it_is_json(program, api, one):
    """As curl sends it, unless it is told."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    reply = api.ask("PATCH", path_of("app", one.address), b'{"weight": 3}', headers=form, status=415)
    assert "wanted application/json" in reply.detail


def test_reloads_that_wait_keep_no_other_question_out(program, api):
    """The first one reads a file that does not come; more of them than the supervisor is asked at once."""
    file = next(program.folder.glob("config-*.json"))
    slow, text = program.folder / "slow", file.read_bytes()
    os.mkfifo(slow)
    os.link(slow, program.folder / "fifo")
    os.replace(slow, file)
    with ThreadPoolExecutor(40) as pool:
        asked = [pool.submit(api.post, "/api/v1/reload", seconds=60) for _ in range(40)]
        program.wait_log("reading the configuration again")
        with socket.create_connection(("127.0.0.1", api.where)), open(program.folder / "fifo", "wb") as fifo:
            for _ in range(5):
                assert api.get("/api/v1/status", seconds=5).json["state"] == "serving"
            file.unlink()
            file.write_bytes(text)
            fifo.write(text)
        assert [one.result().json for one in asked] == [{"changes": [], "overrides": []}] * 40


def test_back_to_the_file(program, api, one, two):
    """All of it at once, seen by clients, and kept: after a restart it is forgotten, too."""
    place = path_of("app", one.address)
    api.post(ALL, {"name": "two", "address": two.address, "weight": 2}, status=201)
    api.ask("DELETE", place, status=204)
    wait_until(lambda: greetings(program) == {b"two"}, "the other one alone")
    said = api.get("/api/v1/overrides").json
    assert [(item["target"], item["key"]) for item in said] == [("two", "added"), (one.address, "removed")]
    assert api.get(path_of("app")).json["removed"] == [one.address]
    assert api.ask("DELETE", "/api/v1/overrides?app=app&target=two", status=200).json == {"reset": said[:1]}
    assert api.ask("DELETE", "/api/v1/overrides", status=200).json == {"reset": said[1:]}
    wait_until(lambda: greetings(program) == {b"one"}, "that of the file alone")
    assert api.get("/api/v1/overrides").json == []
    assert api.get(place).json["overrides"] == []


@pytest.mark.parametrize(
    ("query", "status"), [("app=nobody", 404), ("app=app&target=nobody", 404), ("target=x", 409), ("app=app", 200)]
)
def test_what_cannot_be_reset(calm, query, status):
    calm.ask("DELETE", f"/api/v1/overrides?{query}", status=status)


def test_one_plan_is_read_at_a_time():
    """Also when the one who asked for it has given up: a few big ones would take all memory."""

    class Slow:
        def __init__(self):
            self.waiting = []

        def plan(self, done, _text):
            self.waiting.append(done)

    operator = Slow()
    plan = Orders(operator, None, None).operations()["plan"]
    plan({"text": "{}"})
    with pytest.raises(Refused, match="still being read"):
        plan({"text": "{}"})
    operator.waiting.pop()([])
    plan({"text": "{}"})
    assert len(operator.waiting) == 1


def test_a_target_is_added_changed_and_removed(program, api, one, two):
    reply = api.post(ALL, {"address": two.address, "name": "a/b ?ü", "weight": 3}, status=201)
    place = reply.headers["location"]
    assert place == path_of("app", "a/b ?ü")
    assert api.get(place).json == reply.json
    assert (reply.json["weight"], reply.json["admin"]) == (3, "ready")
    wait_until(lambda: greetings(program) == {b"one", b"two"}, "both")
    for admin in ("drain", "disabled"):
        assert api.ask("PATCH", place, {"admin": admin}, status=200).json["admin"] == admin
        wait_until(lambda: greetings(program) == {b"one"}, "only the other one")
    changed = api.ask("PATCH", place, {"admin": "ready", "weight": 200}, status=200).json
    assert (changed["admin"], changed["weight"]) == ("ready", 200)
    assert api.ask("PATCH", place, {"weight": None}, status=200).json == changed
    wait_until(lambda: greetings(program) == {b"two"}, "200 of 201")
    assert api.ask("DELETE", place, status=204).body == b""
    wait_until(lambda: greetings(program) == {b"one"}, "the other one alone")
    assert "no target" in api.get(place, status=404).detail
    assert [event["data"]["what"] for event in api.get("/api/v1/events").json if event["kind"] == "administration"] == [
        "added", "set", "set", "set", "set", "removed",
    ]  # fmt: skip


def test_a_target_may_be_a_string_as_in_the_file(api, two):
    assert api.post(ALL, two.address, status=201).json["name"] == two.address


def test_its_sessions_are_ended(program, api, one):
    client = program.connect().expect(b"one")
    api.ask("DELETE", path_of("app", one.address, "sessions"), status=204)
    client.expect_rst()


def test_probe_now(proxy, servers, one):
    program = proxy(targets=[one], health={"type": "tcp", "interval": 3600}, top={"api": api_config()})
    program.wait_log("is up")
    api = Api.of(program)
    servers.close()
    assert api.post(path_of("app", one.address, "probe"), status=202).json
    program.wait_log("is down", seconds=10)


@pytest.mark.parametrize(
    ("body", "status", "where", "words"),
    [
        (b"", 400, None, "is no JSON"),
        (b"{", 400, None, "is no JSON"),
        (b"[" * 100_000, 400, None, "nested too deeply"),
        (b"9" * 10_000, 400, None, "is no JSON"),
        (b"\xff", 400, None, "is no JSON"),
        (b'{"address": "127.0.0.1:1", "weight": NaN}', 400, None, "NaN is no number"),
        ({}, 422, "$", 'missing key "address"'),
        (None, 422, "$", "found null"),
        ([], 422, "$", "wanted"),
        ("nowhere:", 422, "$", "no port after the colon"),
        ({"address": "127.0.0.1:1", "wieght": 1}, 422, "$.wieght", 'did you mean "weight"'),
        ({"address": "127.0.0.1:1", "weight": 257}, 422, "$.weight", "found 257"),
        ({"address": "127.0.0.1:1", "weight": "1"}, 422, "$.weight", 'found "1"'),
        ({"address": "127.0.0.1:1", "name": "\ud800"}, 422, "$.name", "surrogate"),
        ({"address": "127.0.0.1:1", "name": "n" * 256}, 422, "$.name", "256"),
        ({"address": "127.0.0.1:1", "health": {"type": "htp"}}, 422, "$.health.type", 'did you mean "http"'),
        ({"address": "127.0.0.1:1", "health": SCRIPT}, 422, "$.health", "in the file only"),
        ({"address": "127.0.0.1:1", "health": [{}, SCRIPT]}, 422, "$.health", "in the file only"),
        ("127.0.0.1:1", 409, None, "already"),
        ({"address": "127.0.0.1:1", "name": "127.0.0.1:1"}, 409, None, "already"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_can_be_no_target(calm, body, status, where, words):
    reply = calm.post(ALL, body if isinstance(body, bytes) else json.dumps(body).encode(), status=status)
    assert words in reply.detail
    assert [error["where"] for error in reply.json.get("errors", ())] == ([where] if where else [])
    assert len(calm.get(ALL).json) == 1


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("POST", path_of("nobody", None, "targets"), "127.0.0.1:1", 404, "no app nobody"),
        ("PATCH", path_of("nobody", "x"), {"weight": 1}, 404, "no app nobody"),
        ("PATCH", path_of("app", "x"), {"weight": 1}, 404, "no target x"),
        ("DELETE", path_of("app", "x"), None, 404, "no target x"),
        ("DELETE", path_of("app", "x", "sessions"), None, 404, "no target x"),
        ("POST", path_of("app", "x", "probe"), None, 404, "no target x"),
        ("PATCH", path_of("app", "127.0.0.1:1"), {}, 422, "wanted admin, weight, or both"),
        ("PATCH", path_of("app", "127.0.0.1:1"), {"weight": 257}, 422, "body.weight"),
        ("PATCH", path_of("app", "127.0.0.1:1"), {"weight": "1"}, 422, "body.weight"),
        ("PATCH", path_of("app", "127.0.0.1:1"), {"admin": "up"}, 422, "'ready', 'drain' or 'disabled'"),
        ("PATCH", path_of("app", "127.0.0.1:1"), {"state": "up"}, 422, "body.state"),
        ("PATCH", path_of("app", "127.0.0.1:1"), b"{", 400, "JSON"),
        ("POST", path_of("app", "127.0.0.1:1", "probe"), None, 409, "no health checks"),
        ("GET", "/api/v1/reload", None, 405, "takes POST"),
    ],
)
def test_what_is_refused(calm, method, path, body, status, words):
    headers = {"Content-Type": "application/json"}
    assert words in calm.ask(method, path, body, status=status, headers=headers).detail


# -- reload and plan


def path_of_file(program):
    (path,) = program.folder.glob("config-*.json")
    return path


def rewrite(program, text):
    path_of_file(program).write_text(text if isinstance(text, str) else json.dumps(text))


def other(program, **app):
    return {**program.config, "apps": [{**program.config["apps"][0], **app}]}


def test_reload_applies_the_file(program, api, two):
    assert api.post("/api/v1/reload").json == {"changes": [], "overrides": []}
    rewrite(program, other(program, targets=[two.address], retries=1))
    changes = api.post("/api/v1/reload").json["changes"]
    assert {change["kind"] for change in changes} == {"app_changed", "target_added", "target_removed"}
    assert f"app app: target {two.address} added" in [change["text"] for change in changes]
    assert greetings(program) == {b"two"}


def test_a_reload_with_errors_says_all_of_them_and_changes_nothing(program, api):
    rewrite(program, '{"apps": [],\n "wrokers": 1}')
    reply = api.post("/api/v1/reload", status=422)
    assert reply.detail.startswith("nothing was changed")
    assert len(reply.json["errors"]) == 2
    assert any(":2:2:" in error["what"] and "workers" in error["what"] for error in reply.json["errors"])
    path_of_file(program).unlink()
    assert "no such file" in api.post("/api/v1/reload", status=422).detail
    assert greetings(program) == {b"one"}


def test_a_reload_that_the_machine_refuses(program, api):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        rewrite(program, other(program, ports=[*program.config["apps"][0]["ports"], taken.getsockname()[1]]))
        assert "in use" in api.post("/api/v1/reload", status=409).detail
    assert greetings(program) == {b"one"}


def test_plan_says_what_a_reload_would_do_and_does_nothing(program, api, two):
    wanted = other(program, targets=[two.address], bind="*")
    changes = api.post("/api/v1/plan", wanted).json["changes"]
    (closed,) = [change for change in changes if change["closes"]]
    assert (closed["kind"], closed["subject"]) == ("listener_removed", f"127.0.0.1:{program.port}")
    assert closed["text"].endswith("(closed for a moment)")
    (restart,) = api.post("/api/v1/plan", {**program.config, "pid_file": "x"}).json["changes"]
    assert restart["needs_restart"]
    assert restart["key"] == "pid_file"
    assert greetings(program) == {b"one"}
    rewrite(program, wanted)
    assert api.post("/api/v1/reload").json["changes"] == changes
    assert api.post("/api/v1/plan", wanted).json == {"changes": [], "overrides": []}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "the configuration:1:1"),
        (b"[]", "wanted an object"),
        (b'{"apps":\n {}}', "the configuration:2:2: $.apps: found"),
        (b'{"apps": "\xff"}', "the byte 0xff is not UTF-8"),
        (b"[" * 100_000, "the configuration:1"),
        (b'{"apps": [' + b"1, " * 50_000 + b"1]}", "and 49998 more"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_plan_of_what_is_no_configuration(calm, text, words):
    assert words in calm.post("/api/v1/plan", text, status=422).detail


def test_a_plan_of_much_holds_up_nobody(program, api):
    """As big as a body may be; clients come and go meanwhile, and the workers stay who they are."""
    workers = program.workers()
    ports = ", ".join(str(port) for port in range(1000, 1020))
    app = f'{{"name": "%d", "ports": [{ports}], "targets": ["127.0.0.1:1"]}}, '
    big = '{"apps": [' + "".join(app % n for n in range(3000)) + '{"name": "x", "ports": [1], "targets": ["a:1"]}]}'
    assert "overlap" in api.post("/api/v1/plan", big.encode(), status=422).detail
    assert greetings(program) == {b"one"}
    assert program.workers() == workers


def test_a_target_says_that_it_is_not_well(program, api, one, two):
    api.post(ALL, {"address": two.address}, status=201)
    wait_until(lambda: greetings(program) == {b"one", b"two"}, "both")
    place = path_of("app", one.address)
    told = api.post(f"{place}/unhealthy", {"for": 1.5, "why": "disk full"}, status=200).json
    assert (told["state"], told["why"]) == ("down", "unhealthy by its own report, for 1.5 s: disk full")
    wait_until(lambda: greetings(program) == {b"two"}, "the other one alone")
    wait_until(lambda: greetings(program) == {b"one", b"two"}, "its time is over")
    assert api.get(place).json["state"] == "up"
    api.post(f"{place}/unhealthy", {"for": 1000}, status=200)
    api.post(f"{place}/unhealthy", {"for": 2000, "why": "still"}, status=200)
    wait_until(lambda: greetings(program) == {b"two"}, "the other one alone")
    assert api.get(place).json["why"].endswith("for 2000 s: still")
    assert api.post(f"{place}/unhealthy", {"for": 0}, status=200).json["state"] == "up"
    changes = [event["data"]["state"] for event in api.get(f"{place}/health").json]
    assert changes == ["down", "up", "down", "up"]


@pytest.mark.parametrize(
    "body", [{}, {"for": -1}, {"for": 86401}, {"for": "60"}, {"for": 1, "why": "a\nb"}, {"for": 1, "x": 1}]
)
def test_what_is_no_word_of_being_unwell(calm, body):
    one = calm.get(ALL).json[0]["name"]
    assert calm.post(f"{path_of('app', one)}/unhealthy", body, status=422).detail
    assert calm.post(f"{path_of('app', 'nobody')}/unhealthy", {"for": 1}, status=404).detail


def test_a_target_is_added_with_checks_of_its_own(program, api, service):
    server = service(greeting=b"421 busy\r\n", hang_up=True)
    check = {"type": "exchange", "preset": "smtp", "interval": 60}
    api.post(ALL, {"address": server.address, "health": check}, status=201)
    place = path_of("app", server.address)
    wait_until(lambda: api.get(place).json["state"] == "down", "its verdict")
    assert 'answered "421 busy", wanted 220' in api.get(place).json["why"]
    (history,) = api.get(f"{place}/probes").json
    assert (history["check"]["preset"], len(history["probes"])) == ("smtp", 1)
    assert api.get("/api/v1/config").json["apps"][0]["targets"][1]["health"][0]["preset"] == "smtp"
    assert api.post(f"{place}/probe", status=202)
    wait_until(lambda: len(api.get(f"{place}/probes").json[0]["probes"]) == 2, "one more round")
    assert api.ask("DELETE", place, status=204).body == b"", "and with it goes the thread that checked it"
