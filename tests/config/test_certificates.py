"""Files of certificates become values, or one clause that says what is wrong, in which file."""

import os
import weakref

import pytest
from cryptography.hazmat.primitives import serialization

from kit.certificates import Authority, new_key, no_point, no_version, other_kind_of_key, pem_of
from tcp_proxy.config import certificates
from tcp_proxy.config.certificates import (
    KEPT,
    Fault,
    Files,
    LastRead,
    again,
    read_authorities,
    read_certificate,
    read_revoked,
    stamp,
)
from tcp_proxy.config.tls_model import TargetTls, Tls

PEM = "wanted PEM, with lines that begin with -----BEGIN"
DER = "this is no PEM but a binary form (DER or PKCS #12); openssl makes PEM of it"
OTHER = "the key does not belong to the certificate of CN=a.example.org"


@pytest.fixture(scope="module")
def root():
    return Authority("root")


@pytest.fixture(scope="module")
def middle(root):
    return root.below("middle")


def files(said):
    return Files(**{key: str(value) for key, value in said.items()})


def fault(said):
    with pytest.raises(Fault) as refusal:
        read_certificate(files(said))
    return refusal.value.key, str(refusal.value)


def test_a_certificate_with_its_chain_and_key(middle, tmp_path):
    issued = middle.issue("A.example.org", "*.example.org", "192.0.2.1", "::1", days=30)
    found = read_certificate(files(issued.write(tmp_path)))
    assert found.chain == issued.chain
    assert found.key == pem_of(issued.key)
    assert found.names == ("a.example.org", "*.example.org")
    assert found.addresses == ("192.0.2.1", "::1")
    assert found.not_after == issued.certificate.not_valid_after_utc.timestamp()
    assert found.not_before < found.not_after
    assert found.algorithm == "EC secp256r1"
    assert len(found.fingerprint) == 64


def test_one_file_for_both(middle, tmp_path):
    issued = middle.issue("a.example.org")
    found = read_certificate(files(issued.write(tmp_path, combined=True)))
    assert (found.chain, found.key, found.key_file) == (issued.chain, pem_of(issued.key), "")


def test_a_password_is_taken_away_from_the_key(middle, tmp_path):
    issued = middle.issue("a.example.org", key="2048")
    found = read_certificate(files(issued.write(tmp_path, password="open sesame")))
    assert found.key == pem_of(issued.key)
    assert found.algorithm == "RSA 2048"


def test_the_common_name_counts_where_there_is_nothing_else(root, tmp_path):
    assert read_certificate(files(root.issue(common_name="Old.example.org").write(tmp_path))).names == ("old.example.org",)


def test_text_between_the_blocks_and_a_root_at_the_end_are_no_fault(root, middle, tmp_path):
    issued = middle.issue("a.example.org")
    said = issued.write(tmp_path)
    (tmp_path / "server.pem").write_text("Bag Attributes\n" + issued.pem + "subject=x\r\n" + middle.pem + root.pem)
    assert read_certificate(files(said)).chain == issued.pem + middle.pem + root.pem


@pytest.mark.parametrize(
    ("key", "spoil", "text"),
    [
        ("chain", os.unlink, "there is no such file"),
        ("key", os.unlink, "there is no such file"),
        ("password_file", os.unlink, "there is no such file"),
        ("chain", lambda path: (path.unlink(), path.mkdir()), "this is a folder; wanted a file"),
        ("chain", lambda path: path.write_text(""), "the file is empty"),
        ("chain", lambda path: path.write_text("no"), f"there is no certificate in it; {PEM}"),
        ("key", lambda path: path.write_text("no"), f"there is no private key in it; {PEM}"),
        ("chain", lambda path: path.write_bytes(b"\x30\x82"), DER),
        ("chain", lambda path: path.write_text(path.read_text().replace("M", "N", 1)), "certificate 1 in it is damaged"),
        (
            "chain",
            lambda path: path.write_text(path.read_text().replace(" CERTIFICATE-", " TRUSTED CERTIFICATE-")),
            "certificate 1 in it is of OpenSSL's form with trust; openssl x509 -in FILE makes a plain one of it",
        ),
        ("key", lambda path: path.write_text(pem_of(new_key())), "the key has no password; wanted no such file"),
        ("password_file", lambda path: path.write_text("wrong"), "the password is wrong, or the key is damaged"),
        ("password_file", lambda path: path.write_text("\n"), "there is no password in its first line"),
        ("key", lambda path: path.write_text(pem_of(new_key(), "open sesame")), OTHER),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_said(root, tmp_path, key, spoil, text):
    said = root.issue("a.example.org").write(tmp_path, password="open sesame")
    spoil(tmp_path / {"chain": "server.pem", "key": "server.key"}.get(key, "server.password"))
    found, message = fault(said)
    assert message == text
    assert found == ("password_file" if "has no password" in text else key)


def test_a_file_that_may_not_be_read(root, tmp_path, monkeypatch):
    said = root.issue("a.example.org").write(tmp_path)
    (tmp_path / "server.key").unlink()
    (tmp_path / "server.key").symlink_to("server.key")
    assert fault(said) == ("key", "cannot be read: Too many levels of symbolic links")


def test_a_key_with_a_password_that_is_not_said(root, tmp_path):
    said = root.issue("a.example.org").write(tmp_path, password="open sesame")
    del said["password_file"]
    assert fault(said) == ("key", 'the key has a password; wanted "password_file" beside it')


def test_a_chain_without_a_key(root, tmp_path):
    said = {"chain": root.issue("a.example.org").write(tmp_path)["chain"]}
    assert fault(said) == ("chain", f'there is no private key in it; {PEM}; wanted one, or "key" beside it')


def test_a_chain_out_of_order(root, middle, tmp_path):
    issued = middle.issue("a.example.org")
    said = issued.write(tmp_path)
    (tmp_path / "server.pem").write_text(middle.pem + issued.pem)
    assert fault(said) == ("chain", "out of order: the key's own certificate is number 2 in it; wanted it first")
    (tmp_path / "server.pem").write_text(issued.pem + root.pem + middle.pem)
    text = "out of order: certificate 1 (CN=a.example.org) is not signed by certificate 2 (CN=root); "
    assert fault(said) == ("chain", text + "wanted each followed by the one that it is signed by")


@pytest.mark.parametrize(
    ("spoil", "text"), [(no_version, "certificate 1 in it is damaged"), (no_point, "a certificate in it is damaged")]
)
def test_what_is_seen_of_a_damage_when_it_is_asked_for(root, tmp_path, spoil, text):
    issued = root.issue("a.example.org")
    said = issued.write(tmp_path)
    (tmp_path / "server.pem").write_text(spoil(issued.pem))
    assert fault(said) == ("chain", text)


def test_authorities_with_keys_of_a_kind_that_is_not_known_are_for_openssl_to_judge(root, tmp_path):
    issued = root.issue("a.example.org")
    said = issued.write(tmp_path)
    chain = issued.pem + other_kind_of_key(root.pem)
    (tmp_path / "server.pem").write_text(chain)
    assert read_certificate(files(said)).chain == chain
    assert read_authorities(str(tmp_path / "server.pem")).pem == chain
    (tmp_path / "server.pem").write_text(issued.pem + other_kind_of_key(Authority("other").pem))
    assert "out of order" in fault(said)[1]


def test_authorities_and_lists_of_revoked_ones(root, middle, tmp_path):
    (tmp_path / "ca.pem").write_text(root.pem + middle.pem)
    assert read_authorities(str(tmp_path / "ca.pem")).pem == root.pem + middle.pem
    (tmp_path / "crl.pem").write_text(root.revoke(root.issue("a")))
    assert "X509 CRL" in read_revoked(str(tmp_path / "crl.pem")).pem
    with pytest.raises(Fault, match="there is no certificate in it"):
        read_authorities(str(tmp_path / "crl.pem"))
    both = root.revoke(days=9) + root.revoke(days=5)
    (tmp_path / "crl.pem").write_text(both)
    found = read_revoked(str(tmp_path / "crl.pem"))
    assert (found.not_after - found.not_before) / 86400 == 65, "the one that is over first"
    with pytest.raises(Fault, match="there is no list of revoked certificates in it"):
        read_revoked(str(tmp_path / "ca.pem"))


def test_no_error_shows_a_secret(root, tmp_path):
    """Whatever byte of a key or a password is spoilt."""
    said = root.issue("a.example.org").write(tmp_path, password="open sesame")
    whole = (tmp_path / "server.key").read_text()
    secret = whole.splitlines()[3]
    for text in (whole.replace(secret, secret[::-1]), whole[: len(whole) // 2], whole.replace("ENCRYPTED ", "")):
        (tmp_path / "server.key").write_text(text)
        _, message = fault(said)
        assert not any(secret[i : i + 8] in message or secret[::-1][i : i + 8] in message for i in range(len(secret) - 8))
        assert "sesame" not in message


def test_a_traditional_key(root, tmp_path):
    issued = root.issue("a.example.org", key="2048")
    said = issued.write(tmp_path)
    old = serialization.PrivateFormat.TraditionalOpenSSL
    pem = issued.key.private_bytes(serialization.Encoding.PEM, old, serialization.NoEncryption())
    (tmp_path / "server.key").write_bytes(pem)
    assert read_certificate(files(said)).key == pem_of(issued.key)


def test_without_the_library_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cryptography", None)
    monkeypatch.setitem(__import__("sys").modules, "cryptography.x509", None)
    with pytest.raises(Fault, match=r'TLS needs the package cryptography: pip install "tcp_proxy\[tls\]"'):
        certificates.require()


def test_what_many_share_is_in_memory_once(root, tmp_path):
    (tmp_path / "ca.pem").write_text(root.pem)
    said = files(root.issue("a.org").write(tmp_path))
    assert read_authorities(str(tmp_path / "ca.pem")) is read_authorities(str(tmp_path / "ca.pem"))
    first = read_certificate(said)
    assert read_certificate(said) is first
    root.issue("a.org").write(tmp_path)
    assert read_certificate(said) != first


# -- again


def test_only_what_has_changed_is_read_again(root, tmp_path):
    one, two = root.issue("a.org"), root.issue("b.org")
    said = [files(one.write(tmp_path, "one")), files(two.write(tmp_path, "two", password="x"))]
    (tmp_path / "ca.pem").write_text(root.pem)
    before = Tls(tuple(map(read_certificate, said)), client_ca=read_authorities(str(tmp_path / "ca.pem")))
    assert again(before, []) == before
    renewed, other = root.issue("a.org"), Authority()
    renewed.write(tmp_path, "one")
    (tmp_path / "two.pem").unlink()
    (tmp_path / "ca.pem").write_text(other.pem)
    found = again(before, [str(tmp_path / "one.key")])
    assert (found.certificates[0].chain, found.certificates[1:]) == (renewed.chain, before.certificates[1:])
    assert again(before, [str(tmp_path / "ca.pem")]).client_ca.pem == other.pem
    with pytest.raises(Fault, match=r"two\.pem: there is no such file"):
        again(before, [str(tmp_path / "two.password")])


def test_of_a_target_too(root, tmp_path):
    (tmp_path / "ca.pem").write_text(root.pem)
    own = read_certificate(files(root.issue("a").write(tmp_path)))
    before = TargetTls(ca=read_authorities(str(tmp_path / "ca.pem")), certificate=own)
    other = Authority()
    (tmp_path / "ca.pem").write_text(other.pem)
    found = again(before, [str(tmp_path / "ca.pem")])
    assert (found.ca.pem, found.certificate) == (other.pem, before.certificate)
    (tmp_path / "server.key").write_text("no")
    with pytest.raises(Fault, match=r"server\.key: there is no private key in it"):
        again(before, [str(tmp_path / "server.key")])


def test_a_stamp_says_when_a_file_is_another_one(tmp_path):
    path = tmp_path / "x"
    assert stamp(str(path)) == stamp("/no\0") == ""
    path.write_text("a")
    first = stamp(str(path))
    assert stamp(str(path)) == first
    (tmp_path / "y").write_text("a")
    (tmp_path / "y").rename(path)
    assert stamp(str(path)) != first


def test_what_was_read_last_is_held_once_and_what_was_replaced_no_longer():
    class Secret:
        pass

    last = LastRead()
    first = last.of("a", ("1",), Secret)
    assert last.of("a", ("1",), Secret) is first
    gone = weakref.ref(first)
    del first
    second = last.of("a", ("2",), Secret)
    assert gone() is None
    for number in range(KEPT - 1):
        last.of(number, ("1",), Secret)
    assert last.of("a", ("2",), Secret) is second
    for number in range(KEPT):
        last.of(-number, ("1",), Secret)
    assert last.of("a", ("2",), Secret) is not second
    assert repr(last) == f"<LastRead {KEPT}>"


def test_of_files_that_are_wrong_now_nothing_is_held():
    last = LastRead()
    gone = weakref.ref(last.of("a", ("1",), lambda: Fault("x")))
    with pytest.raises(ZeroDivisionError):
        last.of("a", ("2",), lambda: 1 / 0)
    assert gone() is None
