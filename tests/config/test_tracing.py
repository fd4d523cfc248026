"""The key `tracing` arrives, and what is wrong with it has its one line; what it holds of secrets is not shown."""

import json

import pytest

from tcp_proxy.config.diff import diff
from tcp_proxy.config.load import ConfigErrors, load_text
from tcp_proxy.config.log_model import TRACES, Tracing
from tcp_proxy.control.answers import views
from tcp_proxy.control.long_answer import pieces

URL = "http://collector:4318"


def loaded(tracing, **top):
    document = {"apps": [{"name": "a", "ports": [5001], "targets": ["a:1"]}], "tracing": tracing, **top}
    return load_text(json.dumps(document).encode(), "config.json", {})


def test_what_is_left_out():
    assert loaded(None).tracing is None
    assert loaded(None).access_logs.paths == ()
    assert loaded({"endpoint": URL}).tracing == Tracing(f"{URL}/v1/traces")
    assert Tracing("x") == Tracing("x", "tcp_proxy", 1.0, (), 10.0, None)
    logs = loaded({"endpoint": URL, "sample": 0}, access_log="a.log").access_logs
    assert (logs.sample, logs.paths, logs.files) == (0.0, ("a.log", TRACES), ("a.log",))


def test_all_of_it_arrives(tmp_path):
    secret = tmp_path / "token"
    secret.write_text("Bearer s3cret\n")
    given = {
        "endpoint": "https://collector/in", "service_name": "edge", "sample": 0.25, "timeout": 3, "ca": "/ca.pem",
        "headers": {"Authorization": f"@{secret}"},
    }  # fmt: skip
    known = loaded(given)
    headers = (("Authorization", "Bearer s3cret"),)
    assert known.tracing == Tracing("https://collector/in", "edge", 0.25, headers, 3.0, "/ca.pem")
    shown = json.loads("".join(pieces(views.config(known))))["tracing"]
    assert loaded(shown).tracing.endpoint == known.tracing.endpoint, "what is shown can be loaded"
    secret.write_text("Bearer 0ther\n")
    changes = [*diff(loaded({"endpoint": URL}), known), *diff(known, loaded(given)), *diff(known, loaded(None))]
    assert all(change.needs_restart for change in changes if change.key != "tracing.sample")
    assert "tracing.headers" in [change.key for change in changes]
    told = str([*shown.items(), *map(str, changes)])
    assert "Authorization" in told
    assert "s3cret" not in told
    assert "0ther" not in told


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, '$.tracing: missing key "endpoint"'),
        *(
            ({"endpoint": wrong}, f'$.tracing.endpoint: found {json.dumps(wrong)}; wanted "http://host:port"')
            for wrong in ("collector:4318", "grpc://h:4317", "http://", "http://h:0", "http://h:99999", "http://u:p@h", "http://h#x",
                          "http://h h", "http://[::1", "http:///v1/traces")
        ),
        ({"endpoint": URL, "sample": 1.5}, "$.tracing.sample: found 1.5; wanted a number from 0 to 1"),
        ({"endpoint": URL, "timeout": 0}, "$.tracing.timeout: found 0; wanted a number of seconds from 0.1 to 300"),
        ({"endpoint": URL, "ca": "/ca.pem"}, "$.tracing.ca: the collector is not spoken to by TLS"),
        ({"endpoint": "https://h", "ca": "\0"}, "$.tracing.ca: a zero character in a path"),
        ({"endpoint": URL, "service_name": " a"}, '$.tracing.service_name: found " a"; wanted a name without control'),
        ({"endpoint": URL, "headers": {"a b": "c"}}, '"a b" is no name of a header'),
        ({"endpoint": URL, "headers": {"a": "b\n"}}, "wanted a value without control characters"),
        ({"endpoint": URL, "headers": {"Content-Type": "c"}}, '"Content-Type" is what the message says of itself'),
        ({"endpoint": URL, "headers": {"a": "@/no/such"}}, '"/no/such" cannot be read'),
        ({"endpoints": [URL]}, '$.tracing.endpoints: unknown key "endpoints"; did you mean "endpoint"?'),
    ],
)  # fmt: skip
def test_what_is_wrong(given, told):
    with pytest.raises(ConfigErrors) as errors:
        loaded(given)
    assert told in str(errors.value)
