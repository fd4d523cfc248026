"""The health file: there while the program serves, younger than a beat, and never anybody else's."""

import os
import stat

import pytest

from kit.shell import write_script
from kit.waiting import wait_until
from tcp_proxy.control.processes.health_file import BEAT, VARIABLE, HealthFile


@pytest.fixture
def path(tmp_path):
    return tmp_path / "health"


@pytest.fixture
def file(bench, path):
    environment = {VARIABLE: str(path), "PATH": "/bin"}
    one = HealthFile(bench.loop, environment)
    assert environment == {"PATH": "/bin"}, "scripts would have it"
    yield one
    one.end()


def test_it_is_there_from_readiness_to_the_end(file, path):
    assert not path.exists()
    file.begin()
    assert path.read_text() == "serving\n"
    assert stat.S_IMODE(path.stat().st_mode) & 0o222 == 0o200, "nobody else writes it"
    file.end()
    file.end()
    assert not path.exists()


def test_it_is_touched_while_the_loop_turns(bench, file, path):
    file.begin()
    for _ in range(3):
        os.utime(path, (1, 1))
        bench.turn(BEAT)
        assert path.stat().st_mtime > 1
    file.end()
    bench.turn(BEAT)
    assert not path.exists()


def test_without_a_name_there_is_none(bench):
    one = HealthFile(bench.loop, {})
    one.begin()
    one.end()


def test_what_cannot_be_written_is_said_once(bench, path, caplog):
    one = HealthFile(bench.loop, {VARIABLE: str(path / "no" / "folder")})
    one.begin()
    one.end()
    assert [record.getMessage() for record in caplog.records] == [
        f"{VARIABLE}: {path}/no/folder: No such file or directory; nobody sees there that we are well"
    ]


@pytest.mark.parametrize("kind", ["link", "pipe", "device"])
def test_what_is_no_plain_file_is_left_alone(bench, file, path, tmp_path, kind, caplog):
    other = tmp_path / "other"
    other.write_text("precious")
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(other if kind == "link" else "/dev/null")
    file.begin()
    assert len(caplog.records) == 1
    file.end()
    assert path.is_symlink() or path.is_fifo()
    assert other.read_text() == "precious"


def test_a_file_that_took_its_place_is_left(file, path):
    file.begin()
    path.unlink()
    path.write_text("another's")
    file.end()
    assert path.read_text() == "another's"


def test_the_program_has_one_and_its_scripts_do_not_know_it(proxy, service, path, monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, str(path))
    script = write_script(tmp_path / "check.sh", f'env >"{tmp_path}/environment"')
    program = proxy(targets=[service()], health={"type": "script", "command": str(script)})
    assert path.read_text() == "serving\n"
    wait_until(lambda: (tmp_path / "environment").exists(), "the check has run")
    program.wait_log("is up")
    assert VARIABLE not in (tmp_path / "environment").read_text()
    program.stop()
    assert not path.exists()
