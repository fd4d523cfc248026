"""The published schema, and the sentences made from what violates it."""

import json
import pathlib
import subprocess
import sys

import pytest
from jsonschema import Draft202012Validator

from tcp_proxy.config.positions import Lines, Scanner, shown
from tcp_proxy.config.report import Report
from tcp_proxy.config.schema import SCHEMA, Folder, load_schema, wanted

ROOT = pathlib.Path(__file__).resolve().parents[2]
PUBLISHED = json.loads(pathlib.Path(SCHEMA).read_bytes())


def objects(part):
    """Every schema of an object, with the keys that it names."""
    if isinstance(part, dict):
        if "properties" in part:
            yield part
        for value in part.values():
            yield from objects(value)
    elif isinstance(part, list):
        for value in part:
            yield from objects(value)


OBJECTS = list(objects(PUBLISHED))
KEYS = [(name, key, schema) for schema in OBJECTS for name, key in schema["properties"].items()]


def test_the_schema_is_a_schema_of_2020_12():
    Draft202012Validator.check_schema(PUBLISHED)
    assert PUBLISHED["$schema"] == Draft202012Validator.META_SCHEMA["$id"]


@pytest.mark.parametrize(("name", "key", "schema"), KEYS, ids=[name for name, _, _ in KEYS])
def test_every_key_has_a_description_and_a_default_that_fits_it(name, key, schema):
    assert key["description"].endswith(".")
    needed = schema.get("required", schema.get("else", {}).get("required", ()))
    assert name in needed or "default" in key
    if "default" in key:
        assert Draft202012Validator({**key, "$defs": PUBLISHED["$defs"]}).is_valid(key["default"])


@pytest.mark.parametrize(("name", "key", "schema"), KEYS, ids=[name for name, _, _ in KEYS])
def test_every_number_has_limits_and_every_duration_is_in_seconds(name, key, schema):
    kinds = [key.get("type"), *(branch.get("type") for branch in key.get("anyOf", ()))]
    if "number" in kinds:
        assert key["x-unit"] in ("seconds", "parts of 1") or key["x-unit"].endswith(" a second")
    for part in (key, *key.get("anyOf", ())):
        if part.get("type") in ("number", "integer"):
            assert part["minimum"] < part["maximum"]


@pytest.mark.parametrize(("name", "key", "schema"), KEYS, ids=[name for name, _, _ in KEYS])
def test_every_value_of_a_list_is_said_to_be_wanted(name, key, schema):
    missing = [value for value in key.get("enum", ()) if value is not None and shown(value) not in wanted(key)]
    assert not missing, f'{name}: "x-wanted" lacks them'


def test_every_object_refuses_unknown_keys():
    assert len(OBJECTS) == 24
    assert all(schema["additionalProperties"] is False for schema in OBJECTS)


def test_the_loaded_schema_has_no_references_left():
    assert "$ref" not in json.dumps(load_schema())


def test_the_schema_alone_accepts_the_shipped_files():
    for path in [ROOT / "config.json", *(ROOT / "examples").glob("*.json")]:
        if path.name != "original.json":  # its keys are in another letter case, which JSON Schema cannot say
            Draft202012Validator(PUBLISHED).validate(json.loads(path.read_bytes()))


# -- keys


def fold(text, schema):
    report = Report("x", Lines(text))
    report.root = Scanner(text, Lines(text)).document()
    return Folder(report).fold(report.root, schema), report


def test_keys_that_the_schema_names_match_in_any_letter_case(app):
    assert app(RETRIES=1, Timeouts={"Idle": 5}, HEALTH=[{"FALL_action": "drain"}]) == app(
        retries=1, timeouts={"idle": 5}, health=[{"fall_action": "drain"}]
    )
    assert app(targets=[{"Address": "a:1", "WEIGHT": 2}]) == app(targets=[{"address": "a:1", "weight": 2}])


def test_keys_of_a_free_map_keep_their_letter_case():
    schema = {"properties": {"headers": {"additionalProperties": {"type": "string"}}}}
    plain, report = fold('{"Headers": {"Host": "a", "HOST": "b", "headers": "c"}}', schema)
    assert plain == {"headers": {"Host": "a", "HOST": "b", "headers": "c"}}
    assert not report


def test_values_are_never_folded(app_complaints):
    assert "did you mean" in app_complaints({"balance": "Round_Robin"})[0]


def test_the_same_key_in_two_letter_cases_is_an_error_at_the_second(complaints):
    text = '{"apps": [{"Name": "a",\n "name": "b", "ports": [5001], "targets": ["a:1"]}]}'
    message = '"name" is the same key as "Name" at line 1, column 12; letter case does not matter'
    assert complaints(text) == [f"2:2 $.apps[0].name: {message}"]


def test_paths_show_keys_as_they_are_written(complaints):
    assert complaints('{"Apps": [{"NAME": "a", "Ports": [0], "targets": ["a:1"]}]}')[0].startswith(
        "1:35 $.Apps[0].Ports[0]:"
    )


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("prots", 'did you mean "ports"?'),
        ("PROTS", 'did you mean "ports"?'),
        ("target", 'did you mean "targets"?'),
        ("time_outs", 'did you mean "timeouts"?'),
        ("idle", 'here; it belongs in "timeouts"'),
        ("interval", 'here; it belongs in "health"'),
        ("qqqqq", f"known here: {', '.join(PUBLISHED['$defs']['app']['properties'])}"),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(key, hint, app_complaints):
    glue = "" if hint.startswith("here") else ";"
    assert app_complaints({key: 1}) == [f'$.apps[0].{key}: unknown key "{key}"{glue} {hint}']


@pytest.mark.parametrize("key", ["replication", "balance "])
def test_keys_of_other_versions_are_unknown(key, app_complaints):
    assert "unknown key" in app_complaints({key: "x"})[0]


def test_an_unknown_key_deep_inside_is_found(app_complaints):
    assert app_complaints({"health": [{}, {"fal": 1}], "timeouts": {"conect": 1}, "targets": [{"adres": "a:1"}]}) == [
        '$.apps[0].targets[0]: missing key "address" (or "ports", for a group of servers)',
        '$.apps[0].targets[0].adres: unknown key "adres"; did you mean "address"?',
        '$.apps[0].health[1].fal: unknown key "fal"; did you mean "fall"?',
        '$.apps[0].timeouts.conect: unknown key "conect"; did you mean "connect"?',
    ]


def test_all_missing_keys_of_an_object_are_one_error(complaints):
    assert complaints('{"apps": [{}]}') == ['1:11 $.apps[0]: missing keys "name", "ports", "targets"']


# -- values


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("name", 5, "found 5; wanted text of 1 to 100 characters"),
        ("name", "", 'found ""; wanted text of 1 to 100 characters'),
        ("name", "x" * 101, "found text of 101 characters; wanted text of 1 to 100 characters"),
        ("ports", 5001, "found 5001; wanted a list of ports and ranges, at least one"),
        ("ports", [], "found an empty list; wanted a list of ports and ranges, at least one"),
        ("targets", "a:1", 'found "a:1"; wanted a list of targets'),
        ("bind", [], 'found an empty list; wanted an IP address, "*", or a list of them, at least one'),
        ("bind", 5, 'found 5; wanted an IP address, "*", or a list of them, at least one'),
        ("balance", "rr", 'found "rr"; wanted one of "round_robin", "least_connections", "least_time", '
         '"random_two", "source_hash", "rendezvous", "maglev", "ring_hash", "failover"'),
        ("on_down", "Keep", 'found "Keep"; wanted one of "keep", "close"; did you mean "keep"?'),
        ("retries", -1, "found -1; wanted a whole number from 0 to 1000"),
        ("retries", 1.5, "found 1.5; wanted a whole number from 0 to 1000"),
        ("retries", True, "found true; wanted a whole number from 0 to 1000"),
        ("retries", None, "found null; wanted a whole number from 0 to 1000"),
        ("retries", "3", 'found "3"; wanted a whole number from 0 to 1000, without quotes'),
        ("retries", 10**30, "found 100000000000000000000000000...; wanted a whole number from 0 to 1000"),
        ("health", "tcp", 'found "tcp"; wanted a check or a list of checks'),
        ("health", [{}] * 65, "found a list of 65, which is more than 64; wanted a check or a list of checks"),
        ("timeouts", [], "found an empty list; wanted an object"),
    ],
)
def test_a_wrong_value_is_said_with_what_is_wanted(key, value, sentence, app_complaints):
    assert app_complaints({key: value}) == [f"$.apps[0].{key}: {sentence}"]


def test_a_target_has_so_many_checks_and_no_more(app, app_complaints):
    """They may come by the API, and each is judged."""
    assert len(app(targets=[{"address": "192.0.2.1:1", "health": [{}] * 64}]).targets[0].health) == 64
    (found,) = app_complaints({"targets": [{"address": "192.0.2.1:1", "health": [{}] * 65}]})
    assert found.startswith("$.apps[0].targets[0].health: found a list of 65, which is more than 64; ")


@pytest.mark.parametrize("value", [0, 65536, -1, 1.5, True, None, {}, []])
def test_a_port_that_is_none_is_said_with_what_is_wanted(value, app_complaints):
    (complaint,) = app_complaints({"ports": [5001, value]})
    assert complaint.startswith("$.apps[0].ports[1]: found ")
    assert complaint.endswith('; wanted a port from 1 to 65535 or a range such as "8000-8009"')


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("weight", -1, "a whole number from 0 to 256"),
        ("weight", 257, "a whole number from 0 to 256"),
        ("weight", 0.5, "a whole number from 0 to 256"),
        ("max_connections", -1, "a whole number from 0 to 1000000000"),
        ("backup", 1, "true or false"),
        ("disabled", "false", "true or false"),
        ("name", 5, "text of 1 to 255 characters"),
        ("address", 80, '"host:port", "[IPv6]:port", "unix:/path", or a host alone'),
    ],
)
def test_a_wrong_value_in_a_target_is_found_inside_it(key, value, wanted, app_complaints):
    (complaint,) = app_complaints({"targets": [{"address": "a:1", key: value}]})
    assert complaint.startswith(f"$.apps[0].targets[0].{key}: found ")
    assert complaint.endswith(f"; wanted {wanted}")


@pytest.mark.parametrize("key", ["connect", "idle", "half_closed", "keepalive", "unacked"])
@pytest.mark.parametrize("value", [0, -1, 10**9, "5", False])
def test_a_timeout_is_a_number_of_seconds_above_zero(key, value, app_complaints):
    (complaint,) = app_complaints({"timeouts": {key: value}})
    assert complaint.startswith(f"$.apps[0].timeouts.{key}: found ")
    assert "wanted a number of seconds from" in complaint


@pytest.mark.parametrize("shape", [lambda check: check, lambda check: [check]])
@pytest.mark.parametrize(
    ("key", "value"),
    [*(("interval", bad) for bad in (0, -1, "1", True)), ("timeout", 0), ("rise", 0), ("fall", 1.5), ("port", 0)],
)
def test_a_wrong_value_in_a_check_is_found_inside_it(shape, key, value, app_complaints):
    (complaint,) = app_complaints({"health": shape({key: value})})
    assert f".{key}: found " in complaint
    assert "; wanted a " in complaint


def test_a_list_where_one_target_is_wanted_names_the_forms(app_complaints):
    forms = '"host:port", "[IPv6]:port", "unix:/path", or an object with "address"'
    assert app_complaints({"targets": [["a:1"]]}) == [f"$.apps[0].targets[0]: found a list; wanted {forms}"]


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, "all", None, 2000])
def test_workers_are_auto_or_a_whole_number(workers, complaints):
    app = {"name": "a", "ports": [5001], "targets": ["a:1"]}
    (complaint,) = complaints(json.dumps({"workers": workers, "apps": [app]}))
    assert complaint.endswith('; wanted "auto" or a whole number from 1 to 1024')


# -- the reference made from it


def test_the_configuration_reference_is_what_the_schema_says():
    command = [sys.executable, str(ROOT / "docs" / "make_config_md.py"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_stale_configuration_reference_is_noticed(tmp_path):
    for name in ("docs/make_config_md.py", "tcp_proxy/config/schema.json"):
        copy = tmp_path / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, str(tmp_path / "docs" / "make_config_md.py")]
    missing = subprocess.run([*command, "--check"], capture_output=True, text=True, check=False)
    assert missing.returncode == 1
    subprocess.run(command, check=True)
    subprocess.run([*command, "--check"], check=True)
    page = tmp_path / "docs" / "config.md"
    page.write_text(page.read_text() + "more\n")
    stale = subprocess.run([*command, "--check"], capture_output=True, text=True, check=False)
    assert stale.returncode == 1
    assert "run make docs" in stale.stderr
