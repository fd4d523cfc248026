"""Programs of the system: where they are, which Debian package has them, and a server process from start to stop."""

import contextlib
import glob
import os
import pathlib
import re
import shutil
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence

from benchmarks import procfs
from benchmarks.waiting import now, wait_until

PACKAGES = {
    "wrk": "wrk",
    "iperf3": "iperf3",
    "sockperf": "sockperf",
    "haproxy": "haproxy",
    "nginx": "nginx-light",
    "strace": "strace",
    "postgres": "postgresql",
    "initdb": "postgresql",
    "pgbench": "postgresql",
    "psql": "postgresql-client",
    "redis-server": "redis-server",
}
ELSEWHERE = ("/usr/sbin", "/usr/local/sbin", *sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True))
MODULE_FOLDERS = ("/usr/lib/nginx/modules", "/usr/share/nginx/modules", "/usr/local/nginx/modules")
VERSIONS = {  # how each is asked, and what of the answer is its version
    "wrk": ("-v", r"wrk \S*?(\d[\d.]+)"),
    "iperf3": ("--version", r"iperf (\S+)"),
    "sockperf": ("--version", r"version (\d[\d.]*)"),
    "haproxy": ("-v", r"version (\S+)"),
    "nginx": ("-v", r"nginx/(\S+)"),
    "strace": ("-V", r"version (\S+)"),
    **{name: ("--version", r"\) (\d[\d.]*)") for name in ("postgres", "initdb", "pgbench", "psql")},
    "redis-server": ("--version", r"v=(\d[\d.]*)"),
}


class Missing(Exception):
    """A program is not there; the text says which package has it."""


class Failed(Exception):
    """A program did not do what it was started for."""


_instead: dict[str, str] = {}


def use(name: str, path: str) -> None:
    """This one from now on, not the one that is installed."""
    _instead[name] = os.path.abspath(path)


def find(name: str) -> str:
    path = _instead.get(name) or shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *ELSEWHERE]))
    if path is None:
        raise Missing(f"{name} is not installed (Debian: apt install {PACKAGES[name]})")
    return path


def need(names: Iterable[str]) -> None:
    """All of them, or one line that names every package that is missing."""
    missing = [
        name
        for name in names
        if name not in _instead and not shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *ELSEWHERE]))
    ]
    packages = [PACKAGES[name] for name in missing]
    if "nginx" not in missing and stream_module() is None:
        missing, packages = [*missing, "nginx's stream module"], [*packages, "libnginx-mod-stream"]
    if missing:
        raise Missing(f"not installed: {', '.join(missing)} (Debian: apt install {' '.join(packages)})")


def version(name: str) -> str:
    flag, pattern = VERSIONS[name]
    done = subprocess.run([find(name), flag], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    match = re.search(pattern, done.stdout + done.stderr)
    return match[1] if match else "unknown"


def stream_module() -> str | None:
    """The line that loads nginx's stream module: "" when it is built in, None when there is none."""
    told = subprocess.run([find("nginx"), "-V"], capture_output=True, text=True, check=False).stderr
    if re.search(r"--with-stream(\s|$)", told):
        return ""
    named = re.findall(r"--modules-path=(\S+)", told)
    for folder in (*named, *MODULE_FOLDERS):
        path = pathlib.Path(folder) / "ngx_stream_module.so"
        if path.exists():
            return f"load_module {path};"
    return None


def stop_what_is_left() -> None:
    """Of a process whose start was interrupted nobody has become the owner: whoever descends from us ends."""
    for pid in procfs.tree(os.getpid())[1:]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


class Program:
    """A server in a session of its own: a Ctrl-C in the terminal reaches only us, and we end it by its process id."""

    def __init__(
        self, argv: Sequence[object], folder: pathlib.Path, ports: Iterable[int], env: Mapping[str, str] | None = None
    ) -> None:
        self.ports = tuple(ports)
        self.log = folder / f"{pathlib.Path(str(argv[0])).name}-{id(self):x}.log"
        self._members: set[int] = set()
        self.started = now()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(word) for word in argv], cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def __repr__(self) -> str:
        return f"<Program {self.process.args!r} pid={self.process.pid}>"

    def pids(self) -> list[int]:
        """Its process and all descendants; those it once had are remembered for the end."""
        found = procfs.tree(self.process.pid)
        self._members.update(found)
        return found

    def wait_listening(self, seconds: float = 20.0) -> None:
        wait_until(self._listens, f"{self!r} listens", seconds)
        self.pids()

    def check(self) -> None:
        if self.process.poll() is not None:
            raise Failed(f"{self!r} ended with status {self.process.returncode}: {self.last_words()}")

    def last_words(self) -> str:
        return " | ".join(self.log.read_text(errors="replace").splitlines()[-5:])

    def stop(self) -> None:
        """Asks it to end, then makes it; nothing of it is left."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            self.pids()
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pid in self._members - {self.process.pid}:
            if self._is_ours(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _listens(self) -> bool:
        self.check()
        return all(procfs.listens(port) for port in self.ports)

    def _is_ours(self, pid: int) -> bool:
        """A number may belong to somebody else by now; the session it was born in tells."""
        with contextlib.suppress(ProcessLookupError):
            return os.getsid(pid) == self.process.pid
        return False
