"""--import tells HAProxy's from tcpffee's, and says what is still to be mended."""

import json

import pytest

from tcp_proxy.config.imports import imported
from tcp_proxy.config.report import CannotImport

HAPROXY = "# it\nlisten a\n bind :8080\n server a 10.0.0.1:80\n"
TCPFFEE = "ports = [1]\n[groups.a]\nportmap = '192.0.2.1'\n"


@pytest.mark.parametrize(("text", "name"), [(HAPROXY, "a"), (TCPFFEE, "tcpffee")])
def test_both(tmp_path, text, name):
    (tmp_path / "x").write_text(text)
    document, _ = imported(str(tmp_path / "x"), {})
    assert json.loads(document)["apps"][0]["name"] == name


def test_what_is_still_to_be_mended(tmp_path):
    path = tmp_path / "x.cfg"
    path.write_text("listen a\n bind :443 ssl crt missing.pem\n server a x:1\n")
    document, notes = imported(str(path), {})
    assert json.loads(document)["apps"][0]["tls"]["certificates"] == [{"chain": "missing.pem"}]
    assert notes[-1].startswith(f"still to be mended: {path}, imported:")
    assert "there is no such file" in notes[-1]


@pytest.mark.parametrize("content", [b"listen a\n bind x\n", b"\xff\xfe", b"x = ["])
def test_errors_are_one_line_with_the_file(tmp_path, content):
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(CannotImport) as refusal:
        imported(str(path), {})
    assert str(refusal.value).startswith(f"{path}: ")
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize("path", ["/no/such/file", "a\0b"])
def test_what_is_no_file(path):
    with pytest.raises(CannotImport):
        imported(path, {})
