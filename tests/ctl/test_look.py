"""status, sessions, why, events: what they say is what is."""

import json
import re

from kit.api import api_config
from kit.ctl import Ctl, interrupt
from kit.ports import free_port
from kit.waiting import wait_until


def test_status_is_a_table_a_person_can_read(program, ctl):
    clients = [program.connect().send(b"abc").expect(b"abc") for _ in range(4)]
    wait_until(lambda: ctl.json("status")["statistics"]["sessions"]["peak"] == 4, "they are counted")
    lines = ctl("status").text.splitlines()
    assert f"process {program.pid}: serving" in lines[0]
    assert lines[1].count("serving") == 2
    assert lines[2] == f"sessions: {len(clients)} now, {len(clients)} at most, {len(clients)} in all"
    assert lines[4] == f"app app: round_robin on 127.0.0.1:{program.port}, 4 sessions now"
    head, one, two = (line.split() for line in lines[5:])
    assert head[:4] == ["target", "state", "weight", "now"]
    assert [one[0], two[0]] == ["one", "two"]
    assert int(one[3]) + int(two[3]) == 4
    assert lines[6][lines[5].index("why") :] == "not checked"


def test_status_as_json_has_all_of_it(still):
    ctl = Ctl.of(still)
    found = ctl.json("status")
    assert found["status"]["pid"] == still.pid
    assert [app["name"] for app in found["apps"]] == list(found["statistics"]["apps"]) == ["app"]
    assert ctl.json("status", "app")["apps"] == found["apps"]


def test_sessions_with_filters_and_limits(program, ctl):
    clients = [program.connect().send(b"abc").expect(b"abc") for _ in range(5)]
    found = ctl.json("sessions")
    assert {session["client"] for session in found} == {client.address for client in clients}
    assert len(ctl.json("sessions", "--limit", "0")) == 5
    (mine,) = ctl.json("sessions", "--client", clients[2].address)
    assert ctl("sessions", "--app", "nobody", status=1).errors == 'tcp-proxy-ctl: there is no app named \'nobody\'\n'
    assert ctl("sessions", "--target", "nobody").text == "no sessions\n"
    done = ctl("sessions", "--limit", "2")
    assert len(done.text.splitlines()) == 3
    assert "--limit 0" in done.errors
    text = ctl("sessions", "--client", mine["client"]).text
    assert text.splitlines()[1].split()[:3] == [mine["id"], "app", mine["client"]]


def test_all_pages_are_asked_for(program, ctl):
    from tcp_proxy.ctl import look
    from tcp_proxy.ctl.client import Client

    clients = [program.connect().send(b"a").expect(b"a") for _ in range(5)]
    arguments = {"app": "", "target": "", "client": "", "listener": "", "limit": 0}
    page, look.PAGE = look.PAGE, 2
    try:
        found = look.sessions(Client(program.config["api"]["listen"]), type("Args", (), arguments))
    finally:
        look.PAGE = page
    assert {session["client"] for session in found.value} == {client.address for client in clients}
    assert found.notes == []


def test_why_tells_the_story_of_a_session_that_has_ended(program, ctl):
    client = program.connect().send(b"abc").expect(b"abc")
    (session,) = ctl.json("sessions")
    assert ctl("why", session["id"]).text.endswith("It goes on.\n")
    client.close()
    program.records(1)
    story = ctl("why", session["id"]).text
    assert client.address in story
    assert story.splitlines()[-1].startswith("(reason: ")
    assert ctl.json("why", session["id"])["session"]["bytes_up"] == 3


def test_why_of_a_session_that_nobody_knows_is_refused(still):
    ctl = Ctl.of(still)
    assert "is not known" in ctl("why", "1a.1-99", status=1).errors
    assert "Request nonsense is not known" in ctl("why", "nonsense", status=1).errors
    assert "Request 1a.1-99-3 is not known" in ctl("why", "1a.1-99-3", status=1).errors


def test_events_and_those_that_follow(program, ctl):
    found = ctl.json("events")
    assert [event["kind"] for event in found].count("worker") == 2
    assert ctl.json("events", "--after", str(found[-1]["number"])) == []
    assert len(ctl("events").text.splitlines()) == len(found)
    with Ctl.of(program).start("events", "-f", "--after", "0", "--json") as process:
        seen = [json.loads(process.stdout.readline()) for _ in found]
        assert seen == found
        ctl("reload")
        assert json.loads(process.stdout.readline())["kind"] == "reload"
        assert interrupt(process).status == 0


def logged(program):
    return list(map(json.loads, program.access_log.read_text().splitlines()))


def test_why_of_a_request_by_the_access_log_s_id_and_by_x_request_id(proxy, target):
    dead, server = free_port(), target()
    targets = [f"127.0.0.1:{dead}", server.address]
    program = proxy(mode="http", targets=targets, top={"api": api_config()})
    program.uncounted = None
    ctl, client = Ctl.of(program), program.connect()
    ids, upstream = [], None
    for path, more in ((b"/one", b""), (b"/two", b"X-Request-ID: trace-1\r\n")):
        client.send(b"GET %b HTTP/1.1\r\nHost: x\r\n%b\r\n" % (path, more))
        upstream = upstream or server.accept()
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += upstream.receive_line()
        ids.append(re.search(rb"X-Request-ID: (\S+)", head, re.IGNORECASE)[1].decode())
        assert "It goes on." in ctl("why", ids[-1]).text
        upstream.send(b"HTTP/1.1 201 Made\r\nContent-Length: 2\r\n\r\nok")
        while client.receive_line() != b"\r\n":
            pass
        client.expect(b"ok")
    assert ids[1] == "trace-1"
    wait_until(lambda: len(logged(program)) == 2, "both are in the access log")
    made, given = (one["id"] for one in logged(program))
    assert made == ids[0]
    for known, path in ((made, "/one"), (given, "/two"), ("trace-1", "/two")):
        text = ctl("why", known).text
        assert f": GET {path} HTTP/1.1\n" in text
        assert f"Target {server.address} answered with the status 201 after " in text
        assert text.endswith("(reason: done)\n")
    (one,) = ctl.json("why", "trace-1")["requests"]
    assert (one["id"], one["own_id"], one["method"], one["path"], one["status"]) == (given, "trace-1", "GET", "/two", 201)
    first = ctl.json("why", made)["requests"][0]
    assert first["tried"] in ([], [{"target": targets[0], "error": "ECONNREFUSED"}])
    assert "X-Request-ID" in ctl("why", "trace-1").text
