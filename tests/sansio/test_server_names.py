"""Which entry a host name belongs to."""

import pytest

from tcp_proxy.sansio.server_names import ServerNames

ENTRIES = [("a.org", 1), ("*.a.org", 2), ("B.org.", 3), ("b.org", 4), ("*.x.a.org", 5), ("*.org", 6)]


@pytest.mark.parametrize(
    ("name", "one_label", "any_number"),
    [
        ("a.org", 1, 1), ("A.Org.", 1, 1), ("y.a.org", 2, 2), ("x.a.org", 2, 2), ("z.x.a.org", 5, 5), ("b.org", 3, 3),
        ("q.z.x.a.org", None, 5), ("c.org", 6, 6), ("d.c.org", None, 6), ("org", None, None), ("", None, None),
        (".a.org", 2, 2), ("com", None, None), ("*.a.org", 2, 2),
    ],
)  # fmt: skip
def test_exact_then_the_longest_wildcard(name, one_label, any_number):
    assert ServerNames(ENTRIES, one_label=True).find(name) == one_label
    assert ServerNames(ENTRIES, one_label=False).find(name) == any_number


def test_no_entries():
    assert ServerNames([], one_label=True).find("a.org") is None
