"""Who may connect, with clients of other addresses: reset at once, counted, recorded; another list for new sessions."""

import json
import os
import pathlib
import re
import signal
import socket
import ssl

from kit.api import Api, api_config
from kit.certificates import Authority
from kit.dialogue import GET, OK, OK_PASSED, head
from system.test_reload import Config, messages
from tests.kit.proxy_headers import VECTORS

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "access.md"
DENIED = {"deny": ["127.0.0.64/26"]}
FRIEND, FOE = "127.0.0.2", "127.0.0.66"


def metrics(program, rule):
    text = Api.of(program).get("/metrics").text
    (found,) = re.findall(rf'^tcp_proxy_app_access_clients_total\{{.*rule="{re.escape(rule)}"\}} (\d+)', text, re.MULTILINE)
    return int(found)


def test_who_is_denied_is_reset_recorded_and_counted(proxy, target):
    server_side = target()
    program = proxy(targets=[server_side], access=DENIED, top={"api": api_config(), "workers": 2})
    program.connect(source=FOE).expect_rst()
    record = program.record()
    assert (record["reason"], record["ended_by"], record["target"], record["bytes_up"]) == ("denied", "proxy", "", 0)
    assert record["error"] == "its address is denied by 127.0.0.64/26 in access.deny"
    assert not server_side.has_client()
    client = program.connect(source=FRIEND).send(b"hello")
    server = server_side.accept()
    server.expect(b"hello")
    api = Api.of(program)
    (session,) = api.get("/api/v1/sessions").json["sessions"]
    app = api.get("/api/v1/statistics").json["apps"]["app"]
    assert app["access"] == [
        {"action": "deny", "rule": "127.0.0.64/26", "clients": 1}, {"action": "allow", "rule": "none", "clients": 1},
    ]  # fmt: skip
    assert (app["session_ends"]["denied"], app["refused"]["access_denied"]) == (1, 1)
    assert (metrics(program, "127.0.0.64/26"), metrics(program, "none")) == (1, 1)
    story = api.get(f"/api/v1/sessions/{record['id']}/why").json["story"]
    assert "does not let this client connect" in story
    assert "What was wrong: its address is denied by 127.0.0.64/26" in story
    assert session["client"] == client.address
    client.fin()
    server.expect_fin()
    server.fin()
    client.expect_fin()


def test_the_address_of_a_header_counts(proxy, target):
    server_side = target()
    program = proxy(targets=[server_side], access={"allow": ["192.0.2.7"]}, accept_proxy={"from": ["127.0.0.0/8"]})
    header = VECTORS["v1-tcp4"][0][0]
    client = program.connect().send(header + b"hello")
    server = server_side.accept()
    server.expect(b"hello")
    other = program.connect().send(header.replace(b"192.0.2.7", b"192.0.2.9"))
    other.expect_rst()
    record = program.record()
    assert (record["client"].split(":")[0], record["reason"]) == ("192.0.2.9", "denied")
    client.fin()
    server.expect_fin()
    server.fin()
    client.expect_fin()


def test_with_tls_nothing_is_said_to_who_is_denied(proxy, service, tmp_path):
    files = Authority().issue("a.example").write(tmp_path, "a")
    tls = {"certificates": [{"chain": files["chain"], "key": files["key"]}]}
    program = proxy(targets=[service()], access=DENIED, tls=tls)
    program.uncounted = None
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    program.connect(source=FOE).expect_rst()
    assert program.record()["reason"] == "denied"
    plain = socket.create_connection(("127.0.0.1", program.port), 5, (FRIEND, 0))
    with context.wrap_socket(plain) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"


def test_mode_http_resets_too(http, target):
    server = target()
    program = http(server, access=DENIED)
    program.connect(source=FOE).expect_rst()
    client = program.connect(source=FRIEND).send(GET)
    upstream = server.accept()
    head(upstream)
    upstream.send(OK)
    client.expect(OK_PASSED)


def test_a_list_that_is_another_is_for_new_sessions(proxy, service, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.write_text("192.0.2.0/24\n")
    program = proxy(targets=[service()], access={"deny": [f"@{blocked}"]}, top={"api": api_config(), "workers": 2})
    old = program.connect(source=FOE).send(b"a").expect(b"a")
    blocked.write_text(f"192.0.2.0/24\n{FOE}  # since today\n")
    lines = messages(Config(program).reload())
    content = rf"\[@{blocked} \(sha256 \w+\)\]"
    assert re.search(f"app app: access.deny: {content} -> {content}", "\n".join(lines))
    for _ in range(4):
        program.connect(source=FOE).expect_rst()
    old.send(b"b").expect(b"b")
    assert metrics(program, f"@{blocked}") == 4
    assert metrics(program, "none") == 1, "what was counted before is not forgotten"
    blocked.write_text("what is this\n")
    lines = "\n".join(messages(Config(program).reload()))
    assert "line 1: this is no network" in lines
    assert "nothing was changed" in lines
    program.connect(source=FOE).expect_rst()
    file = Config(program)
    del file.app["access"]
    file.reload()
    program.connect(source=FOE).send(b"c").expect(b"c")
    assert "access" not in Api.of(program).get("/api/v1/statistics").json["apps"]["app"]


def test_rules_that_come_and_go_count_for_themselves(proxy, service):
    """The counters of one that has left are given to others: nobody has what it has counted."""
    program = proxy(targets=[service()], access={"deny": [FOE]}, top={"api": api_config(), "workers": 2})
    file = Config(program)
    for number in range(6):
        file.app["access"] = {"deny": [FOE, f"127.0.1.{number}"]}
        file.reload()
        for _ in range(number + 1):
            program.connect(source=f"127.0.1.{number}").expect_rst()
        program.connect(source=FOE).expect_rst()
        rules = Api.of(program).get("/api/v1/statistics").json["apps"]["app"]["access"]
        counts = {rule["rule"]: rule["clients"] for rule in rules}
        assert counts == {FOE: number + 1, f"127.0.1.{number}": number + 1, "none": 0}


def test_the_configuration_is_shown_as_it_was_said(proxy, service):
    access = {"allow": ["127.0.0.0/8", "::1"], "deny": [FOE]}
    program = proxy(targets=[service()], access=access, top={"api": api_config()})
    assert Api.of(program).get("/api/v1/config").json["apps"][0]["access"] == access


def test_a_worker_that_dies_takes_no_count_with_it(proxy, service):
    program = proxy(targets=[service()], access=DENIED, top={"api": api_config()})
    program.connect(source=FOE).expect_rst()
    program.record()
    program.uncounted = None
    (pid,) = program.workers()
    os.kill(pid, signal.SIGKILL)
    program.wait_log(r"worker 0 \(pid \d+\) ended")
    program.connect(source=FOE).expect_rst()
    assert metrics(program, "127.0.0.64/26") == 2


# -- the page


def test_the_example_of_the_page_does_what_its_table_says(proxy, service, tmp_path):
    page = PAGE.read_text()
    text = re.search(r"^```json\n(.*?)^```", page, re.DOTALL | re.MULTILINE)[1]
    for name, contents in re.findall(r"^# (/etc/tcp_proxy/\S+)\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        (tmp_path / pathlib.Path(name).name).write_text(contents)
    (example,) = json.loads(text.replace("/etc/tcp_proxy", str(tmp_path)))["apps"]
    rows = re.findall(r"^\| `([0-9a-f.:]+)` \| (allowed|denied) \|", page, re.MULTILINE)
    assert len(rows) > 5
    program = proxy(targets=[service(greeting=b"hi")], access=example["access"], accept_proxy={"from": "any"})
    program.uncounted = None
    for address, outcome in rows:
        family, to = ("TCP6", "2001:db8::1") if ":" in address else ("TCP4", "192.0.2.1")
        client = program.connect().send(f"PROXY {family} {address} {to} 1111 80\r\n".encode())
        if outcome == "allowed":
            client.expect(b"hi")
        else:
            client.expect_rst()
