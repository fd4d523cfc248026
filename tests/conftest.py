"""What every test gets: the program, targets for it, free ports, and a look for what the test left behind."""

import contextlib
import gc
import itertools
import os
import pathlib
import resource
import signal
import sys
import threading

import hypothesis
import pytest

TESTS = pathlib.Path(__file__).resolve().parent
if str(TESTS) not in sys.path:  # `kit` is imported by name, whatever import mode pytest runs in
    sys.path.insert(0, str(TESTS))

pytest.register_assert_rewrite("kit.peer", "kit.proxy", "kit.load")

from kit import ports, procfs  # noqa: E402  needs the path above
from kit.console import WITH_CONSOLE  # noqa: E402
from kit.peer import Target  # noqa: E402
from kit.proxy import PROGRAM, WITHOUT_CAPABILITIES, Proxy  # noqa: E402
from kit.servers import Service  # noqa: E402
from kit.waiting import wait_until  # noqa: E402
from tcp_proxy.runtime import memory  # noqa: E402

# What a busy machine takes long for is no failure; in CI hypothesis draws the same each time.
hypothesis.settings.register_profile(
    "here",
    hypothesis.settings.default,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    phases=set(hypothesis.Phase) - {hypothesis.Phase.explain},  # by sys.settrace until Python 3.12: minutes, and no answer
)
hypothesis.settings.load_profile("here")


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable():
    """pytest-xdist sends reports as UTF-8, and would end with all its tests at a failure whose text has a lone surrogate."""
    return _sendable((yield))


def _sendable(value):
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {key: _sendable(inner) for key, inner in value.items()}
    return type(value)(map(_sendable, value)) if type(value) in (list, tuple) else value


def pytest_sessionstart():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # thousands of connections, both ends in this process
    ports.take_first_block()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as below a script; ours would inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish():
    """What is here now stays: a look for garbage need not go through thousands of tests each time."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    """How many tests run at once: most of them wait more than they compute."""
    return min(2 * len(os.sched_getaffinity(0)), 8)


@pytest.fixture(autouse=True)
def no_leaks(request):
    """A test gives back every descriptor, thread and child that it took."""
    before = _mine()
    yield
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: not _left_behind(before), "everything given back", 2.0)
    left = _left_behind(before)
    # The supervisors of rigs end without their process: one that was reloading holds the search for garbage.
    memory._holders = 0
    gc.enable()
    assert not left, f"{request.node.nodeid} left behind: {left}"


@pytest.fixture
def free_port():
    """Call it for a port that nobody else takes."""
    return ports.free_port


@pytest.fixture
def servers():
    """What is to be closed before the program is checked: all targets of the test."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def target(servers):
    """target(): a scripted server. target(host="::1"), target(path=...), target(receive_buffer=...) …"""
    return lambda **how: servers.enter_context(Target(**how))


@pytest.fixture
def service(servers):
    """service(): a server that echoes by itself, for many connections. service(greeting=b"s1", hang_up=True) …"""
    return lambda **how: servers.enter_context(Service(**how))


@pytest.fixture
def proxy(tmp_path, servers):
    """proxy(config): the program, serving. Checked by kit.proxy.Proxy.check and stopped when the test is over.

    proxy(targets=[...], **app) makes the configuration of one app on one free port. Left out, `workers` is 1, health
    checks are off (a scripted target would meet the probes), and the records go to access.log as JSON. With `console`
    the operator can be spoken to (kit.console); with `plain` it has no capability, as under a plain user.
    """
    running = []
    numbers = itertools.count()

    def start(config=None, *, ready=True, descriptors=0, top=(), console=False, plain=False, **app):
        if config is None:
            app = {"name": "app", "ports": [ports.free_port()], "health": [], **app}
            app["targets"] = [getattr(item, "address", item) for item in app["targets"]]
            config = {"apps": [app]}
        number = next(numbers)
        log = f"access{number or ''}.log"
        defaults = {"workers": 1, "access_log": log, "log": {"format": "json"}, "shutdown_grace": 5}
        config = {**defaults, **config, **dict(top)}
        argv = WITH_CONSOLE if console else WITHOUT_CAPABILITIES if plain else PROGRAM
        running.append(program := Proxy(config, tmp_path, program=argv, descriptors=descriptors))
        return program.wait_ready() if ready else program

    with contextlib.ExitStack() as stack:
        stack.callback(lambda: [program.kill() for program in running])
        yield start
        for program in running:
            program.close_clients()
        servers.close()
        for program in running:
            end_well(program)


@pytest.fixture
def http(proxy):
    """http(target, …, **app): the program with one app in mode http. Its access log is one of requests, so none is kept."""

    def start(*targets, top=(), **app):
        program = proxy(mode="http", targets=list(targets), top={"access_log": None, **dict(top)}, **app)
        program.uncounted = None
        return program

    return start


def end_well(program):
    """The oracles, then SIGTERM: with nobody connected any more it ends at once, cleanly, and leaves no process."""
    program.check()
    if program.is_running:
        family = program.family()
        assert program.stop() == 0, program.log
        wait_until(lambda: not any(procfs.is_running(pid) for pid in family), "the end of all its processes")
        program.check()


def _mine():
    return {
        "descriptors": _descriptors(),
        "threads": {thread.ident for thread in threading.enumerate()},
        "children": procfs.child_ids(os.getpid()),
    }


def _left_behind(before):
    """What is there now and was not there before, in words. Garbage is collected only when it may hold something: that
    takes longer than most tests."""
    now = _mine()
    if now == before:
        return []
    gc.collect()
    now = _mine()
    left = [f"descriptor {link}" for link in now["descriptors"] if link not in before["descriptors"]]
    left += [f"thread {t.name}" for t in threading.enumerate() if t.ident in now["threads"] - before["threads"]]
    left += [f"child process {pid} {procfs.command_line(pid)}" for pid in now["children"] - before["children"]]
    return left


def _descriptors():
    """Those of this process, by what they are; the locks of the ports stay for the whole session."""
    links = procfs.descriptors(os.getpid()).items()
    locks = ports.lock_descriptors()
    return {f"{number} -> {link}" for number, link in links if "/proc/" not in link and number not in locks}
