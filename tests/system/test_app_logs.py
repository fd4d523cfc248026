"""Apps with access logs of their own: each record in its file, in its format, whatever is reloaded or rotated meanwhile."""

import json
import os
import pathlib
import re
import signal

import pytest

from kit.dialogue import GET, OK, OK_PASSED, head
from kit.load import Load
from kit.ports import free_port
from kit.waiting import wait_until
from system.test_reload import Config, messages

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "operations.md"


def one_session(program, port):
    program.connect(port).send(b"x").expect(b"x").fin().expect_fin()


def app(name, target, **more):
    return {"name": name, "ports": [free_port()], "health": [], "targets": [target.address], **more}


@pytest.fixture
def several(proxy, service):
    """several(one={...}, two={...}): a program with these apps, before one echo server, and the ports by name."""

    def start(top=(), **apps):
        echo = service()
        config = {"apps": [app(name, echo, **more) for name, more in apps.items()]}
        program = proxy(config, top=top)
        program.uncounted = None
        program.baseline.clear()  # files come and go
        program.records_now = list  # some are text
        return program, {one["name"]: one["ports"][0] for one in config["apps"]}

    return start


def lines(program, name):
    path = program.folder / name
    return path.read_text().splitlines() if path.exists() else []


def wait_lines(program, name, count):
    return wait_until(lambda: len(found := lines(program, name)) >= count and found, f"{count} lines in {name}")


def apps_of(program, name):
    return [json.loads(line)["app"] for line in lines(program, name)]


def test_each_has_its_file_and_its_format_and_one_has_none(several):
    own = {"access_log": "own.log", "access_log_format": "text"}
    program, ports = several(usual={}, own=own, quiet={"access_log": "off"}, text={"access_log_format": "text"})
    for name in ("quiet", "own", "text", "usual"):
        one_session(program, ports[name])
    assert program.stop() == 0
    (line,) = lines(program, "own.log")
    assert re.search(r" app=own .* reason=done ", line)
    as_text, as_json = sorted(lines(program, "access.log"))
    assert " app=text " in as_text
    assert json.loads(as_json)["app"] == "usual"


def test_apps_may_have_one_file_together_and_none_of_all(several):
    program, ports = several(
        {"access_log": None, "workers": 2}, one={"access_log": "b.log"}, two={"access_log": "b.log"}, three={}
    )
    for name in ("one", "two", "three", "one"):
        one_session(program, ports[name])
    assert program.stop() == 0
    assert sorted(apps_of(program, "b.log")) == ["one", "one", "two"]
    assert [path.name for path in program.folder.glob("*.log")] == ["b.log"]


def test_requests_of_mode_http_too(http, target):
    server = target()
    program = http(server, access_log="web.log", access_log_format="text", top={"access_log": "access.log"})
    client = program.connect().send(GET)
    upstream = server.accept()
    head(upstream)
    upstream.send(OK)
    client.expect(OK_PASSED)
    wait_lines(program, "web.log", 1)
    (line,) = lines(program, "web.log")
    assert '"GET /x HTTP/1.1" 200 ' in line
    assert lines(program, "access.log") == []


def test_a_reload_moves_one_and_keeps_the_others(several):
    program, ports = several({"workers": 2}, one={"access_log": "one.log"}, two={})
    file = Config(program)
    for name in ports:
        one_session(program, ports[name])
    wait_lines(program, "one.log", 1)
    file.app["access_log"] = "moved.log"
    said = messages(file.reload())
    assert 'SIGHUP: app one: access_log: "one.log" -> "moved.log"' in said
    one_session(program, ports["one"])
    wait_lines(program, "moved.log", 1)
    wait_until(lambda: "one.log" not in open_files(program), "the old file is let go")
    file.app["access_log"] = None
    file.config["apps"][1]["access_log"] = "off"
    file.reload()
    for name in ports:
        one_session(program, ports[name])
    wait_lines(program, "access.log", 2)
    assert program.stop() == 0
    assert (apps_of(program, "one.log"), apps_of(program, "moved.log")) == (["one"], ["one"])
    assert apps_of(program, "access.log") == ["two", "one"]


def open_files(program):
    folder = f"/proc/{program.pid}/fd"
    return {os.path.basename(os.readlink(f"{folder}/{fd}")) for fd in os.listdir(folder)}


def test_one_that_cannot_be_opened_is_an_error_at_start_and_in_a_reload(several, proxy, service):
    program, _ = several(one={})
    file = Config(program)
    file.app["access_log"] = "/nowhere/x.log"
    said = messages(file.reload())
    assert "SIGHUP: access_log /nowhere/x.log: No such file or directory" in said
    assert said[-1] == "SIGHUP: nothing was changed"
    failing = proxy({"apps": [app("x", service(), access_log="/nowhere/x.log")]}, ready=False)
    assert failing.wait() == 1
    assert "cannot start: access_log /nowhere/x.log: No such file or directory" in failing.log


@pytest.mark.slow
def test_rotation_and_reloads_under_load_lose_no_record_and_tear_no_line(several):
    """As logrotate does it, while the app's file is another one after each reload: every session has one line."""
    program, ports = several({"workers": 2}, one={"access_log": "one.log"}, two={"access_log": "two.log"})
    file = Config(program)
    names = {"one.log", "two.log"}
    with Load(ports["one"], clients=3) as first, Load(ports["two"], clients=3) as second:
        for number in range(10):
            first.wait_sessions(20)
            file.app["access_log"] = f"one-{number}.log" if number % 3 else "two.log"
            names.add(file.app["access_log"])
            second.wait_sessions(20)
            os.rename(program.folder / "two.log", program.folder / f"two.{number}")
            names.add(f"two.{number}")
            program.signal(signal.SIGUSR2)
            assert "done" in messages(file.reload())[-1]
            wait_until((program.folder / "two.log").exists, "the new file")
    assert first.failures + second.failures == []
    assert program.stop() == 0
    records = [json.loads(line) for name in names for line in lines(program, name)]
    assert len({record["id"] for record in records}) == len(records) == first.done + second.done


def test_the_example_of_the_page(proxy, service):
    text = re.search(r"^```json\n(.*?\"access_log_format\".*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)[1]
    config = json.loads(text)
    echo = service()
    for one in config["apps"]:
        one.update(ports=[free_port()], targets=[echo.address])
    program = proxy(config, top={"access_log": "access.log"})
    program.uncounted = None
    for one in config["apps"]:
        one_session(program, one["ports"][0])
    assert program.stop() == 0
    assert [(json.loads(line)["app"]) for line in lines(program, "shop.log")] == ["shop"]
    assert len(lines(program, "access.log")) == 1
