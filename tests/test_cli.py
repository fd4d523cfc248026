"""Exit statuses, one clear line for each thing that can be wrong, and no child left behind. Never a traceback."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys

import pytest

from kit import procfs
from kit.ports import free_port, free_ports
from kit.programs import need
from kit.proxy import PROGRAM, ROOT, WORKER
from kit.waiting import Deadline, pause, wait_until
from tcp_proxy import __version__, build, cli
from tcp_proxy.config.load import load_target, load_text
from tcp_proxy.control.changes import saved_overrides
from tcp_proxy.control.changes.overrides import Overrides
from tcp_proxy.control.store.state import StateFile


def run(folder, *args, program=PROGRAM, prefix=(), without=()):
    """The program to its end: (status, stdout, stderr). Nothing of it may be left. `without`: capabilities that root has."""
    mark = f"cli-{os.getpid()}-{id(folder):x}"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TCP_PROXY_TEST": mark}
    if without and os.geteuid() == 0:
        names = ",".join(f"-{name}" for name in without)
        prefix = (*prefix, "setpriv", f"--bounding-set={names}", f"--inh-caps={names}")
    done = subprocess.run(
        [*prefix, *program, *args], cwd=folder, env=env, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    wait_until(lambda: not marked(mark), lambda: f"the end of {marked(mark)}")
    return done.returncode, done.stdout, done.stderr


def marked(mark):
    """Processes that a run has left, by a word in their environment."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and mark.encode() in environment(name)]


def environment(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # it is gone, or not ours
        return b""


def write(folder, config, name="config.json"):
    (folder / name).write_text(config if isinstance(config, str) else json.dumps(config))
    return name


def small(**app):
    return {"workers": 1, "apps": [{"name": "web", "ports": [free_port()], "targets": ["127.0.0.1:9"], "health": [], **app}]}


# -- 0


def test_version():
    done = subprocess.run([*PROGRAM, "--version"], cwd=ROOT, capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == f"tcp_proxy {__version__} ({build()})\n"


def test_help_names_every_argument(tmp_path):
    status, out, err = run(tmp_path, "--help")
    assert (status, err) == (0, "")
    assert all(word in out for word in ("config", "--check", "--version", "config.json"))


def test_check_says_what_there_is_and_binds_nothing(tmp_path):
    config = small()
    port = config["apps"][0]["ports"][0]
    config["pid_file"], config["access_log"], config["state"] = "x.pid", "x.log", "state.db"
    write(tmp_path, config)
    with socket.create_server(("127.0.0.1", port)):
        status, out, err = run(tmp_path, "--check", "config.json")
    assert (status, out, err) == (0, "config.json: right, 1 app on 1 listener\n", "")
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"], "no pid file, no log"


def test_an_app_without_targets_is_right_and_said(tmp_path):
    write(tmp_path, small(targets=[]))
    status, out, err = run(tmp_path, "--check", "config.json")
    assert (status, out) == (0, "config.json: right, 1 app on 1 listener\n")
    assert err.startswith("config.json: app web has no targets: it turns every client away until there is one")


def test_check_warns_of_a_proxy_header_that_some_receivers_end(tmp_path):
    config = small(targets=[{"address": "127.0.0.1:9", "send_proxy": {"tlvs": ["authority"]}}])
    status, out, err = run(tmp_path, "--check", write(tmp_path, config))
    assert (status, out) == (0, "config.json: right, 1 app on 1 listener\n")
    who = "config.json: app web: target 127.0.0.1:9: its PROXY header may have 310 bytes with authority"
    assert err.startswith(f"{who}; some receivers end one of more than 107")


def test_check_warns_of_what_cannot_be_and_resolves_nothing(tmp_path):
    config = small(targets=["db.invalid:80", "224.0.0.1:80"]) | {"state": "nowhere/state.db"}
    status, out, err = run(tmp_path, "--check", write(tmp_path, config))
    assert (status, out) == (0, "config.json: right, 1 app on 1 listener\n")
    assert err.splitlines() == [
        "config.json: app web: target db.invalid:80: a name that ends in .invalid never has an address (RFC 6761)",
        "config.json: app web: target 224.0.0.1:80: this is a multicast or broadcast address: nobody can connect to it",
        "config.json: state: nowhere/state.db cannot be made: there is no folder nowhere",
    ]


# -- 2


@pytest.mark.parametrize("args", [(), ("--check",), ("other.json",), ("--check", "other.json")])
def test_a_missing_file_is_2_and_one_line_that_names_it(tmp_path, args):
    status, out, err = run(tmp_path, *args)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert ("other.json" if "other.json" in args else "config.json") in err


@pytest.mark.parametrize("args", [(), ("--check",)])
def test_no_file_in_an_empty_folder_says_what_to_do_and_that_works(tmp_path, args):
    _, _, err = run(tmp_path, *args)
    assert err == f"{cli.NO_FILE}\n"
    assert "--init" in err
    status, out, err = run(tmp_path, "--init")
    assert (status, err, out.splitlines()[0].split(":")[0]) == (0, "", "config.json is written")
    status, out, err = run(tmp_path, "--check")
    assert (status, out, err) == (0, "config.json: right, 1 app on 1 listener\n", "")


def test_the_example_s_next_lines_balance_a_request(tmp_path, service, proxy):
    """With ports that are free here."""
    run(tmp_path, "--init", "first.json")
    config = json.loads((tmp_path / "first.json").read_text())
    config["apps"][0]["ports"] = [free_port()]
    config["apps"][0]["targets"] = [service(greeting=b"1").address, service(greeting=b"2").address]
    config["api"]["listen"] = f"127.0.0.1:{free_port()}"
    program = proxy(config)
    answers = set()
    for _ in range(4):
        client = program.connect()
        answers.add(client.receive(1))
        client.close()
    assert answers == {b"1", b"2"}


def test_init_never_writes_over_a_file(tmp_path):
    (tmp_path / "config.json").write_text("mine")
    status, out, err = run(tmp_path, "--init")
    assert (status, out, err) == (2, "", "config.json: there is such a file already, so nothing is written\n")
    assert (tmp_path / "config.json").read_text() == "mine"


@pytest.mark.parametrize("args", [("--check",), ("-p", "80", "-H", "a:1"), ("--import", "x.toml")])
def test_init_goes_with_a_name_alone(tmp_path, args):
    status, _, err = run(tmp_path, "--init", *args)
    assert (status, list(tmp_path.iterdir())) == (2, [])
    assert err.endswith("argument --init: allowed with the name of a file alone\n")


def test_a_folder_is_2(tmp_path):
    (tmp_path / "config.json").mkdir()
    status, _, err = run(tmp_path)
    assert (status, err.count("\n")) == (2, 1)


def test_a_file_that_may_not_be_read_is_2(tmp_path):
    (tmp_path / write(tmp_path, small(), "closed.json")).chmod(0)
    status, _, err = run(tmp_path, "closed.json", without=("dac_override", "dac_read_search"))
    assert (status, err.count("\n")) == (2, 1), err
    assert "closed.json" in err
    assert "ermission" in err


@pytest.mark.parametrize("check", [[], ["--check"]])
def test_a_wrong_configuration_is_2_with_all_its_errors(tmp_path, check):
    write(tmp_path, '{"worker": 1,\n "apps": [{"name": "a", "ports": [0], "targets": {}}]}')
    status, out, err = run(tmp_path, *check)
    assert (status, out) == (2, "")
    assert len(err.splitlines()) >= 3
    assert all(line.startswith("config.json:") for line in err.splitlines())


@pytest.mark.parametrize("args", [["--nothing"], ["a", "b"], ["--check=1"]])
def test_wrong_usage_is_2(tmp_path, args):
    status, _, err = run(tmp_path, *args)
    assert status == 2
    assert err.startswith("usage: tcp-proxy")


# -- 1


def say_at_run_time(folder, config, app, entry):
    """As an earlier life has kept it: a target was added when this was the configuration."""
    known = load_text(json.dumps(config).encode(), "x")
    said, store = Overrides(known), StateFile.open(str(folder / "state.db"))
    said.add(app, load_target(entry, next(one for one in known.apps if one.name == app)), json.dumps(entry))
    saved_overrides.save(store, said)
    store.close()


def test_what_was_said_at_run_time_is_judged_with_a_file_that_has_changed_since(tmp_path):
    """Each of these would be refused as a reload."""
    one, two = free_ports(2)
    before = {"workers": 1, "state": "state.db", "apps": [{"name": "a", "ports": [one], "targets": [], "health": []}]}
    say_at_run_time(tmp_path, before, "a", f"127.0.0.1:{two}")
    leads_back = {"name": "b", "ports": [two], "targets": [f"127.0.0.1:{one}"], "health": []}
    says = "cannot start with the state in state.db: what was said of targets at run time does not go with the "
    for apps, fault in (
        ([*before["apps"], leads_back], "apps lead to each other: a -> b -> a; every session could go round and round"),
        ([before["apps"][0] | {"ports": [one, two]}], "leads to the app's own listener"),
    ):
        status, out, err = run(tmp_path, write(tmp_path, before | {"apps": apps}))
        assert (status, out, err.count("\n")) == (1, "", 1), err
        assert err.startswith(says)
        assert fault in err


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a network of its own")
def test_a_ping_that_was_said_at_run_time_needs_its_right(tmp_path):
    before = {"state": "state.db", **small(targets=[])}
    say_at_run_time(tmp_path, before, "web", {"address": "192.0.2.1:1", "health": {"type": "ping"}})
    status, _, err = run(tmp_path, write(tmp_path, before), without=("net_raw",), prefix=(need("unshare"), "--net"))
    assert (status, err.count("\n")) == (1, 1), err
    assert 'a health check is of type "ping", but this process may not send ICMP' in err
    assert "state.db" in err



def test_a_port_in_use_is_1_and_one_line(tmp_path):
    config = small()
    port = config["apps"][0]["ports"][0]
    write(tmp_path, config)
    with socket.create_server(("127.0.0.1", port)):
        status, out, err = run(tmp_path)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"cannot listen on 127.0.0.1:{port} for app 'web': Address already in use")


@pytest.mark.parametrize(
    ("top", "word"),
    [
        ({"access_log": "no/such/folder/access.log"}, "access.log"),
        ({"pid_file": "no/such/folder/x.pid"}, "x.pid"),
        ({"state": "no/such/folder/state.db"}, "state.db"),
        ({"state": "."}, "it is no file"),
    ],
)
def test_a_file_that_cannot_be_written_is_1_and_one_line(tmp_path, top, word):
    write(tmp_path, {**small(), **top})
    status, _, err = run(tmp_path)
    assert (status, err.count("\n")) == (1, 1)
    assert word in err


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a network of its own")
def test_without_the_right_to_ping_it_is_1_and_one_line(tmp_path):
    """No CAP_NET_RAW, and in a fresh network no group may ping: what this machine allows is not what is tested."""
    write(tmp_path, small(health={"type": "ping"}))
    status, _, err = run(tmp_path, without=("net_raw",), prefix=(need("unshare"), "--net"))
    assert (status, err.count("\n")) == (1, 1), err
    assert 'a health check is of type "ping", but this process may not send ICMP' in err
    assert "sysctl" in err


def test_without_proc_it_is_1_and_one_line(tmp_path):
    require_mounts()
    write(tmp_path, small())
    hidden = (need("unshare"), "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh")
    status, _, err = run(tmp_path, prefix=hidden)
    assert (status, err) == (
        1, "cannot start: /proc is not mounted, and descriptors and processes are counted there: mount -t proc proc /proc\n"
    )  # fmt: skip


def require_mounts():
    """On a developer's machine this may not be allowed; where everything is to be tested that is a fault."""
    if subprocess.run([need("unshare"), "--mount", "true"], capture_output=True, check=False).returncode:
        if os.environ.get("CI"):
            pytest.fail("no mount namespace may be made here")
        pytest.skip("no mount namespace may be made here")


@pytest.mark.parametrize("count", [6, 7])
def test_too_few_descriptors_to_start_a_worker_are_1_and_one_line(tmp_path, count):
    """Just enough for the interpreter to begin."""
    write(tmp_path, small())
    status, _, err = run(tmp_path, prefix=("sh", "-c", f'ulimit -n {count}; exec "$@"', "sh"))
    assert (status, err.count("\n")) == (1, 1), err
    assert err.startswith("cannot start: ")
    assert "Too many open files" in err


def test_no_interpreter_to_start_a_worker_with_is_1_and_one_line(tmp_path):
    write(tmp_path, small())
    code = "import sys; sys.executable = '/no/such/python'; from tcp_proxy.cli import main; sys.exit(main())"
    status, _, err = run(tmp_path, program=(sys.executable, "-c", code))
    assert (status, err.count("\n")) == (1, 1), err
    assert "/no/such/python" in err


# -- interrupted


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_any_moment_of_the_start_leaves_no_child_and_no_traceback(tmp_path, number):
    """From the first worker on. Before the supervisor has taken the signals over they end it as by default, then it is 0."""
    write(tmp_path, small())
    for wait in range(0, 200, 12):
        process = subprocess.Popen(
            PROGRAM, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            family = wait_until(lambda pid=process.pid: workers_of(pid), "the first worker")
            pause(wait / 1000)
            process.send_signal(number)
            _, err = process.communicate(timeout=20)
        finally:
            process.kill()
            process.communicate()
        assert "Traceback" not in err, (wait, err)
        assert process.returncode in {0, -number}
        wait_until(lambda pids=family: not any(procfs.is_running(pid) for pid in pids), "the end of its worker")


def workers_of(pid):
    deadline = Deadline(10)
    while not deadline.is_over:
        found = [child for child, line in procfs.children(pid).items() if WORKER in line]
        if found:
            return found
    return []


def test_the_command_of_the_package_is_this_one(tmp_path):
    code = "import sys; from tcp_proxy.cli import main; sys.exit(main(['nowhere.json']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


# -- flags of others


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("-c", "x.json"), "-c is --check-host here, a script; a configuration is named without a flag: tcp-proxy x.json"),
        (("-f", "x.cfg"), "-f is --on-failover here, a script; a configuration is named without a flag: tcp-proxy x.cfg"),
        (("-t", "x.json"), "-t: a configuration is checked by --check FILE"),
        (("-t", "-c", "x.json"), "-t: a configuration is checked by --check FILE"),
        (("--config=x.json",), "--config: a configuration is named without a flag: tcp-proxy FILE"),
        (("-v",), "-v: the version is said by --version"),
        (("--nonsense",), "unrecognized arguments: --nonsense"),
    ],
)
def test_a_flag_of_another_proxy_is_answered_with_what_is_meant_here(tmp_path, args, sentence):
    status, _, err = run(tmp_path, *args)
    assert (status, err.splitlines()[-1]) == (2, f"tcp-proxy: error: {sentence}")


def test_check_says_that_a_target_without_a_port_is_a_group(tmp_path):
    path = write(tmp_path, small(targets=["192.0.2.1", "192.0.2.2:80"]))
    status, out, _ = run(tmp_path, "--check", path)
    said = "it is a group, with a server at the same port for each that is listened on"
    assert (status, out.splitlines()[1:]) == (0, [f"app web: target 192.0.2.1 has no port: {said}"])
