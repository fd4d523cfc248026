"""Who may connect arrives, files are read, and what is wrong with either has its one line."""

import json
from ipaddress import ip_address

import pytest

from tcp_proxy.config.access import MOST_BYTES, MOST_NETWORKS, doubts
from tcp_proxy.config.load import load_text
from tcp_proxy.config.model import COUNTED_RULES, AccessEntry
from tcp_proxy.sansio.networks import ranges_of


def decides(access, ip):
    """The rule that does, for an address."""
    address = ip_address(ip)
    return access.rules[ranges_of(access.table)[address.version == 6].find(address.packed)]


@pytest.fixture
def networks(tmp_path):
    """networks(text): a file, as an entry names it."""

    def write(text, name="networks"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return f"@{path}"

    return write


def test_everybody_may_connect_where_nothing_is_said(app):
    assert app().access is None
    assert app(access=None).access is None


def test_lists_arrive(app):
    access = app(access={"allow": ["10.0.0.0/8", "2001:DB8::/32"], "deny": ["10.1.2.3", "::ffff:10.2.0.0/112"]}).access
    assert access.allow == (AccessEntry("10.0.0.0/8"), AccessEntry("2001:db8::/32"))
    assert access.deny == (AccessEntry("10.1.2.3"), AccessEntry("10.2.0.0/16"))
    assert access.rules == (
        ("allow", "10.0.0.0/8"), ("allow", "2001:db8::/32"), ("deny", "10.1.2.3"), ("deny", "10.2.0.0/16"), ("deny", "none"),
    )  # fmt: skip


def test_the_most_exact_one_decides_in_whichever_list_it_is(app):
    access = app(
        access={"allow": ["10.0.0.0/8", "10.1.2.0/24", "10.1.2.3/32"], "deny": ["10.1.0.0/16", "10.1.2.3/32"]}
    ).access
    wanted = {
        "10.2.0.1": ("allow", "10.0.0.0/8"),
        "10.1.0.1": ("deny", "10.1.0.0/16"),
        "10.1.2.1": ("allow", "10.1.2.0/24"),
        "10.1.2.3": ("deny", "10.1.2.3"),  # in both: deny
        "192.0.2.1": ("deny", "none"),
        "2001:db8::1": ("deny", "none"),
    }
    assert {ip: decides(access, ip) for ip in wanted} == wanted


def test_with_deny_alone_everybody_else_may(app):
    access = app(access={"deny": ["192.0.2.0/24"]}).access
    assert access.allow is None
    assert decides(access, "192.0.2.1") == ("deny", "192.0.2.0/24")
    assert decides(access, "192.0.3.1") == decides(access, "::1") == ("allow", "none")


def test_a_file_has_one_a_line(app, networks):
    entry = networks(b"\xef\xbb\xbf# the office\r\n10.0.0.0/8\r\n\r\n  192.0.2.1   # its printer\r\n2001:db8::/32")
    access = app(access={"allow": [entry, "198.51.100.1"]}).access
    assert [(one.entry, one.count) for one in access.allow] == [(entry, 3), ("198.51.100.1", 1)]
    for ip in ("10.1.2.3", "192.0.2.1", "2001:db8::7"):
        assert decides(access, ip) == ("allow", entry)
    assert decides(access, "192.0.2.2") == ("deny", "none")


def test_another_content_is_another_value_and_the_same_is_not(app, networks):
    entry = networks("10.0.0.0/8\n")
    first = app(access={"deny": [entry]})
    assert app(access={"deny": [entry]}) == first
    networks("10.0.0.0/9\n")
    assert app(access={"deny": [entry]}) != first


def test_ten_thousand_networks(app, networks):
    lines = [f"10.{n >> 8}.{n & 255}.0/{24 + n % 9}" for n in range(10_000)]
    access = app(access={"deny": [networks("\n".join(lines))]}).access
    assert access.deny[0].count == 10_000
    assert decides(access, "10.5.7.0")[0] == "deny"
    assert decides(access, "10.0.8.1") == ("allow", "none")  # 10.0.8.0/32


@pytest.mark.parametrize(
    ("plain", "path", "text"),
    [
        ({}, "access", 'wanted an object with the key "allow" or "deny", or both'),
        ([], "access", "wanted an object"),
        ({"allow": []}, "access.allow", "wanted a list of addresses"),
        ({"allow": "10.0.0.0/8"}, "access.allow", "wanted a list of addresses"),
        ({"deny": [7]}, "access.deny[0]", "wanted an address, a network, or @"),
        ({"deny": ["10.0.0.1/8"]}, "access.deny[0]", "has host bits set"),
        ({"allow": ["::/0", "host"]}, "access.allow[1]", 'or "@" and the path of a file'),
        ({"allow": ["@/nowhere/x"]}, "access.allow[0]", "cannot be read: No such file or directory"),
        ({"allow": ["@/"]}, "access.allow[0]", "cannot be read: Is a directory"),
        ({"allow": ["@"]}, "access.allow[0]", "cannot be read"),
        ({"allow": ["@\0"]}, "access.allow[0]", "cannot be read"),
        ({"permit": ["::1"]}, "access.permit", 'it is "allow" here'),
    ],
)
def test_what_is_wrong_is_said(app_complaints, plain, path, text):
    complaints = [one for one in app_complaints({"access": plain}) if text in one]
    assert len(complaints) == 1
    assert complaints[0].startswith(f"$.apps[0].{path}: ")


def test_what_is_wrong_in_a_file_is_said_with_its_line(app_complaints, networks):
    entry = networks("10.0.0.0/8\nroot:secret\n10.0.0.0/33 # x\n")
    found = app_complaints({"access": {"deny": [entry]}})
    assert [one.split(": ")[2] for one in found] == ["line 2", "line 3"]
    assert all(one.startswith(f'$.apps[0].access.deny[0]: "{entry}": line ') for one in found)
    assert "this is no network; wanted" in found[0]
    assert "secret" not in found[0]
    assert 'found "10.0.0.0/33": ' in found[1]


def test_a_file_of_something_else_is_a_few_lines(app_complaints, networks):
    entry = networks(bytes(range(1, 256)).replace(b"#", b"") * 40)
    found = app_complaints({"access": {"deny": [entry]}})
    assert len(found) == 6
    assert any("more lines are wrong" in one for one in found)


def test_what_is_too_much_is_an_error(app_complaints, networks):
    big = networks(b"#" * (MOST_BYTES + 1))
    assert "bigger than" in app_complaints({"access": {"deny": [big]}})[0]
    many = networks("\n".join(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(MOST_NETWORKS + 1)))
    assert f"more than {MOST_NETWORKS} networks" in app_complaints({"access": {"deny": [many]}})[0]


def test_entries_beyond_some_are_counted_together(app):
    access = app(access={"deny": [f"10.0.{n}.0/24" for n in range(COUNTED_RULES + 20)]}).access
    assert len(access.rules) == COUNTED_RULES + 2
    assert access.rules[-2:] == (("deny", "others"), ("allow", "none"))
    assert decides(access, f"10.0.{COUNTED_RULES - 1}.1") == ("deny", f"10.0.{COUNTED_RULES - 1}.0/24")
    for number in (COUNTED_RULES, COUNTED_RULES + 19):
        assert decides(access, f"10.0.{number}.1") == ("deny", "others")


def test_what_may_not_be_meant_so_is_said(networks):
    empty = networks("# nobody yet\n")

    def said(**access):
        plain = {"apps": [{"name": "web", "ports": [1], "targets": ["a:1"], "access": access}]}
        return list(doubts(load_text(json.dumps(plain).encode(), "x")))

    assert said(allow=["10.0.0.0/8"], deny=["10.1.0.0/16"]) == []
    assert said(allow=["10.0.0.0/8"], deny=["10.0.0.0/8"]) == [
        "app web: access: 10.0.0.0/8 in allow and in deny: denied"
    ]
    many = [f"10.{n}.0.0/16" for n in range(9)]
    assert said(allow=many, deny=many)[-1] == "app web: access: 4 more in allow and in deny: denied"
    assert said(allow=[empty]) == [f"app web: access: no address stands in {empty} (nobody may connect)"]
    assert said(deny=[empty]) == [f"app web: access: no address stands in {empty}"]
    assert "the first 50 are counted each" in said(deny=[f"10.0.{n}.0/24" for n in range(60)])[0]
