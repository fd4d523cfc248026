"""What takes two values to judge, and what the values become."""

import json

import pytest

from tcp_proxy.config.load import load_text
from tcp_proxy.config.log_model import AccessLogs, Log
from tcp_proxy.config.model import Check, Target, Timeouts
from tcp_proxy.sansio.address import Address, ListenAddress


def refuses(complaints, *parts):
    """One complaint, with all these parts in it."""
    (complaint,) = complaints
    return all(part in complaint for part in parts) or complaint


# -- values


def test_everything_at_the_top_is_taken_over():
    text = """{"$schema": "x", "workers": 2, "pid_file": "p", "state": "s", "shutdown_grace": 0.5, "access_log": "-",
               "log": {"level": "debug", "format": "json"},
               "apps": [{"name": "a", "ports": [5001], "targets": ["a:1"]}]}"""
    config = load_text(text.encode(), "x")
    assert (config.workers, config.pid_file, config.shutdown_grace, config.access_log) == (2, "p", 0.5, "-")
    assert config.state == "s"
    assert config.log == Log("debug", "json")


def test_null_and_auto_are_the_defaults():
    text = b"""{"workers": "auto", "pid_file": null, "access_log": null,
                "apps": [{"name": "a", "ports": [5001], "targets": ["a:1"]}]}"""
    config = load_text(text, "x")
    assert (config.workers, config.pid_file, config.access_log) == (None, None, None)


def test_ranges_and_several_addresses_become_one_listener_each(app):
    listeners = app(bind=["127.0.0.1", "::1"], ports=[80, "8000-8001"]).listeners
    assert {str(listener) for listener in listeners} == {
        *("127.0.0.1:80", "[::1]:80", "127.0.0.1:8000", "[::1]:8000", "127.0.0.1:8001", "[::1]:8001")
    }
    assert len(listeners) == 6


def test_an_address_to_listen_on_is_kept_in_its_shortest_spelling(app):
    assert app(bind="0:0:0:0:0:0:0:1").listeners == (ListenAddress("::1", 5001),)


def test_a_target_is_named_as_its_address_is_written(app):
    targets = app(targets=["A:1", "[0:0::1]:80", "unix:/x", {"address": "b:2", "name": "bee"}]).targets
    assert [target.name for target in targets] == ["A:1", "[0:0::1]:80", "unix:/x", "bee"]
    assert targets[1].address == Address("::1", 80)


def test_all_keys_of_a_target_are_taken_over(app):
    plain = {"address": "a:1", "name": "n", "weight": 256, "backup": True, "max_connections": 9}
    plain.update(drain=True, disabled=True)
    assert app(targets=[plain]).targets == (Target("n", Address("a", 1), 256, True, 9, True, True),)


def test_all_keys_of_a_check_and_of_the_timeouts_are_taken_over(app):
    check = {"interval": 5, "timeout": 0.5, "rise": 2, "fall": 3, "fall_action": "ignore", "port": 81}
    assert app(health=check).health == (Check("tcp", 5.0, 0.5, 2, 3, "ignore", 81),)
    timeouts = {"connect": 1, "idle": 2, "half_closed": 3, "keepalive": 4, "unacked": 5}
    assert app(timeouts=timeouts).timeouts == Timeouts(1.0, 2.0, 3.0, 4.0, 5.0)


def test_no_health_is_one_tcp_check_and_an_empty_list_is_none(app):
    assert app().health == (Check(),)
    assert app(health={}).health == (Check(),)
    assert app(health=[]).health == ()
    assert app(health=[{}, {"type": "ping"}]).health == (Check(), Check("ping"))


def test_a_timeout_that_is_left_out_is_never_above_the_interval(app):
    assert app(health={"interval": 1}).health[0].timeout == 1.0
    assert app(health={"interval": 10}).health[0].timeout == 2.0


def test_a_whole_number_may_be_written_with_a_point(app):
    built = app(ports=[5001.0], retries=1e1)
    assert (built.listeners[0].port, built.retries) == (5001, 10)
    assert type(built.listeners[0].port) is type(built.retries) is int


def test_seconds_are_always_floats(app):
    assert type(app(timeouts={"idle": 5}).timeouts.idle) is float


# -- names


def test_two_apps_of_one_name_are_an_error_that_names_both_places(complaints):
    text = """{"apps": [{"name": "a", "ports": [5001], "targets": ["a:1"]},
  {"name": "b", "ports": [5002], "targets": ["a:1"]},
  {"name": "a", "ports": [5003], "targets": ["a:1"]}]}"""
    assert complaints(text) == ['3:12 $.apps[2].name: two apps are named "a"; the first is at line 1, column 20']


@pytest.mark.parametrize("name", [" a", "a ", "a\nb", "a\u202e", "\x00"])
def test_a_name_that_a_log_line_could_not_show_is_an_error(name, app_complaints):
    assert refuses(app_complaints({"name": name}), "$.apps[0].name: found ", "without control characters") is True


def test_two_targets_of_one_name_are_an_error(app_complaints):
    targets = [{"address": "a:1", "name": "n"}, {"address": "b:1", "name": "n"}]
    assert refuses(app_complaints({"targets": targets}), ".targets[1].name", 'two targets are named "n"') is True


def test_a_name_that_is_another_targets_address_is_an_error(app_complaints):
    targets = ["b:1", {"address": "a:1", "name": "b:1"}]
    assert refuses(app_complaints({"targets": targets}), ".targets[1].name", 'two targets are named "b:1"') is True
    assert refuses(app_complaints({"targets": targets[::-1]}), ".targets[1]", 'two targets are named "b:1"') is True


@pytest.mark.parametrize("other", ["[::1]:80", "[0:0::1]:80", {"address": "[::1]:80"}])
def test_one_address_twice_is_an_error_unless_named(other, app, app_complaints):
    complaint = app_complaints({"targets": ["[::1]:80", other]})
    assert refuses(complaint, "is a target twice; the first is at line 1", '"weight"') is True
    assert len(app(targets=["[::1]:80", {"address": "[::1]:80", "name": "again"}]).targets) == 2


def test_different_apps_may_have_targets_of_one_name():
    apps = [{"name": name, "ports": [port], "targets": ["a:1"]} for name, port in (("a", 1), ("b", 2))]
    assert load_text(json.dumps({"apps": apps}).encode(), "x")


# -- targets


def test_a_wrong_address_is_an_error_at_the_address(app_complaints):
    assert app_complaints({"targets": ["a:1", "exam_ple..com", {"address": "::1"}]}) == [
        '$.apps[0].targets[1]: found "exam_ple..com": "exam_ple..com" is not a host name: nothing stands before a dot',
        '$.apps[0].targets[2].address: found "::1": an IPv6 address needs brackets and a port: "[::1]:80"',
    ]


GROUP = {"name": "g", "ports": {"5001": "a:1", "5002": "[::1]:2"}}


def test_a_group_has_a_server_for_each_port(app):
    (target,) = app(ports=["5001-5002"], targets=[GROUP]).targets
    assert target.is_group
    assert target.ports == ((5001, Address("a", 1)), (5002, Address("::1", 2)))
    assert target.where == "5001: a:1, 5002: [::1]:2"
    assert target.hosts == {"a", "::1"}


@pytest.mark.parametrize(("text", "host"), [("example.org", "example.org"), ("192.0.2.1", "192.0.2.1"), ("[::1]", "::1")])
def test_a_bare_host_is_a_group_on_the_ports_of_the_listeners(app, text, host):
    for entry in (text, {"address": text}):
        (target,) = app(targets=[entry]).targets
        assert target.is_group
        assert (target.name, target.servers) == (text, (Address(host, 0),))


@pytest.mark.parametrize(
    ("group", "complaint"),
    [
        ({"ports": {"5001": "a:1"}, "name": "g"}, ".ports: no server for the port 5002, on which the app listens"),
        ({**GROUP, "ports": {**GROUP["ports"], "5003": "a:1"}}, '.ports["5003"]: the app does not listen on 5003'),
        ({**GROUP, "ports": {**GROUP["ports"], "x": "a:1"}}, '.ports.x: found "x": "a:1": "x" is not a port'),
        ({**GROUP, "ports": {**GROUP["ports"], "5002": "a"}}, '.ports["5002"]: found "5002": "a": no port'),
        ({**GROUP, "ports": {**GROUP["ports"], "5002": 7}}, '.ports["5002"]: found 7; wanted "host:port"'),
        ({**GROUP, "ports": {}}, ".ports: found {}; wanted an object such as"),
        ({**GROUP, "address": "a:1"}, '.ports: a target has an "address" or "ports", not both'),
        ({"ports": GROUP["ports"]}, 'missing key "name": a target with "ports" has no other'),
        ({"name": "g"}, 'missing key "address" (or "ports", for a group of servers)'),
        ({"name": "g", "address": None}, 'missing key "address" (or "ports", for a group of servers)'),
    ],
)
def test_what_is_wrong_with_a_group(group, complaint, app_complaints):
    found = app_complaints({"ports": ["5001-5002"], "targets": [group]})
    assert refuses(found[:1], complaint) is True


OWN = [  # bind, target
    ("127.0.0.1", "127.0.0.1:5001"),
    ("127.0.0.1", "127.0.0.1"),
    ("127.0.0.1", "0.0.0.0:5001"),
    ("127.0.0.1", "[::ffff:127.0.0.1]:5001"),
    (["127.0.0.2", "127.0.0.1"], "127.0.0.1:5001"),
    ("192.0.2.1", "192.0.2.1:5001"),
    ("0.0.0.0", "127.0.0.1:5001"),
    ("0.0.0.0", "127.9.9.9"),
    ("0.0.0.0", "0.0.0.0:5001"),
    ("*", "127.0.0.1"),
    ("*", "[::1]:5001"),
    ("::1", "[::]:5001"),
    ("::", "[::1]"),
]
NOT_OWN = [
    ("127.0.0.1", "127.0.0.1:5002"),
    ("127.0.0.1", "127.0.0.2"),
    ("127.0.0.1", "localhost:5001"),  # a name: what it leads to is seen when it is resolved
    ("0.0.0.0", "[::1]:5001"),
    ("0.0.0.0", "192.0.2.1:5001"),
    ("::", "127.0.0.1:5001"),
    ("127.0.0.1", "unix:/run/x"),
]


@pytest.mark.parametrize(("bind", "target"), OWN)
def test_a_target_that_is_the_apps_own_listener_is_an_error(bind, target, app_complaints):
    (complaint,) = app_complaints({"bind": bind, "targets": ["a:1", target]})
    assert complaint.startswith('$.apps[0].targets[1]: found "')
    assert "leads to the app's own listener" in complaint
    (other,) = app_complaints({"bind": bind, "ports": [5003, 5001], "targets": [{"name": "x", "address": target}]})
    assert "leads to the app's own listener" in other


@pytest.mark.parametrize(("bind", "target"), NOT_OWN)
def test_a_target_that_may_be_another_server_is_none(bind, target, app):
    assert app(bind=bind, targets=[target]).targets


def test_a_server_of_a_group_that_is_an_own_listener_is_an_error(app_complaints):
    group = {"name": "g", "ports": {"5001": "a:1", "5002": "127.0.0.1:5001"}}
    (complaint,) = app_complaints({"ports": [5001, 5002], "targets": [group]})
    assert "leads to the app's own listener 127.0.0.1:5001" in complaint


def test_targets_and_listeners_by_the_thousand_are_compared_quickly(app):
    """Not each with each."""
    targets = [f"127.1.{n >> 8}.{n & 255}" for n in range(5000)]
    assert len(app(ports=["10000-19999", "30000-39999"], targets=targets).targets) == 5000


def test_a_unix_path_that_the_kernel_would_refuse_is_an_error(app_complaints):
    assert refuses(app_complaints({"targets": ["unix:/" + "a" * 107]}), "at most 107 bytes; this one has 108") is True


def test_weights_that_are_all_zero_are_an_error(app, app_complaints):
    targets = [{"address": f"a:{i}", "weight": 0} for i in (1, 2)]
    assert refuses(app_complaints({"targets": targets}), "$.apps[0].targets: every target has the weight 0") is True
    assert len(app(targets=[*targets, "b:1"]).targets) == 3


# -- checks


@pytest.mark.parametrize(
    ("check", "parts"),
    [
        ({"interval": 1, "timeout": 2}, ("timeout of 2 seconds is above the interval of 1 seconds", "line 1, column")),
        ({"timeout": 31}, ("above the interval of 30.0 seconds, which is the default",)),
    ],
)
def test_a_timeout_above_its_interval_is_an_error(check, parts, app_complaints):
    assert refuses(app_complaints({"health": check}), "$.apps[0].health.timeout: ", *parts) is True
    assert refuses(app_complaints({"health": [{}, check]}), "$.apps[0].health[1].timeout: ", *parts) is True


def test_a_timeout_equal_to_its_interval_is_fine(app):
    assert app(health={"interval": 1, "timeout": 1}).health[0].timeout == 1


def test_a_wrong_interval_is_not_compared_with_the_timeout(app_complaints):
    assert refuses(app_complaints({"health": {"interval": -5, "timeout": 2}}), ".interval: found -5") is True


def test_a_ping_of_a_unix_socket_is_an_error_that_names_the_target(app_complaints):
    app = {"targets": ["a:1", "unix:/x"], "health": [{}, {"type": "ping"}]}
    assert refuses(app_complaints(app), "$.apps[0].health[1].type: ", "cannot be pinged", "line 1, column") is True


def test_a_port_to_check_of_a_unix_socket_is_an_error(app_complaints):
    app = {"targets": [{"address": "unix:/x"}], "health": {"port": 80}}
    assert refuses(app_complaints(app), "$.apps[0].health.port: a UNIX socket has no port") is True


# -- listeners


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("localhost", '"127.0.0.1" or "::1"'),
        ("[::1]", 'without brackets: "::1"'),
        ("eth0", "not an IP address"),
        ("", "not an IP address"),
    ],
)
def test_a_bind_that_is_no_address_is_an_error(text, hint, app_complaints):
    assert refuses(app_complaints({"bind": text}), "$.apps[0].bind: found ", hint) is True
    assert refuses(app_complaints({"bind": ["127.0.0.1", text]}), "$.apps[0].bind[1]: found ", hint) is True


@pytest.mark.parametrize(
    "bind",
    [["127.0.0.1", "127.0.0.1"], ["*", "::1"], ["::1", "0::1"], ["0.0.0.0", "::ffff:10.0.0.1"], ["::2", "::"]],
)
def test_addresses_of_one_app_that_overlap_are_an_error(bind, app_complaints):
    assert refuses(app_complaints({"bind": bind}), "$.apps[0].bind[1]: ", " overlap; wanted one of them") is True


def test_every_ipv4_and_every_ipv6_address_do_not_overlap(app):
    assert len(app(bind=["0.0.0.0", "::"]).listeners) == 2


@pytest.mark.parametrize(
    ("ports", "index", "what"),
    [
        ([5001, 5001], 1, "port 5001 on 127.0.0.1 overlaps"),
        ([5001, "5000-5009"], 1, "port 5001 on 127.0.0.1 overlaps"),
        (["5000-5009", 5009], 1, "port 5009 on 127.0.0.1 overlaps"),
        (["1-10000", 20000, "5000-14999"], 2, "5001 ports from 5000 to 10000 on 127.0.0.1 overlap"),
    ],
)
def test_ports_of_one_app_that_overlap_are_one_error_an_entry(ports, index, what, app_complaints):
    complaints = app_complaints({"ports": ports})
    assert refuses(complaints, f"$.apps[0].ports[{index}]: {what} a listener of this app at line 1, column") is True


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("127.0.0.1", "0.0.0.0", True),
        ("::1", "0:0:0:0:0:0:0:1", True),
        ("::1", "::", True),
        ("::", "0.0.0.0", False),
        ("127.0.0.1", "::ffff:127.0.0.1", True),
        ("*", "127.0.0.1", True),
        ("*", "::", True),
        (["127.0.0.1", "::1"], ["127.0.0.2", "::"], True),
    ],
)
def test_listeners_of_two_apps_overlap_as_the_kernel_sees_it(one, other, overlap, app_complaints):
    apps = [{"bind": one, "ports": [5000]}, {"bind": other, "ports": ["4999-5001"]}, {"ports": [0]}]
    complaints = [text for text in app_complaints(*apps) if "overlap" in text]
    assert len(complaints) == overlap
    assert all("$.apps[1].ports[0]: port 5000" in text and 'of app "app0" at line 1' in text for text in complaints)


def test_an_overlap_on_two_addresses_is_one_error(app_complaints):
    bind = ["127.0.0.1", "::1"]
    complaints = app_complaints({"bind": bind}, {"bind": bind})
    assert refuses(complaints, "$.apps[1].ports[0]: port 5001 on 127.0.0.1 overlaps") is True


@pytest.mark.parametrize(
    ("entry", "hint"),
    [
        ("9-1", 'wanted "1-9"'),
        ("1-10001", "one range has at most 10000"),
        ("0-5", '"0" is not a port'),
        ("5001", "without quotes: 5001"),
        ("x", "a range such as"),
    ],
)
def test_a_wrong_range_is_an_error(entry, hint, app_complaints):
    assert refuses(app_complaints({"ports": [entry]}), "$.apps[0].ports[0]: found ", hint) is True


# -- paths


def test_an_app_s_access_log_is_its_own_or_none_or_the_one_of_all():
    apps = [
        {"name": "a"}, {"name": "b", "access_log": "b.log"}, {"name": "c", "access_log": "off"},
        {"name": "d", "access_log_format": "json"}, {"name": "e", "access_log": "top.log", "access_log_format": None},
    ]  # fmt: skip
    whole = [{**one, "ports": [5001 + number], "targets": ["a:1"]} for number, one in enumerate(apps)]
    config = load_text(json.dumps({"access_log": "top.log", "apps": whole}).encode(), "x")
    own = (("b", "b.log", "text"), ("c", "", "text"), ("d", "top.log", "json"))
    assert config.access_logs == AccessLogs("top.log", "text", own)
    assert config.access_logs.paths == ("top.log", "b.log")


@pytest.mark.parametrize(
    ("key", "value", "hint"),
    [("access_log", "a\0b", "zero"), ("access_log", "syslog+udp://x", "no port"), ("access_log_format", "xml", '"json"')],
)
def test_an_app_s_access_log_that_cannot_be_is_an_error(key, value, hint, app_complaints):
    assert refuses(app_complaints({key: value}), f"$.apps[0].{key}: ", hint) is True


@pytest.mark.parametrize("key", ["pid_file", "state", "access_log"])
def test_a_path_with_a_zero_character_is_an_error(key, complaints):
    app = {"name": "a", "ports": [5001], "targets": ["a:1"]}
    assert refuses(complaints(json.dumps({key: "a\0b", "apps": [app]})), f"$.{key}: ", "zero character") is True


def test_listeners_beyond_what_any_machine_has_are_one_error(app_complaints):
    found = app_complaints({"ports": [f"{n}0001-{n + 1}0000" for n in range(5)] * 5}, {"ports": ["1-10000"] * 1000})
    (error,) = [text for text in found if "overlap" not in text]
    assert error.startswith("$.apps[0].ports[20]: this makes more than 200000 listeners in all")


def test_ports_taken_again_and_again_are_an_error_each(app_complaints):
    found = app_complaints(*[{"ports": list(range(1000, 1020))} for _ in range(500)])
    assert len(found) == 499 * 20


def test_the_user_and_the_group_arrive():
    text = json.dumps({"user": "www-data", "group": "1000", "apps": [{"name": "a", "ports": [1], "targets": ["t:1"]}]})
    config = load_text(text.encode(), "x")
    assert (config.user, config.group) == ("www-data", "1000")


@pytest.mark.parametrize(
    ("top", "wanted"),
    [
        ('"group": "x"', '$.group: it is the group of a user; wanted "user" beside it'),
        ('"user": 1000', "$.user: found 1000; wanted the name of a user, or a number, as text"),
        ('"user": ""', '$.user: found ""; wanted the name of a user'),
        ('"user": "a b"', '$.user: found "a b"; wanted the name of a user'),
        ('"user": "a", "group": "a:b"', '$.group: found "a:b"; wanted the name of a group'),
    ],
)
def test_who_can_be_no_user_is_said(complaints, top, wanted):
    (found,) = complaints(f'{{{top}, "apps": [{{"name": "a", "ports": [1], "targets": ["t:1"]}}]}}')
    assert found.partition(" ")[2].startswith(wanted)
