"""From a file to a Config, or to every error in it with its true place."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcp_proxy.config.load import MAX_SIZE, ConfigError, ConfigErrors, load_file, load_text
from tcp_proxy.config.model import App, Config, Target
from tcp_proxy.sansio.address import Address, ListenAddress

ROOT = pathlib.Path(__file__).resolve().parents[2]
MINIMAL = '{"apps": [{"name": "a", "ports": [5001], "targets": ["a:1"]}]}'
EXAMPLES = sorted((ROOT / "examples").glob("*.json"))


def test_a_minimal_file_gets_every_default():
    assert load_text(MINIMAL.encode(), "x") == Config(
        apps=(App("a", (ListenAddress("127.0.0.1", 5001),), (Target("a:1", Address("a", 1)),)),)
    )


def test_the_original_file_runs_unchanged():
    text = b'{"Apps":[{"Name":"a","Ports":[5001],"Targets":["a:1"]}]}'
    assert load_text(text, "x") == load_text(MINIMAL.encode(), "x")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_loads(path):
    assert load_file(str(path)).apps


def test_there_are_examples():
    assert len(EXAMPLES) >= 4


def test_the_shipped_file_has_three_apps_and_one_dead_target():
    config = load_file(str(ROOT / "config.json"))
    ports = [[listener.port for listener in app.listeners] for app in config.apps]
    assert ports == [[5001, 5200], [6001, 6200], [7001, 7200]]
    targets = {target.address.port for app in config.apps for target in app.targets}
    assert targets == {9001, 9002, 9003, 9999}
    assert {listener.host for app in config.apps for listener in app.listeners} == {"127.0.0.1"}


# -- the file itself


def refused(call, *arguments):
    with pytest.raises(ConfigErrors) as refusal:
        call(*arguments)
    return refusal.value


def test_a_missing_file_is_an_error_without_a_position(tmp_path):
    path = str(tmp_path / "no.json")
    assert str(refused(load_file, path)) == f"{path}: there is no such file"


def test_a_directory_is_an_error(tmp_path):
    assert "this is a directory" in str(refused(load_file, str(tmp_path)))


def test_a_path_that_no_file_can_have_is_an_error(tmp_path):
    assert "cannot be read" in str(refused(load_file, "a\0b"))
    assert "cannot be read: File name too long" in str(refused(load_file, "a" * 5000))
    assert "cannot be read: Not a directory" in str(refused(load_file, f"{__file__}/x"))


def test_an_unreadable_file_is_an_error():
    # /proc/self/mem opens and cannot be read at 0, whoever asks; permissions do not stop root.
    assert "cannot be read: Input/output error" in str(refused(load_file, "/proc/self/mem"))


def test_a_file_without_end_is_an_error(monkeypatch):
    monkeypatch.setattr("tcp_proxy.config.load.MAX_SIZE", 1000)
    assert MAX_SIZE > 10_000_000
    assert "bigger than 1000 bytes" in str(refused(load_file, "/dev/zero"))


def test_a_pipe_can_be_the_file():
    read_end, write_end = os.pipe()
    os.write(write_end, MINIMAL.encode())
    os.close(write_end)
    try:
        assert load_file(f"/dev/fd/{read_end}").apps
    finally:
        os.close(read_end)


def test_bytes_that_are_not_utf8_are_an_error_at_their_place(complaints):
    assert complaints(b'{"apps":\n "\xc3\xa9\xff"}') == ["2:4 $: the byte 0xff is not UTF-8; save the file as UTF-8"]


def test_a_file_in_utf16_is_an_error_that_says_so(complaints):
    assert "looks like UTF-16" in complaints(MINIMAL.encode("utf-16"))[0]


def test_a_byte_order_mark_is_an_error_and_shifts_no_column(complaints):
    found = complaints(b"\xef\xbb\xbf" + MINIMAL.replace("ports", "prots").encode())
    assert found[0].startswith("1:1 $: the file begins with a byte order mark")
    assert [complaint.partition(" ")[0] for complaint in found[1:]] == ["1:11", "1:25"]


@pytest.mark.parametrize(("text", "found"), [("[]", "an empty list"), ("5", "5"), ('"x"', '"x"'), ("null", "null")])
def test_a_document_that_is_not_an_object_is_an_error(text, found, complaints):
    assert complaints(text) == [f'1:1 $: found {found}; wanted an object with the key "apps"']


def test_no_apps_is_an_error(complaints):
    assert complaints("{}") == ['1:1 $: missing key "apps"']
    assert complaints('{"apps": []}') == ["1:10 $.apps: found an empty list; wanted a list of apps, at least one"]


def test_truncated_json_is_an_error_wherever_it_is_cut():
    text = MINIMAL.encode()
    for end in range(len(text)):
        assert len(refused(load_text, text[:end], "x").errors) == 1


def test_deep_nesting_anywhere_is_one_error():
    for text in (b"[" * 200_000, b'{"apps":' * 200_000, b'{"apps": [{"x":' + b"[" * 200_000):
        assert len(refused(load_text, text, "x").errors) == 1


# -- positions

SEVEN = ",\n".join(f'\t{{"name": "a{i}", "ports": [{5000 + i}], "targets": ["a:1"]}}' for i in range(7))


def test_the_same_typo_in_the_first_and_the_seventh_app_has_two_places(complaints):
    text = '{"apps": [\n' + SEVEN.replace("ports", "prots") + "\n]}"
    typos = [complaint for complaint in complaints(text) if "unknown" in complaint]
    assert typos == [f'{i + 2}:17 $.apps[{i}].prots: unknown key "prots"; did you mean "ports"?' for i in range(7)]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_and_columns_are_true_for_every_line_end(end, complaints):
    text = '{"apps": [\n' + SEVEN.replace("5006", "0") + "\n]}"
    assert complaints(text.replace("\n", end))[0].startswith("8:27 $.apps[6].ports[0]: found 0")


def test_columns_are_characters_and_escapes_are_counted_as_written(complaints):
    text = r'{"apps": [{"name": "é😀\u00e9\ud83d\ude00", "ports": [0], "targets": ["a:1"]}]}'
    (complaint,) = complaints(text)
    assert complaint.startswith(f"1:{text.index('0]') + 1} $.apps[0].ports[0]")


def test_an_escaped_key_is_the_key(complaints):
    assert load_text(MINIMAL.replace("apps", r"\u0061pps").encode(), "x").apps
    assert complaints(MINIMAL.replace("apps", r"\u0061pps\u0021"))[1].startswith('1:2 $["apps!"]: unknown key')


def test_a_key_given_twice_is_an_error_at_the_second(complaints):
    text = '{"workers": 1,\n "workers": 2, "apps": [{"name": "a", "ports": [5001], "targets": ["a:1"]}]}'
    assert complaints(text) == ['2:2 $.workers: the key "workers" is here twice; first at line 1, column 2']


def test_numbers_that_json_cannot_write_are_errors_at_their_place(complaints):
    text = '{"shutdown_grace": 1e400,\n"workers": NaN, "apps": [{"name": "a", "ports": [5001], "targets": ["a:1"]}]}'
    assert complaints(text) == [
        "1:20 $.shutdown_grace: this number is too big",
        "2:12 $.workers: found NaN; wanted a number that JSON can write",
    ]


def test_all_errors_are_reported_at_once_in_the_order_of_the_file(complaints):
    text = """{"apps": [
  {"name": "a", "ports": [70000, "9-1"], "targets": ["a:", {"adress": "b:1"}], "balance": "rr"},
  {"name": "a", "targets": {}, "health": {"interval": 1, "timeout": 5}, "timeouts": {"idle": -1}, "retries": 1.5},
  "b"
], "worker": 1}"""
    found = complaints(text)
    assert [complaint.split(":", 2)[1].split(" ")[1] for complaint in found] == [
        *("$.apps[0].ports[0]", "$.apps[0].ports[1]", "$.apps[0].targets[0]", "$.apps[0].targets[1]"),
        *("$.apps[0].targets[1].adress", "$.apps[0].balance", "$.apps[1]", "$.apps[1].name", "$.apps[1].targets"),
        *("$.apps[1].health.timeout", "$.apps[1].timeouts.idle", "$.apps[1].retries", "$.apps[2]", "$.worker"),
    ]
    places = [tuple(map(int, complaint.split(" ")[0].split(":"))) for complaint in found]
    assert places == sorted(places)


def test_an_error_is_one_line_that_an_editor_can_jump_to():
    text = b'{\n  "apps": [{\n    "prots": [1], "name": "a", "ports": [1], "targets": ["a:1"]}]}'
    errors = refused(load_text, text, "config.json")
    message = 'unknown key "prots"; did you mean "ports"?'
    assert errors.errors == (ConfigError("config.json", 3, 5, "$.apps[0].prots", message),)
    assert str(errors) == f"config.json:3:5: $.apps[0].prots: {message}"


FIXED = settings(derandomize=True, deadline=None)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
APP_KEYS = (
    "name", "bind", "ports", "targets", "balance", "health", "failover", "on_down", "retries", "timeouts", "x", "Name",
)  # fmt: skip
TOP_KEYS = ("workers", "pid_file", "shutdown_grace", "log", "access_log", "$schema", "Workers")
ADDRESSES = st.sampled_from(["a:1", "a:1", "b:2", "unix:/x", "::1", "*", "127.0.0.1", "5-9", "1-70000", ""])
GUESSES = JSON_VALUES | ADDRESSES | st.lists(ADDRESSES | st.integers(-1, 70000), max_size=4)
APPS = st.dictionaries(st.sampled_from(APP_KEYS), GUESSES, max_size=7)


@settings(FIXED, max_examples=60)
@given(st.dictionaries(st.sampled_from(TOP_KEYS), GUESSES, max_size=3), st.lists(APPS | GUESSES, max_size=3))
def test_any_json_is_a_config_or_config_errors(top, apps):
    try:
        config = load_text(json.dumps({**top, "apps": apps}).encode(), "x")
    except ConfigErrors as errors:
        lines = str(errors).split("\n")
    else:
        lines = [repr(config)]
    assert all(lines)
    assert all(line.isprintable() for line in lines)


@FIXED
@given(st.binary(max_size=60))
def test_any_bytes_are_config_errors(text):
    assert all(error.line >= 1 and error.column >= 1 for error in refused(load_text, text, "x").errors)


def test_a_thousand_apps_load():
    apps = [
        {"name": f"a{i}", "ports": [f"{10 * i + 1}-{10 * i + 9}"], "targets": [f"a:{i + 1}", f"b:{i + 1}"]}
        for i in range(1000)
    ]
    config = load_text(json.dumps({"apps": apps}).encode(), "x")
    assert sum(len(app.listeners) for app in config.apps) == 9000


def test_importing_the_loader_does_not_import_the_schema_library_yet():
    """Nor, for a right file, what reads that of other programs."""
    program = "import sys, tcp_proxy.config.load as l; l.load_file('config.json'); print({*sys.argv} & {*sys.modules})"
    words = [sys.executable, "-c", program, "jsonschema", "difflib", "tomllib"]
    result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"
