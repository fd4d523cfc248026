"""The lines of the access log: every value has its place, nothing that is not there is made up, nobody forges a line."""

import json
import re
from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.wire.log_lines import FORMATS, REMEMBERED, UsualLines, json_line, text_line
from tcp_proxy.wire.records import REQUEST, Record, RequestRecord

ENDED = 1_795_246_424.123
RECORD = Record(
    id="a1.2-3", app="shop", listener="127.0.0.1:5001", client="10.0.0.1:4711", target="t2",
    tried=(("t1", "ECONNREFUSED"), ("t3", "ETIMEDOUT")), connect_seconds=0.0012, seconds=3.5, bytes_up=10, bytes_down=20,
    ended_by="client", reason="done", errno="", ended_at=ENDED,
)  # fmt: skip
ASKED = RequestRecord(
    kind=REQUEST, id="a1.2-3-1", app="my shop", listener="[::1]:5001", client="[2001:db8::7]:4711", target="t2",
    line=b"GET /a?b HTTP/1.1", host=b"a.example", status=200, bytes_up=10, bytes_down=20, answer_seconds=0.0012, seconds=3.5,
    referer=b"http://x/", agent=b"curl/8", reason="done", ended_at=ENDED, error="",
)  # fmt: skip
QUOTED = r'"((?:[^"\\]|\\.)*)"'
COMBINED = re.compile(rf"(\S+) - - \[([^\]]+)\] {QUOTED} (\S+) (\d+) {QUOTED} {QUOTED} (.*)\n")


# -- sessions


def test_a_text_line():
    assert text_line(RECORD) == (
        "2026-11-21T07:33:44.123Z id=a1.2-3 app=shop listener=127.0.0.1:5001 client=10.0.0.1:4711 target=t2"
        " tried=t1:ECONNREFUSED,t3:ETIMEDOUT connect=0.001200 seconds=3.500000 up=10 down=20"
        " ended_by=client reason=done errno=- peer=- error=- tls=- notes=-\n"
    )


def test_a_json_line():
    assert json.loads(json_line(RECORD)) == {
        "time": "2026-11-21T07:33:44.123Z", "id": "a1.2-3", "app": "shop", "listener": "127.0.0.1:5001",
        "client": "10.0.0.1:4711", "target": "t2",
        "tried": [{"target": "t1", "error": "ECONNREFUSED"}, {"target": "t3", "error": "ETIMEDOUT"}],
        "connect_seconds": 0.0012, "seconds": 3.5, "bytes_up": 10, "bytes_down": 20,
        "ended_by": "client", "reason": "done", "errno": "", "peer": "", "error": "", "tls": None, "notes": "",
    }  # fmt: skip


def test_what_there_is_not():
    nothing = RECORD._replace(target="", tried=(), connect_seconds=-1.0, errno="ECONNRESET")
    assert " target=- tried=- connect=- " in text_line(nothing)
    assert " errno=ECONNRESET " in text_line(nothing)
    line = json.loads(json_line(nothing))
    assert (line["target"], line["tried"], line["connect_seconds"], line["errno"]) == ("", [], None, "ECONNRESET")


def test_who_came_by_a_proxy_and_what_was_wrong():
    record = RECORD._replace(peer="10.0.0.9:80", error="a PROXY line without CR")
    assert text_line(record).endswith(' errno=- peer=10.0.0.9:80 error="a PROXY line without CR" tls=- notes=-\n')
    line = json.loads(json_line(record))
    assert (line["client"], line["peer"], line["error"]) == ("10.0.0.1:4711", "10.0.0.9:80", "a PROXY line without CR")
    request = tuple(ASKED._replace(peer="10.0.0.9:80"))
    assert FORMATS["text"](request).endswith(" error=- peer=10.0.0.9:80 tls=- notes=-\n")
    assert json.loads(FORMATS["json"](request))["peer"] == "10.0.0.9:80"


TLS = ("TLSv1.3", "TLS_AES_128_GCM_SHA256", True, "a.example", 'O=A "B",CN=c')


def test_tls_and_what_the_header_says_beside_the_client():
    notes = "aws_vpce_id=vpce-1"
    record, request = RECORD._replace(tls=TLS, notes=notes), tuple(ASKED._replace(tls=TLS, notes=notes))
    said = r' tls="TLSv1.3 TLS_AES_128_GCM_SHA256 resumed sni=a.example subject=O=A \"B\",CN=c" notes=aws_vpce_id=vpce-1'
    assert text_line(record).endswith(f"{said}\n")
    assert FORMATS["text"](request).endswith(f"{said}\n")
    for line in (json_line(record), FORMATS["json"](request)):
        found = json.loads(line)
        assert found["notes"] == notes
        assert found["tls"] == {
            "version": "TLSv1.3", "cipher": "TLS_AES_128_GCM_SHA256", "resumed": True, "server_name": "a.example",
            "subject": 'O=A "B",CN=c',
        }  # fmt: skip


def test_of_a_handshake_that_failed_the_name_is_known():
    assert text_line(RECORD._replace(tls=("", "", False, "a.example", ""))).endswith(" tls=sni=a.example notes=-\n")


any_name = st.text(max_size=12) | st.sampled_from(["a b", 'x"y', "\n", "\ud800", "\x1b[2J", "é", "a=b", "\u2028"])


@given(any_name, any_name)
def test_no_name_makes_a_line_of_its_own(app, target):
    tls = ("", "", False, app, target)
    record = RECORD._replace(app=app, target=target, tried=((target, "ECONNREFUSED"),), tls=tls)
    text, line = text_line(record), json_line(record)
    assert text.count("\n") == line.count("\n") == 1
    assert text[:-1].isprintable()
    assert len(re.findall(r" reason=done", text)) >= 1
    decoded = json.loads(line.encode(errors="backslashreplace"))
    assert (decoded["app"], decoded["target"]) == (app, target)


def test_a_name_cannot_forge_a_field():
    line = text_line(RECORD._replace(app='x reason=denied "', target="a\\b c"))
    assert r' app="x reason=denied \"" ' in line
    assert r' target="a\\b c" ' in line


# -- requests


def test_the_text_of_a_request():
    assert FORMATS["text"](tuple(ASKED)) == (
        '2001:db8::7 - - [21/Nov/2026:07:33:44 +0000] "GET /a?b HTTP/1.1" 200 20 "http://x/" "curl/8"'
        ' app="my shop" target=t2 host=a.example id=a1.2-3-1 answer=0.001200 seconds=3.500000 up=10 reason=done'
        ' error=- peer=- tls=- notes=-\n'
    )


def test_the_json_of_a_request():
    assert json.loads(FORMATS["json"](tuple(ASKED))) == {
        "time": "2026-11-21T07:33:44.123Z", "id": "a1.2-3-1", "app": "my shop", "listener": "[::1]:5001",
        "client": "[2001:db8::7]:4711", "target": "t2", "request": "GET /a?b HTTP/1.1", "host": "a.example", "status": 200,
        "bytes_up": 10, "bytes_down": 20, "answer_seconds": 0.0012, "seconds": 3.5, "referer": "http://x/",
        "user_agent": "curl/8", "reason": "done", "error": "", "peer": "", "tls": None, "notes": "",
    }  # fmt: skip


def test_a_request_that_has_moved_names_the_processes_that_have_answered_it():
    moved = tuple(ASKED._replace(processes=(7, 8), trace=("ab", "cd", "")))
    assert FORMATS["text"](moved).endswith(" notes=- processes=7,8 trace=ab\n")
    line = json.loads(FORMATS["json"](moved))
    assert (line["processes"], line["trace"]) == ([7, 8], "ab")


def test_what_a_request_has_not():
    nothing = tuple(ASKED._replace(line=b"-", host=b"", status=0, target="", answer_seconds=-1.0, referer=b"", agent=b""))
    text, line = FORMATS["text"](nothing), json.loads(FORMATS["json"](nothing))
    assert ' "-" - 20 "-" "-" app="my shop" target=- host=- ' in text
    assert " answer=- " in text
    assert (line["status"], line["answer_seconds"], line["target"], line["host"]) == (None, None, "", "")


@given(st.binary(max_size=20), st.binary(max_size=20), st.binary(max_size=20), any_name)
def test_no_client_forges_a_line_or_a_field(line, referer, agent, name):
    record = tuple(ASKED._replace(line=line, referer=referer, agent=agent, target=name))
    text, plain = FORMATS["text"](record), FORMATS["json"](record)
    assert text.count("\n") == plain.count("\n") == 1
    assert text[:-1].isprintable()
    found = COMBINED.fullmatch(text)
    assert found, text
    assert found[8].startswith('app="my shop" target=')
    assert json.loads(plain.encode(errors="backslashreplace"))["request"] == line.decode("latin-1")


@given(st.binary(max_size=300), st.binary(max_size=300), st.floats(-1, 1e9), st.floats(0, 1e9), any_name, any_name)
def test_json_is_what_json_dumps_writes(line, agent, answer, seconds, name, error):
    record = ASKED._replace(line=line, agent=agent, answer_seconds=answer, seconds=seconds, app=name, error=error)
    text = FORMATS["json"](tuple(record))
    told = json.loads(text)
    plain = re.sub(r'"(answer_seconds|seconds)": [^,]+', r'"\1": 0', text)
    assert plain == json.dumps({**told, "answer_seconds": 0, "seconds": 0}) + "\n"
    assert (told["user_agent"], told["app"], told["error"]) == (agent.decode("latin-1"), name, error)
    assert told["answer_seconds"] == (round(answer, 6) if answer >= 0 else None)
    assert told["seconds"] == round(seconds, 6)


def test_what_is_remembered_of_other_lines_is_theirs():
    """More values than are remembered, long and short ones, each in its own line."""
    for n in range(1200):
        agent = b"x" * (n % 3 * 200) + b"%d" % n
        assert f' "{agent.decode()}" app=a{n} ' in FORMATS["text"](tuple(ASKED._replace(agent=agent, app=f"a{n}")))


def test_both_kinds_come_in_one_pipe():
    assert FORMATS["text"](tuple(RECORD)) == text_line(RECORD)
    assert FORMATS["json"](tuple(RECORD)) == json_line(RECORD)


# -- lines of requests like most others


def add(lines, record):
    said = lines.said(record.line, record.referer, record.agent, record.host)
    session, _, number = record.id.rpartition("-")
    lines.add(
        record.client.rpartition(":")[0].strip("[]"), said, record.app, record.target, f"{session}-", int(number),
        record.status, record.bytes_up, record.bytes_down, record.seconds, record.reason, record.ended_at,
    )  # fmt: skip


some_bytes = st.binary(max_size=20)
some_records = st.builds(
    ASKED._replace, app=any_name, target=any_name, line=some_bytes, host=some_bytes, referer=some_bytes, agent=some_bytes,
    status=st.sampled_from([0, 200, 599]), bytes_up=st.integers(0, 1 << 40), bytes_down=st.integers(0, 1 << 40),
    seconds=st.sampled_from([0.0, 0.0012, 3.5]), ended_at=st.sampled_from([ENDED, ENDED + 0.5, ENDED + 1, ENDED - 5]),
)  # fmt: skip


@given(st.lists(some_records, min_size=1, max_size=5))
def test_a_line_like_most_is_the_one_that_all_others_would_be(records):
    """Whatever the ones before it were."""
    waiting = deque()
    lines = UsualLines(waiting, 100, lambda: None)
    for record in records:
        add(lines, record)
    assert list(waiting) == [FORMATS["text"](tuple(one._replace(answer_seconds=one.seconds))) for one in records]


def test_names_are_remembered_and_not_for_ever():
    waiting = deque()
    lines = UsualLines(waiting, 1 << 20, lambda: None)
    for n in range(2 * REMEMBERED + 10):
        add(lines, ASKED._replace(app=f"a{n % 3}" if n % 2 else f"b{n}", target=f"t{n}"))
    assert [f" target=t{n} " in line for n, line in enumerate(waiting)] == [True] * len(waiting)


def test_who_sends_the_lines_away_is_told_of_the_first_and_of_enough():
    waiting, told = deque(), []
    lines = UsualLines(waiting, 3, lambda: told.append(len(waiting)))
    for _ in range(4):
        add(lines, ASKED)
    assert told == [1, 3, 4]
