"""The access log at a syslog server, from a program that serves."""

import json
import pathlib
import re
import socket

import pytest
from runtime.test_syslog import frames
from sansio.test_syslog import RFC_5424

from kit.ports import free_port
from kit.waiting import wait_until
from system.test_reload import Config, messages

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "syslog.md"


@pytest.fixture
def server():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(10)
        yield sock


def visit(program):
    client = program.connect()
    client.receive(1)
    client.close()


def lines(server, count):
    return [RFC_5424.fullmatch(server.recv(65536)).group(6) for _ in range(count)]


def test_records_arrive_and_a_reload_turns_to_a_file_and_back(proxy, service, server):
    where = f"syslog+udp://127.0.0.1:{server.getsockname()[1]}"
    program = proxy(targets=[service(hang_up=True, greeting=b"x")], top={"access_log": where})
    program.uncounted = None
    visit(program)
    (record,) = map(json.loads, lines(server, 1))
    assert (record["app"], record["bytes_down"]) == ("app", 1)
    file = Config(program)
    file.config["access_log"] = "access.log"
    assert "done" in messages(file.reload())[-1]
    visit(program)
    written = program.folder / "access.log"
    wait_until(lambda: written.read_text().count("\n") == 1, "a record in the file")
    file.config["access_log"] = where
    file.config["log"] = {"format": "text"}
    file.reload()
    visit(program)
    (line,) = lines(server, 1)
    assert b" app=app " in line
    assert written.read_text().count("\n") == 1
    assert program.stop() == 0


def test_a_server_that_is_not_there_keeps_nobody_from_starting_and_is_found_later(proxy, service):
    port = free_port()
    program = proxy(
        targets=[service(hang_up=True, greeting=b"x")], top={"access_log": f"syslog+tcp://127.0.0.1:{port}"}
    )
    program.uncounted = None
    visit(program)
    program.wait_log("access log syslog.*: Connection refused; lines are lost until it can be written")
    with socket.create_server(("127.0.0.1", port)) as server:
        server.settimeout(0.3)
        for _ in range(60):  # a line is what has it tried again
            visit(program)
            try:
                connection, _ = server.accept()
                break
            except TimeoutError:
                continue
        with connection:
            connection.settimeout(10)
            assert re.match(rb"\d+ <134>1 ", connection.recv(65536))
    program.wait_log("writing again; [0-9]+ lines? w(as|ere) lost")
    assert program.stop() == 0


@pytest.mark.parametrize(
    ("text", "said"), [("syslog+udp://127.0.0.1", "no port"), ("syslog+udp://127.0.0.1:1?x=y", "facility")]
)
def test_what_is_no_server_is_an_error(proxy, service, text, said):
    program = proxy(targets=[service()], top={"access_log": text}, ready=False)
    assert program.wait() == 2
    assert f'$.access_log: found "{text}": ' in program.log
    assert said in program.log


def test_the_program_s_own_log_goes_there_and_a_reload_brings_it_back(proxy, service, server):
    where = f"syslog+udp://127.0.0.1:{server.getsockname()[1]}?tag=edge"
    program = proxy(targets=[service(hang_up=True, greeting=b"x")], top={"log": {"to": where}}, ready=False)
    program.uncounted = None
    severity, text = "", b""
    while b"ready:" not in text:
        message = server.recv(65536)
        severity, text = message[:5], RFC_5424.fullmatch(message).group(6)
    assert (severity, text[:6]) == (b"<134>", b"ready:")
    assert program.lines == []
    program.config["log"] = {"to": "stderr", "format": "json"}
    Config(program).reload()
    assert "SIGHUP: done, 2 changes" in messages(program.lines)
    text = b""
    while text != b"SIGHUP: reading the configuration again":
        text = RFC_5424.fullmatch(server.recv(65536)).group(6)
    visit(program)
    assert program.stop() == 0


def test_the_log_of_a_server_that_is_away_waits_and_holds_nobody_up(proxy, service):
    """The stream is away for the start: what was said meanwhile comes later, and standard error says both."""
    port = free_port()
    log = {"to": f"syslog+tcp://127.0.0.1:{port}", "format": "json"}
    program = proxy(targets=[service(hang_up=True, greeting=b"x")], top={"log": log}, ready=False)
    program.uncounted = None
    program.wait_log(r"log\.to syslog.*: Connection refused; lines wait until it takes them")
    visit(program)
    with socket.create_server(("127.0.0.1", port)) as other, other.accept()[0] as connection:
        program.wait_log("it takes lines again")
        connection.settimeout(10)
        found = b""
        while b"ready:" not in found:
            found += connection.recv(65536)
        assert program.stop() == 0
    assert frames(found)


def test_what_is_no_server_is_an_error_of_the_log_too(proxy, service):
    program = proxy(targets=[service()], top={"log": {"to": "syslog"}}, ready=False)
    assert program.wait() == 2
    assert '$.log.to: found "syslog": wanted "syslog+udp://ADDRESS:PORT"' in program.log


def test_the_example_of_the_page(proxy, service, server):
    text = re.search(r"^```json\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)[1]
    wanted = json.loads(text)["access_log"]
    ours = wanted.replace("127.0.0.1:514", f"127.0.0.1:{server.getsockname()[1]}")
    program = proxy(targets=[service(hang_up=True, greeting=b"x")], top={"access_log": ours, "log": {"format": "text"}})
    program.uncounted = None
    visit(program)
    message = server.recv(65536)
    assert re.match(rb"<158>1 \S+ \S+ edge \d+ - - \S+Z id=\S+ app=app ", message)
    assert program.stop() == 0
