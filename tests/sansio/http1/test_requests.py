"""Heads of requests: what is read from them, every malformed one, and the same however they are cut."""

from hypothesis import given
from hypothesis import strategies as st

from kit.malformed import REQUESTS
from tcp_proxy.config.model import StickyCookie
from tcp_proxy.sansio.http1.chunks import Chunks
from tcp_proxy.sansio.http1.fields import CHUNKED, Refused
from tcp_proxy.sansio.http1.max_forwards import count_down
from tcp_proxy.sansio.http1.requests import AS_MUCH_AS_CAME, LINE_SHOWN, Limits, first_line, head_of, read_request
from tcp_proxy.sansio.http1.sticky_cookie import CookieRule

LIMITS = Limits()


def read(text):
    found = read_request(text, 0, LIMITS)
    assert found is not None
    return found[0]


def refusal(text):
    """The status, whether the head or the chunks behind it are refused; None when nothing is."""
    try:
        found = read_request(text, 0, LIMITS)
        if found is not None and found[0].length == CHUNKED:
            Chunks().feed(text, found[1])
    except Refused as error:
        return error.status
    return None


def test_what_is_malformed_is_refused():
    assert {name: refusal(text) for name, text, _ in REQUESTS} == {name: status for name, _, status in REQUESTS}


def test_the_table_is_as_long_as_promised():
    assert len(REQUESTS) >= 150
    assert len({name for name, _, _ in REQUESTS}) == len(REQUESTS)


def test_no_cut_makes_a_malformed_one_good():
    """Fed byte by byte it is refused at some point, for that reason or for one that is seen sooner."""
    for name, text, status in REQUESTS:
        if len(text) < 300:
            refused = next((found for size in range(len(text)) if (found := refusal(text[: size + 1]))), None)
            assert refused in (status, 400), name


GOOD = {
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n": (b"GET", b"/", b"a", 0, True),
    b"GET /x?y=z HTTP/1.1\r\nhost:a:80\r\nConnection: close\r\n\r\n": (b"GET", b"/x?y=z", b"a:80", 0, False),
    b"GET / HTTP/1.0\r\n\r\n": (b"GET", b"/", b"", 0, False),
    b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n": (b"GET", b"/", b"", 0, True),
    b"POST / HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 5\r\n\r\n": (b"POST", b"/", b"[::1]:80", 5, True),
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n": (b"POST", b"/", b"a", CHUNKED, True),
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n": (b"OPTIONS", b"*", b"a", 0, True),
    b"OPTIONS http://b HTTP/1.1\r\nHost: a\r\n\r\n": (b"OPTIONS", b"*", b"b", 0, True),
    b"GET http://b:8/x?y HTTP/1.1\r\nHost: a\r\n\r\n": (b"GET", b"/x?y", b"b:8", 0, True),
    b"GET HTTPS://b HTTP/1.1\r\nHost: a\r\n\r\n": (b"GET", b"/", b"b", 0, True),
    b"GET http://b?x HTTP/1.1\r\nHost: a\r\n\r\n": (b"GET", b"/?x", b"b", 0, True),
    b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n": (b"CONNECT", b"a:443", b"a", 0, True),
    b"CONNECT [::1]:443 HTTP/1.1\r\nHost: a\r\n\r\n": (b"CONNECT", b"[::1]:443", b"a", 0, True),
    b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n": (b"GET", b"/", b"a", 0, True),
    b"FOO!~ /%00/../x HTTP/1.1\r\nHost: a\r\nX:\t y \t\r\nX: \xff\r\n\r\n": (b"FOO!~", b"/%00/../x", b"a", 0, True),
    b"GET / HTTP/1.5\r\nHost: a\r\n\r\n": (b"GET", b"/", b"a", 0, True),
    b"GET / HTTP/1.1\r\nHost:\r\n\r\n": (b"GET", b"/", b"", 0, True),
    b"GET / HTTP/1.0\r\nHost: \r\n\r\n": (b"GET", b"/", b"", 0, False),
    b"OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n": (b"OPTIONS", b"*", b"", 0, True),
    b"GET http://b/ HTTP/1.1\r\nHost:\r\n\r\n": (b"GET", b"/", b"b", 0, True),
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ,chunked\r\n\r\n": (b"POST", b"/", b"a", CHUNKED, True),
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: , keep-alive, ,\r\n\r\n": (b"GET", b"/", b"a", 0, True),
}


def test_what_is_read():
    for text, wanted in GOOD.items():
        request = read(text)
        assert (request.method, request.path, request.host, request.length, request.keeps) == wanted


def test_a_head_is_whole_with_its_last_byte_and_not_before():
    for text, wanted in GOOD.items():
        for size in range(len(text)):
            assert read_request(text[:size], 0, LIMITS) is None, text[:size]
        assert read_request(text + b"GET", 0, LIMITS)[1] == len(text)
        request, end = read_request(b"xyz" + text, 3, LIMITS)
        assert (request.method, end) == (wanted[0], len(text) + 3)


@given(st.binary(max_size=80))
def test_nothing_raises_but_refused(junk):
    for text in (junk, b"GET / HTTP/1.1\r\n" + junk + b"\r\n\r\n", b"GET " + junk + b" HTTP/1.1\r\nHost: a\r\n\r\n"):
        refusal(text)


@given(
    st.lists(
        st.tuples(st.from_regex(rb"\A[A-Za-z0-9!#-]{1,9}\Z"), st.from_regex(rb"\A[ -~\t\x80-\xff]{0,20}\Z")), max_size=9
    )
)
def test_fields_go_on_in_order_as_they_came(pairs):
    pairs = [(b"Y-" + name, value) for name, value in pairs]
    block = b"".join(b"%b:%b\r\n" % pair for pair in pairs)
    request = read(b"GET / HTTP/1.1\r\nHost: a\r\n" + block + b"\r\n")
    assert request.fields.kept == b"Host: a\r\n" + block


def test_what_may_be_sent_again():
    again = [
        m
        for m in (b"GET", b"PUT", b"DELETE", b"POST", b"PATCH")
        if read(m + b" / HTTP/1.1\r\nHost: a\r\n\r\n").is_idempotent
    ]
    assert again == [b"GET", b"PUT", b"DELETE"]


def test_expectations_are_those_of_1_1():
    head = b"POST / HTTP/1.%b\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n"
    assert [read(head % minor).expects for minor in (b"1", b"0")] == [True, False]


def fed(text, read, first=1):
    """What comes of it in single bytes, and whether what was seen is looked at again."""
    found = []
    for remembers in (True, False):
        seen = 0
        for size in range(first, len(text) + 1):
            try:
                done = read(text[:size], seen)
            except Refused as error:
                found.append((size, error.status, str(error)))
                break
            if done is not None:
                found.append((size, done[1]))
                break
            seen = size if remembers else 0
        else:
            found.append(None)
    return found


def test_what_was_seen_need_not_be_seen_again():
    for text in (*GOOD, *(text for _, text, _ in REQUESTS)):
        with_memory, without = fed(text[:3000], lambda data, seen: read_request(data, 0, LIMITS, seen))
        assert with_memory == without, text[:200]
    text = b"GET / HTTP/1.1\r\nX: \0yy"
    assert read_request(text + b"y", 0, LIMITS, len(text)) is None  # it was refused when it was seen


def test_the_limit_of_a_head_is_the_same_wherever_it_is_cut():
    for more, wanted in ((0, None), (1, 431)):
        text = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * (300 - 28 + more)
        assert len(text) == 300 + more
        text += b"\r\n\r\n"
        found = fed(text, lambda data, seen: read_request(data, 0, Limits(head=300), seen))
        assert found[0] == found[1]
        assert found[0][1] == (wanted or len(text))
        assert found[0][0] == (len(text) if wanted is None else 304)


def test_the_limit_of_a_line_is_the_same_wherever_it_is_cut():
    for more, wanted in ((0, None), (1, 414)):
        text = b"GET /" + b"y" * (100 - 16 + more) + b" HTTP/1.1\r\n"
        assert len(text) == 100 + more
        text += b"Host: a\r\n\r\n"
        found = fed(text, lambda data, seen: read_request(data, 0, Limits(line=100), seen))
        assert found[0] == found[1]
        assert found[0][1] == (wanted or len(text))


def test_the_first_line_of_what_was_refused():
    for text, line in {
        b"\r\nHEAD / HTTP/1.1\r\nX\r\n\r\n": b"HEAD / HTTP/1.1", b"GET /": b"GET /", b"": b"", b"\r\n": b"", b"A\nB": b"A",
        b"G\0T /\r": b"G\0T /", b"x" * 9000: b"x" * LINE_SHOWN,
    }.items():  # fmt: skip
        assert first_line(text) == line


SLOTS = ("host", "is_rewritten", "length", "line", "method", "minor", "path", "keeps", "expects")
FIELD_SLOTS = ("has_login", "kept", "length", "options", "values")


def are_same(one, other):
    return all(getattr(one, name) == getattr(other, name) for name in SLOTS) and all(
        getattr(one.fields, name) == getattr(other.fields, name) for name in FIELD_SLOTS
    )


def again(request):
    found, end = read_request(head_of(request), 0, AS_MUCH_AS_CAME)
    assert end == len(head_of(request))
    return found


def test_a_request_is_made_again_of_its_head():
    texts = [text for _, text, _ in REQUESTS] + list(GOOD)
    for text in texts:
        try:
            found = read_request(text, 0, LIMITS)
        except Refused:
            continue
        if found is not None:
            assert are_same(again(found[0]), found[0]), text


def test_what_we_have_changed_in_it_stays_so():
    request = read(b"OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 3\r\nCookie: s=x; b=c\r\n\r\n")
    assert count_down(request)
    CookieRule(StickyCookie(name="s")).take(request)
    found = again(request)
    assert are_same(found, request)
    assert (found.fields.values[b"max-forwards"], b"Cookie: b=c" in found.fields.kept) == ([b"2"], True)
