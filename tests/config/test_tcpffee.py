"""tcpffee's configuration becomes ours: every documented key, what has no counterpart, what is no configuration at all."""

import json
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcp_proxy.config.load import load_text
from tcp_proxy.config.model import Check, Cluster, Sticky
from tcp_proxy.config.report import ConfigErrors
from tcp_proxy.config.tcpffee import CannotImport, convert, judged, load, read
from tcp_proxy.sansio.address import Address

HTTP_KEYS = ("method", "headers", "body", "status", "target")
DOCUMENTED = """
bind_addr = "0.0.0.0"
stats_bind_socket = "127.0.0.1:2340"
raft_healthchecks_logs_bind_socket = "127.0.0.1:2341"
raft_stick_table_logs_bind_socket = "127.0.0.1:2342"
raft_healthchecks_proposals_bind_socket = "127.0.0.1:2343"
raft_stick_table_proposals_bind_socket = "127.0.0.1:2344"
ports = [5280, 5281, 5282]
expiration = 10

[groups.0]
portmap = "192.0.2.1"

[groups.1]
drain = true
[groups.1.portmap]
5280 = "172.31.100.198:5280"
5281 = "172.31.100.20:3487"
5282 = "172.31.100.198:5282"
[[groups.1.healthchecks]]
fall = 2
http_target = "/health"
http_headers = { Host = "example.org" }
http_method = "POST"
http_body = "x"
http_status = 204
[[groups.1.healthchecks]]
fall_action = "Disabled"
interval = 8

[groups.2]
disabled = true
portmap = "::1"

[[peers]]
host = "proxy1"
mac_address = "00:00:00:00:00::01"
"""


def imported(text=DOCUMENTED, **environment):
    """The configuration, and the notes."""
    document, notes = convert(tomllib.loads(text), environment)
    return load_text(json.dumps(document).encode(), "imported"), notes


def test_everything_that_is_documented():
    config, notes = imported()
    (app,) = config.apps
    assert [str(listener) for listener in app.listeners] == ["0.0.0.0:5280", "0.0.0.0:5281", "0.0.0.0:5282"]
    assert app.sticky == Sticky(expires=10.0, ipv6_prefix=128)
    zero, one, two = app.targets
    assert (zero.name, zero.address, zero.health) == ("0", Address("192.0.2.1"), ())
    assert one.ports[1] == (5281, Address("172.31.100.20", 3487))
    assert (one.drain, two.disabled, two.address) == (True, True, Address("::1"))
    http, tcp = one.health
    assert http == Check(
        "http", 5.0, 2.5, 5, 2, "drain", method="POST", path="/health", headers=(("Host", "example.org"),), body="x",
        status=("204",),
    )  # fmt: skip
    assert tcp == Check("tcp", 8.0, 4.0, 5, 3, "down")
    assert str(config.api.listen) == "127.0.0.1:2340"
    assert sum("raft" in note for note in notes) == 4
    assert any(note.startswith("peers: 1 proxies that share their tables, here by etcd") for note in notes)
    assert any("mac_address is not needed" in note for note in notes)
    assert config.cluster == Cluster(("http://127.0.0.1:2379",), "tcpffee")


def test_an_http_check_that_names_no_status_wants_200():
    config, _ = imported(DOCUMENTED.replace("http_status = 204\n", ""))
    assert config.apps[0].targets[1].health[0].status == ("200",)


def test_paths_and_level_come_from_the_environment():
    config, _ = imported(TCPFFEE_PID_PATH="/run/x.pid", TCPFFEE_HEALTHCHECK_SAVE_PATH="/var/x", RUST_LOG="warn")
    assert (config.pid_file, config.state, config.log.level) == ("/run/x.pid", "/var/x", "warning")
    config, notes = imported()
    assert (config.pid_file, config.state) == (None, None)
    assert "TCPFFEE_PID_PATH is not set: no pid_file" in notes


def test_the_kind_of_key_comes_from_the_environment():
    first = {"TCPFFEE_KEY_FIRST_MESSAGE_SLICE_START": "2", "TCPFFEE_KEY_FIRST_MESSAGE_SLICE_END": "9"}
    config, _ = imported(TCPFFEE_KEY_TYPE="IP_WITH_FIRST_MESSAGE_SLICE", **first)
    assert (config.apps[0].sticky.key, config.apps[0].sticky.slice) == ("source_ip+first_bytes", (2, 9))


@pytest.mark.parametrize(
    ("environment", "error"),
    [
        ({"TCPFFEE_KEY_TYPE": "MAC"}, "TCPFFEE_KEY_TYPE=MAC; wanted IP or"),
        ({"TCPFFEE_KEY_TYPE": "IP_WITH_FIRST_MESSAGE_SLICE"}, "SLICE_START=; wanted a number"),
        (
            {
                "TCPFFEE_KEY_TYPE": "IP_WITH_FIRST_MESSAGE_SLICE",
                "TCPFFEE_KEY_FIRST_MESSAGE_SLICE_START": "4",
                "TCPFFEE_KEY_FIRST_MESSAGE_SLICE_END": "4",
            },
            "4 to 4, is empty",
        ),
    ],
)
def test_a_kind_of_key_that_makes_no_sense(environment, error):
    with pytest.raises(CannotImport, match=error):
        imported(**environment)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("ports = [1]", "nobody to serve"),
        ("ports = [1]\ngroups = 1", "groups: found 1; wanted a table"),
        ("ports = [1]\ngroups.a = 1", "groups.a: found 1; wanted a table"),
        ("ports = [1]\ngroups.\"a\\n\" = 1", r'groups."a\\u000a": found 1; wanted a table'),
        ("ports = 1\ngroups.a.portmap = '::1'", "ports: found 1; wanted a list"),
        ("ports = []\ngroups.a.portmap = '::1'", "nothing to listen on"),
        ("ports = ['x']\ngroups.a.portmap = '::1'", 'ports: found "x"; wanted a whole number'),
        ("ports = [true]\ngroups.a.portmap = '::1'", "ports: found true; wanted a whole number"),
        ("ports = [0x" + "f" * 20000 + "]\ngroups.a.portmap = '::1'", "ports: found a number that is too large; wanted"),
        ("ports = [1]\ngroups.a.portmap = 5", r"groups.a.portmap: found 5; wanted an address"),
        ("ports = [1]\ngroups.a.portmap.1 = 'x'", r"groups.a.portmap: no port"),
        ("ports = [1]\ngroups.a.portmap.2 = 'x:1'", "no server for any"),
        ("ports = [1]\n[groups.a]\nportmap='::1'\nhealthchecks=[{fall_action='x'}]", 'fall_action: found "x"; wanted'),
        ("ports = [1]\n[groups.a]\nportmap='::1'\nhealthchecks=[{interval=0}]", "interval: found 0"),
    ],
)
def test_what_cannot_be_imported_is_said_in_one_line(text, error):
    with pytest.raises(CannotImport, match=error):
        imported(text)


CHECKED = "ports = [1]\n[groups.a]\nportmap='::1'\nhealthchecks=[{%s}]"


@pytest.mark.parametrize(
    ("check", "error"),
    [
        ('timeout = "1s"', 'timeout: found "1s"; wanted a number'),
        ("timeout = nan", "timeout: found nan; wanted a number"),
        ("interval = 1979-05-27", "interval: found 1979-05-27; wanted a number"),
        ("interval = inf", "interval: found inf; wanted a number"),
        ('http_headers = "Host: x"', 'http_headers: found "Host: x"; wanted a table'),
        ("http_headers = { Host = [] }", "http_headers.Host: found an empty list; wanted a number"),
        ("http_body = 1", "http_body: found 1; wanted a text"),
        ("http_method = 07:32:00", "http_method: found 07:32:00; wanted a text"),
        ("http_target = true", "http_target: found true; wanted a text"),
        ('http_status = "200"', 'http_status: found "200"; wanted a whole number'),
        ("rise = 1.5", "rise: found 1.5; wanted a whole number"),
        ("fall = {}", "fall: found an object; wanted a whole number"),
        ("fall_action = 1", "fall_action: found 1; wanted a text"),
    ],
)
def test_a_value_of_a_check_of_another_type_is_said_in_one_line(check, error):
    with pytest.raises(CannotImport) as refusal:
        imported(CHECKED % check)
    assert str(refusal.value) == f"groups.a.healthchecks[0].{error}"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("peers = 3", "peers: found 3; wanted a list"),
        ("bind_addr = 5", "bind_addr: found 5; wanted a text"),
        ("bind_addr = 1979-05-27T07:32:00Z", "bind_addr: found 1979-05-27 07:32:00+00:00; wanted a text"),
        ("stats_bind_socket = 2340", "stats_bind_socket: found 2340; wanted a text"),
        ('expiration = "10s"', 'expiration: found "10s"; wanted a number'),
        ("groups.a.drain = 1", "groups.a.drain: found 1; wanted true or false"),
        ('groups.a.disabled = "no"', 'groups.a.disabled: found "no"; wanted true or false'),
        ("groups.b.portmap.1 = 7", "groups.b.portmap.1: found 7; wanted a text"),
        ("groups.a.healthchecks = {}", "groups.a.healthchecks: found an object; wanted a list"),
        ("groups.a.healthchecks = [1]", "groups.a.healthchecks[0]: found 1; wanted a table"),
    ],
)
def test_a_value_of_another_type_is_said_in_one_line(text, error):
    with pytest.raises(CannotImport) as refusal:
        imported(f"ports = [1]\ngroups.a.portmap = '::1'\n{text}")
    assert str(refusal.value) == error


@pytest.mark.parametrize(
    "text",
    ["x = " + "[" * 999, "x = " + "9" * 5000, f"x = {'[' * 999}{']' * 999}", "x." * 5000 + "x = 1", "x = {" + "a = {" * 999],
    ids=["open", "digits", "deep", "dotted", "tables"],
)
def test_toml_that_cannot_be_read_is_one_line(tmp_path, text):
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises((CannotImport, ConfigErrors)) as refusal:
        judged("x.toml", read(str(tmp_path / "x.toml")), {})
    assert len(str(refusal.value).splitlines()) == 1
    with pytest.raises(CannotImport):
        read(str(tmp_path) + "\0")


VALUES = st.sampled_from(
    ["1", "0", "-1", "1.5", "nan", "inf", "true", "1979-05-27", "07:32:00", "'x'", "''", "[]", "[1]", "['a:1']", "{}",
     "{a=1}", "{1='a:1'}", "'[::1]:1'", "99999999999999999999", '"\\n"', "[[]]", "[{}]", "[true]"]
)  # fmt: skip
PLACES = ["bind_addr", "stats_bind_socket", "ports", "expiration", "groups", "peers", "other", "raft_x"]
PLACES += [f"groups.a.{key}" for key in ("portmap", "drain", "disabled", "healthchecks", "other")]
OF_CHECKS = ["fall", "rise", "fall_action", "interval", "timeout", "other", *(f"http_{key}" for key in HTTP_KEYS)]


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(PLACES), VALUES), st.dictionaries(st.sampled_from(OF_CHECKS), VALUES))
def test_whatever_stands_at_a_key_is_taken_or_one_line_each(given_top, given_check):
    lines = {"ports": "[1]", "groups.a.portmap": "'::1'"} | given_top
    if given_check and "groups.a.healthchecks" not in lines:
        lines["groups.a.healthchecks"] = "[{" + ", ".join(f"{key} = {value}" for key, value in given_check.items()) + "}]"
    try:
        plain = tomllib.loads("\n".join(f"{key} = {value}" for key, value in lines.items()))
    except tomllib.TOMLDecodeError:
        return  # a key twice
    try:
        _, _, notes = judged("x.toml", plain, {})
    except (CannotImport, ConfigErrors) as refusal:
        notes = str(refusal).splitlines()
        assert notes
    assert all(note.isprintable() for note in notes)


def test_what_is_left_out_or_guessed_is_said():
    text = """
    ports = [1, 2]
    colour = "red"
    stats_bind_socket = "0.0.0.0:99"
    [groups.a]
    size = 3
    portmap = { 1 = "h:10", 9 = "h:90" }
    healthchecks = [{ interval = 2, timeout = 3, colour = 1 }]
    """
    config, notes = imported(text)
    assert config.apps[0].targets[0].ports == ((1, Address("h", 10)), (2, Address("h", 2)))
    said = ("colour: unknown", "groups.a.size: unknown", "nobody listens on 9", "no server for the port 2", "token_file")
    for part in (*said, "above the interval", "healthchecks[0].colour"):
        assert any(part in note for note in notes), part


def test_a_file_that_is_not_there_or_no_toml(tmp_path):
    with pytest.raises(CannotImport, match="No such file"):
        read(str(tmp_path / "x"))
    (tmp_path / "y").write_bytes(b"\xff=")
    with pytest.raises(CannotImport, match="no TOML"):
        read(str(tmp_path / "y"))


def test_the_command_line_prints_a_configuration_that_is_right(tmp_path):
    from kit.proxy import run_to_end

    (tmp_path / "tcpffee.toml").write_text(DOCUMENTED)
    key = ("--key-type", "IP_WITH_FIRST_MESSAGE_SLICE", "--slice", "0", "4")
    done = run_to_end("--import", "tcpffee.toml", *key, cwd=tmp_path)
    assert done.returncode == 0
    assert json.loads(done.stdout)["apps"][0]["sticky"]["slice"] == [0, 4]
    assert "peers" in (done.stderr if isinstance(done.stderr, str) else done.stderr.decode())
    wrong = run_to_end("--import", "nowhere.toml", cwd=tmp_path)
    assert wrong.returncode == 2


OWN = """
bind_addr = "127.0.0.1"
ports = [5280]
[groups.mine]
portmap = "127.0.0.1"
[groups.theirs]
portmap = "192.0.2.1"
"""


def test_a_group_that_leads_to_the_proxy_itself_is_left_out_and_named():
    config, text, notes = judged("x.toml", tomllib.loads(OWN), {})
    assert [target.name for target in config.apps[0].targets] == ["theirs"]
    assert [target["name"] for target in json.loads(text)["apps"][0]["targets"]] == ["theirs"]
    (note,) = [note for note in notes if note.startswith("groups.mine")]
    assert "the app's own listener 127.0.0.1:5280" in note
    assert note.endswith("it is left out")


def test_what_is_wrong_elsewhere_is_an_error_still():
    with pytest.raises(ConfigErrors, match="ports"):
        judged("x.toml", tomllib.loads(OWN.replace("5280", "70000")), {})


def test_load_says_what_there_is_to_be_said(tmp_path):
    path, said = tmp_path / "x.toml", []
    path.write_text(DOCUMENTED)
    assert len(load(str(path), {}, said.append).apps[0].targets) == 3
    assert any(line.startswith(f"{path}: peers: this proxy is alone; --import writes") for line in said)
    assert load(str(path), {}, said.append).cluster is None
    for text, words in (("ports = [", "no TOML"), ("ports = []\n[groups]", "ports and groups are needed")):
        path.write_text(text)
        with pytest.raises(ConfigErrors, match=words) as errors:
            load(str(path), {}, said.append)
        assert str(errors.value).count(str(path)) == 1


@pytest.mark.parametrize(
    ("filters", "level"),
    [("info,tcpffee::raft=debug", "info"), ("hyper=warn, Error", "error"), ("off", "error"), ("x=debug", "info")],
)
def test_of_filters_the_one_without_a_module_is_the_level(filters, level):
    config, notes = imported(RUST_LOG=filters)
    assert config.log.level == level
    assert any("RUST_LOG" in note for note in notes) is (filters == "x=debug")
