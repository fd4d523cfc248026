"""Renewed certificates come into use while the program runs; a bad one is one warning, and changes nothing."""

import itertools
import re
import signal

import pytest

from kit.api import Api, api_config
from kit.certificates import Authority, no_point, pem_of
from kit.ports import free_port
from kit.supervisor import Rig, SilentWorker
from tcp_proxy.config.certificates import as_read
from tcp_proxy.config.tls_model import as_said, way_of
from tcp_proxy.wire.messages import Configure, Drain, Unlisten

RENEWED = r"the certificate in .*%s.pem is renewed, until "


@pytest.fixture(scope="module")
def root():
    return Authority()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "ssl").mkdir()
    return tmp_path / "ssl"


@pytest.fixture
def program(root, folder, proxy):
    """Two apps: one with two certificates, of which it shares one with the other's target."""
    one, two = (root.issue(f"{name}.org").write(folder, name) for name in ("one", "two"))
    usual = {"targets": ["127.0.0.1:1"], "health": []}
    first = {"name": "first", "ports": [free_port()], **usual, "tls": {"certificates": [one, two]}}
    target = {"address": "127.0.0.1:1", "name": "t", "tls": {"certificate": two, "verify": False}}
    second = {"name": "second", "ports": [free_port()], **usual, "targets": [target]}
    return proxy({"api": api_config(), "apps": [first, second], "workers": 2})


def fingerprints(program):
    found = Api.of(program).get("/api/v1/certificates").json
    return {(one["app"], one["file"].rpartition("/")[2]): one["fingerprint"] for one in found}


def write(folder, name, issued):
    """As certbot does: one file after another, each in place at once."""
    for suffix, text in (("pem", issued.chain), ("key", pem_of(issued.key))):
        new = folder / "new"
        new.write_text(text)
        new.rename(folder / f"{name}.{suffix}")


def test_a_renewed_certificate_comes_into_use_wherever_it_is(root, folder, program):
    before = fingerprints(program)
    assert len(before) == 3
    write(folder, "two", root.issue("two.org"))
    program.wait_log(r"app first: " + RENEWED % "two")
    program.wait_log(r"app second: target t: " + RENEWED % "two")
    after = fingerprints(program)
    assert after["first", "one.pem"] == before["first", "one.pem"]
    assert after["first", "two.pem"] == after["second", "two.pem"] != before["second", "two.pem"]
    assert program.count_log("reading the configuration again") == 0
    events = [event["data"] for event in Api.of(program).get("/api/v1/events").json if event["kind"] == "certificate"]
    told = sorted((event["owners"], event["ok"]) for event in events)  # either may have been read first
    assert told == [(["app first"], True), (["app second: target t"], True)]
    write(folder, "two", root.issue("two.org"))
    program.wait_log(r"app first: " + RENEWED % "two", since=len(program.lines))
    assert fingerprints(program)["first", "two.pem"] != after["first", "two.pem"]


def test_a_bad_renewal_is_one_warning_and_what_was_there_stays(root, folder, program):
    before = fingerprints(program)
    (folder / "one.key").write_text("nothing")
    text = r"app first: .*one\.key: there is no private key in it; wanted PEM.*; what was read before stays in use"
    program.wait_log(text)
    assert fingerprints(program) == before
    write(folder, "one", root.issue("one.org", days=-1, before=9))
    program.wait_log(r"app first: .*one\.pem: the certificate has expired, at .*; what was read before stays in use")
    assert fingerprints(program) == before
    (folder / "one.pem").write_text(no_point(root.issue("one.org").pem))
    program.wait_log(r"app first: .*one\.pem: a certificate in it is damaged; what was read before stays in use")
    write(folder, "one", root.issue("one.org"))
    program.wait_log(r"app first: " + RENEWED % "one")
    assert program.count_log(r"stays in use") == 3
    assert fingerprints(program) != before


def test_a_reload_reads_the_files_too_and_a_wrong_one_changes_nothing(root, folder, proxy):
    """Where nobody watches them."""
    own = root.issue("one.org").write(folder, "one")
    tls = {"certificates": [own], "watch": False}
    app = {"name": "first", "ports": [free_port()], "targets": ["127.0.0.1:1"], "health": [], "tls": tls}
    program = proxy({"api": api_config(), "apps": [app]})
    api, before = Api.of(program), fingerprints(program)
    renewed = root.issue("one.org")
    write(folder, "one", renewed)
    changes = api.post("/api/v1/reload").json["changes"]
    assert [change["key"] for change in changes] == ["tls.certificates"]
    one = r"\[\S+/one\.pem \(sha256 [0-9a-f]{16}\)\]"
    assert re.fullmatch(rf"app first: tls\.certificates: {one} -> {one}", changes[0]["text"])
    after = fingerprints(program)
    assert after != before
    (folder / "one.key").write_text("nothing")
    detail = api.post("/api/v1/reload", status=422).text
    assert "$.apps[0].tls.certificates[0].key" in detail
    assert "there is no private key in it" in detail
    root.issue("one.org", key="1024").write(folder, "one")
    assert "OpenSSL says: ee key too small" in api.post("/api/v1/reload", status=422).text
    assert fingerprints(program) == after


def test_nothing_of_a_key_is_shown(root, folder, program):
    """Neither by the log nor by any answer of the API."""
    write(folder, "two", root.issue("two.org"))
    program.wait_log(RENEWED % "two")
    api = Api.of(program)
    asked = "config certificates apps events status statistics".split()
    shown = [api.get(f"/api/v1/{path}").text for path in asked]
    shown += [api.get("/metrics").text, api.post("/api/v1/plan", program.config).text, program.log]
    for name in ("one", "two"):
        lines = (folder / f"{name}.key").read_text().splitlines()[1:-1]
        assert not [line for line in lines for text in shown if line[8:40] in text]


def test_when_they_expire_is_in_the_metrics_and_the_status(folder, program):
    text, status = Api.of(program).get("/metrics").text, Api.of(program).get("/api/v1/status").json
    labels = r'\{app="(\w+)",file="[^"]*/(\w+).pem",target="(\w*)"\}'
    found = re.findall(rf"^tcp_proxy_certificate_expiry_seconds{labels} (\S+)$", text, re.M)
    assert [line[:3] for line in found] == [("first", "one", ""), ("first", "two", ""), ("second", "two", "t")]
    assert {float(line[3]) for line in found} == {status["first_expiry"]}


def test_targets_that_differ_by_their_name_alone_are_renewed_together(root, folder, proxy):
    own = root.issue("proxy").write(folder, "one")
    targets = [
        {"address": f"127.0.0.1:{n}", "name": name, "tls": {"certificate": own, "server_name": f"{name}.org"}}
        for n, name in enumerate("ab", 1)
    ]
    app = {"name": "app", "ports": [free_port()], "targets": targets, "health": []}
    program = proxy({"api": api_config(), "apps": [app]})
    api, renewed = Api.of(program), root.issue("proxy")
    write(folder, "one", renewed)
    program.wait_log(r"app app: target a, app app: target b: " + RENEWED % "one")
    assert len({one["fingerprint"] for one in api.get("/api/v1/certificates").json}) == 1
    shown = api.get("/api/v1/config").json["apps"][0]["targets"]
    assert [one["tls"]["server_name"] for one in shown] == ["a.org", "b.org"]


TARGETS = 1200  # several slices in each step of a renewal


class Renewing:
    """A supervisor whose targets have one certificate, which is renewed while something else is wanted."""

    def __init__(self, monkeypatch, folder):
        self.file, self.caught = folder / "ca.pem", []
        self.file.write_text(Authority().pem)
        tls = {"ca": str(self.file), "watch": False}
        self.rig = Rig(monkeypatch, TARGETS, app={"health": []}, target=lambda n, weight: {"weight": weight, "tls": tls})
        self.context = self.rig.supervisor._context

    def renew(self):
        """Begun; what it is to become."""
        old = self.way(0)
        self.file.write_text(Authority().pem)
        new = as_read(as_said(old))
        assert new != old
        self.rig.supervisor._watches._renewals._found(old, new)
        return new

    def target(self, number):
        return next(one for one in self.context.config.apps[0].targets if one.name == f"t{number}")

    def way(self, number):
        return way_of(self.target(number).tls)

    def settle(self, statuses):
        api = self.rig.api
        self.rig.turn_until(lambda: len(api.statuses) >= statuses and self.context.slices.is_idle)

    def ways(self):
        return {way_of(one.tls) for one in self.context.config.apps[0].targets if one.tls is not None}


@pytest.fixture
def renewing(monkeypatch, tmp_path):
    made = Renewing(monkeypatch, tmp_path)
    yield made
    made.rig.close()


def rounds_of(renewing):
    """How many a renewal takes that meets nothing."""
    new, rounds = renewing.renew(), itertools.count(1)
    renewing.rig.turn_until(lambda: next(rounds) and renewing.ways() == {new} and renewing.context.slices.is_idle)
    return next(rounds)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("order", ["a weight", "a target less", "a target more", "a reload"])
def test_an_order_that_meets_a_renewal_and_the_renewal_are_both_obeyed(renewing, order):
    """Whatever slice it comes behind."""
    rig, most = renewing.rig, rounds_of(renewing)
    assert most > 5
    for begun in range(0, most + 2, 2):
        new, rig.api.statuses, number = renewing.renew(), [], begun + 100
        for _ in range(begun):
            rig.turn()
        if order == "a weight":
            rig.api.ask("set_target", app="web", target=f"t{number}", admin="ready", weight=7)
        elif order == "a target less":
            rig.api.ask("remove_target", app="web", target=f"t{number}")
        elif order == "a target more":
            rig.api.ask("add_target", app="web", definition=f"127.9.9.{number}:80")
        else:
            rig.text = rig.file(begun + 2)
            rig.api.ask("reload")
        renewing.settle(1)
        rig.turn_until(lambda new=new: renewing.ways() == {new} and renewing.context.slices.is_idle)
        names = {one.name for one in renewing.context.config.apps[0].targets}
        assert rig.api.statuses == [200], (begun, rig.api.statuses)
        done = {
            "a weight": lambda number=number: renewing.target(number).weight == 7,
            "a target less": lambda number=number, names=names: f"t{number}" not in names,
            "a target more": lambda number=number, names=names: f"127.9.9.{number}:80" in names,
            "a reload": lambda begun=begun: renewing.target(3).weight == begun + 2,
        }
        assert done[order](), begun
        assert not renewing.context.slices.is_hidden
        assert {worker.generation for worker in rig.pool} == {renewing.context.generation}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_end_of_the_program_in_the_middle_of_a_renewal(monkeypatch, tmp_path):
    """Whatever slice it comes behind, the workers end in order, and take all of the renewal or nothing."""
    monkeypatch.setattr(SilentWorker, "keeps", True)
    for begun in (0, 1, 3, 5, 8, 12, 20):
        with monkeypatch.context() as own:
            renewing = Renewing(own, tmp_path)
            rig, before = renewing.rig, [len(worker.sent) for worker in renewing.rig.workers]
            renewing.renew()
            for _ in range(begun):
                rig.turn()
            rig.supervisor._stop(signal.SIGTERM)
            rig.turn_until(lambda rig=rig: all(type(worker.sent[-1]) is Drain for worker in rig.workers))
            for worker, old in zip(rig.workers, before, strict=True):
                kinds = [type(message) for message in worker.sent[old:]]
                order = [kind for kind in kinds if kind in (Configure, Unlisten, Drain)]
                assert order in ([Unlisten, Drain], [Configure, Unlisten, Drain]), (begun, kinds)
            assert not renewing.context.slices.is_hidden
            rig.close()
