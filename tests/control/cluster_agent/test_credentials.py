"""Files for etcd: read, or one line that names the file."""

import ssl

import pytest

from kit.certificates import Authority
from tcp_proxy.control.cluster_agent.credentials import Unusable, password, tls_context


@pytest.mark.parametrize("text", ["secret", "secret\n", " with space \n"])
def test_a_password_is_one_line(tmp_path, text):
    path = tmp_path / "password"
    path.write_text(text)
    assert password(str(path)) == text.removesuffix("\n")
    assert password("") == ""


@pytest.mark.parametrize("text", [b"", b"\n", b"a\nb\n", b"x" * 5000, b"\xff"])
def test_what_is_no_password(tmp_path, text):
    path = tmp_path / "password"
    path.write_bytes(text)
    with pytest.raises(Unusable, match=f"^{path}"):
        password(str(path))
    with pytest.raises(Unusable, match="cannot be read: No such file"):
        password(str(tmp_path / "none"))


def test_files_of_tls(tmp_path):
    authority = Authority()
    files = authority.issue("node", client=True).write(tmp_path, "node")
    ca = tmp_path / "ca.pem"
    ca.write_text(authority.pem)
    context = tls_context(str(ca), files["chain"], files["key"])
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert [one["subject"] for one in context.get_ca_certs()] == [((("commonName", "tests"),),)]
    both = authority.issue("node").write(tmp_path, "both", combined=True)
    tls_context("", both["chain"], "")
    with pytest.raises(Unusable, match=r"none.pem cannot be read: No such file"):
        tls_context(str(tmp_path / "none.pem"), "", "")
    with pytest.raises(Unusable, match=r"node.key: this is no PEM that OpenSSL can use"):
        tls_context(files["key"], "", "")
    with pytest.raises(Unusable, match=r"node.pem"):
        tls_context(str(ca), files["key"], files["chain"])
    locked = authority.issue("node").write(tmp_path, "locked", password="p")
    with pytest.raises(Unusable, match=r"locked.key"):
        tls_context("", locked["chain"], locked["key"])
