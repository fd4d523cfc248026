"""What only OpenSSL knows of a certificate is one line with its place."""

import json

import pytest

from kit.certificates import Authority
from tcp_proxy.config.load import ConfigErrors, load_text
from tcp_proxy.control.tls import trial
from tcp_proxy.control.tls.trial import faults, require
from tcp_proxy.runtime import openssl


@pytest.fixture(scope="module")
def authority():
    return Authority()


def load(*apps):
    whole = [{"name": f"app{i}", "ports": [5001 + i], "targets": ["a:1"], **app} for i, app in enumerate(apps)]
    return load_text(json.dumps({"apps": whole}).encode(), "file")


def test_what_is_right(authority, tmp_path):
    (tmp_path / "ca.pem").write_text(authority.pem)
    (tmp_path / "crl.pem").write_text(authority.revoke())
    one = authority.issue("a.org").write(tmp_path, "one")
    tls = {
        "certificates": [one], "client_ca": str(tmp_path / "ca.pem"), "crl": str(tmp_path / "crl.pem"), "verify": "required",
        "ciphersuites": ["TLS_AES_128_GCM_SHA256"],
    }  # fmt: skip
    target = {"address": "a:1", "tls": {"ca": str(tmp_path / "ca.pem"), "certificate": one}}
    assert faults(load({"tls": tls, "targets": [target, {"address": "b:1", "tls": True}]}, {})) == []


def test_a_key_that_is_too_short(authority, tmp_path):
    good = authority.issue("a.org").write(tmp_path, "good")
    weak = authority.issue("b.org", key="1024").write(tmp_path, "weak")
    config = load(
        {"tls": {"certificates": [good, weak]}},
        {"targets": [{"address": name, "tls": {"certificate": weak}} for name in ("a:1", "b:1")]},
    )
    wrong = "OpenSSL says: ee key too small"
    assert faults(config) == [
        f"$.apps[0].tls.certificates[1]: {tmp_path}/weak.pem: {wrong}",
        f"$.apps[1].targets[0].tls: {wrong}",
        f"$.apps[1].targets[1].tls: {wrong}",
    ]


def test_ciphers_that_cannot_be_set(authority, tmp_path, monkeypatch):
    monkeypatch.setattr(openssl, "_library", lambda: (None, "out of reach"))
    tls = {"certificates": [authority.issue("a.org").write(tmp_path)], "ciphersuites": ["TLS_AES_128_GCM_SHA256"]}
    assert faults(load({"tls": tls})) == ["$.apps[0].tls: ciphersuites: out of reach"]


def test_a_target_that_is_to_be_added(authority, tmp_path):
    weak = authority.issue("b.org", key="1024").write(tmp_path, "weak")
    config = load({"targets": ["a:1", {"address": "b:1", "tls": {"certificate": weak}}, {"address": "c:1", "tls": True}]})
    first, second, third = config.apps[0].targets
    assert (require(first), require(third)) == (first, third)
    with pytest.raises(ConfigErrors, match="target: tls: OpenSSL says: ee key too small"):
        require(second)


def test_what_many_targets_share_is_tried_once(authority, tmp_path, monkeypatch):
    """With the system's authorities it takes a fiftieth of a second."""
    tried = []
    monkeypatch.setattr(trial, "client_fault", lambda tls: tried.append(tls) or "")
    targets = [{"address": f"a{n}:1", "tls": {"server_name": f"a{n}.org"}} for n in range(50)]
    assert faults(load({"targets": targets}, {"targets": targets[:9]})) == []
    assert len(tried) == 1
