"""The values of TLS: what they show, and which files they are from."""

import dataclasses

from tcp_proxy.config.tls_model import Certificate, PemFile, TargetTls, Tls, distinct, parts_of, stamps_of

ONE = Certificate("a.pem", "a.key", "a.password", "CHAIN", "SECRET", ("a",), fingerprint="00ff")
OTHER = dataclasses.replace(ONE, chain_file="b.pem", key_file="")
TLS = Tls((ONE, OTHER), client_ca=PemFile("ca.pem", "CA"), crl=PemFile("crl.pem", "LIST"))


def test_no_key_is_shown():
    for value in (ONE, TLS, TargetTls(certificate=ONE)):
        assert "SECRET" not in f"{value!r} {value}"
        assert "CHAIN" not in f"{value!r} {value}"


def test_everything_that_was_read_from_files():
    assert parts_of(TLS) == (ONE, OTHER, TLS.client_ca, TLS.crl)
    assert parts_of(TargetTls(ca=PemFile("x", ""), certificate=ONE)) == (ONE, PemFile("x", ""))
    assert parts_of(TargetTls()) == ()
    assert (ONE.files, OTHER.files) == (("a.pem", "a.key", "a.password"), ("b.pem", "a.password"))


def test_how_the_files_were_then_is_no_part_of_what_they_say():
    stamped = dataclasses.replace(ONE, stamps=("1", "2", "3"))
    assert stamped == ONE
    assert stamps_of(Tls((stamped,))) == {"a.pem": "1", "a.key": "2", "a.password": "3"}


def test_each_way_to_speak_it_once():
    plain, named, lax = TargetTls(), TargetTls(server_name="x"), TargetTls(verify=False)
    assert distinct([None, named, lax, plain, named]) == ((plain, lax), (-1, 0, 1, 0, 0))
