"""`cookie` of a haproxy.cfg: the cookie here, and what is said of what is different."""

import json

import pytest

from tcp_proxy.config.haproxy.document import convert
from tcp_proxy.config.load import load_text

PLAIN = {"http_only": False, "samesite": None, "secure": False, "no_cache": False}


def imported(line):
    text = f"listen a\n mode http\n bind 127.0.0.1:80\n {line}\n"
    document, notes = convert(text + " server one 192.0.2.1:80 cookie s1\n server two 192.0.2.2:80 cookie s2\n")
    load_text(json.dumps(document).encode(), "imported")
    return document["apps"][0].get("sticky"), [note for note in notes if "cookie " + line.split()[1] in note]


@pytest.mark.parametrize(
    ("line", "cookie"),
    [
        ("cookie SRV insert indirect nocache", {"name": "SRV", **PLAIN, "no_cache": True}),
        ("cookie SRV insert httponly secure", {"name": "SRV", **PLAIN, "http_only": True, "secure": True}),
        ("cookie SESSION prefix", {"name": "SESSION", **PLAIN, "mode": "prefix"}),
        ("cookie SRV insert domain .example.org attr SameSite=lax",
         {"name": "SRV", **PLAIN, "domain": ".example.org", "samesite": "Lax"}),
    ],
)  # fmt: skip
def test_a_cookie(line, cookie):
    sticky, notes = imported(line)
    assert sticky == {"key": "cookie", "cookie": cookie}
    assert len(notes) == 1
    assert notes[0].endswith("are made of their names here: clients are shared out anew, once")


def test_what_has_no_counterpart_is_said():
    assert imported("cookie JSESSIONID rewrite")[0] is None
    assert "has no counterpart" in imported("cookie JSESSIONID rewrite")[1][0]
    assert any("maxidle 30m: left out" in note for note in imported("cookie S insert maxidle 30m")[1])
