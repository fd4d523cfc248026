"""The running program, asked by one that wants to take over, who breaks off, or says something else, anywhere."""

import json
import os
import pathlib
import re
import signal
import socket
from types import SimpleNamespace

import pytest

from kit import procfs
from kit.api import Api, api_config
from kit.clock import Clock
from kit.takeover import TOP
from kit.waiting import PATIENCE, wait_until
from tcp_proxy import __version__
from tcp_proxy.control.takeover import predecessor, steps, succession, taken
from tcp_proxy.control.takeover.connection import Connection, close_all, read_from_memory
from tcp_proxy.control.takeover.giving import Descriptors
from tcp_proxy.runtime.loop import Loop
from tcp_proxy.wire import counters

HELLO = {"versions": [1], "version": __version__, "layout": counters.LAYOUT}


KINDS = {  # of apps of which more is told
    "limits": {"limits": {"sessions": 9, "sessions_per_client": 8, "queue": 5}},
    "sticky": {"sticky": {}},
    "failover": {"balance": "failover"},
}


@pytest.fixture
def old(proxy, service, request):
    """With an app of one of the KINDS, if a test asks for it."""
    kind = getattr(request, "param", "")
    target = {"name": "one", "address": service().address}
    targets = [{**target, "max_connections": 7}] if kind == "limits" else [target] if kind else [target["address"]]
    return proxy(targets=targets, **KINDS.get(kind, {}), top={"workers": 2, **TOP, "api": api_config()})


@pytest.fixture
def new(old, servers):
    """new(): one that wants to take over, as far as it is told to."""

    def start():
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.connect(str(old.folder / "proxy.pid.takeover"))
        connection = Connection(sock)
        servers.callback(connection.close)
        return connection

    return start


def ask(new, kind, **body):
    new.send(kind, **body)
    message, descriptors = new.wait(20)
    return message, descriptors


def lent(new, kind):
    """What it tells, with all that it lends, given back at once."""
    message, descriptors = ask(new, kind)
    assert message["is"] == kind, message
    view = read_from_memory(descriptors[0])
    close_all(descriptors)
    count = 0
    while count < message["count"]:
        _, some = ask(new, "descriptors", of=kind, **{"from": count})
        count += len(some)
        close_all(some)
    return view


def is_well(old, failures):
    """It serves, can be asked and reloaded, and has nothing of it left."""
    wait_until(lambda: old.count_log("all goes on here") == failures, lambda: old.log)
    old.connect().send(b"x").expect(b"x").close()
    api = Api.of(old)
    assert api.post("/api/v1/reload").json["changes"] == []
    assert api.get("/api/v1/status").json["state"] == "serving"


def test_who_breaks_off_anywhere_changes_nothing(old, new):
    for failures in range(1, 7):
        one = new()
        steps = [
            lambda one: ask(one, "hello", **HELLO),
            lambda one: lent(one, "state"),
            lambda one: lent(one, "last"),
        ]
        for step in steps[: failures % 4]:
            step(one)
        one.close()
        is_well(old, failures)
    session = old.connect().send(b"kept").expect(b"kept")
    one = new()
    for step in steps:
        step(one)
    one.send("failed", why="a port is taken")
    old.wait_log("does not take over: a port is taken")
    session.send(b"on").expect(b"on").close()


@pytest.mark.parametrize(
    ("hello", "why"),
    [
        ({**HELLO, "versions": [99]}, "no version of the take-over in common"),
        ({**HELLO, "versions": "x"}, "no version of the take-over in common"),
        ({**HELLO, "layout": 99}, "another layout"),
    ],
)
def test_a_version_that_is_not_known_is_refused_in_one_line(old, new, hello, why):
    message, _ = ask(new(), "hello", **hello)
    assert message["is"] == "refused"
    assert why in message["why"]
    is_well(old, 1)


@pytest.mark.parametrize("kind", ["state", "last", "taken", "descriptors", "something"])
def test_what_has_no_place_is_refused(old, new, kind):
    message, _ = ask(new(), kind)
    assert message["is"] == "refused"
    is_well(old, 1)


def test_taken_before_everything_was_told_is_no_take_over(old, new):
    one = new()
    ask(one, "hello", **HELLO)
    lent(one, "state")
    message, _ = ask(one, "taken")
    assert message["is"] == "refused"
    is_well(old, 1)


def test_a_worker_that_ends_before_its_descriptor_is_asked_for_is_no_failure(old, new):
    """What was told of it stays what it was: a descriptor of its number may be another one by then."""
    one = new()
    ask(one, "hello", **HELLO)
    message, told = ask(one, "state")
    view = read_from_memory(told[0])
    close_all(told)
    worker = view["workers"][0]
    os.kill(worker["pid"], signal.SIGKILL)
    old.wait_log(rf"pid {worker['pid']}\) ended")
    _, some = ask(one, "descriptors", of="state", **{"from": 0})
    assert len(some) == message["count"]
    assert "anon_inode:[pidfd]" in os.readlink(f"/proc/self/fd/{some[worker['process']]}")
    close_all(some)
    one.close()
    wait_until(lambda: len(old.workers()) == 2, "another one")
    is_well(old, 1)


def test_a_worker_that_starts_meanwhile_is_neither_told_nor_given(old, new):
    """It knows nothing so far, and has no rows: it ends with the old program, and all others go on."""
    one = new()
    ask(one, "hello", **HELLO)
    dead = lent(one, "state")["workers"][0]["pid"]
    os.kill(dead, signal.SIGKILL)
    old.wait_log(rf"pid {dead}\) ended")
    wait_until(lambda: len(old.workers()) == 2, "another one")
    (kept,) = (worker["pid"] for worker in lent(one, "last")["workers"])
    assert kept != dead
    (late,) = {*old.workers()} - {kept}
    session = old.connect().send(b"x").expect(b"x")
    one.send("taken")
    assert old.process.wait(PATIENCE) == 0, old.log
    old.uncounted = None  # no program is there that the worker could record its session with
    wait_until(lambda: not procfs.is_running(late), "the end of the one that nobody has")
    session.send(b"on").expect(b"on").close()
    wait_until(lambda: not procfs.is_running(kept), "its end")


def test_one_that_starts_meanwhile_serves_when_it_is_over(old, new):
    one = new()
    ask(one, "hello", **HELLO)
    dead, kept = lent(one, "state")["workers"]
    os.kill(dead["pid"], signal.SIGKILL)
    old.wait_log(rf"pid {dead['pid']}\) ended")
    wait_until(lambda: len(old.workers()) == 2, "another one")
    assert [worker["number"] for worker in lent(one, "last")["workers"]] == [kept["number"]]
    one.close()
    is_well(old, 1)
    states = lambda: [worker["state"] for worker in Api.of(old).get("/api/v1/workers").json]  # noqa: E731
    wait_until(lambda: states() == ["serving", "serving"], "both serve")


def test_one_at_a_time(old, new):
    one = new()
    ask(one, "hello", **HELLO)
    message, _ = new().wait(20)
    assert "taking over already" in message["why"]
    assert lent(one, "state")["version"] == __version__


def test_another_user_is_refused(old):
    assert (old.folder / "proxy.pid.takeover").stat().st_mode & 0o777 == 0o600


def test_what_is_held_is_done_when_it_is_over(old, new):
    one = new()
    ask(one, "hello", **HELLO)
    lent(one, "state")
    old.signal(1)  # SIGHUP
    old.connect().send(b"x").expect(b"x").close()
    one.close()
    old.wait_log("SIGHUP: nothing is different")


# -- how long it may be silent


def given_up_after(until, lease, *, is_held=True):
    """Seconds, by a clock that is turned, from the moment in which all has paused in a node whose lease lasts until then."""
    clock, over, ours = Clock(), [], socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    loop = Loop(clock=clock)
    news = SimpleNamespace(until=clock.now + until)
    node = SimpleNamespace(is_held=is_held, news=news, lease=lease)
    rows = SimpleNamespace(clear_unassigned=lambda: None)
    context = SimpleNamespace(loop=loop, cluster=node, counter_rows=rows)
    one = predecessor.Predecessor(SimpleNamespace(context=context), Connection(ours[0]), 1, over.append)
    one.stage = predecessor.Stage.PAUSING
    one._paused({}, Descriptors())
    begun = clock.now
    while not over:
        clock.turn(0.25)
        loop.run_once(0)
    loop.close()
    ours[1].close()
    return clock.now - begun


@pytest.mark.parametrize(("left", "lease", "seconds"), [(9.5, 10, 6.25), (40, 60, 20), (3.0, 4, 1.75), (0.5, 2, 1)])
def test_a_node_gets_its_agent_back_before_its_lease_is_over(left, lease, seconds):
    """20 s are for programs of which nothing ends meanwhile."""
    assert given_up_after(left, lease) == seconds


def test_who_is_no_node_that_goes_on_waits_as_long_as_any():
    assert given_up_after(3.0, 4, is_held=False) == predecessor.SILENT


# What each released version tells, a file for each: who releases one records it (TCP_PROXY_RECORD=1), and keeps the others;
# test_replay.py has the program of today take over from each. 0.2.0-1 is one before a service manager kept listeners.
RECORDED = pathlib.Path(__file__).with_name("recorded")
READERS = [pathlib.Path(module.__file__).read_text() for module in (taken, succession, steps)]
VERSIONS = sorted(path.stem for path in RECORDED.glob("*.json"))


def shape(value):
    """What there is, without what is another one each time."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in sorted(value.items())}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


def keys(value):
    """The names of all that is told in it."""
    if isinstance(value, dict):
        return set(value).union(*map(keys, value.values()))
    return set().union(*map(keys, value)) if isinstance(value, list) else set()


def told(old, new):
    one = new()
    ask(one, "hello", **HELLO)
    found = {"state": lent(one, "state"), "last": lent(one, "last")}
    one.close()
    is_well(old, 1)
    return found


def test_what_is_told_is_what_was_recorded_of_this_version(old, new):
    """Whoever adds a key records anew (TCP_PROXY_RECORD=1); whoever takes one away, or gives it another type, breaks
    programs that take over from this one."""
    found, path = told(old, new), RECORDED / f"{__version__}.json"
    if os.environ.get("TCP_PROXY_RECORD"):
        path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    assert shape(found) == shape(json.loads(path.read_text()))


@pytest.mark.parametrize(("old", "kind"), [(kind, kind) for kind in KINDS], indirect=["old"])
def test_so_is_what_is_told_of_limits_of_keys_and_of_a_primary(old, new, kind):
    """These are compared, and not said once more: what is told beside them is the same."""
    client = old.connect().send(b"x").expect(b"x")
    found, path = told(old, new), RECORDED / kind / f"{__version__}.json"
    client.close()
    found["state"]["peaks"] = []  # of the session, if it was looked at meanwhile
    if os.environ.get("TCP_PROXY_RECORD"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    assert shape(found) == shape(json.loads(path.read_text()))


@pytest.mark.parametrize("version", VERSIONS)
def test_what_an_earlier_version_does_not_tell_is_not_required(version):
    """A key that came later is read with `get`."""
    now = keys(json.loads((RECORDED / f"{__version__}.json").read_text()))
    later = now - keys(json.loads((RECORDED / f"{version}.json").read_text()))
    required = {name for text in READERS for name in re.findall(r"\[\"(\w+)\"\]", text)}
    assert required, "this test looks for something else than what is written"
    assert not later & required
