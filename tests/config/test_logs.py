"""Where logs go to: a syslog server is named right, or that is an error at its place."""

import json

import pytest

from tcp_proxy.config.load import load_text


@pytest.mark.parametrize(
    ("text", "hint"), [("syslog", "wanted"), ("syslog+udp://name:514", "a name"), ("syslog+tcp://127.0.0.1", "no port")]
)
def test_a_server_that_is_none_is_an_error(complaints, text, hint):
    top = '{"log": {"to": "%s"}, "apps": [{"name": "a", "ports": [5001], "targets": ["a:1"]}]}'
    (found,) = complaints(top % text)
    assert found.startswith(f'1:16 $.log.to: found "{text}": ')
    assert hint in found


def test_of_an_app_too(app_complaints):
    (found,) = app_complaints({"access_log": "syslog+udp://127.0.0.1"})
    assert found.startswith('$.apps[0].access_log: found "syslog+udp://127.0.0.1": ')


def test_standard_error_and_servers_are_right():
    for text in ("stderr", "syslog+unix:///dev/log?tag=x"):
        top = {"log": {"to": text}, "apps": [{"name": "a", "ports": [5001], "targets": ["a:1"]}]}
        assert load_text(json.dumps(top).encode(), "x").log.to == text
