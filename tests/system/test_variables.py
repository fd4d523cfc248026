"""Variables and secrets in files, as a program that serves has them."""

import json
import pathlib
import re

from kit.api import Api, api_config
from kit.ports import free_port
from system.test_reload import Config, messages

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "variables.md"


def test_a_program_has_what_its_environment_says(proxy, service, monkeypatch):
    one, port = service(greeting=b"one"), free_port()
    monkeypatch.setenv("TEST_PORT", str(port))
    monkeypatch.setenv("TEST_TARGET", one.address)
    app = {"name": "a-${TEST_NONE:-x}", "ports": ["${TEST_PORT}"], "targets": ["${TEST_TARGET}"], "health": []}
    program = proxy({"apps": [app]}, top={"api": api_config()})
    program.connect(port).send(b"?").expect(b"one?")
    (shown,) = Api.of(program).get("/api/v1/config").json["apps"]
    assert (shown["name"], shown["ports"]) == ("a-x", [port])
    file = Config(program)
    file.app["targets"] = ["${TEST_TARGET}", "${TEST_NONE}:1"]
    lines = "\n".join(messages(file.reload()))
    assert re.search(r"config-\w+\.json:\d+:\d+: \$\.apps\[0\]\.targets\[1\]: the environment has no TEST_NONE", lines)
    assert "nothing was changed" in lines


def test_a_secret_of_a_check_is_sent_and_not_shown_and_read_again(proxy, target, tmp_path):
    server, login = target(), tmp_path / "login"
    login.write_text("Bearer old-secret\n")
    check = {"type": "http", "interval": 30, "headers": {"Authorization": f"@{login}"}}
    program = proxy(targets=[server], health=check, top={"api": api_config()}, ready=False)

    def login_sent():
        peer = server.accept()
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            request += peer.read_first()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").close()
        return re.search(rb"Authorization: ([^\r]+)", request)[1]

    assert login_sent() == b"Bearer old-secret"
    program.wait_ready()
    login.write_text("Bearer new-secret\n")
    lines = "\n".join(messages(Config(program).reload()))
    assert login_sent() == b"Bearer new-secret"
    assert "secret" not in lines
    assert "secret" not in json.dumps(Api.of(program).get("/api/v1/config").json)


def test_what_comes_over_the_api_is_not_expanded(proxy, service, monkeypatch):
    monkeypatch.setenv("TEST_SECRET", "192.0.2.77")
    program = proxy(targets=[service()], top={"api": api_config()})
    answer = Api.of(program).post("/api/v1/apps/app/targets", {"address": "${TEST_SECRET}:80"}, status=422)
    assert "192.0.2.77" not in answer.text


def test_the_example_of_the_page_becomes_what_its_table_says(tmp_path, monkeypatch):
    from tcp_proxy.config.load import load_file

    page = PAGE.read_text()
    text = re.search(r"^```json\n(.*?)^```", page, re.DOTALL | re.MULTILINE)[1]
    (tmp_path / "health-login.txt").write_text("Bearer x\n")
    (tmp_path / "config.json").write_text(text.replace("/etc/tcp_proxy", str(tmp_path)))
    rows = re.findall(r"^\| (?:`([A-Z][^`]*=[^`]*)`|nothing) \| (.*) \|$", page, re.MULTILINE)
    assert len(rows) == 3
    for words, wanted in rows:
        with monkeypatch.context() as patch:
            for word in words.split():
                patch.setenv(*word.split("=", 1))
            config = load_file(str(tmp_path / "config.json"))
        (app,) = config.apps
        if "workers" in wanted:
            assert config.workers == 2
            continue
        named = re.findall(r"`([^`]+)`", wanted)
        assert [app.name, *(str(target.address) for target in app.targets)] == named
        assert f"port {app.listeners[0].port}," in wanted
        assert app.health[0].headers == (("Authorization", "Bearer x"),)
