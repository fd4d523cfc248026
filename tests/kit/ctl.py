"""The command line of the running program, as an operator types it: a process of its own each time.

ctl = Ctl.of(program)          ctl("drain", "web", "one").text        ctl.json("status")        ctl("why", "x", status=1)
"""

import json
import os
import signal
import subprocess
import sys

from kit.proxy import ROOT

PROGRAM = (sys.executable, "-m", "tcp_proxy.ctl")


class Done:
    def __init__(self, process, text, errors):
        self.status, self.text, self.errors = process.returncode, text, errors

    def __repr__(self):
        return f"<status {self.status}: {self.text!r} {self.errors!r}>"


class Ctl:
    def __init__(self, address, folder, token_file=""):
        self.folder = folder
        self.env = {**os.environ, "PYTHONPATH": str(ROOT), "TCP_PROXY_API": address, "TCP_PROXY_TOKEN_FILE": str(token_file)}

    @classmethod
    def of(cls, program, token_file=""):
        return cls(program.config["api"]["listen"], program.folder, token_file)

    def start(self, *words, **how):
        """A process that goes on; its stdout is a pipe unless `how` says otherwise."""
        how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, "text": True, **how}
        return subprocess.Popen([*PROGRAM, *map(str, words)], env=self.env, cwd=self.folder, **how)

    def __call__(self, *words, status=0, given=None, seconds=20):
        """To its end, which must have this status; no mistake ever shows a traceback."""
        with self.start(*words, stdin=subprocess.DEVNULL if given is None else subprocess.PIPE) as process:
            try:
                text, errors = process.communicate(given, timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        done = Done(process, text, errors)
        assert done.status == status, done
        assert "Traceback" not in done.errors, done
        return done

    def json(self, *words, **how):
        return json.loads(self(*words, "--json", **how).text)


def interrupt(process, seconds=20):
    """Ctrl-C, and what comes of it."""
    process.send_signal(signal.SIGINT)
    text, errors = process.communicate(timeout=seconds)
    return Done(process, text, errors)
