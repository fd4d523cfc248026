"""The most exact name, and protocols."""

import pytest

from tcp_proxy.sansio.sni_routes import SniRoutes

RULES = [
    ([], []),  # 0
    (["*.example.org"], []),
    (["www.example.org", "example.org"], []),
    (["*.shop.example.org"], ["h2"]),
    (["WWW.example.org."], ["imap", "h2"]),  # 4
]


@pytest.mark.parametrize(
    ("name", "offered", "number"),
    [
        ("www.example.org", (), 2),
        ("Example.ORG.", (), 2),
        ("other.example.org", (), 1),
        ("a.b.example.org", (), 1),
        ("www.example.org", ("http/1.1", "h2"), 4),
        ("www.example.org", ("http/1.1",), 2),
        ("a.shop.example.org", ("h2",), 3),
        ("a.shop.example.org", (), 1),
        ("example.com", (), 0),
        ("", (), 0),
        ("org", (), 0),
    ],
)
def test_the_most_exact_one_that_fits(name, offered, number):
    assert SniRoutes(RULES).find(name, offered) == number


def test_nothing_fits_where_no_route_is_for_all():
    assert SniRoutes(RULES[1:]).find("example.com", ()) == -1
    assert SniRoutes(RULES[1:]).find("", ("h2",)) == -1


def test_a_wildcard_is_not_its_parent():
    assert SniRoutes([(["*.example.org"], [])]).find("example.org", ()) == -1


def test_of_equals_the_first():
    assert SniRoutes([(["a"], []), (["a"], [])]).find("a", ()) == 0


def test_protocols_alone_choose_too():
    routes = SniRoutes([([], []), ([], ["ssh", "h2"])])
    assert routes.find("any", ("h2",)) == 1
    assert routes.find("any", ()) == 0
