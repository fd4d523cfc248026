"""Debian's logrotate with our file: the old log keeps its records, the new one gets the next, and none is lost."""

import os

import pytest

from kit.programs import run
from kit.waiting import wait_until
from tests.packaging.conftest import HOME

FILE = (HOME / "packaging" / "tcp-proxy.logrotate").read_text()


@pytest.fixture
def rotate(tmp_path):
    """rotate(): once, with our file for the paths of the test."""
    config = tmp_path / "logrotate.conf"
    text = FILE.replace("/var/log/tcp-proxy", str(tmp_path)).replace("/run/tcp-proxy", str(tmp_path))
    assert text.count(str(tmp_path)) == 3 + text.splitlines()[0].count(str(tmp_path)), "all of its paths are another"
    config.write_text("\n".join(line for line in text.splitlines() if not line.startswith("    su ")))  # whoever tests
    os.chmod(config, 0o644)
    os.chmod(tmp_path, 0o700)
    return lambda: run("logrotate", "--force", "--state", tmp_path / "state", config)


def records(path):
    return path.read_text().count("\n") if path.exists() else 0


def test_records_go_to_the_new_file_and_none_is_lost(proxy, service, tmp_path, rotate):
    log, old = tmp_path / "access.log", tmp_path / "access.log.1"
    program = proxy(targets=[service()], top={"access_log": str(log), "pid_file": str(tmp_path / "tcp-proxy.pid")})
    program.uncounted = None
    program.connect().send(b"x").expect(b"x").close()
    wait_until(lambda: records(log) == 1, "the first record")
    rotate()
    wait_until(log.exists, "the new file")
    program.connect().send(b"x").expect(b"x").close()
    wait_until(lambda: records(log) == 1, "the second one")
    assert records(old) == 1
    rotate()
    assert (tmp_path / "access.log.2.gz").exists()


def test_a_program_that_does_not_run_is_no_error(tmp_path, rotate):
    (tmp_path / "access.log").write_text("x\n")
    rotate()
    assert records(tmp_path / "access.log.1") == 1
