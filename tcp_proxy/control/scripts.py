"""Runs the executables of users: check scripts, triggers, health checks of type `script`. Nobody else starts them.

Belongs to one loop and its thread, which nothing here holds up. Every script has a session of its own, an empty stdin, a
small environment, and one pipe for stdout and stderr, whose lines go to the log with the script's name. At most AT_ONCE
health checks run at a time in the whole program, and as many scripts of elections, which never wait for those; the others
queue.

    QUEUED ──a place──> RUNNING ──time limit, cancel()──> ENDING (SIGTERM to the tree, SIGKILL after KILL_AFTER)
                           └──the script ends──> LINGERING <──┘  until its output ends, at most LINGER
    LINGERING ──> ENDED: what is left of its session is killed, the script is reaped, its place is free

The tree is everything that the script has started and that has its parent, or is in its session, in whatever process group;
who loses the parent by our signals is still of the tree, and so is who was forked or began in that moment.
What was made to go on, by a session of its own and without a parent (`setsid … &`), goes on after the script's own end.

Always true: `done` is called once, from the loop, never from within `run`, and never after `cancel`; a script that not
even SIGKILL ends (a dead network disk) keeps its place but holds nobody up, `done` says so GIVE_UP seconds later; the
tree is signalled only while its number cannot be another one's, which is until the script is reaped; a script that has ended
in time has not timed out, however late that is seen.
"""

import contextlib
import errno
import itertools
import logging
import os
import resource
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tcp_proxy.config.secrets import hidden
from tcp_proxy.control.process_tree import LEADERS, Tree
from tcp_proxy.runtime.loop import READ, Loop, Timer
from tcp_proxy.sansio.frozen_dataclass import dataclass
from tcp_proxy.sansio.reasons import is_local
from tcp_proxy.sansio.words import counted

logger = logging.getLogger(__name__)

AT_ONCE = 16  # scripts that run at a time
KILL_AFTER = 2.0  # seconds between SIGTERM and SIGKILL
GIVE_UP = 2.0  # seconds after SIGKILL
LINGER = 0.5  # seconds that output may go on when the script itself has ended
SPARE = 64  # descriptors that are never taken for scripts (docs/rules.md, R3, R8)
READ_SIZE = 8192  # bytes a round: a script that floods the log leaves the loop its turn
LINE = 2000  # bytes; longer lines are cut in pieces
MOST_OUTPUT = 2**17  # bytes of one run that are logged: an eighth of what may wait for a slow reader of the log
KILL_ROUNDS = 10  # until nothing is left of it
PASSED_ON = ("PATH", "HOME", "LANG")  # of our environment, to every script
ALL = "*"
MARK = "TCP_PROXY_RUN"  # in the environment of every script: which run of one this is

_runs = itertools.count(1)  # of the whole program


@dataclass(frozen=True, slots=True)
class ScriptResult:
    """How a script ended. `status` is None when it was not started, was killed, or does not end."""

    status: int | None
    text: str  # "exit status 3", "killed by SIGSEGV", "timed out after 30 s", "cannot be started: permission denied"
    seconds: float = 0.0
    timed_out: bool = False
    code: int = 0  # the errno of a start that failed
    last_line: str = ""  # of what it printed

    @property
    def success(self) -> bool:
        return self.status == 0 and not self.timed_out

    @property
    def is_local(self) -> bool:
        """It could not be started because this machine is short of something, processes too: no verdict on anybody
        (docs/rules.md, R8)."""
        return self.code == errno.EAGAIN or (is_local(self.code) and self.code not in (errno.EACCES, errno.EPERM))


class ScriptSlots:
    """How many may run at a time, over all loops. Any thread."""

    def __init__(self, size: int = AT_ONCE) -> None:
        self._lock = threading.Lock()
        self._free = size
        self._waiting: deque[tuple[Loop, Callable[[], Any]]] = deque()

    def __repr__(self) -> str:
        return f"<ScriptSlots {self._free} free, {len(self._waiting)} wait>"

    def take(self, loop: Loop, call: Callable[[], Any]) -> None:
        """`call` is made in `loop` when there is a place; whoever is called gives the place back, wanted or not."""
        with self._lock:
            if self._free == 0:
                self._waiting.append((loop, call))
                return
            self._free -= 1
        loop.call_soon(call)

    def give_back(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._free += 1
                    return
                loop, call = self._waiting.popleft()
            if loop.call_soon(call):  # a loop that is closed wants nothing any more
                return


CHECKS = ScriptSlots()  # of the health checks of all apps


class Scripts:
    """`with`-less owner of the scripts of one loop: `close` ends them all."""

    def __init__(self, loop: Loop, places: ScriptSlots = CHECKS) -> None:
        self._loop = loop
        self._places = places
        self._running: set[Script] = set()

    def __repr__(self) -> str:
        return f"<Scripts {len(self._running)} running or queued>"

    def run(
        self,
        path: str,
        args: Sequence[str],
        env: Mapping[str, str],
        timeout: float,
        done: Callable[[ScriptResult], Any],
        name: str = "",
        level: int = logging.INFO,
        secrets: Sequence[str] = (),
    ) -> "Script":
        """Start `path` as soon as there is a place. `env` is its whole environment; `name`, `level` are for its output, in
        which `secrets` are not shown."""
        output = Output(name or path, level, secrets)
        script = Script(self._loop, self._places, [path, *args], env, timeout, done, output)
        self._running.add(script)
        script.left = self._running.discard
        self._places.take(self._loop, script.start)
        return script

    def close(self) -> None:
        """Kill all that run, wait for them, tell nobody."""
        for script in tuple(self._running):
            script.discard()


class Script:
    """One run; owns the process, its pidfd and the reading end of its output."""

    _tree: Tree  # when it has been started

    def __init__(
        self,
        loop: Loop,
        places: ScriptSlots,
        argv: list[str],
        env: Mapping[str, str],
        timeout: float,
        done: Callable[[ScriptResult], Any],
        output: "Output",
    ) -> None:
        self.left: Callable[[Script], Any] = _nobody
        self._loop = loop
        self._places = places
        self._argv = argv
        self._env = env
        self._timeout = timeout
        self._done: Callable[[ScriptResult], Any] | None = done
        self._output = output
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd = self._pipe = -1
        self._timer: Timer | None = None
        self._started = loop.now
        self._timed_out = self._is_asked_to_end = self._has_ended = self._is_over = False

    def __repr__(self) -> str:
        state = "over" if self._is_over else "queued" if self._process is None else f"pid {self._process.pid}"
        return f"<Script {self._argv[0]} {state}>"

    def start(self) -> None:
        """There is a place."""
        if self._is_over or self._done is None:
            self._places.give_back()
            self._leave()
            return
        self._started = self._loop.now
        try:
            self._spawn()
        except OSError as error:
            self._places.give_back()
            self._leave()
            self._tell(ScriptResult(None, f"cannot be started: {_why(error)}", code=error.errno or errno.EIO))
            return
        self._timer = self._loop.call_later(self._timeout, self._time_over)

    def end(self) -> None:
        """It has become pointless: it is ended before its time, and `done` is told."""
        if self._process is None:
            self._is_over = True  # its place may be on the way already
            self._loop.call_soon(self._tell, ScriptResult(None, "not started"))
        elif not self._has_ended:
            self._terminate()

    def cancel(self) -> None:
        """Nobody wants to know any more: it is ended, and `done` is never called."""
        self._done = None
        if self._process is not None and not self._has_ended:
            self._terminate()

    def discard(self) -> None:
        """Kill it now and wait for it: the loop is about to end."""
        self._done = None
        if self._process is None:
            self._is_over = True
            return
        self._signal(signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(KILL_AFTER)
            self._is_reaped()
            self._tree.end_rest_now()
        if not self._is_over:
            self._release()

    # -- its life

    def _spawn(self) -> None:
        _keep_spare_descriptors()
        env = {**self._env, MARK: f"{os.getpid()}.{next(_runs)}"}
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        try:
            with LEADERS.starting():
                self._process = process = subprocess.Popen(
                    self._argv, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=env, start_new_session=True
                )
                LEADERS.add(process.pid)
            self._tree = Tree(process.pid, f"{MARK}={env[MARK]}")
            self._pidfd = os.pidfd_open(self._process.pid)
        except (OSError, ValueError) as error:  # ValueError: a NUL byte in an argument
            os.close(ours)
            if self._process is not None:
                self._signal(signal.SIGKILL)
                self._process.wait()
                self._is_reaped()
                self._process = None
            raise error if isinstance(error, OSError) else OSError(errno.EINVAL, str(error)) from None
        finally:
            os.close(theirs)
        os.set_blocking(ours, False)
        self._pipe = ours
        self._loop.watch(ours, READ, self._readable)
        self._loop.watch(self._pidfd, READ, self._ended)

    def _time_over(self) -> None:
        if os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            self._ended(0)  # the loop is late, the script is not
            return
        self._timed_out = True
        self._terminate()

    def _terminate(self) -> None:
        if self._is_asked_to_end:  # whoever asks again does not put off what follows
            return
        self._is_asked_to_end = True
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)  # one that is stopped would not hear of it
        self._set_timer(KILL_AFTER, self._kill)

    def _kill(self) -> None:
        self._signal(signal.SIGKILL)
        self._set_timer(GIVE_UP, self._give_up)

    def _give_up(self) -> None:
        self._tell(self._result(None))

    def _readable(self, _events: int) -> None:
        try:
            data = os.read(self._pipe, READ_SIZE)
        except BlockingIOError:
            return
        self._output.feed(data)
        if not data:
            self._close_pipe()
            if self._has_ended:
                self._end()

    def _ended(self, _events: int) -> None:
        """The script itself is over (and not reaped); what it started may still be writing."""
        self._has_ended = True
        self._loop.unwatch(self._pidfd)
        if self._pipe < 0:
            self._end()
        else:
            self._set_timer(LINGER, self._end)

    def _end(self) -> None:
        assert self._process is not None
        for _ in range(KILL_ROUNDS):
            if not self._signal(signal.SIGKILL):
                break
        result = self._result(self._process.wait())  # it has ended: this waits for nothing
        self._is_reaped()
        self._tree.end_rest(self._loop)
        self._release()
        self._tell(result)

    def _release(self) -> None:
        """The one place that gives everything back."""
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
        self._output.end()
        self._close_pipe()
        if self._loop.is_watched(self._pidfd):
            self._loop.unwatch(self._pidfd)
        os.close(self._pidfd)
        self._places.give_back()
        self._leave()

    # -- small parts

    def _set_timer(self, seconds: float, call: Callable[[], Any]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, call)

    def _close_pipe(self) -> None:
        if self._pipe >= 0:
            self._loop.unwatch(self._pipe)
            os.close(self._pipe)
            self._pipe = -1

    def _signal(self, number: int) -> int:
        """To the whole tree; how many others than the script there were."""
        assert self._process is not None
        if self._process.returncode is not None:
            return 0
        return self._tree.signal(number, with_all=self._is_asked_to_end or not self._has_ended)

    def _is_reaped(self) -> None:
        assert self._process is not None
        LEADERS.discard(self._process.pid)

    def _result(self, status: int | None) -> ScriptResult:
        seconds = self._loop.now - self._started
        if self._timed_out:
            text = f"timed out after {self._timeout:g} s" + ("" if status is not None else ", and does not end")
        elif status is not None and status < 0:
            text = f"killed by {_signal_name(-status)}"
        else:
            text = f"exit status {status}"
        exit_status = status if status is not None and status >= 0 else None
        return ScriptResult(exit_status, text, seconds, self._timed_out, last_line=self._output.last_line)

    def _leave(self) -> None:
        self.left(self)

    def _tell(self, result: ScriptResult) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(result)


class Output:
    """Bytes in, log lines out: complete lines, long ones in pieces, at most MOST_OUTPUT bytes."""

    def __init__(self, name: str, level: int, secrets: Sequence[str] = ()) -> None:
        self.last_line = ""
        self._secrets = secrets
        self._name = name
        self._level = level
        self._rest = b""
        self._logged = self._dropped = 0

    def __repr__(self) -> str:
        return f"<Output of {self._name}: {self._logged} bytes logged, {self._dropped} dropped>"

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line)
        while len(self._rest) > LINE:
            self._line(self._rest[:LINE])
            self._rest = self._rest[LINE:]

    def end(self) -> None:
        """What there is of a last line is a line, too."""
        rest, self._rest = self._rest, b""
        self._line(rest)
        if self._dropped:
            dropped = counted(self._dropped, "byte was", "bytes were")
            logger.warning("%s: printed too much: %s not logged", self._name, dropped)

    def _line(self, line: bytes) -> None:
        text = hidden(line.rstrip().decode("utf-8", "backslashreplace"), self._secrets)
        if not text:
            return
        self.last_line = text[:LINE]
        if self._logged + len(line) > MOST_OUTPUT:
            self._dropped += len(line)
            return
        self._logged += len(line)
        for start in range(0, len(text), LINE):
            logger.log(self._level, "%s: %s", self._name, text[start : start + LINE])


def environment(more: Sequence[str], ours: Mapping[str, str]) -> dict[str, str]:
    """What a script finds: what every program needs, what the configuration says (NAME: as we have it; NAME=value; "*":
    all that we have), and the variables that we set. Nothing else: what the program was given is not for every script."""
    names = tuple(os.environ) if ALL in more else PASSED_ON
    found = {name: os.environ[name] for name in names if name in os.environ}
    for word in more:
        name, has_value, value = word.partition("=")
        if has_value:
            found[name] = value
        elif name in os.environ:
            found[name] = os.environ[name]
    return {**found, **ours}


def _keep_spare_descriptors() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and len(os.listdir("/proc/self/fd")) > soft - SPARE:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def _why(error: OSError) -> str:
    text = os.strerror(error.errno).lower() if error.errno else str(error)
    return text + (" (it needs a first line like #!/bin/sh)" if error.errno == errno.ENOEXEC else "")


def _signal_name(number: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


def _nobody(_script: Script) -> None:
    """Nobody keeps a list."""
