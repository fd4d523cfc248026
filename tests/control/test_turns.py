"""Nothing holds the supervisor's main loop for long, with 20,000 targets: no operation of the management API, no reload,
no death of a worker. What a round of it costs is counted in calls (kit.calls), so it is the same on every machine.
"""

import contextlib
import gc
import resource
import socket

import pytest

from kit.certificates import Authority
from kit.supervisor import Rig
from tcp_proxy.config.certificates import as_read
from tcp_proxy.config.tls_model import as_said, way_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TARGETS = 20_000
MOST = 125_000  # calls in one round: some 30 ms
TRIES = 2
MOST_BYTES = 200_000  # in one message


@contextlib.contextmanager
def running(**special):
    with pytest.MonkeyPatch.context() as monkeypatch:
        made = Rig(monkeypatch, TARGETS, **special)
        gc.freeze()
        yield made
        made.close()
        gc.unfreeze()


@pytest.fixture(scope="module")
def rig():
    with running() as made:
        yield made


@pytest.fixture
def own_rig():
    """Of a test that makes other workers."""
    with running() as made:
        yield made


ONE = {"app": "web", "target": "t100"}
ASKED = {  # operation -> its arguments in the n-th try
    **dict.fromkeys(("status", "ready", "apps", "workers", "limits"), lambda _: {}),
    **dict.fromkeys(("config", "overrides", "statistics", "samples", "certificates", "upgrade"), lambda _: {}),
    **dict.fromkeys(("target", "health", "probes", "probe", "close_sessions"), lambda _: ONE),
    **dict.fromkeys(("app", "targets"), lambda _: {"app": "web"}),
    "events": lambda _: {"after": 0},
    "set_target": lambda n: {"app": "web", "target": f"t{n}", "admin": "drain", "weight": n + 2},
    "unhealthy": lambda n: {"app": "web", "target": f"t{n + 10}", "for": 60, "why": "it says so"},
    "remove_target": lambda n: {"app": "web", "target": f"t{n + 20}"},
    "add_target": lambda n: {"app": "web", "definition": f"127.9.9.{n + 1}:80"},
    "reset": lambda n: {"app": "web", "target": f"t{n}"} if n else {"app": "", "target": ""},
}
NOT_OF_TARGETS = {  # they ask workers, or stick tables, or need a primary
    "sessions", "session", "ended", "why", "close_session", "sticks", "stick", "set_stick", "delete_stick", "clear_sticks",
    "promote", "election", "requests", "cluster", "rebalance", "discoveries", "add_fault", "faults", "remove_fault",
    "declare",  # of a cluster's node
    "start_upgrade",  # it starts a program
}  # fmt: skip


def test_every_operation_is_here(rig):
    assert {*ASKED, *NOT_OF_TARGETS, "plan", "reload"} == {*rig.api.operations}


@pytest.mark.parametrize("operation", ASKED)
def test_no_operation_holds_the_loop(rig, operation):
    found = [rig.worst_of(operation, **ASKED[operation](n)) for n in range(TRIES)]
    assert {status for _, status in found} == {200}
    assert max(found)[0] < MOST, found
    assert rig.api.longest < MOST_BYTES


@pytest.mark.parametrize("targets", [TARGETS, 10])
def test_no_plan_holds_the_loop(rig, targets):
    found = [rig.worst_of("plan", text=rig.file(n + 7, targets).decode()) for n in range(TRIES)]
    assert {status for _, status in found} == {200}
    assert max(found)[0] < MOST, found


@pytest.mark.parametrize("change", ["every weight", "fewer", "more"])
def test_no_reload_holds_the_loop(rig, change):
    """Of a configuration in which every target is different, or nearly all of them leave or come."""
    found = []
    for n in range(TRIES):
        settle(rig)
        if change == "more":
            rig.text = rig.file(1, 10)
            rig.worst_of("reload")
        rig.text = rig.file(1 if change == "more" else 20 + n, 10 if change == "fewer" else TARGETS)
        found.append(rig.worst_of("reload"))
        if change == "fewer":
            settle(rig)
            rig.text = rig.file(1)
            rig.worst_of("reload")
    assert {status for _, status in found} == {200}
    assert max(found)[0] < MOST, found


def test_what_has_left_is_settled_in_slices(rig):
    rig.text = rig.file(1, 10)
    rig.worst_of("reload")
    rig.calls.most = 0
    rig.turn_until(lambda: not rig.supervisor._context.counter_rows.slots.retired)
    assert rig.calls.most < MOST


def test_no_death_of_a_worker_holds_the_loop(own_rig):
    """Nor does the introduction of the next one."""
    worst = [worst_death(own_rig) for _ in range(TRIES)]
    assert max(worst)[0] < MOST, worst
    assert max(worker.longest for worker in own_rig.workers) < MOST_BYTES


def worst_death(rig):
    """Of a worker, until the next one has been told everything."""
    rig.calls.most = 0
    rig.end(next(iter(rig.pool)))
    rig.turn_until(lambda: rig.pool.is_complete and rig.supervisor._context.slices.is_idle)
    return rig.calls.most, 200


def settle(rig):
    """There is room for the counters of as many again, and no more: a reload is quicker than what has left is given back."""
    rig.turn_until(lambda: not rig.supervisor._context.counter_rows.slots.retired)


def worst_reload(rig, text):
    rig.text = text
    return rig.worst_of("reload")


def test_a_thousand_apps_hold_the_loop_no_longer_than_one():
    """Of twenty targets each: they come and go, change, and are told to a worker."""
    with running(apps=1000) as rig:
        found = {"a worker dies": [worst_death(rig) for _ in range(TRIES)]}
        found["every weight"] = [worst_reload(rig, rig.file(20 + n)) for n in range(TRIES)]
        for what, apps in ("they leave", 1), ("they come", 1000), ("they leave", 1), ("they come", 1000):
            rig._apps = apps
            settle(rig)
            found.setdefault(what, []).append(worst_reload(rig, rig.file(1)))
        for what, targets in ("their targets leave", 1000), ("their targets come", TARGETS):
            found[what] = [worst_reload(rig, rig.file(1, targets))]
        rig.calls.most = 0
        rig.turn_until(lambda: not rig.supervisor._context.counter_rows.slots.retired)
        found["it is settled"] = [(rig.calls.most, 200)]
    assert {status for tries in found.values() for _, status in tries} == {200}
    assert not {what: tries for what, tries in found.items() if max(tries)[0] >= MOST}
    assert max(worker.longest for worker in rig.workers) < MOST_BYTES


def test_a_limit_of_every_target_holds_the_loop_no_longer():
    """As many as this machine has descriptors for, twice while they change. None is duplicated, so it takes no others."""
    count = min(TARGETS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] * 9 // 20 - 500)
    limit = lambda _, weight: {"max_connections": weight}  # noqa: E731
    found = {}
    with pytest.MonkeyPatch.context() as monkeypatch:
        rig = Rig(monkeypatch, count, target=limit)
        gc.freeze()
        found["a worker dies"] = [worst_death(rig) for _ in range(TRIES)]
        found["another limit"] = [worst_reload(rig, rig.file(5 + n)) for n in range(TRIES)]
        for what, target in ("none", lambda *_: {}), ("new", limit), ("none", lambda *_: {}), ("new", limit):
            rig._target = target
            found.setdefault(what, []).append(worst_reload(rig, rig.file(3)))
        rig.turn_until(lambda: not any(worker.is_waiting for worker in rig.pool))
        rig.close()
        gc.unfreeze()
    assert {status for tries in found.values() for _, status in tries} == {200}
    assert not {what: tries for what, tries in found.items() if max(tries)[0] >= MOST}


def test_no_reload_of_an_app_with_a_primary_holds_the_loop():
    """All of its targets but the primary have another address, and their election hears of it when it is whole."""
    worst = []
    with socket.create_server(("127.0.0.1", 0)) as primary:
        addresses = {0: f"127.0.0.1:{primary.getsockname()[1]}"}
        change = lambda n, weight: {"address": addresses.get(n, f"127.0.{n >> 8}.{n & 255}:{8000 + weight}")}  # noqa: E731
        with running(app={"balance": "failover"}, target=change) as rig:
            known = rig.supervisor._context.targets.apps["web"]
            rig.turn_until(lambda: known.primary)
            for n in range(TRIES):
                rig.text = rig.file(20 + n)
                worst.append(rig.worst_of("reload"))
            assert known.primary_name == "t0"
            assert known.epoch == 1
            assert known.held is None
    assert {status for _, status in worst} == {200}
    assert max(worst)[0] < MOST, worst


def test_no_renewed_certificate_holds_the_loop(tmp_path):
    """All targets have it."""
    authorities = [Authority() for _ in range(TRIES + 1)]
    (tmp_path / "ca.pem").write_text(authorities[0].pem)
    tls = {"ca": str(tmp_path / "ca.pem"), "watch": False}
    worst = []
    with running(app={"health": []}, target=lambda n, weight: {"tls": {**tls, "server_name": f"t{n}.org"}}) as rig:
        context = rig.supervisor._context
        for authority in authorities[1:]:
            old, rig.calls.most = way_of(context.config.apps[0].targets[0].tls), 0
            (tmp_path / "ca.pem").write_text(authority.pem)
            new = as_read(as_said(old))
            rig.supervisor._watches._renewals._found(old, new)
            rig.turn_until(lambda new=new: way_of(context.config.apps[0].targets[-1].tls) == new)
            rig.turn_until(lambda: context.slices.is_idle)
            worst.append(rig.calls.most)
    assert max(worst) < MOST, worst


def test_what_was_said_of_many_targets_is_kept_in_slices(rig):
    """Of a reload that changes nothing else."""
    overrides, worst = rig.supervisor.operator._overrides, []
    for n in range(TRIES):
        for number in range(3000):
            overrides.set("web", f"t{number}", None, 5 + n)
        rig.worst_of("reload")
        rig.text = rig.file(1, TARGETS)
        worst.append(rig.worst_of("reload"))
    assert max(worst)[0] < MOST, worst
