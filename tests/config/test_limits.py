"""`limits` of an app as they are written: what belongs together, and what contradicts itself."""

import pytest

from tcp_proxy.config.model import SessionLimits


def test_without_any_there_is_no_limit_and_no_table(app):
    assert app().limits == SessionLimits()
    assert app(limits={"sessions": 5, "queue": 3, "queue_timeout": 2}).limits.table == ()


@pytest.mark.parametrize(
    ("limits", "table"),
    [
        ({"rate": 2.5}, (262_144, 32, 64, False)),
        ({"rate_per_client": 1, "burst_per_client": 5, "ipv4_prefix": 24}, (262_144, 24, 64, False)),
        ({"sessions_per_client": 3, "clients": 10_000, "ipv6_prefix": 48}, (10_000, 32, 48, True)),
        ({"bytes_per_second": 1000}, ()),
        ({"bytes_per_second_per_client": 1000, "ipv4_prefix": 8}, (262_144, 8, 64, True)),
        ({"rate_per_client": 1, "action": "delay", "queue_timeout": 2}, (262_144, 32, 64, False)),
    ],
)
def test_a_table_of_clients_is_of_what_makes_it_another_one(app, limits, table):
    found = app(limits=limits).limits
    assert found.table == table
    assert {key: getattr(found, key) for key in limits} == limits


@pytest.mark.parametrize(
    ("limits", "complaint"),
    [
        ({"burst": 5}, '$.apps[0].limits.burst: there is no rate that it belongs to; wanted "rate" beside it'),
        (
            {"rate": 1, "burst_per_client": 5},
            '$.apps[0].limits.burst_per_client: there is no rate that it belongs to; wanted "rate_per_client" beside it',
        ),
        (
            {"action": "delay", "sessions_per_client": 3},
            '$.apps[0].limits.action: nobody would wait; wanted "rate" or "rate_per_client" beside it',
        ),
        (
            {"rate": 3, "ipv4_prefix": 24},
            "$.apps[0].limits.ipv4_prefix: no client is limited by itself; "
            'wanted "sessions_per_client" or "rate_per_client" or "bytes_per_second_per_client" beside it',
        ),
        (
            {"clients": 5000},
            '$.apps[0].limits.clients: no client is limited by itself; wanted "sessions_per_client" or "rate_per_client"',
        ),
        ({"rate": 3, "queue_timeout": 3}, '$.apps[0].limits.queue_timeout: nobody waits; wanted "queue" beside it'),
        (
            {"queue": 3},
            '$.apps[0].limits.queue: nobody would wait: nothing is limited; wanted "sessions" beside it, or',
        ),
    ],
)
def test_what_belongs_to_nothing_is_an_error(app_complaints, limits, complaint):
    (found,) = app_complaints({"limits": limits})
    assert found.startswith(complaint)


def test_in_mode_http_nobody_waits_for_his_turn(app_complaints):
    (found,) = app_complaints({"mode": "http", "limits": {"rate": 3, "action": "delay"}})
    assert found == (
        '$.apps[0].limits.action: mode "http" answers a request above a rate with 429; "delay" is of mode "tcp"'
    )


@pytest.mark.parametrize(("other", "ours"), [("limit_req", "rate_per_client"), ("limit_conn", "sessions_per_client")])
def test_what_others_call_it_is_answered(app_complaints, other, ours):
    (found,) = app_complaints({"limits": {other: 3}})
    assert f'it is "{ours}" here' in found
