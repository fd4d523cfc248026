"""Scripts run beside the loop: their end, their time limit, their output, what they leave behind, their number."""

import ctypes
import errno
import itertools
import logging
import os
import signal
import sys
import threading

import pytest

from kit import procfs
from kit.shell import write_script
from kit.waiting import Deadline, wait_until
from tcp_proxy.control import process_tree
from tcp_proxy.control import scripts as module
from tcp_proxy.control.process_tree import become_subreaper, reap_orphans
from tcp_proxy.control.scripts import Output, Scripts, ScriptSlots, environment
from tcp_proxy.runtime.loop import Loop


def nobody_is_left():
    """The supervisor looks again and again whom it can reap."""
    reap_orphans()
    return not procfs.child_ids(os.getpid())


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path)
    yield made
    made.scripts.close()
    made.loop.close()


class Bench:
    """A loop of this thread, and shell scripts to run on it."""

    def __init__(self, folder, places=None):
        self.folder = folder
        self.loop = Loop("bench")
        self.places = places or ScriptSlots()
        self.scripts = Scripts(self.loop, self.places)
        self.results = []
        self.made = 0

    def write(self, body, name="", mode=0o755):
        self.made += 1
        path = self.folder / (name or f"script-{self.made}.sh")
        write_script(path, body, mode)
        return path

    def start(self, body, *args, timeout=10.0, env=(), **how):
        path = str(body) if os.sep in str(body)[:1] else str(self.write(body))
        return self.scripts.run(path, args, dict(env), timeout, self.results.append, **how)

    def run(self, body, *args, **how):
        """To its end."""
        before = len(self.results)
        self.start(body, *args, **how)
        self.until(lambda: len(self.results) > before)
        return self.results[-1]

    def until(self, condition):
        deadline = Deadline()
        while not condition():
            assert not deadline.is_over
            self.loop.run_once(0.02)

    def pid(self, name="pid"):
        """What a script wrote down with `echo $$ > pid`."""
        path = self.folder / name
        self.until(lambda: path.exists() and path.read_text().strip())
        return int(path.read_text())


@pytest.fixture
def short(monkeypatch):
    """Patience of a tenth of a second."""
    for name in ("KILL_AFTER", "GIVE_UP", "LINGER"):
        monkeypatch.setattr(module, name, 0.1)


@pytest.fixture
def subreaper():
    """This process adopts what its scripts leave behind, as the supervisor does."""
    prctl = ctypes.CDLL(None).prctl
    become_subreaper()
    yield
    prctl(36, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("body", "success", "text"),
    [
        ("exit 0", True, "exit status 0"),
        ("exit 3", False, "exit status 3"),
        ("kill -SEGV $$", False, "killed by SIGSEGV"),
        ("exec >&- 2>&-; exit 4", False, "exit status 4"),
        ("kill -TERM $$", False, "killed by SIGTERM"),
    ],
)
def test_an_end(bench, body, success, text):
    result = bench.run(body)
    assert (result.success, result.text) == (success, text)
    assert not result.timed_out


def test_its_input_is_empty(bench):
    assert bench.run("read line || echo empty").last_line == "empty"


def test_arguments_and_environment_arrive(bench, caplog):
    caplog.set_level(logging.INFO)
    result = bench.run('echo "$# [$1] [$2] $TCP_PROXY_APP $HOME"', "a b", "*", env={"TCP_PROXY_APP": "db"}, name="check")
    assert result.last_line == "2 [a b] [*] db"
    assert caplog.messages == ["check: 2 [a b] [*] db"]


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ((), {"PATH": "/bin", "HOME": "/root", "LANG": "C", "TCP_PROXY_APP": "db"}),
        (("TOKEN", "NONE", "LANG=de", "EMPTY="), {
            "PATH": "/bin", "HOME": "/root", "LANG": "de", "TOKEN": "secret", "EMPTY": "", "TCP_PROXY_APP": "db",
        }),
        (("*", "TOKEN=x=y"), {
            "PATH": "/bin", "HOME": "/root", "LANG": "C", "TOKEN": "x=y", "MORE": "1", "TCP_PROXY_APP": "db",
        }),
        (("TCP_PROXY_APP=other",), {"PATH": "/bin", "HOME": "/root", "LANG": "C", "TCP_PROXY_APP": "db"}),
    ],
)  # fmt: skip
def test_its_environment_is_small_unless_the_configuration_says_more(monkeypatch, more, found):
    for name in tuple(os.environ):
        monkeypatch.delenv(name)
    for name, value in {"PATH": "/bin", "HOME": "/root", "LANG": "C", "TOKEN": "secret", "MORE": "1"}.items():
        monkeypatch.setenv(name, value)
    assert environment(more, {"TCP_PROXY_APP": "db"}) == found


def test_it_has_a_session_of_its_own_and_none_of_our_descriptors(bench):
    ours = "$(ls -l /proc/$$/fd | grep -c -e anon -e socket)"
    result = bench.run(f'read -r line < /proc/self/stat; set -- $line; echo "$5 $6 $$" {ours}')
    group, session, pid, ours = result.last_line.split()
    assert group == session == pid != str(os.getpgrp())
    assert ours == "0"  # our loop has an epoll and an eventfd


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("missing", "cannot be started: no such file or directory"),
        ("not executable", "cannot be started: permission denied"),
        ("no first line", "cannot be started: exec format error (it needs a first line like #!/bin/sh)"),
        ("folder", "cannot be started: permission denied"),
        ("NUL", "cannot be started: invalid argument"),
    ],
)
def test_one_that_cannot_be_started(bench, kind, text):
    path = bench.folder / "script"
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_text("true\n")
        path.chmod(0o644 if kind == "not executable" else 0o755)
    args = ("a\0b",) if kind == "NUL" else ()
    bench.start(path, *args)
    assert bench.results == []  # never from within run
    bench.until(lambda: bench.results)
    (result,) = bench.results
    assert (result.text, result.success, result.is_local) == (text, False, False)
    assert bench.places._free == module.AT_ONCE


def test_the_time_limit_ends_it_politely(bench, short):
    result = bench.run("trap 'echo asked to end; exit 0' TERM; while :; do sleep 0.01; done", timeout=0.2)
    assert (result.timed_out, result.success, result.text) == (True, False, "timed out after 0.2 s")
    assert result.last_line == "asked to end"


def test_one_that_does_not_listen_is_killed_with_its_group(bench, short):
    body = f"trap '' TERM; sh -c 'trap \"\" TERM; echo $$ > {bench.folder}/pid; while :; do sleep 1; done' & wait; wait"
    result = bench.run(body, timeout=0.3)
    assert (result.timed_out, result.status) == (True, None)
    pid = bench.pid()
    wait_until(lambda: not procfs.is_running(pid), "the end of the grandchild")


def test_a_stopped_one_hears_of_its_end(bench, short):
    result = bench.run("kill -STOP $$", timeout=0.2)
    assert result.text == "timed out after 0.2 s"


def test_what_it_leaves_behind_is_ended_and_its_last_words_are_logged(bench):
    body = f"(sleep 0.1; echo late; echo $$ > {bench.folder}/other; exec sleep 1000) & echo $! > {bench.folder}/pid; exit 0"
    result = bench.run(body)
    assert result.success
    assert result.last_line == "late"
    pid = bench.pid()
    wait_until(lambda: not procfs.is_running(pid), "the end of what was left behind")


@pytest.mark.parametrize("leave", ["exit 0", "wait"], ids=["its end", "its time limit"])
def test_what_leads_a_process_group_of_its_own_ends_with_it(bench, short, subreaper, leave):
    """As timeout(1) does, and every job of an interactive shell."""
    job = f"timeout 1000 sh -c 'echo $$ > {bench.folder}/pid; exec sleep 1000' >/dev/null 2>&1 &"
    wait = f"while ! [ -s {bench.folder}/pid ]; do sleep 0.01; done"
    bench.run(f"{job} {wait}; {leave}", timeout=3.0 if leave == "exit 0" else 1.0)
    pid = bench.pid()
    bench.until(lambda: not procfs.is_running(pid))
    bench.until(nobody_is_left)


def test_at_the_time_limit_what_it_waits_for_ends_in_whatever_session(bench, short, subreaper):
    body = f"setsid --wait sh -c 'echo $$ > {bench.folder}/pid; exec sleep 1000' >/dev/null 2>&1"
    script = bench.start(body, timeout=1000)
    pid = bench.pid()
    script._time_over()
    bench.until(lambda: bench.results and not procfs.is_running(pid))
    assert bench.results[0].timed_out
    bench.until(nobody_is_left)


def test_at_the_time_limit_what_its_own_answer_to_it_starts_ends_too(bench, subreaper):
    """In a session of its own, and whoever started it is gone: only the mark in its environment tells whose it is."""
    last = f"setsid sh -c 'echo $$ > {bench.folder}/pid; exec sleep 1000' >/dev/null 2>&1 &"
    answer = f"answer() {{ trap '' TERM; {last} exit; }}; trap answer TERM; touch {bench.folder}/ready"
    bench.write(f"{answer}; while :; do sleep 0.01; done", "answer")
    script = bench.start(f"trap : TERM; setsid --wait {bench.folder}/answer; while :; do sleep 1; done", timeout=1000)
    bench.until((bench.folder / "ready").exists)
    script._time_over()
    pid = bench.pid()
    script._kill()
    bench.until(lambda: bench.results and not procfs.is_running(pid))
    bench.until(nobody_is_left)


def test_what_forks_while_it_is_killed_is_met_again(bench, short, subreaper):
    """A chain of processes, each in a group of its own, that ends only as a whole."""
    body = f"f() {{ set -m; (f & sleep 0.01) ; }}; echo $$ > {bench.folder}/pid; f"
    bench.run(body, timeout=0.3)
    bench.until(nobody_is_left)


FORKS_AT_ITS_END = """
import os, signal, time
def end(*_):
    if os.fork():
        os._exit(1)
    os.setsid()
    if {twice} and os.fork():
        os._exit(1)
    {then}
    open({path!r}, "w").write(str(os.getpid()))
    time.sleep(1000)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
open({path!r} + ".ready", "w").close()
time.sleep(1000)
"""


@pytest.mark.parametrize("twice", [False, True], ids=["a child", "a grandchild"])
@pytest.mark.parametrize("then", ["pass", "signal.signal(signal.SIGTERM, signal.SIG_IGN)"], ids=["polite", "stubborn"])
def test_what_is_forked_in_the_moment_of_its_end_ends_too_in_whatever_session(bench, short, subreaper, twice, then):
    path = str(bench.folder / "pid")
    (bench.folder / "program.py").write_text(FORKS_AT_ITS_END.format(path=path, twice=twice, then=then))
    script = bench.start(f"exec {sys.executable} {bench.folder}/program.py", timeout=1000)
    bench.until(lambda: os.path.exists(path + ".ready"))
    script._time_over()
    bench.until(lambda: bench.results)
    bench.until(nobody_is_left)


@pytest.fixture
def in_its_exec(monkeypatch):
    """in_its_exec(is_over): until then environments are empty, as of a process that becomes another program just now."""
    environment_of = process_tree._environment

    def begin(is_over):
        monkeypatch.setattr(process_tree, "_environment", lambda pid: environment_of(pid) if is_over() else [b""])

    return begin


def forks_at_its_end(bench, then="pass"):
    """A script that leaves a grandchild in a session of its own when it is told to end."""
    path = str(bench.folder / "pid")
    (bench.folder / "program.py").write_text(FORKS_AT_ITS_END.format(path=path, twice=True, then=then))
    script = bench.start(f"exec {sys.executable} {bench.folder}/program.py", timeout=1000)
    bench.until(lambda: os.path.exists(path + ".ready"))
    return script


def test_who_becomes_another_program_in_the_moment_of_its_end_ends_too(bench, short, subreaper, in_its_exec):
    """It is not seen before the script has been reaped."""
    script = forks_at_its_end(bench)
    in_its_exec(lambda: bench.results)
    script._time_over()
    bench.until(lambda: bench.results)
    bench.until(nobody_is_left)


def test_who_becomes_another_program_when_everything_ends_ends_too(bench, subreaper, in_its_exec):
    """The loop ends before the script does."""
    script = forks_at_its_end(bench)
    looks = iter(range(3))
    in_its_exec(lambda: script._process.returncode is not None and next(looks, None) is None)
    script._time_over()
    pid = bench.pid()
    bench.scripts.close()
    assert next(looks, None) is None, "it was not seen at first"
    wait_until(nobody_is_left, "the end of all of it")
    assert not procfs.is_running(pid)


def test_what_was_let_go_before_the_time_limit_goes_on(bench, short, subreaper):
    """It is a program of its own, however the script ends."""
    body = f"(setsid sh -c 'echo $$ > {bench.folder}/pid; exec sleep 1000' >/dev/null 2>&1 &); sleep 1000"
    script = bench.start(body, timeout=1000)
    pid = bench.pid()
    script._time_over()
    bench.until(lambda: bench.results)
    for _ in range(5):
        bench.loop.run_once(0.05)
    assert procfs.is_running(pid)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_one_that_has_ended_in_time_has_not_timed_out(bench):
    """The loop is late: its timer comes before the event."""
    os.mkfifo(bench.folder / "end")
    script = bench.start(f"echo $$ > {bench.folder}/pid; read _ < {bench.folder}/end; exit 0")
    pid = bench.pid()
    (bench.folder / "end").write_text("now\n")  # while the loop does not turn
    wait_until(lambda: procfs.is_zombie(pid), "its end")
    script._time_over()
    bench.until(lambda: bench.results)
    assert (bench.results[0].success, bench.results[0].timed_out) == (True, False)


def test_what_has_a_session_of_its_own_goes_on(bench):
    result = bench.run(f"setsid sleep 1000 >/dev/null 2>&1 & echo $! > {bench.folder}/pid; sleep 0.1")
    pid = bench.pid()
    assert result.success
    try:
        assert procfs.is_running(pid)
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_megabyte_is_logged_in_many_small_rounds(bench, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(module, "MOST_OUTPUT", 1 << 21)
    rounds, before = [], bench.loop.run_once

    def run_once(timeout):
        before(timeout)
        rounds.append(sum(len(message) for message in caplog.messages))

    bench.loop.run_once = run_once
    result = bench.run("head -c 1000000 /dev/zero | tr '\\0' x; echo; echo end")
    assert (result.success, result.last_line) == (True, "end")
    logged = sum(message.count("x") for message in caplog.messages)
    assert logged >= 1_000_000
    most = max(after - before for before, after in itertools.pairwise(rounds))
    assert most < 4 * module.READ_SIZE, "the loop had no turn for anybody else"
    caplog.clear()


def test_what_is_too_much_is_counted(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(module, "MOST_OUTPUT", 10)
    output = Output("check", logging.INFO)
    output.feed(b"12345\n12")
    output.feed(b"345\n1\r\n\n  \n\xff")
    output.end()
    assert caplog.messages == ["check: 12345", "check: 12345", "check: printed too much: 3 bytes were not logged"]
    assert output.last_line == "\\xff"


def test_a_long_line_comes_in_pieces(caplog):
    caplog.set_level(logging.INFO)
    output = Output("check", logging.INFO)
    output.feed(b"x" * (module.LINE + 1))
    output.end()
    assert [len(message) for message in caplog.messages] == [module.LINE + len("check: "), 1 + len("check: ")]


def test_a_cancelled_one_tells_nobody_and_ends(bench, short):
    script = bench.start(f"echo $$ > {bench.folder}/pid; exec sleep 1000")
    pid = bench.pid()
    script.cancel()
    bench.until(lambda: not procfs.is_running(pid) and bench.places._free == module.AT_ONCE)
    assert bench.results == []


def test_one_that_is_ended_says_so(bench, short):
    script = bench.start(f"echo $$ > {bench.folder}/pid; exec sleep 1000")
    bench.pid()
    script.end()
    bench.until(lambda: bench.results)
    assert bench.results[0].text == "killed by SIGTERM"


def test_who_ends_it_again_and_again_does_not_put_off_its_end(bench, short):
    script = bench.start(f"trap '' TERM; echo $$ > {bench.folder}/pid; while :; do sleep 1; done")
    pid = bench.pid()

    def is_over():
        script.end()
        return bench.results

    bench.until(is_over)
    assert bench.results[0].text == "killed by SIGKILL"
    assert not procfs.is_running(pid)


def test_one_that_is_ended_while_it_waits_is_never_started(bench):
    script = bench.start(f"touch {bench.folder}/started")
    script.end()
    bench.start("true")
    bench.until(lambda: len(bench.results) == 2)
    assert [result.text for result in bench.results] == ["not started", "exit status 0"]
    assert not (bench.folder / "started").exists()


def test_a_cancelled_one_that_waits_is_never_started(bench):
    script = bench.start(f"touch {bench.folder}/started")
    script.cancel()
    bench.run("true")
    assert not (bench.folder / "started").exists()
    assert len(bench.results) == 1


def test_close_kills_what_runs(tmp_path):
    bench = Bench(tmp_path)
    bench.start(f"trap '' TERM; echo $$ > {bench.folder}/pid; exec sleep 1000")
    bench.start("true")
    pid = bench.pid()
    bench.scripts.close()
    assert not procfs.is_running(pid)
    bench.loop.close()


def test_only_so_many_at_a_time(tmp_path):
    bench = Bench(tmp_path, ScriptSlots(2))
    path = bench.write(
        f'echo "$$" > {tmp_path}/run-$$; ls {tmp_path}/run-* | wc -l; sleep 0.05; rm {tmp_path}/run-$$'
    )
    for _ in range(8):
        bench.start(path)
    bench.until(lambda: len(bench.results) == 8)
    assert {int(result.last_line) for result in bench.results} <= {1, 2}
    bench.loop.close()


def test_places_are_shared_by_loops_and_survive_one_that_is_gone(tmp_path):
    places = ScriptSlots(1)
    first, gone, last = (Bench(tmp_path, places) for _ in range(3))
    first.start("sleep 0.2")
    gone.start("true")
    last.start("true")
    gone.scripts.close()
    gone.loop.close()
    thread = threading.Thread(target=last.until, args=(lambda: last.results,), name="last")
    thread.start()
    first.until(lambda: first.results)
    thread.join()
    assert (len(first.results), len(gone.results), len(last.results)) == (1, 0, 1)
    assert places._free == 1
    for bench in (first, last):
        bench.loop.close()


def test_the_last_descriptors_are_not_for_scripts(bench, monkeypatch):
    monkeypatch.setattr(module, "SPARE", 2**40)
    result = bench.run("true")
    assert (result.is_local, result.success) == (True, False)
    assert result.text == "cannot be started: too many open files"


def test_no_room_for_another_process_is_no_verdict(bench, monkeypatch):
    """fork() says EAGAIN at the limit of processes (ulimit -u, pids.max)."""

    def full(*_args, **_how):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(module.subprocess, "Popen", full)
    result = bench.run("true")
    assert (result.is_local, result.success) == (True, False)
    assert result.text == "cannot be started: resource temporarily unavailable"


def test_one_that_cannot_be_killed_holds_nobody_up(bench, short, monkeypatch):
    """No process here is deaf to SIGKILL; one that is never sent it stands for one."""
    real = module.Script._signal
    monkeypatch.setattr(module.Script, "_signal", lambda script, number: None)
    script = bench.start("exec sleep 1000", timeout=0.1)
    bench.until(lambda: bench.results)
    assert bench.results[0].text == "timed out after 0.1 s, and does not end"
    assert bench.places._free == module.AT_ONCE - 1
    monkeypatch.setattr(module.Script, "_signal", real)
    script._signal(signal.SIGKILL)
    bench.until(lambda: bench.places._free == module.AT_ONCE)
    assert len(bench.results) == 1


def test_a_script_that_is_rewritten_or_removed_is_read_afresh(bench):
    path = bench.write("exit 1", "script")
    assert bench.run(path).status == 1
    bench.write("exit 2", "script")
    assert bench.run(path).status == 2
    path.unlink()
    assert bench.run(path).status is None
