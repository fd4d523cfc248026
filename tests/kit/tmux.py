"""A terminal as a person has it: Debian's tmux, on a server of its own, in which a command line is typed.

    with Tmux(folder, env, columns=80) as terminal:
        terminal.type("tcp-proxy-ctl top", "Enter")
        terminal.wait("sessions")           until the screen shows it
"""

import shlex
import subprocess

from kit.programs import need
from kit.waiting import wait_until

PROMPT = "ready>"


class Tmux:
    def __init__(self, folder, env, columns=80, lines=24):
        """`env`: what the shell there has besides what it needs."""
        self._program, self._socket = need("tmux"), folder / "tmux.sock"
        words = ["env", "-i", "PATH=/usr/bin:/bin", f"PS1={PROMPT}", "LC_ALL=C.UTF-8", f"HOME={folder}"]
        shell = [*words, *(f"{key}={value}" for key, value in env.items()), "TERM=screen-256color", "sh"]
        size = ["-x", str(columns), "-y", str(lines)]
        self._run("-f", "/dev/null", "-u", "new-session", "-d", *size, shlex.join(shell))

    def __enter__(self):
        self.wait(PROMPT)
        return self

    def __exit__(self, *_):
        self._run("kill-server")
        wait_until(lambda: not self._is_there(), "its end")
        self._socket.unlink(missing_ok=True)

    def type(self, *keys):
        """Text, or the names of keys: Enter, Escape, C-c."""
        self._run("send-keys", "--", *keys)

    def screen(self, colours=False):
        return self._run("capture-pane", "-p", *(["-e"] if colours else []))

    def wait(self, words, seconds=30):
        """Until they stand on the screen: the screen."""
        wait_until(lambda: words in self.screen(), lambda: f"{words!r} on the screen:\n{self.screen()}", seconds)
        return self.screen()

    def wait_gone(self, words, seconds=30):
        wait_until(lambda: words not in self.screen(), lambda: f"no {words!r} on the screen:\n{self.screen()}", seconds)

    def _is_there(self):
        return not subprocess.run(self._words("list-sessions"), capture_output=True, check=False).returncode

    def _run(self, *words):
        return subprocess.run(self._words(*words), capture_output=True, text=True, timeout=20, check=True).stdout

    def _words(self, *words):
        return [self._program, "-S", str(self._socket), *words]
