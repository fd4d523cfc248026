"""Programs that take over from each other: one after another on the same files and ports.

    line = Succession(proxy(...))            the program that runs first
    new = line.upgrade()                     another one has taken over from it, and it has ended
"""

from kit import procfs
from kit.proxy import PROGRAM, Proxy
from kit.waiting import PATIENCE, wait_until

TOP = {"pid_file": "proxy.pid", "state": "proxy.state"}

# A program that is stopped, or killed, when it first comes to one of its steps (control.takeover.steps).
AT_A_STEP = (
    "import os, signal, sys; from tcp_proxy.control.takeover import steps; due = [{step!r}];"
    "steps.reached = lambda step: step.value in due and (due.clear(), os.kill(os.getpid(), signal.{signal}));"
    "{patience}"
    "from tcp_proxy.cli import main; sys.exit(main())"
)
PATIENCE_OF = (
    "from tcp_proxy.control.takeover import predecessor, succession;"
    "predecessor.SILENT = succession.ANSWER_WITHIN = {};"
)


def at_step(step, signal_name="SIGKILL", within=None):
    """How to start the program so that it gets this signal when it first comes to this step; None: to none. `within`:
    seconds that it waits for the other program, in place of its own."""
    patience = "" if within is None else PATIENCE_OF.format(within)
    return [PROGRAM[0], "-c", AT_A_STEP.format(step=step and step.value, signal=signal_name, patience=patience)]


class Succession:
    """`programs`: all that there were, the last one runs. The caller's `servers` (an ExitStack) ends those that we start."""

    def __init__(self, first, servers):
        self.programs = [first]
        first.uncounted = None  # its log is that of all
        self._servers = servers
        self.old_workers = set()

    @property
    def now(self):
        return self.programs[-1]

    def begin(self, config=None, program=PROGRAM):
        """Another one that is about to take over."""
        self.old_workers.update(self.now.workers())
        new = Proxy(config or self.now.config, self.now.folder, program=program, args=("--takeover",))
        self._servers.callback(new.kill)
        return new

    def upgrade(self, config=None):
        """Another one has taken over, the one before it has ended well, and its workers accept nobody any more."""
        old, new = self.now, self.begin(config)
        new.wait_log("taken over from", 30)
        new.wait_log("ready:", 30)
        assert old.process.wait(PATIENCE) == 0, old.log
        accepting = lambda: [pid for pid in self.old_workers if "LISTEN" in procfs.tcp_sockets(pid)]  # noqa: E731
        wait_until(lambda: not accepting(), lambda: f"old workers accept no more: {accepting()}")
        new.uncounted = None
        self.programs.append(new)
        return new

    def wait_old_workers(self):
        """Until those of programs that were taken over are gone."""
        wait_until(lambda: not any(procfs.is_running(pid) for pid in self.old_workers), "the end of all old workers", 30)

    def end(self):
        """The last one ends well, and nothing is left."""
        last = self.now
        for program in self.programs:
            program.close_clients()
        assert last.stop() == 0, last.log
        self.wait_old_workers()
        for name in (*TOP.values(), "proxy.pid.takeover"):
            assert name == TOP["state"] or not (last.folder / name).exists(), f"{name} is left behind"
        for program in self.programs:
            for sign in ("Traceback (most recent call last)", "internal error", "Exception ignored"):
                assert sign not in program.log, program.log
