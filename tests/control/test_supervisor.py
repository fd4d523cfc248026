"""The supervisor as a process: what it does when workers die, cannot be started, are of another version; signals."""

import contextlib
import os
import pathlib
import resource
import shutil
import signal
import sys
import types

import pytest

from kit import procfs
from kit.ports import free_port
from kit.proxy import ROOT, Proxy
from kit.waiting import Stopwatch, wait_until


@pytest.fixture
def started(tmp_path):
    """started(targets, code): the program with some lines of Python run before it, not ready yet."""
    running = []

    def start(targets, before="", tree=ROOT, apps_more=(), **top):
        app = {"name": "app", "ports": [free_port()], "targets": [item.address for item in targets], "health": []}
        app |= dict(apps_more)
        config = {"workers": 1, "shutdown_grace": 1, "apps": [app], **top}
        code = f"import sys\n{before}\nfrom tcp_proxy.cli import main\nsys.exit(main(sys.argv[1:]))"
        running.append(program := Proxy(config, tmp_path, program=("env", f"PYTHONPATH={tree}", sys.executable, "-c", code)))
        return program

    with contextlib.ExitStack() as stack:
        stack.callback(lambda: [program.kill() for program in running])
        yield start
        for program in running:
            program.check()


def ended(program):
    return [line for line in program.lines if " ended: " in line]


# -- workers that die


def test_a_killed_worker_is_replaced_at_once_and_the_log_says_why_and_what_it_cost(started, service):
    program = started([service()]).wait_ready()
    clients = [program.connect().send(b"x").expect(b"x") for _ in range(3)]
    (worker,) = program.workers()
    os.kill(worker, signal.SIGKILL)
    line = program.wait_log(r"worker 0 \(pid \d+\) ended")
    assert f"worker 0 (pid {worker}) ended: SIGKILL (perhaps the system was out of memory: see the kernel's log)" in line
    assert "3 sessions ended with it" in line
    program.connect().send(b"new").expect(b"new")
    for client in clients:
        client.read_to_end()
    assert program.workers() != [worker]


def test_the_counters_of_a_dead_worker_are_in_the_last_line(started, service):
    program = started([service()]).wait_ready()
    for _ in range(2):
        for _ in range(3):
            program.connect().send(b"x").expect(b"x")
        (worker,) = program.workers()
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda gone=worker: gone not in program.workers(), "its end")
    program.connect().send(b"x").expect(b"x")
    program.close_clients()
    assert program.stop() == 0
    assert "stopped: 7 sessions accepted, 7 connected to a target" in program.log


def test_the_tokens_of_a_dead_worker_come_back(started, target):
    """max_connections holds over the death: as many sessions as before, and not one more."""
    server_side = target()
    limited = {"address": server_side.address, "max_connections": 2}
    program = started([], apps=[{"name": "app", "ports": [free_port()], "targets": [limited], "health": []}])
    program.wait_ready()
    for _ in range(3):
        pairs = [(program.connect(), server_side.accept()) for _ in range(2)]
        program.connect().expect_rst()
        (worker,) = program.workers()
        os.kill(worker, signal.SIGKILL)
        for client, server in pairs:
            assert client.read_to_end() == server.read_to_end() == b""
        wait_until(lambda gone=worker: program.workers() not in ([], [gone]), "another worker")


def test_workers_that_die_at_birth_are_started_ever_more_slowly(started, service):
    program = started([service()], "from tcp_proxy.control.processes import spawned; spawned.MODULE = 'tcp_proxy.nothing'")
    wait_until(lambda: len(ended(program)) == 4, "four deaths")
    watch = Stopwatch()
    wait_until(lambda: len(ended(program)) == 6, "two more")
    assert watch.seconds > 0.8, "the waits are 0, 0.1, 0.2, 0.4, 0.8 seconds and so on"
    assert "exit status 1; 0 sessions ended with it" in ended(program)[0]
    assert program.stop() == 0, "also between two starts"
    program.lines[:] = [line for line in program.lines if "Traceback" not in line]


def test_a_worker_that_meets_a_bug_resets_and_records_its_sessions(started, target):
    """An exception that ends the worker's loop; a FIN would make a cut answer look whole."""
    server_side = target()
    patch = "from tcp_proxy.control.processes import spawned; spawned.MODULE = 'tests.kit.failing_worker'"
    program = started([server_side], patch, access_log="access.log", log={"format": "json"}).wait_ready()
    pairs = [(program.connect().send(b"x"), server_side.accept().expect(b"x")) for _ in range(2)]
    third = program.connect()
    for client, server in pairs:
        client.expect_rst()
        server.expect_rst()
    third.read_to_end()
    program.wait_log("RuntimeError: the third client")
    program.uncounted = None  # the third has no session
    assert [record["reason"] for record in program.records(2)] == ["shutdown"] * 2
    program.lines[:] = [line for line in program.lines if "Traceback" not in line]


def test_a_supervisor_that_meets_a_bug_has_its_sessions_reset_and_recorded(started, target):
    server_side = target()
    patch = (
        "from tcp_proxy.control.changes.reload import Reload\n"
        "def fail(self, name): raise RuntimeError('a bug of ours')\n"
        "Reload.request = fail"
    )
    program = started([server_side], patch, access_log="access.log", log={"format": "json"}, workers=2).wait_ready()
    client, server = program.connect(), server_side.accept()
    program.signal(signal.SIGHUP)
    client.expect_rst()
    server.expect_rst()
    assert program.wait() == 1
    assert program.record()["reason"] == "shutdown"
    assert "a bug of ours" in program.log
    program.lines[:] = [line for line in program.lines if "Traceback" not in line]


# -- another version


def test_workers_of_another_version_are_one_error_and_no_loop(started, service):
    program = started([service()], "import tcp_proxy; tcp_proxy.__version__ = '9.9'", workers=3)
    program.wait_log("restart needed")
    wait_until(lambda: not program.workers(), "the end of all of them")
    assert program.stop() == 0
    assert program.count_log("ERROR") == program.count_log("restart needed") == 1


def test_an_upgrade_under_a_running_program_leaves_the_workers_that_live(started, service, tmp_path):
    tree = tmp_path / "tree"
    shutil.copytree(ROOT / "tcp_proxy", tree / "tcp_proxy", ignore=shutil.ignore_patterns("__pycache__"))
    program = started([service()], workers=2, tree=tree).wait_ready()
    (tree / "tcp_proxy" / "__init__.py").write_text('"""Another one."""\n\n__version__ = "9.9"\n')
    first, second = program.workers()
    os.kill(first, signal.SIGKILL)
    program.wait_log("restart needed")
    wait_until(lambda: program.workers() == [second], "the other one alone")
    program.connect().send(b"still").expect(b"still")
    assert program.count_log("restart needed") == 1
    program.baseline.clear()


# -- workers that cannot be started


def test_a_worker_that_cannot_be_started_now_is_started_later(started, service):
    """The machine has no descriptor (or process, or memory) left: the supervisor lives, says so and tries again."""
    program = started([service()]).wait_ready()
    (worker,) = program.workers()
    limit = resource.prlimit(program.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(program.pid, resource.RLIMIT_NOFILE, (min(free_numbers(program.pid)), limit[1]))
    os.kill(worker, signal.SIGKILL)
    waiting = program.connect().send(b"waiting")
    program.wait_log("worker 0 cannot be started: .*Too many open files")
    program.wait_log("worker 0 cannot be started", since=len(program.lines))
    assert program.is_running
    resource.prlimit(program.pid, resource.RLIMIT_NOFILE, limit)
    waiting.expect(b"waiting")


@pytest.mark.parametrize("spare", [1, 2, 3, 4, 5, 6, 7])
def test_few_descriptors_are_no_end_either(started, service, spare):
    """However far a start gets before there is none left, the next one is made from the beginning."""
    program = started([service()], access_log="access.log").wait_ready()
    (worker,) = program.workers()
    limit = resource.prlimit(program.pid, resource.RLIMIT_NOFILE)
    before = len(procfs.descriptors(program.pid))
    os.kill(worker, signal.SIGSTOP)
    free = free_numbers(program.pid)
    resource.prlimit(program.pid, resource.RLIMIT_NOFILE, (free[spare], limit[1]))
    os.kill(worker, signal.SIGKILL)
    program.wait_log(f"pid {worker}.* ended")
    client = program.connect().send(b"x")
    wait_until(lambda: program.count_log("cannot be") or client.unacknowledged == 0, "what happens")
    resource.prlimit(program.pid, resource.RLIMIT_NOFILE, limit)
    wait_until(lambda: has_good_worker(program, limit), "a worker that did not inherit too few")
    client.close()
    program.connect().send(b"x").expect(b"x")
    program.close_clients()
    wait_until(lambda: len(procfs.descriptors(program.pid)) == before, "as many descriptors as before")
    program.baseline.clear()
    program.uncounted = None


def has_good_worker(program, limit):
    good = False
    for pid in program.workers():
        good = resource.prlimit(pid, resource.RLIMIT_NOFILE) == limit
        if not good:
            os.kill(pid, signal.SIGKILL)
    return good


def free_numbers(pid):
    taken = procfs.descriptors(pid)
    return [number for number in range(1000) if number not in taken]


# -- signals


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_second_signal_ends_at_once_and_reaps_everybody(started, target, number, status):
    server_side = target()
    program = started([server_side], shutdown_grace=60, workers=2).wait_ready()
    client = program.connect()
    server_side.accept()
    family = program.family()
    program.signal(number)
    program.wait_log("no new clients")
    program.signal(number)
    assert program.wait() == status
    assert not any(procfs.is_running(pid) for pid in family)
    client.read_to_end()
    assert "a second" in program.log
    program.baseline.clear()


def test_a_third_signal_leaves_the_workers_their_time_to_reset_and_record(started, target):
    server_side = target()
    patch = "import tcp_proxy.control.supervisor as module\nmodule.CUT_WITHIN = 60"
    program = started([server_side], patch, access_log="access.log", log={"format": "json"}, shutdown_grace=60).wait_ready()
    client, server = program.connect(), server_side.accept()
    (worker,) = program.workers()
    os.kill(worker, signal.SIGSTOP)
    for said in ("no new clients", "a second SIGTERM", "another SIGTERM"):
        program.signal(signal.SIGTERM)
        program.wait_log(said)
    os.kill(worker, signal.SIGCONT)
    client.expect_rst()
    server.expect_rst()
    assert program.wait() == 143
    assert program.record()["reason"] == "shutdown"


def test_a_stop_while_it_starts_is_a_clean_end(started, service):
    """Whether its workers import, are ready, or are being told what to serve."""
    for _ in range(5):
        program = started([service()], workers=2)
        worker = wait_until(program.workers, "the first worker")
        wait_until(lambda p=program: catches(p.pid, signal.SIGTERM), "that it has taken the signals over")
        program.signal(signal.SIGTERM)
        assert program.wait() == 0, program.log
        assert not procfs.is_running(worker[0])


def catches(pid, number):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    mask = next(int(line.split()[1], 16) for line in text.splitlines() if line.startswith("SigCgt"))
    return bool(mask >> (number - 1) & 1)


def test_a_worker_that_dies_while_it_drains_is_told(started, target):
    server_side = target()
    program = started([server_side], shutdown_grace=30, workers=2).wait_ready()
    client, _ = program.connect(), server_side.accept()
    workers = program.workers()
    program.signal(signal.SIGTERM)
    program.wait_log("no new clients")
    wait_until(lambda: len(program.workers()) == 1, "the end of the idle one")
    (left,) = program.workers()
    os.kill(left, signal.SIGKILL)
    assert program.wait() == 0
    assert f"(pid {left}) ended: SIGKILL" in program.log
    assert "; 1 session ended with it" in program.log
    assert program.count_log(" ended: ") == 1
    client.read_to_end()
    assert set(workers) > {left}


@pytest.mark.slow
def test_a_worker_that_does_not_end_in_time_is_killed(started, service):
    program = started([service()], shutdown_grace=0.1).wait_ready()
    (worker,) = program.workers()
    os.kill(worker, signal.SIGSTOP)
    program.signal(signal.SIGTERM)
    assert program.wait(20) == 0
    assert f"worker 0 (pid {worker}) did not end in time: it is killed" in program.log
    assert "out of memory" not in program.log
    assert not procfs.is_running(worker)


# -- names


@pytest.mark.parametrize("mode", ["tcp", "http"])
def test_a_name_that_did_not_resolve_is_asked_again_when_clients_come(started, service, tmp_path, mode):
    """Its own turn would come 30 seconds later."""
    flag, server = tmp_path / "known", service(greeting=b"here", hang_up=True) if mode == "tcp" else service()
    patch = (
        "import os, socket\n"
        "def getaddrinfo(host, port, *more, **other):\n"
        f"    if not os.path.exists({str(flag)!r}): raise socket.gaierror(-3, 'nobody answers')\n"
        f"    return [(socket.AF_INET, socket.SOCK_STREAM, 6, '', ('127.0.0.1', {server.port}))]\n"
        "socket.getaddrinfo = getaddrinfo"
    )
    named = types.SimpleNamespace(address=f"db.example:{server.port}")
    program = started([named], patch, apps_more={"mode": mode}).wait_ready()
    program.uncounted = None

    def is_served():
        client = program.connect()
        if mode == "tcp":
            return client.read_to_end().startswith(b"here")  # or reset at once
        return b"503" not in client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").fin().read_to_end()

    assert not is_served()
    flag.touch()
    wait_until(is_served, "its address", 15)


IS_SUBREAPER = """
import ctypes
from tcp_proxy.control.targets.states import States
start = States.start
def asked(states):
    found = ctypes.c_int()
    ctypes.CDLL(None).prctl(37, ctypes.byref(found), 0, 0, 0)  # PR_GET_CHILD_SUBREAPER
    sys.stderr.write(f"child subreaper: {found.value}\\n")
    start(states)
States.start = asked
"""


def test_what_the_very_first_script_leaves_behind_is_ours_too(started, service):
    """Checks begin at once; whose parent has ended before we adopt is process 1's, and outlives us."""
    program = started([service()], IS_SUBREAPER)
    program.wait_ready()
    program.wait_log("child subreaper: 1")
