"""Which route a request takes."""

from tcp_proxy.sansio.http1.routing import Router, bare_host

ROUTER = Router([
    ("", ""), ("", "/api"), ("", "/api/v2"), ("www.example.org", ""), ("*.example.org", ""), ("*.a.example.org", "/x/"),
    ("www.example.org", "/api"), ("[::1]", "/"),
    ("Dot.example.net.", ""), ("*.below.example.net.", ""), ("[2001:DB8:0:0:0:0:0:1]", ""),
])  # fmt: skip

TABLE = [
    (b"other", b"/", 0),
    (b"other", b"/api", 1),
    (b"other", b"/api/", 1),
    (b"other", b"/api?x", 1),
    (b"other", b"/apis", 0),
    (b"other", b"/api/v2/y", 2),
    (b"other", b"/api/v22", 1),
    (b"WWW.Example.Org:80", b"/", 3),
    (b"www.example.org.", b"/api/x", 6),
    (b"x.example.org", b"/api", 4),
    (b"example.org", b"/", 0),
    (b"b.a.example.org", b"/x/y", 5),
    (b"b.a.example.org", b"/x", 4),
    (b".example.org", b"/", 0),
    (b"[::1]:80", b"/a", 7),
    (b"[0:0::0:1]:80", b"/a", 7),
    (b"[::2]", b"/a", 0),
    (b"[:::]", b"/a", 0),
    (b"dot.example.net", b"/a", 8),
    (b"dot.example.net.", b"/a", 8),
    (b"a.below.example.net", b"/a", 9),
    (b"[2001:db8::1]", b"/a", 10),
    (b"", b"/api", 1),
    (b"other", b"*", 0),
    (b"other", b"/API", 0),
    (b"other", b"/x?/api", 0),
]


def test_the_table():
    for host, path, number in TABLE:
        assert ROUTER.find(host, path) == number, (host, path)


def test_no_rule_fits():
    assert Router([("a", "/x")]).find(b"a", b"/y") == -1
    assert Router([]).find(b"a", b"/") == -1


def test_the_first_of_equals():
    assert Router([("a", "/x"), ("A", "/x")]).find(b"a", b"/x") == 0


def test_a_host_without_its_port():
    assert [bare_host(h) for h in (b"A:80", b"a.", b"[::1]:80", b"[::1]", b"")] == ["a", "a", "[::1]", "[::1]", ""]
