"""tcpffee's configuration becomes ours: every documented key, what has no counterpart, what is no configuration at all."""

import json
import tomllib

import pytest

from tcp_proxy.config.load import load_text
from tcp_proxy.config.model import Check, Sticky
from tcp_proxy.config.tcpffee import CannotImport, convert, read
from tcp_proxy.sansio.address import Address

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
    assert any(note.startswith("peers: 1 proxies") for note in notes)


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
        ("ports = [1]", "groups: found None; wanted a table"),
        ("ports = 1\ngroups.a.portmap = '::1'", "ports: found 1; wanted a list"),
        ("ports = []\ngroups.a.portmap = '::1'", "nothing to listen on"),
        ("ports = ['x']\ngroups.a.portmap = '::1'", "ports: found 'x'; wanted a number"),
        ("ports = [1]\ngroups.a.portmap = 5", r"groups.a.portmap: found 5; wanted an address"),
        ("ports = [1]\ngroups.a.portmap.1 = 'x'", r"groups.a.portmap: no port"),
        ("ports = [1]\ngroups.a.portmap.2 = 'x:1'", "no server for any"),
        ("ports = [1]\n[groups.a]\nportmap='::1'\nhealthchecks=[{fall_action='x'}]", "fall_action: found 'x'"),
        ("ports = [1]\n[groups.a]\nportmap='::1'\nhealthchecks=[{interval=0}]", "interval: found 0"),
    ],
)
def test_what_cannot_be_imported_is_said_in_one_line(text, error):
    with pytest.raises(CannotImport, match=error):
        imported(text)


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
