"""What a file says of TLS becomes values, and what is wrong has its one line with a JSON path."""

import pytest

from kit.certificates import Authority
from tcp_proxy.config.tls_model import SniRoute, TargetTls


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture
def said(authority, tmp_path):
    return authority.issue("a.example.org").write(tmp_path)


@pytest.fixture
def ca(authority, tmp_path):
    path = tmp_path / "ca.pem"
    path.write_text(authority.pem)
    return str(path)


def test_no_tls_is_none(app):
    found = app()
    assert (found.tls, found.sni_routes, found.targets[0].tls) == (None, (), None)
    assert app(targets=[{"address": "a:1", "tls": False}]).targets[0].tls is None


def test_the_least_that_can_be_said(app, said):
    tls = app(tls={"certificates": [said]}).tls
    assert [one.names for one in tls.certificates] == [("a.example.org",)]
    assert (tls.min_version, tls.verify, tls.alpn, tls.handshake_timeout, tls.tickets) == ("1.2", "none", (), 5.0, True)
    assert app(mode="http", tls={"certificates": [said]}).tls.alpn == ("http/1.1",)


def test_every_key_of_an_app(app, said, ca, authority, tmp_path):
    crl = tmp_path / "crl.pem"
    crl.write_text(authority.revoke())
    tls = app(
        tls={
            "certificates": [said, said], "strict_sni": True, "min_version": "1.3", "ciphers": "ECDHE+AESGCM",
            "ciphersuites": ["TLS_AES_128_GCM_SHA256"], "alpn": ["h2", "http/1.1"], "client_ca": ca, "verify": "optional",
            "crl": str(crl), "handshake_timeout": 7, "tickets": False, "watch": False,
        }
    ).tls  # fmt: skip
    assert len(tls.certificates) == 2
    assert (tls.strict_sni, tls.min_version, tls.ciphers) == (True, "1.3", "ECDHE+AESGCM")
    assert (tls.ciphersuites, tls.alpn) == (("TLS_AES_128_GCM_SHA256",), ("h2", "http/1.1"))
    assert (tls.client_ca.path, tls.client_ca.pem, tls.verify) == (ca, authority.pem, "optional")
    assert (tls.crl.path, tls.handshake_timeout, tls.tickets, tls.watch) == (str(crl), 7.0, False, False)


def test_every_key_of_a_target(app, said, ca, authority):
    written = {
        "verify": True, "ca": ca, "server_name": "x.org", "alpn": ["h2"], "certificate": said, "min_version": "1.3",
        "watch": False,
    }  # fmt: skip
    (tls,) = (target.tls for target in app(targets=[{"address": "a:1", "tls": written}]).targets)
    assert (tls.verify, tls.ca.pem, tls.server_name, tls.alpn) == (True, authority.pem, "x.org", ("h2",))
    assert (tls.certificate.names, tls.min_version, tls.watch) == (("a.example.org",), "1.3", False)


def test_true_is_short_for_the_defaults(app):
    for written in (True, {}):
        assert app(targets=[{"address": "a:1", "tls": written}]).targets[0].tls == TargetTls()
    assert app(mode="http", targets=[{"address": "a:1", "tls": True}]).targets[0].tls == TargetTls(alpn=("http/1.1",))


NEEDS = "needs \"client_ca\": the certificates of those who may sign a client's"
WRONG = [
    ({"certificates": []}, "tls.certificates: found an empty list; wanted a list of certificates, at least one"),
    ({}, 'tls: missing key "certificates"'),
    ({"certificates": [{}]}, 'tls.certificates[0]: missing key "chain"'),
    ({"certificates": [{"chain": "/no"}]}, 'tls.certificates[0].chain: "/no": there is no such file'),
    ({"min_version": "1.1"}, 'tls.min_version: found "1.1"; wanted one of "1.2", "1.3"; did you mean "1.3"?'),
    ({"ciphers": "FAST"}, 'tls.ciphers: found "FAST"; OpenSSL knows no such ciphers (openssl ciphers -v lists them)'),
    ({"verify": "required"}, f"tls.verify: verify \"required\" {NEEDS}"),
    ({"client_ca": "CA"}, 'tls.client_ca: no client is asked for a certificate; wanted "verify": "required" beside it'),
    ({"client_ca": "/no", "verify": "required"}, 'tls.client_ca: "/no": there is no such file'),
    ({"alpn": ["é"]}, 'tls.alpn[0]: found "é"; wanted the name of a protocol, in ASCII'),
    ({"cert": "x"}, 'tls.cert: unknown key "cert"; it is "certificates" here'),
    ({"handshake_timeout": 0}, "tls.handshake_timeout: found 0; wanted a number of seconds from 0.01 to 1000000"),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "complaint"), WRONG)
def test_what_is_wrong_with_the_tls_of_an_app(app_complaints, said, ca, keys, complaint):
    given = {key: ca if value == "CA" else value for key, value in keys.items()}
    tls = {} if keys == {} else {"certificates": [said], **given}
    assert app_complaints({"tls": tls}) == [f"$.apps[0].{complaint}"]


def test_http_2_is_not_spoken(app_complaints, said):
    text = 'found "h2"; mode "http" speaks "http/1.1": HTTP/2 is not spoken'
    app = {"mode": "http", "tls": {"certificates": [said], "alpn": ["h2"]}}
    assert app_complaints(app) == [f"$.apps[0].tls.alpn[0]: {text}"]


def test_each_certificate_has_its_own_line(app_complaints, said):
    certificates = [{"chain": "/no", "key": "/nor"}, said, {**said, "key": "/never"}]
    assert app_complaints({"tls": {"certificates": certificates}}) == [
        '$.apps[0].tls.certificates[0].chain: "/no": there is no such file',
        '$.apps[0].tls.certificates[2].key: "/never": there is no such file',
    ]


@pytest.mark.parametrize(
    ("tls", "complaint"),
    [
        ({"ca": "/no"}, '.ca: "/no": there is no such file'),
        ({"ca": "CA", "verify": False}, '.ca: without "verify" nobody looks at it'),
        ({"certificate": {"chain": "/no"}}, '.certificate.chain: "/no": there is no such file'),
        (1, ": found 1; wanted true or an object"),
        ({"server_name": "a..b"}, '.server_name: found "a..b"; wanted a host name or an address'),
        ({"server_name": "*.b"}, '.server_name: found "*.b"; wanted a host name or an address'),
        ({"server_name": "a:1"}, '.server_name: found "a:1"; wanted a host name or an address'),
        ({"verifi": True}, '.verifi: unknown key "verifi"; did you mean "verify"?'),
    ],
)
def test_what_is_wrong_with_the_tls_of_a_target(app_complaints, ca, tls, complaint):
    written = {**tls, "ca": ca} if isinstance(tls, dict) and tls.get("ca") == "CA" else tls
    assert app_complaints({"targets": [{"address": "a:1", "tls": written}]}) == [f"$.apps[0].targets[0].tls{complaint}"]


@pytest.mark.parametrize("name", ["a.org", "a.org.", "bücher.example", "192.0.2.1", "::1", "a_b"])
def test_what_a_target_may_be_asked_for(app, name):
    found = app(targets=[{"address": "a:1", "tls": {"server_name": name}}]).targets[0]
    assert found.tls.server_name == name


def test_a_host_that_tls_cannot_ask_for(app, app_complaints):
    text = '"fe80::1%lo" is no name that TLS can ask for; wanted "server_name" beside it'
    assert app_complaints({"targets": [{"address": "[fe80::1%lo]:1", "tls": True}]}) == [f"$.apps[0].targets[0].tls: {text}"]
    assert app(targets=[{"address": "[fe80::1%lo]:1", "tls": {"server_name": "a.org"}}])


def test_a_unix_target_needs_a_name(app, app_complaints):
    text = 'a UNIX socket has no name that its certificate could have; wanted "server_name" beside it, or "verify": false'
    assert app_complaints({"targets": [{"address": "unix:/x", "tls": True}]}) == [f"$.apps[0].targets[0].tls: {text}"]
    assert app(targets=[{"address": "unix:/x", "tls": {"verify": False}}])
    assert app(targets=[{"address": "unix:/x", "tls": {"server_name": "x"}}])


# -- routes by name

TARGETS = [{"address": "a:1", "name": "one"}, {"address": "b:1", "name": "two"}]


def test_routes_by_name(app, said):
    routes = [
        {"sni": "A.org.", "targets": ["one"]},
        {"sni": ["*.b.org", "b.org"], "alpn": ["h2"], "targets": ["one", "two"]},
        {"targets": ["two"]},
    ]
    assert app(targets=TARGETS, routes=routes).sni_routes == (
        SniRoute(("a.org",), (), ("one",), True),
        SniRoute(("*.b.org", "b.org"), ("h2",), ("one", "two"), True),
        SniRoute((), (), ("two",), True),
    )
    routes[0]["passthrough"] = True
    found = app(targets=TARGETS, routes=routes, tls={"certificates": [said]}).sni_routes
    assert [route.passthrough for route in found] == [True, False, False]


def route(**keys):
    return {"targets": ["one"], **keys}


@pytest.mark.parametrize(
    ("routes", "more", "complaint"),
    [
        ([route(sni="a:1")], {}, '[0].sni: found "a:1"; wanted a host name without a port, or "*." and one'),
        ([route(sni=["a", "*"])], {}, '[0].sni[1]: found "*"; wanted a host name without a port, or "*." and one'),
        ([route(targets=["three"])], {}, '[0].targets[0]: no target of this app is named "three"'),
        ([route(host="a")], {}, '[0].host: "host" is of mode http; in mode tcp a route has "sni" and "alpn"'),
        (
            [route(passthrough=False)], {},
            '[0].passthrough: TLS cannot be ended here without a certificate; wanted "tls" in the app',
        ),
        (
            [route(sni="a"), route(sni=["b", "A"])], {},
            "[1]: the same name and protocol as the route at line 1, column 139; this one is never used",
        ),
        (
            [route()], {"sticky": {}},
            ': a client that belongs to a target goes there whatever name it asks for; wanted no "sticky"',
        ),
        (
            [route()], {"balance": "failover"},
            ': balance "failover" has one target for everybody: there is nothing to choose by a name',
        ),
        ([route(sni="a")], {"mode": "http"}, '[0].sni: "sni" is of mode tcp; in mode http a route has "host" and "path"'),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_route(app_complaints, routes, more, complaint):
    assert app_complaints({"targets": TARGETS, "routes": routes, **more})[0] == f"$.apps[0].routes{complaint}"


def test_fields_for_a_certificate_need_one(app, app_complaints, said, ca):
    text = 'no client is asked for a certificate; wanted "tls" with "verify" in the app'
    assert app_complaints({"mode": "http", "client_certificate": True}) == [f"$.apps[0].client_certificate: {text}"]
    tls = {"certificates": [said], "client_ca": ca, "verify": "optional"}
    assert app(mode="http", client_certificate=True, tls=tls).http.client_certificate
