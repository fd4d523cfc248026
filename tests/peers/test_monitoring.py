"""Alert rules and the dashboard, by Debian's Prometheus: rules and their tests by promtool, every query of every panel asked
of one that scrapes the running program under load."""

import contextlib
import json
import re
import urllib.parse
import urllib.request

import pytest

from kit.api import Api, api_config
from kit.certificates import Authority
from kit.load import Load
from kit.origin import Origin
from kit.ports import free_port, free_ports
from kit.programs import Program, need, run
from kit.waiting import wait_until
from tests.test_docs import HOME

FOLDER = HOME / "monitoring"
DASHBOARD = json.loads((FOLDER / "grafana.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = {f"{panel['title']} {target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]}
SETTINGS = """
global: {{ scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 1s }}
rule_files: ["{rules}"]
scrape_configs: [{{ job_name: tcp_proxy, scrape_timeout: 250ms, static_configs: [{{ targets: ["{api}"] }}] }}]
"""


def test_rules_are_rules_and_each_alert_comes_when_it_should():
    assert "11 rules found" in run("promtool", "check", "rules", FOLDER / "alerts.yml")
    assert "SUCCESS" in run("promtool", "test", "rules", FOLDER / "alerts_test.yml")


def test_every_alert_has_a_test():
    alerts = set(re.findall(r"- alert: (\w+)", (FOLDER / "alerts.yml").read_text()))
    tests = (FOLDER / "alerts_test.yml").read_text()
    assert len(alerts) == 11
    assert {name for name in alerts if re.search(rf"alertname: {name}\n +exp_alerts:\n +- exp_labels", tests)} == alerts


class Prometheus:
    """Scrapes four times a second."""

    def __init__(self, folder, api):
        port = free_port()
        settings = folder / "prometheus.yml"
        settings.write_text(SETTINGS.format(rules=FOLDER / "alerts.yml", api=api))
        where = ["--web.listen-address", f"127.0.0.1:{port}", "--storage.tsdb.path", folder / "data"]
        argv = [need("prometheus"), "--config.file", settings, *where, "--log.level", "error"]
        self._root = f"http://127.0.0.1:{port}"
        self.program = Program(argv, port, folder, is_ready=self._is_ready).wait_listening()

    def _is_ready(self):
        """It accepts before it can be asked."""
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self._root}/-/ready", timeout=20):
            return True
        return False

    def get(self, path, **query):
        with urllib.request.urlopen(f"{self._root}/api/v1/{path}?{urllib.parse.urlencode(query)}", timeout=20) as answer:
            return json.loads(answer.read())["data"]

    def ask(self, query):
        return self.get("query", query=query)["result"]


def filled_in(query):
    """As Grafana does it when everything is chosen."""
    for name in ("job", "instance", "app"):
        query = query.replace(f"${name}", ".*")
    return query.replace("$__rate_interval", "5s")


def get_once(peer):
    peer.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert peer.read_to_end().startswith(b"HTTP/1.1 200 ")


def apps(folder, echo, origin, authority):
    dead, *ports = free_ports(6)
    certificate = authority.issue("shop.example").write(folder, "shop")
    known = [
        {"name": "tcp", "targets": [echo, f"127.0.0.1:{dead}"]},
        {"name": "checked", "targets": [echo, f"127.0.0.1:{dead}"], "health": {"type": "tcp", "interval": 0.2, "fall": 1}},
        {"name": "db", "targets": [echo], "balance": "failover"},
        {"name": "tls", "targets": [echo], "tls": {"certificates": [certificate]}},
        {"name": "web", "targets": [f"127.0.0.1:{origin}"], "mode": "http"},
    ]
    return [{"health": [], **app, "ports": [port]} for app, port in zip(known, ports, strict=True)]


def test_every_query_of_the_dashboard_has_data_under_load(proxy, service, tmp_path, servers):
    with contextlib.ExitStack() as stack:
        origin = stack.enter_context(Origin())
        known = apps(tmp_path, service().address, origin.port, Authority())
        program = proxy({"apps": known, "api": api_config(), "state": "state.db"})
        program.uncounted = None
        prometheus = Prometheus(tmp_path, program.config["api"]["listen"])
        stack.callback(prometheus.program.close)
        ports = {app["name"]: app["ports"][0] for app in known}
        loads = [Load(ports[name], clients=2) for name in ("tcp", "checked", "db")]
        loads += [Load(ports["web"], clients=2, talk=get_once), Load(ports["tls"], clients=1)]  # the latter is refused
        for load in loads:
            stack.enter_context(load)
        left = dict(QUERIES)

        def all_have_data():
            for name, query in list(left.items()):
                if prometheus.ask(filled_in(query)):
                    del left[name]
            return not left

        wait_until(all_have_data, lambda: f"data for {left}", 60)
        (version,) = prometheus.ask("tcp_proxy_build_info")
        assert version["metric"]["job"] == "tcp_proxy"
        groups = prometheus.get("rules")["groups"]
        assert {rule["health"] for group in groups for rule in group["rules"]} <= {"ok", "unknown"}
        wait_until(lambda: "TcpProxyTargetIsDown" in pending(prometheus), "the target that is down is to be alerted of")
        assert "TcpProxyIsDown" not in pending(prometheus)


def pending(prometheus):
    return {alert["labels"]["alertname"] for alert in prometheus.get("alerts")["alerts"]}


def test_every_metric_that_is_asked_for_is_one_that_there_is(proxy, service, tmp_path):
    with Origin() as origin:
        known = apps(tmp_path, service().address, origin.port, Authority())
        program = proxy({"apps": known, "api": api_config(), "state": "state.db"})
        text = Api.of(program).get("/metrics").text
        there = set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))
        asked = " ".join([*QUERIES.values(), (FOLDER / "alerts.yml").read_text()])
        names = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\btcp_proxy_\w+", asked)}
        assert names - there <= {"tcp_proxy_revocation_list_expiry_seconds"}, "there is no such list here"


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_panels_are_whole(panel):
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    place = panel["gridPos"]
    assert place["x"] + place["w"] <= 24
    others = [other["gridPos"] for other in PANELS if other is not panel]
    assert not any(
        place["x"] < other["x"] + other["w"] and other["x"] < place["x"] + place["w"]
        and place["y"] < other["y"] + other["h"] and other["y"] < place["y"] + place["h"]
        for other in others
    )  # fmt: skip
