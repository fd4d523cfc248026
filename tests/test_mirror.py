"""Each source file has its test file at the mirrored place; the exceptions are listed, with what tests them instead."""

import pathlib

HOME = pathlib.Path(__file__).parents[1]

ELSEWHERE = {
    "wire/inquiries.py": "tests/wire/test_messages.py",
    "wire/moved_exchange.py": "tests/wire/test_moved_session.py",
    "wire/moves.py": "tests/wire/test_messages.py",
    "dataplane/live_target.py": "tests/dataplane/test_apps.py",
    "dataplane/counted.py": "tests/dataplane/test_session_counters.py",
    "dataplane/moving/departure.py": "tests/dataplane/moving/test_exporter.py",
    "dataplane/moving/arrival.py": "tests/dataplane/moving/test_moves.py",
    "dataplane/moving/http_client.py": "tests/system/test_moving.py",
    "wire/cluster.py": "tests/wire/test_messages.py",
    "wire/datagrams.py": "tests/wire/test_stick_table.py",
    "wire/shared_sticks.py": "tests/control/sticky/test_shared.py",
    "control/tracing/process.py": "tests/system/test_tracing.py",
    "control/trace_exporter/server.py": "tests/system/test_tracing.py",
    "control/cluster_agent/server.py": "tests/control/processes/test_agent_process.py",
    "wire/records.py": "tests/wire/test_log_lines.py",
    **{
        f"dataplane/http/{name}.py": "tests/system/test_http.py"
        for name in ("app", "owner", "repeats", "requests")
    },
    "control/changes/reload.py": "tests/system/test_reload.py",
    "control/answers/moving.py": "tests/system/test_moving.py",
    "control/changes/comparison.py": "tests/control/test_turns.py",
    "control/changes/one_target.py": "tests/control/changes/test_operator.py",
    "control/failover/ports.py": "tests/system/test_failover.py",
    "control/failover/worker_pause.py": "tests/system/test_failover.py",
    "control/failover/decider.py": "tests/system/test_cluster_failover.py",
    "control/context.py": "tests/system/test_reload.py",
    "control/processes/worker_pool.py": "tests/control/test_supervisor.py",
    "ctl/__main__.py": "tests/ctl/test_main.py",
    "ctl/command.py": "tests/ctl/test_main.py",
    "__main__.py": "tests/kit/proxy.py starts the program this way",
    "dataplane/edge/answer.py": "tests/system/test_limits.py",
    "dataplane/http/dialing.py": "tests/system/test_limits.py",
    "dataplane/relay/handover.py": "tests/dataplane/relay/test_pool.py",
    "dataplane/sticky/copies.py": "tests/dataplane/sticky/test_dial.py",
    "dataplane/sticky/session.py": "tests/dataplane/sticky/test_dial.py",
    **{
        f"control/takeover/{name}.py": "tests/system/test_takeover.py"
        for name in ("program", "report", "steps", "succession", "taken", "upgrade")
    },
    "control/operations.py": "tests/control/api/test_routes.py",
    "control/store/targets.py": "tests/control/store/test_state.py",
    "control/replies.py": "tests/control/answers/test_administration.py",
    "control/answers/tls_views.py": "tests/control/answers/test_views.py",
    "control/answers/cluster.py": "tests/system/test_cluster_health.py",
    "control/answers/sticky.py": "tests/control/api/test_sticks.py",
    "control/answers/all_statistics.py": "tests/system/test_statistics.py",
    "control/sharing.py": "tests/system/test_cluster_pool.py",
    "control/changes/shared_pool.py": "tests/system/test_cluster_pool.py",
    "control/answers/lists.py": "tests/control/api/test_routes.py",
    "control/api/problems.py": "tests/control/api/test_guard.py",
    "control/api/schemas.py": "tests/control/api/test_routes.py",
    "control/api/server.py": "tests/control/processes/test_api_process.py",
    "control/targets/asked.py": "tests/control/targets/test_states.py",
    "control/targets/self_reports.py": "tests/control/answers/test_orders.py",
    "config/values.py": "tests/config/test_build.py",
    "control/health/probe.py": "tests/control/health/test_tcp.py",
    "control/health/subject.py": "tests/control/health/test_runner.py",
    "control/health/connecting.py": "tests/control/health/test_tcp.py",
    "control/health/tls.py": "tests/control/health/test_http.py",
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
