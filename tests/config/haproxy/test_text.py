"""Words, sections and times of a haproxy.cfg; and no text at all that ends in anything but an answer or one line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcp_proxy.config.haproxy.text import Line, is_one, seconds, sections, short, words
from tcp_proxy.config.report import CannotImport


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("  bind :80  # all\t", ["bind", ":80"]),
        (r"http-request set-header X a\ b\#c", ["http-request", "set-header", "X", "a b#c"]),
        ("server a '10.0.0.1:80 # no'", ["server", "a", "10.0.0.1:80 # no"]),
        (r'log-format "%ci \"x\" \n"', ["log-format", r'%ci "x" \n']),
        (r"option httpchk GET / HTTP/1.1\r\nHost:\ www", ["option", "httpchk", "GET", "/", "HTTP/1.1\r\nHost: www"]),
        (r"x \x41\t", ["x", "A\t"]),
        ('x ""', ["x", ""]),
        ('user "${HAPROXY_USER}"', ["user", "${HAPROXY_USER}"]),
        ("", []),
        ("# only this", []),
    ],
)
def test_words(text, found):
    assert list(words(text, 1)) == found


def test_a_quote_that_is_not_closed():
    with pytest.raises(CannotImport, match=r'line 7: a " is not closed'):
        list(words('x "a', 7))


def test_sections():
    found = sections("global\n  daemon\n\nfrontend web # it\n bind :80\n mode tcp\n.notice hello\n")
    assert [(one.kind, one.name, one.head.number) for one in found] == [("global", "", 1), ("frontend", "web", 4)]
    assert found[1].lines == (Line(5, ("bind", ":80")), Line(6, ("mode", "tcp")))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("bind :80\n", "line 1: bind: wanted a section first"),
        ("global\n.if defined(X)\n.endif\n", "line 2: .if: conditional blocks are not judged"),
    ],
)
def test_what_is_none(text, error):
    with pytest.raises(CannotImport, match=error):
        sections(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [("5s", 5), ("500", 0.5), ("500ms", 0.5), ("10us", 0.00001), ("2m", 120), ("1h", 3600), ("1d", 86400), ("x", None)],
)
def test_times(text, found):
    assert seconds(text) == found


def test_a_number_is_written_as_a_person_would():
    assert [repr(short(one)) for one in (5.0, 0.5, 0.1 + 0.2)] == ["5", "0.5", "0.3"]


@pytest.mark.parametrize(
    ("text", "yes"),
    [
        ("# HAProxy\n\nglobal\n daemon\n", True),
        ("frontend web\n", True),
        ("defaults from x\n", True),
        ("global = 1\n", False),
        ('bind_addr = "::"\n', False),
        ("{}", False),
        ("", False),
    ],
)
def test_whether_it_is_one(text, yes):
    assert is_one(text) is yes


@given(st.text(alphabet=st.sampled_from("ab \"'\\#\n\t$x4}{"), max_size=60))
def test_any_text_is_words_or_one_line(text):
    for line in text.splitlines():
        try:
            shown = str(Line(1, tuple(words(line, 1))))
        except CannotImport as error:
            shown = str(error)
        assert len(shown.splitlines()) <= 1
