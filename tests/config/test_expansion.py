"""Variables and files in strings: what they stand for, where they do not, and that no message shows a secret."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.config.expansion import Expansion
from tcp_proxy.config.load import ConfigErrors, load_file, load_text
from tcp_proxy.config.positions import Lines, Scanner
from tcp_proxy.config.report import Report

ENVIRONMENT = {
    "HOST": "192.0.2.1", "PORT": "8080", "RANGE": "8000-8002", "EMPTY": "", "NESTED": "${HOST}", "YES": "true", "N": "2.5",
    "API_TOKEN": "hunter2 of the house", "QUOTED_KEY": 'a"b\\c"d', "AT": "@/etc/passwd", "WORD": "none",
}  # fmt: skip


def load(**app):
    text = json.dumps({"apps": [{"name": "a", "ports": [1], "targets": ["t:1"], **app}]})
    return load_text(text.encode(), "c", ENVIRONMENT)


def app(**keys):
    return load(**keys).apps[0]


def faults(**keys):
    with pytest.raises(ConfigErrors) as refusal:
        load(**keys)
    return [str(error) for error in refusal.value.errors]


def expanded(text, schema=None):
    """The value and the messages."""
    document = json.dumps({"key": text})
    report = Report("c", Lines(document))
    report.root = Scanner(document, Lines(document)).document()
    value = Expansion(ENVIRONMENT, report).value(text, schema or {"type": "string"}, ("key",))
    return value, [error.message for error in report.errors().errors]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${HOST}", "192.0.2.1"),
        ("${HOST}:${PORT}", "192.0.2.1:8080"),
        ("${MISSING:-a b}", "a b"),
        ("${MISSING:-}", ""),
        ("${EMPTY:-other}", "other"),
        ("${EMPTY}", ""),
        ("${PORT:-1}", "8080"),
        ("${MISSING:-a:-b}", "a:-b"),
        ("x$${HOST}y", "x${HOST}y"),
        ("$$${HOST}", "$${HOST}"),
        ("$HOST", "$HOST"),
        ("$", "$"),
        ("a$b{c}", "a$b{c}"),
        ("${NESTED}", "${HOST}"),
        ("${MISSING:-$HOST}", "$HOST"),
        ("@x", "@x"),
    ],
)
def test_what_a_string_stands_for(text, value):
    assert expanded(text) == (value, [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${MISSING}", 'the environment has no MISSING; wanted it set, or a default: "${MISSING:-…}"'),
        ("a${HOST", 'found "${HOST"; wanted "${NAME}" or "${NAME:-default}"'),
        ("${}", 'found "${}"; wanted'),
        ("${1A}", 'found "${1A}"; wanted'),
        ("${A-b}", 'found "${A-b}"; wanted'),
        ("${ HOST }", 'found "${ HOST }"; wanted'),
    ],
)
def test_what_is_none_is_said(text, message):
    value, messages = expanded(text)
    assert value is None
    assert len(messages) == 1
    assert messages[0].startswith(message)


@given(st.text(alphabet="${}:-AHOST @"))
def test_whatever_stands_there_is_a_value_or_said_once_at_least(text):
    value, messages = expanded(text)
    assert (value is None) == bool(messages)
    if "${" not in text:
        assert value == text


@given(st.text(max_size=20))
def test_what_is_escaped_stands_for_itself(text):
    assert expanded(text.replace("${", "$${")) == (text, [])


def test_every_string_of_a_file_is_expanded_with_its_place():
    config = load(targets=["${HOST}:${PORT}", {"address": "t:${PORT}", "name": "n-${WORD}"}], balance="${B:-source_hash}")
    assert [(target.name, str(target.address)) for target in config.apps[0].targets] == [
        ("192.0.2.1:8080", "192.0.2.1:8080"), ("n-none", "t:8080"),
    ]  # fmt: skip
    assert config.apps[0].balance == "source_hash"
    (fault,) = faults(targets=["t:1", {"address": "${NO}:80"}])
    assert fault.startswith("c:1:")
    assert "$.apps[0].targets[1].address: the environment has no NO" in fault


def test_keys_are_not_expanded():
    assert any("${HOST}" in fault for fault in faults(**{"${HOST}": 1}))


def test_a_variable_that_is_all_of_a_string_may_be_a_number():
    found = app(ports=["${PORT}", "${RANGE}", 9000], timeouts={"idle": "${N}"}, retries="${R:-7}", name="${PORT}")
    assert [listener.port for listener in found.listeners] == [8080, 8000, 8001, 8002, 9000]
    assert (found.timeouts.idle, found.retries, found.name) == (2.5, 7, "8080")
    assert app(targets=[{"address": "t:1", "backup": "${YES}"}]).targets[0].backup is True
    assert "wanted a whole number from" in faults(retries="1${R:-7}")[0]
    assert "wanted a whole number from" in faults(retries="${WORD}")[0]


def test_one_fault_is_said_once():
    """Not again by those who judge the value."""
    assert len(faults(balance="${NO}")) == len(faults(ports=["${NO}"])) == len(faults(retries="${NO}")) == 1
    assert len(faults(timeouts={"idle": "${NO}"})) == len(faults(name="${NO}")) == 1


# -- secrets


@pytest.fixture
def secret(tmp_path):
    def write(text, name="secret"):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return f"@{tmp_path / name}"

    return write


def http_check(**keys):
    return {"health": {"type": "http", **keys}}


def test_a_secret_may_be_in_a_file(secret):
    login, body = secret("Bearer ${HOST}\n"), secret("two\nlines\r\n", "b")
    (check,) = app(**http_check(headers={"Authorization": login}, body=body)).health
    assert check.headers == (("Authorization", "Bearer ${HOST}"),)
    assert check.body == "two\nlines"
    sent = secret("AUTH x", "send")
    assert app(health={"type": "exchange", "send": sent, "expect": "OK"}).health[0].send == "AUTH x"
    user = secret("postgres", "user")
    assert app(health={"type": "exchange", "preset": "mysql", "user": user}).health[0].user == "postgres"


def test_the_path_may_have_variables_and_a_variable_may_be_no_path(secret, tmp_path):
    secret("x")
    path = f"@{tmp_path}/${{S:-secret}}"
    assert app(**http_check(body=path)).health[0].body == "x"
    assert app(**http_check(body="@@home")).health[0].body == "@home"


def test_at_means_a_file_in_secrets_alone():
    assert app(**http_check(path="/@x")).health[0].path == "/@x"
    assert app(name="@x").name == "@x"


def test_what_is_wrong_with_the_file_is_said(secret, tmp_path):
    for text, message in (
        (f"@{tmp_path}/none", "cannot be read: No such file"), (f"@{tmp_path}", "cannot be read: Is a directory"),
        ("@", "cannot be read"), (secret(b"\xff"), "is not UTF-8"),
        (secret("x" * 65537, "big"), "is bigger than 65536 bytes"),
    ):  # fmt: skip
        (fault,) = faults(**http_check(headers={"A": text}))
        assert message in fault
        assert "$.apps[0].health.headers.A: " in fault


def test_no_message_shows_a_secret(secret):
    for fault in (
        faults(balance="${API_TOKEN}"), faults(retries="${API_TOKEN}"), faults(ports=["${API_TOKEN}"]),
        faults(targets=["${API_TOKEN}"]), faults(balance="x${QUOTED_KEY}"), faults(balance="${API_TOKEN}" * 30),
        faults(**http_check(headers={"A": secret("hunter2\nb")})),
    ):  # fmt: skip
        assert "***" in fault[0] or "hunter2" not in fault[0]
        assert not any(word in " ".join(fault) for word in ("hunter2", "house", 'a"b', 'a\\"b'))


# -- where nothing is expanded


def test_what_comes_over_the_api_stands_for_itself(secret):
    text = json.dumps({"apps": [{"name": "${HOST}", "ports": [1], "targets": ["t:1"], **http_check(body=secret("x"))}]})
    (found,) = load_text(text.encode(), "the configuration").apps
    assert found.name == "${HOST}"
    assert found.health[0].body.startswith("@")


def test_a_file_has_the_environment_of_the_program(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_HOST", "198.51.100.1")
    path = tmp_path / "c.json"
    path.write_text('{"apps": [{"name": "a", "ports": [1], "targets": ["${SOME_HOST}:1"]}]}')
    assert load_file(str(path)).apps[0].targets[0].address.host == "198.51.100.1"
    monkeypatch.delenv("SOME_HOST")
    with pytest.raises(ConfigErrors, match=r"c.json:1:\d+: .*the environment has no SOME_HOST"):
        load_file(str(path))
