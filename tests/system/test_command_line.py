"""The command line: exit statuses, one clear line for each thing that can be wrong, the pid file. Never a traceback."""

import fcntl
import json
import os
import signal
import socket

import pytest

from kit.ports import free_port
from kit.proxy import Proxy, run_to_end


def write(folder, config, name="config.json"):
    path = folder / name
    path.write_text(config if isinstance(config, str) else json.dumps(config, indent=2))
    return path


def small(**more):
    app = {"name": "app", "ports": [free_port()], "targets": ["127.0.0.1:9"], "health": []}
    return {"workers": 1, "apps": [app], **more}


def test_a_missing_file_is_2_and_named(tmp_path):
    done = run_to_end("nowhere.json", cwd=tmp_path)
    assert done.returncode == 2
    assert "nowhere.json" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_no_file_given_means_config_json_in_the_current_folder(tmp_path):
    missing = run_to_end(cwd=tmp_path)
    assert (missing.returncode, "config.json" in missing.stderr) == (2, True)
    write(tmp_path, small())
    assert run_to_end("--check", cwd=tmp_path).returncode == 0


def test_no_file_given_serves_config_json(tmp_path, service):
    echo = service()
    config = small()
    config["apps"][0]["targets"] = [echo.address]
    write(tmp_path, config)
    program = Proxy(None, tmp_path)
    try:
        program.wait_ready()
        program.connect(config["apps"][0]["ports"][0]).send(b"x").expect(b"x")
        program.check()
        assert program.stop() == 0
    finally:
        program.kill()


@pytest.mark.parametrize("args", [["--no-such-option"], ["one.json", "two.json"]])
def test_wrong_usage_is_2(tmp_path, args):
    done = run_to_end(*args, cwd=tmp_path)
    assert done.returncode == 2
    assert "usage" in done.stderr


def test_every_configuration_error_at_once_with_its_place(tmp_path):
    text = """{
  "wrokers": 2,
  "apps": [
    {"name": "a", "ports": [70000], "targets": ["127.0.0.1:1"]},
    {"name": "a", "ports": [8000], "targets": [], "timeouts": {"conect": 1}}
  ]
}"""
    write(tmp_path, text)
    for args in ([], ["--check"]):
        done = run_to_end(*args, cwd=tmp_path)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        lines = done.stderr.splitlines()
        assert all(line.startswith("config.json:") for line in lines)
        places = {int(line.split(":")[1]) for line in lines}
        assert places >= {2, 4, 5}
        assert "workers" in done.stderr
        assert "connect" in done.stderr


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"apps": 1}', "\ufeff{}", "{}\x00", "not json at all"])
def test_what_is_not_a_configuration_is_2_without_a_traceback(tmp_path, text):
    write(tmp_path, text)
    done = run_to_end(cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("config.json")
    assert "Traceback" not in done.stderr


def test_check_binds_nothing(tmp_path):
    config = small()
    with socket.create_server(("127.0.0.1", config["apps"][0]["ports"][0])):
        write(tmp_path, config)
        done = run_to_end("--check", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr == ""


def test_a_port_in_use_is_1_and_names_the_address(tmp_path):
    config = small()
    port = config["apps"][0]["ports"][0]
    write(tmp_path, config)
    with socket.create_server(("127.0.0.1", port)):
        done = run_to_end(cwd=tmp_path)
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr
    assert "in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_becomes_free_within_a_second_is_had(proxy, service):
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        program = proxy(targets=[service()], ports=[port], ready=False)
        with pytest.raises(TimeoutError):
            program.wait_log("ready:", seconds=0.5)
    program.wait_ready()


def test_an_address_that_is_not_ours_is_1(tmp_path):
    config = small()
    config["apps"][0]["bind"] = "192.0.2.1"
    write(tmp_path, config)
    done = run_to_end(cwd=tmp_path)
    assert done.returncode == 1
    assert "192.0.2.1" in done.stderr


def test_version(tmp_path):
    done = run_to_end("--version", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("tcp_proxy ")


# -- the pid file


def test_the_pid_file_holds_the_pid_while_it_runs(proxy, service):
    program = proxy(targets=[service()], top={"pid_file": "proxy.pid"})
    path = program.folder / "proxy.pid"
    assert path.read_text() == f"{program.pid}\n"
    assert program.stop() == 0
    assert not path.exists()


def test_a_live_pid_file_is_an_error(proxy, service):
    program = proxy(targets=[service()], top={"pid_file": "proxy.pid"})
    other = small(pid_file="proxy.pid")
    done = run_to_end(write(program.folder, other, "other.json"), cwd=program.folder)
    assert done.returncode == 1
    assert str(program.pid) in done.stderr
    assert (program.folder / "proxy.pid").read_text() == f"{program.pid}\n"


def test_a_stale_pid_file_is_overwritten(proxy, service, tmp_path):
    (tmp_path / "proxy.pid").write_text("1\n")
    program = proxy(targets=[service()], top={"pid_file": "proxy.pid"})
    assert (tmp_path / "proxy.pid").read_text() == f"{program.pid}\n"


def test_the_pid_file_of_a_killed_supervisor_is_stale_even_while_its_workers_drain(proxy, target, tmp_path):
    """Live only while its flock is held; children must not inherit that."""
    server_side = target()
    first = proxy(targets=[server_side], top={"pid_file": "proxy.pid"})
    client, server = first.connect(), server_side.accept()
    first.workers()
    first.signal(signal.SIGKILL)
    first.wait()
    second = proxy(targets=[server_side], top={"pid_file": "proxy.pid"})
    assert (tmp_path / "proxy.pid").read_text() == f"{second.pid}\n"
    client.fin()
    server.expect_fin().fin()
    client.expect_fin()


def test_a_pid_file_that_another_program_has_locked(tmp_path):
    fd = os.open(tmp_path / "proxy.pid", os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    write(tmp_path, small(pid_file="proxy.pid"))
    done = run_to_end(cwd=tmp_path)
    os.close(fd)
    assert done.returncode == 1
    assert "proxy.pid" in done.stderr
