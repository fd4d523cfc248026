"""Each source file has its test file at the mirrored place; the exceptions are listed, with what tests them instead."""

import pathlib

HOME = pathlib.Path(__file__).parents[1]

ELSEWHERE = {
    "inquiries.py": "tests/test_messages.py",
    **{
        f"dataplane/http/{name}.py": "tests/system/test_http.py"
        for name in ("exchange", "leaving", "requests", "site", "tunnel")
    },
    "control/briefing.py": "tests/system/test_reload.py",
    "control/reload.py": "tests/system/test_reload.py",
    "control/failover.py": "tests/system/test_failover.py",
    "control/lost_listeners.py": "tests/system/test_reload_attacks.py",
    "control/estate.py": "tests/system/test_reload.py",
    "control/transition.py": "tests/system/test_reload.py",
    "control/crew.py": "tests/control/test_supervisor.py",
    "control/states.py": "tests/system/test_health.py",
    "ctl/__main__.py": "tests/ctl/test_main.py",
    "ctl/command.py": "tests/ctl/test_main.py",
    "__main__.py": "tests/kit/proxy.py starts the program this way",
    "dataplane/handover.py": "tests/dataplane/test_relay_pool.py",
    "dataplane/sticks.py": "tests/dataplane/test_sticky_dial.py",
    "dataplane/sticky_session.py": "tests/dataplane/test_sticky_dial.py",
    "control/stick_orders.py": "tests/control/api/test_sticks.py",
    "control/operations.py": "tests/control/api/test_routes.py",
    "control/api/problems.py": "tests/control/api/test_guard.py",
    "control/api/schemas.py": "tests/control/api/test_routes.py",
    "control/api/server.py": "tests/control/test_api_process.py",
    "control/complaints.py": "tests/control/test_orders.py",
    "config/values.py": "tests/config/test_build.py",
    "control/health/probe.py": "tests/control/health/test_tcp.py",
    "control/health/subject.py": "tests/control/health/test_runner.py",
    "control/health/connecting.py": "tests/control/health/test_tcp.py",
}


def mirrored(name):
    path = pathlib.PurePath(name)
    return HOME / "tests" / path.parent / f"test_{path.name}"


def sources():
    for path in (HOME / "tcp_proxy").rglob("*.py"):
        if path.name != "__init__.py":
            yield path.relative_to(HOME / "tcp_proxy").as_posix()


def test_every_source_file_has_its_test_file():
    missing = [name for name in sources() if name not in ELSEWHERE and not mirrored(name).exists()]
    assert not missing, f"no test file for {missing}"


def test_the_exceptions_are_still_needed():
    names = set(sources())
    for name, tests in ELSEWHERE.items():
        assert name in names, f"{name} is gone"
        assert not mirrored(name).exists(), f"{name} has its own test file now: take it off the list"
        assert (HOME / tests.split()[0]).exists(), f"{tests} is gone"
