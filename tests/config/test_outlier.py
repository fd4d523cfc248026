"""What an app says of outlier detection arrives, and what contradicts itself has its one line."""

import dataclasses

import pytest

from tcp_proxy.config.model import Outlier
from tcp_proxy.config.schema import load_schema


def test_nobody_is_ejected_where_nothing_is_said(app):
    assert app().outlier is None


def test_an_empty_object_means_the_defaults_which_are_those_of_the_schema(app):
    assert app(outlier={}).outlier == Outlier()
    properties = load_schema()["properties"]["apps"]["items"]["properties"]["outlier"]["properties"]
    assert {key: value["default"] for key, value in properties.items()} == dataclasses.asdict(Outlier())


def test_every_key_arrives(app):
    said = {
        "consecutive_failures": 3, "consecutive_gateway_failures": 2, "slower_than": 1.5, "success_rate_stdev_factor": 1000,
        "success_rate_minimum_targets": 4, "success_rate_request_volume": 50, "interval": 5, "base_ejection_time": 7,
        "max_ejection_time": 70, "max_ejected": 34,
    }  # fmt: skip
    assert app(mode="http", outlier=said).outlier == Outlier(**said)


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        (
            {"outlier": {"slower_than": 2}},
            '$.apps[0].outlier.slower_than: "slower_than" is of mode http; wanted "mode": "http", or not this key',
        ),
        (
            {"outlier": {"consecutive_failures": 0, "success_rate_stdev_factor": 0}},
            "$.apps[0].outlier: nothing ejects a target; wanted failures in a row, or a success rate, that do",
        ),
        (
            {"balance": "failover", "outlier": {}},
            '$.apps[0].outlier: balance "failover" looks for another primary instead; wanted no "outlier" beside it',
        ),
    ],
)
def test_what_has_no_meaning(app_complaints, keys, complaint):
    assert app_complaints(keys) == [complaint]
