"""Configurations in other formats are named; what may be JSON with a mistake is left to the scanner."""

import pytest

from tcp_proxy.config.other_formats import recognised

SAME = "wanted JSON: the same keys, with braces, brackets and double quotes"
YAML = f"this is YAML; {SAME}"
TOML = f"this is TOML; {SAME} (--import takes a configuration of tcpffee)"
HAPROXY = "this is HAProxy's configuration; --import makes ours of it, wanted JSON (docs/config.md has the keys)"
NGINX = "this is nginx's configuration; wanted JSON (docs/config.md has the keys)"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("apps:\n  - name: a\n", YAML),
        ("---\napps: []\n", YAML),
        ("# a comment\n\napps:\n", YAML),
        ("- name: a\n", YAML),
        ('"apps": [{}]', YAML),
        ("a = 1\n[x]\nports = [1]\n", TOML),
        ("[[apps]]\nname = 'a'\n", TOML),
        ("global\n    daemon\n", HAPROXY),
        ("frontend web\n    bind :80\n", HAPROXY),
        ("worker_processes 2;\n", NGINX),
        ("stream {\n}\n", NGINX),
        ("", ""),
        ("# only\n", ""),
        ('{"apps": []}', ""),
        ("  {apps: 1}", ""),
        ("[]", ""),
        ('["a"]', ""),
        ("nonsense", ""),
        ("17", ""),
        ("null", ""),
    ],
)
def test_what_is_said_of_a_text(text, said):
    assert recognised(text) == said


def test_it_is_the_one_error_of_the_file(complaints):
    assert complaints(b"apps:\n  - name: a\n") == [f"1:1 $: {YAML}"]
