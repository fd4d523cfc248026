"""The metrics: a strict parser reads them, their names keep to Prometheus' conventions, no number is lost on the way."""

import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from tcp_proxy.control.long_answer import pieces
from tcp_proxy.control.statistics.prometheus import render
from tcp_proxy.sansio.verdict import State
from tcp_proxy.wire import counters
from tests.control.statistics.test_totals import AT, Rig

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@pytest.fixture(scope="module")
def snapshot():
    """A number of its own in each word."""
    with Rig() as rig:
        for slot in range(rig.slots.used):
            rig.memory.rows[1][slot] = slot
        rig.memory.rows[1][rig.listener + counters.LISTENER_ENDED] = 1
        rig.probes.add("web", "a", "tcp", False)
        return rig.look()


def text_of(snapshot, accept=""):
    made, _ = render(snapshot, accept)
    return b"".join(made).decode()


def families(snapshot):
    """As a strict reader finds them."""
    return list(parse_openmetrics(text_of(snapshot, OPENMETRICS)))


def samples(snapshot):
    found = {}
    for family in text_string_to_metric_families(text_of(snapshot)):
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in found, f"{key} twice"
            found[key] = sample.value
    return found


def value(snapshot, name, **labels):
    return samples(snapshot)[f"tcp_proxy_{name}", tuple(sorted(labels.items()))]


def test_both_formats_can_be_parsed_strictly(snapshot):
    assert render(snapshot)[1].startswith("text/plain")
    assert render(snapshot, OPENMETRICS)[1].startswith("application/openmetrics-text")
    old = {family.name for family in text_string_to_metric_families(text_of(snapshot))}
    assert old == {family.name for family in families(snapshot)}


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_what_is_said_in_brief_is_the_same_text(accept):
    """Of targets that have counted nothing, of both modes; one of them had a session when it was looked at."""
    with Rig() as rig:
        rig.memory.rows[1][rig.a + counters.BYTES_UP] = 7
        rig.memory.rows[1][rig.c + counters.ACTIVE] = 2
        rig.statistics.sample()
        rig.memory.rows[1][rig.c + counters.ACTIVE] = 0
        rig.probes.add("shop", "c", "tcp", True)
        rig.apps["web"].targets["b"].state = State.DOWN
        rig.apps["shop"].targets["c"].ejections = {"connect": 3}
        brief, whole = (json.loads("".join(pieces(rig.statistics.as_dict(is_brief)))) for is_brief in (True, False))
    assert "bytes" in brief["apps"]["web"]["targets"]["a"]
    assert brief["apps"]["web"]["targets"]["b"] == {"state": "down"}
    assert text_of(brief, accept) == text_of(whole, accept)


def test_numbers_arrive(snapshot):
    web = snapshot["apps"]["web"]
    a = web["targets"]["a"]
    assert value(snapshot, "sessions_total") == snapshot["sessions"]["total"]
    assert value(snapshot, "app_sessions_total", app="web") == web["sessions"]["total"]
    assert value(snapshot, "app_sessions_current", app="web") == web["sessions"]["current"]
    assert value(snapshot, "listener_sessions_total", app="web", listener=AT) == web["listeners"][AT]["sessions"]["total"]
    assert value(snapshot, "target_sessions_peak", app="web", target="a") == a["sessions"]["peak"]
    of_a = {"app": "web", "target": "a"}
    assert value(snapshot, "target_bytes_total", direction="client_to_target", **of_a) == a["bytes"]["up"]
    assert value(snapshot, "target_bytes_total", direction="target_to_client", **of_a) == a["bytes"]["down"]
    assert value(snapshot, "target_connect_failures_total", reason="refused", **of_a) == a["connect_failures"]["refused"]
    assert value(snapshot, "target_connect_retries_total", **of_a) == a["connect_retries"]
    assert value(snapshot, "target_session_ends_total", reason="idle_timeout", **of_a) == a["session_ends"]["idle_timeout"]
    assert value(snapshot, "target_session_ends_total", reason="worker_died", **of_a) == a["session_ends"]["worker_died"]
    assert value(snapshot, "target_probes_total", check="tcp", result="failure", **of_a) == 1
    assert value(snapshot, "target_up", **of_a) == value(snapshot, "target_state", state="up", **of_a) == 1
    assert value(snapshot, "target_state", state="down", **of_a) == 0


@pytest.mark.parametrize("failing", [True, False])
def test_whether_the_state_file_can_be_written_arrives(snapshot, failing):
    assert not any(name.startswith("tcp_proxy_state_file") for name, _ in samples(snapshot)), "there is none"
    assert value({**snapshot, "state_file": {"failing": failing}}, "state_file_failing") == failing


def test_the_cluster_arrives(snapshot):
    assert not any(name.startswith("tcp_proxy_cluster") for name, _ in samples(snapshot))
    cluster = {"joined": True, "members": 3, "lag": 0.25, "cut_off": 2, "agent_starts": 4, "different": 1}
    known = {**snapshot, "cluster": cluster}
    assert value(known, "cluster_different_nodes") == 1
    names = ("joined", "members", "lag_seconds", "cut_off_total", "agent_starts_total")
    assert [value(known, f"cluster_{name}") for name in names] == [1, 3, 0.25, 2, 4]
    unknown = {**snapshot, "cluster": {**cluster, "lag": -1.0}}
    assert ("tcp_proxy_cluster_lag_seconds", ()) not in samples(unknown)


def test_refused_clients_arrive(snapshot):
    known = snapshot["apps"]["web"]["refused"]
    assert value(snapshot, "app_refused_clients_total", app="web", cause="tls_none") == known["tls_none"]


def test_rules_of_access_arrive(snapshot):
    (rule, _) = snapshot["apps"]["club"]["access"]
    assert value(snapshot, "app_access_clients_total", app="club", action="deny", rule="10.0.0.0/8") == rule["clients"]
    assert value(snapshot, "app_access_clients_total", app="club", action="allow", rule="none") == 0


def test_stick_fallbacks_arrive(snapshot):
    known = snapshot["apps"]["club"]["stick_fallbacks"]
    assert known > 0
    assert value(snapshot, "app_stick_fallbacks_total", app="club") == known
    assert sum(name == "tcp_proxy_app_stick_fallbacks_total" for name, _ in samples(snapshot)) == 1


def test_requests_arrive(snapshot):
    of_c, shop = {"app": "shop", "target": "c"}, snapshot["apps"]["shop"]
    known = shop["targets"]["c"]["requests"]
    assert value(snapshot, "target_requests_total", status="5xx", **of_c) == known["statuses"]["5xx"]
    assert value(snapshot, "target_request_failures_total", **of_c) == known["failures"]
    assert value(snapshot, "target_response_seconds_count", **of_c) == known["seconds"]["count"]
    assert value(snapshot, "app_requests_total", status="2xx", app="shop") == shop["requests"]["statuses"]["2xx"]
    assert not [key for key in samples(snapshot) if "request" in key[0] and ("app", "web") in key[1]]


@pytest.mark.parametrize("name", ["connect", "session"])
def test_histograms_arrive(snapshot, name):
    known = snapshot["apps"]["web"]["targets"]["a"][f"{name}_seconds"]
    prefix, labels = f"target_{name}_duration_seconds", {"app": "web", "target": "a"}
    assert value(snapshot, f"{prefix}_count", **labels) == known["count"]
    assert value(snapshot, f"{prefix}_sum", **labels) == known["sum"]
    for bound, count in zip(known["bounds"], known["upto"], strict=True):
        assert value(snapshot, f"{prefix}_bucket", le=str(bound), **labels) == count
    assert value(snapshot, f"{prefix}_bucket", le="+Inf", **labels) == known["count"]


def test_no_number_of_the_snapshot_is_left_out(snapshot):
    """Every number there is in the statistics is the value of some sample."""

    def numbers(view):
        if isinstance(view, dict):
            return [number for key, item in view.items() if key != "bounds" for number in numbers(item)]
        if isinstance(view, list):
            return [number for item in view for number in numbers(item)]
        return [] if isinstance(view, str) else [view]

    assert {float(number) for number in numbers(snapshot)} <= {float(number) for number in samples(snapshot).values()}


def test_names_keep_to_the_conventions(snapshot):
    """What promtool's linter would say."""
    for family in families(snapshot):
        assert re.fullmatch(r"tcp_proxy_[a-z][a-z_]*[a-z]", family.name), family.name
        assert family.documentation.endswith("."), f"{family.name} has no sentence for help"
        words = family.name.split("_")
        reserved = {"counter", "gauge", "histogram", "summary", "total", "count", "sum", "bucket"}
        assert not reserved & set(words), family.name
        assert not {"ms", "milliseconds", "microseconds", "minutes", "kilobytes", "kb", "percent"} & set(words), "base units"
        if family.type == "histogram":
            assert family.name.endswith("_seconds")
        for sample in family.samples:
            assert (sample.name == family.name + "_total") is (family.type == "counter")
            assert all(re.fullmatch(r"[a-z_]+", label) and label not in ("job", "instance") for label in sample.labels)
            assert all(isinstance(text, str) for text in sample.labels.values())
        names = {tuple(sorted(sample.labels)) for sample in family.samples if not sample.name.endswith("_bucket")}
        assert len(names) <= 1, f"{family.name}: the same labels everywhere"


def test_types(snapshot):
    kinds = {family.name: family.type for family in families(snapshot)}
    assert {kinds[f"tcp_proxy_{name}"] for name in ("sessions", "app_bytes", "target_session_ends")} == {"counter"}
    assert {kinds[f"tcp_proxy_{name}"] for name in ("sessions_current", "app_sessions_peak", "target_up")} == {"gauge"}
    assert kinds["tcp_proxy_target_connect_duration_seconds"] == "histogram"


@given(name=st.text(min_size=1), address=st.text(min_size=1))
def test_any_name_of_an_app_or_target_survives(name, address):
    """Quotes, backslashes, line ends."""
    with Rig() as rig:
        snapshot = rig.look()
    web = snapshot["apps"].pop("web")
    snapshot["apps"] = {name: {**web, "targets": {address: web["targets"]["a"]}}}
    (up,) = [f for f in text_string_to_metric_families(text_of(snapshot)) if f.name == "tcp_proxy_target_up"]
    assert up.samples[0].labels == {"app": name, "target": address}


def test_values_are_finite(snapshot):
    assert all(math.isfinite(number) for number in samples(snapshot).values())
