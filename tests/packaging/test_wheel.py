"""What `pip install` brings: both commands, manual pages that man shows, and nothing of the tests."""

import re
import zipfile

import pytest

from kit.programs import need, run
from tcp_proxy import __version__
from tests.packaging.conftest import HOME

MANUALS = ("man1/tcp-proxy.1", "man1/tcp-proxy-ctl.1", "man5/tcp-proxy.json.5")


def test_it_has_the_package_and_what_belongs_to_it(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    data = f"tcp_proxy-{__version__}.data/data/share"
    wanted = {
        "tcp_proxy/config/schema.json", "tcp_proxy/control/api/openapi.json", "tcp_proxy/py.typed",
        *(path.relative_to(HOME).as_posix() for path in (HOME / "tcp_proxy/control/api/assets").iterdir()),
        *(f"{data}/man/{name}" for name in MANUALS), f"{data}/doc/tcp-proxy/config.md",
        f"{data}/bash-completion/completions/tcp-proxy-ctl", f"{data}/zsh/site-functions/_tcp-proxy-ctl",
        f"{data}/fish/vendor_completions.d/tcp-proxy-ctl.fish", f"{data}/tcp-proxy/tcp-proxy.service",
    }  # fmt: skip
    assert wanted - set(names) == set()
    assert {name.split("/")[0] for name in names} == {
        "tcp_proxy", f"tcp_proxy-{__version__}.data", f"tcp_proxy-{__version__}.dist-info",
    }  # fmt: skip
    sources = {path.relative_to(HOME).as_posix() for path in (HOME / "tcp_proxy").rglob("*.py")}
    assert sources <= set(names)


def test_its_metadata_say_what_it_is_for(wheel):
    archive = zipfile.ZipFile(wheel)
    text = archive.read(f"tcp_proxy-{__version__}.dist-info/METADATA").decode()
    versions = re.findall(r"^Classifier: Programming Language :: Python :: (3\.\d+)$", text, re.MULTILINE)
    assert versions == ["3.11", "3.12", "3.13", "3.14"]
    assert re.search(r"^Requires-Python: >=3.11$", text, re.MULTILINE)
    assert {"tls", "completion"} <= set(re.findall(r"^Provides-Extra: (\S+)$", text, re.MULTILINE))
    assert any(name.endswith("LICENSE") for name in archive.namelist())


def test_both_commands_run_as_they_are_typed(installed, tmp_path):
    assert installed.run("tcp-proxy", "--version").stdout == f"tcp_proxy {__version__} (pure Python)\n"
    assert installed.run("tcp-proxy-ctl", "--version").stdout == f"tcp_proxy {__version__} (pure Python)\n"
    installed.run("tcp-proxy", "--init", cwd=tmp_path)
    assert installed.run("tcp-proxy", "--check", cwd=tmp_path).stdout == "config.json: right, 1 app on 1 listener\n"


@pytest.mark.parametrize("name", MANUALS)
def test_manual_pages_are_in_order(name):
    path = HOME / "packaging" / "man" / name.split("/")[1]
    assert run("mandoc", "-T", "lint", "-W", "warning", path) == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("tcp-proxy",), ("--check", "SIGUSR2", "tcp-proxy.json(5)")),
        (("tcp-proxy-ctl",), ("drain", "--watch", "TCP_PROXY_API")),
        (("5", "tcp-proxy.json"), ("max_connections", "accept_proxy", "default")),
    ],
)
def test_man_finds_and_shows_them(installed, words, said):
    environment = {**installed.environment, "MANPATH": f"{installed.prefix}/share/man", "MANWIDTH": "100"}
    text = installed.run(need("man"), "--no-justification", *words, env=environment).stdout
    assert all(word in text for word in said)


def test_what_the_image_copies_is_enough_to_build_it():
    """Whatever setup.cfg names is in one of the Dockerfile's COPY lines."""
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", (HOME / "Dockerfile").read_text(), re.MULTILINE)
    names = {name for line in copied for name in line.split()}
    data = (HOME / "setup.cfg").read_text().split("[options.data_files]\n", 1)[1].split("\n[", 1)[0]
    files = [part.split("=")[-1].strip() for part in data.splitlines() if part.split("=")[-1].strip()]
    assert len(files) > 10
    assert {name for name in files if name not in names and name.split("/")[0] not in names} == set()
