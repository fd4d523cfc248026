"""flopsy's flags: what they stand for, and what is refused."""

import argparse

import pytest

from tcp_proxy.config import flopsy
from tcp_proxy.config.load import ConfigErrors
from tcp_proxy.config.model import Failover
from tcp_proxy.sansio.address import ListenAddress


def parse(*argv):
    parser = argparse.ArgumentParser(exit_on_error=False)
    flopsy.add_flags(parser)
    return parser.parse_args(argv)


def config(*argv):
    return flopsy.load(flopsy.document(parse(*argv))).apps[0]


@pytest.fixture
def scripts(tmp_path):
    (tmp_path / "check").write_text("#!/bin/sh\n")
    (tmp_path / "check").chmod(0o755)
    return tmp_path


def test_all_flags(scripts):
    check, folder = str(scripts / "check"), str(scripts)
    long = ["--port", "8080", "--hosts", "a:1,b:2", "--check-host", check, "--on-failover", folder, "--max-backoff", "5"]
    short = ["-p", "8080", "-H", "a:1", "-H", "b:2", "-c", check, "-f", folder, "-B", "5"]
    app = config(*long)
    assert app == config(*short)
    assert app.listeners == (ListenAddress("*", 8080),)
    assert [target.name for target in app.targets] == ["a:1", "b:2"]
    assert app.failover == Failover(check, (folder,), max_backoff=5.0, while_electing="refuse", environment=("*",))
    assert app.health == ()


@pytest.mark.parametrize("hosts", ["a:1,b:2,", "a:1, b:2", " a:1,b:2,a:1", "a:1,,b:2"])
def test_hosts_as_flopsy_takes_them(hosts):
    assert [target.name for target in config("-p", "1", "-H", hosts).targets] == ["a:1", "b:2"]


@pytest.mark.parametrize(("seconds", "longest"), [(1_000_000, 1_000_000), (1_000_001, 1_000_000), (2**32 - 1, 1_000_000)])
def test_a_back_off_beyond_eleven_days_is_eleven_days(seconds, longest):
    assert config("-p", "1", "-H", "a:1", "-B", str(seconds)).failover.max_backoff == longest


def test_no_host_at_all_is_said():
    assert flopsy.missing(parse("-p", "1", "-H", " , ")) == "-H/--hosts"


def test_the_management_api():
    made = flopsy.load(flopsy.document(parse("-p", "1", "-H", "a:1", "--api", "127.0.0.1:8687")))
    assert str(made.api.listen) == "127.0.0.1:8687"


def test_the_least_flags():
    app = config("-p", "1", "-H", "a:1")
    assert app.failover == Failover(while_electing="refuse")
    assert app.failover.max_backoff == 60


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:80", "127.0.0.1", 80),
        ("[::1]:80", "::1", 80),
        ("::1:80", "::1", 80),
        ("localhost:80", "127.0.0.1", 80),
        ("0.0.0.0:80", "0.0.0.0", 80),
        (":80", "*", 80),
    ],
)
def test_bind(text, host, port):
    assert config("-b", text, "-H", "a:1").listeners == (ListenAddress(host, port),)


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["-p", "70000"], "'70000' is no port; wanted a whole number from 1 to 65535"),
        (["-p", "0"], "wanted a whole number from 1 to 65535"),
        (["-p", "x"], "'x' is no port"),
        (["-b", "127.0.0.1"], "has no port; wanted ADDR:PORT"),
        (["-b", "127.0.0.1:x"], "'x' is no port"),
        (["-B", "-1"], "'-1' is no seconds"),
        (["-B", "1.5"], "'1.5' is no seconds"),
        (["-p", "1", "-b", "127.0.0.1:1"], "not allowed with argument"),
    ],
)
def test_wrong_usage(argv, word):
    with pytest.raises(argparse.ArgumentError, match=word):
        parse(*argv)


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["-p", "1", "-H", "localhost"], "--hosts: .*is a group; .* a target is one server"),
        (["-p", "1", "-H", "a:0"], "--hosts: "),
        (["-p", "1", "-H", "a:1", "-c", "/missing"], "--check-host: \"/missing\": there is no such file"),
        (["-p", "1", "-H", "a:1", "-f", "/missing"], "--on-failover: \"/missing\": there is no such file"),
        (["-b", "nowhere:1", "-H", "a:1"], "--bind: "),
        (["-p", "1", "-H", "a:1", "--api", "0.0.0.0:1"], "--api: .* can be reached from other machines"),
    ],
)
def test_what_cannot_be(argv, complaint):
    with pytest.raises(ConfigErrors, match=f"^.*the command line: {complaint}"):
        config(*argv)


def test_what_is_missing():
    assert flopsy.missing(parse("-p", "1")) == "-H/--hosts"
    assert flopsy.missing(parse("-H", "a:1")) == "-p/--port or -b/--bind"
    assert flopsy.missing(parse("-p", "1", "-H", "a:1")) == ""
    assert not flopsy.is_used(parse())
    assert flopsy.is_used(parse("-B", "0"))
    assert flopsy.is_used(parse("--print-config"))
