"""What other proxies call our keys, each answered with ours or with "there is none", in exact sentences."""

import pytest

from tcp_proxy.config import other_names
from tcp_proxy.config.other_names import NONE, OURS, OWNERS, VALUES
from tcp_proxy.config.schema import load_schema


def keys(schema, owner=""):
    """Every key of the schema as the table writes it."""
    for branch in (schema, *schema.get("anyOf", ())):
        for name, inner in branch.get("properties", {}).items():
            yield owner + name
            yield from keys(inner, f"{owner}{name}.")
        if isinstance(branch.get("items"), dict):
            yield from keys(branch["items"], f"{owner.removesuffix('.')}[].")


KEYS = set(keys(load_schema()))


def test_every_key_that_the_table_leads_to_is_in_the_schema():
    paths = {path.partition("=")[0] for paths in OURS.values() for path in paths}
    assert paths <= KEYS
    assert {path.rpartition(".")[0] + "." * ("." in path) for path in paths} <= set(OWNERS)


def test_no_word_is_in_the_table_twice():
    words = [word for _, group in (*other_names._ROWS, *other_names._NOT) for word in group.split()]
    assert len(words) == len(set(words)) == len(OURS) + len(NONE)


def test_no_word_is_a_value_that_we_have():
    assert not set(VALUES) & set(choices(load_schema()))


def choices(schema):
    """Every (key, value) that the schema lists."""
    for branch in (schema, *schema.get("anyOf", ()), *([schema["items"]] if isinstance(schema.get("items"), dict) else ())):
        for name, inner in branch.get("properties", {}).items():
            yield from ((name, value) for value in inner.get("enum", ()))
            yield from choices(inner)
        if branch is not schema:
            yield from choices(branch)


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ('"servers": []', 'unknown key "servers"; it is "targets" here'),
        ('"maxconn": 1', 'unknown key "maxconn"; here it is "max_connections" of a target'),
        ('"ip_hash": 1', 'unknown key "ip_hash"; it is "balance": "source_hash" here'),
        ('"hash_policy": []', 'unknown key "hash_policy"; it is "hash" here'),
        ('"overprovisioning_factor": 140', 'unknown key "overprovisioning_factor"; it is "overprovisioning" here'),
        ('"ssl": 1', 'unknown key "ssl"; it is "tls" here'),
        ('"crt": 1', 'unknown key "crt"; here it is "certificates" in "tls" of an app'),
        ('"stats": 1', 'unknown key "stats"; here it is "api" at the top'),
        ('"outlier_detection": 1', 'unknown key "outlier_detection"; it is "outlier" here'),
        ('"consecutive_5xx": 1',
         'unknown key "consecutive_5xx"; here it is "consecutive_failures" in "outlier" of an app'),
        ('"Stick-Table": 1', 'unknown key "Stick-Table"; it is "sticky" here'),
        ('"port": 1', 'unknown key "port"; it is "ports" here'),
        ('"retry": 1', 'unknown key "retry"; it is "retries" here'),
        ('"inter": 1', 'unknown key "inter"; here it is "interval" of a check in "health"'),
        ('"target": []', 'unknown key "target"; did you mean "targets"?'),
    ],
)  # fmt: skip
def test_the_sentence_for_a_key_of_an_app(complaints, entry, sentence):
    text = f'{{"apps": [{{"name": "a", "ports": [80], "targets": ["192.0.2.1:80"], {entry}}}]}}'
    assert [line.partition(": ")[2] for line in complaints(text.encode())] == [sentence]


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ('"maxconn": 1', 'unknown key "maxconn"; it is "max_connections" here'),
        ('"port": 1', 'unknown key "port"; it is "address": "HOST:PORT" here'),
        ('"slow-start": 1',
         'unknown key "slow-start"; here it is "slow_start" of an app'),
        ('"chroot": 1',
         'unknown key "chroot"; there is none: what starts the program sets it (systemd: RootDirectory=)'),
    ],
)  # fmt: skip
def test_the_sentence_for_a_key_of_a_target(complaints, entry, sentence):
    text = f'{{"apps": [{{"name": "a", "ports": [80], "targets": [{{"address": "192.0.2.1:80", {entry}}}]}}]}}'
    assert [line.partition(": ")[2] for line in complaints(text.encode())] == [sentence]


def test_a_word_that_is_nearly_one_of_ours_is_taken_for_that(complaints):
    """`host` is an address elsewhere; in "api" it is `hosts` with a letter left out."""
    text = b'{"api": {"listen": "127.0.0.1:1", "host": []}, "apps": []}'
    assert any('unknown key "host"; did you mean "hosts"?' in line for line in complaints(text))


@pytest.mark.parametrize(
    ("entry", "end"),
    [
        ('"health": [{"type": "redis"}]', '; that is "type": "exchange" with "preset": "redis"'),
        ('"balance": "leastconn"', '; that is "least_connections"'),
        ('"balance": "source"', '; that is "source_hash"'),
        ('"balance": "uri"', '; that is "rendezvous", "maglev" or "ring_hash" with "hash": {"key": "path"}'),
        ('"balance": "ring"', '; that is "ring_hash"'),
    ],
)
def test_the_sentence_for_a_value(complaints, entry, end):
    text = f'{{"apps": [{{"name": "a", "ports": [80], "targets": ["192.0.2.1:80"], {entry}}}]}}'
    (line,) = complaints(text.encode())
    assert line.endswith(end), line
