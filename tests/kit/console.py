"""The operator's calls, said to a running program on a console that only tests have: a UNIX socket in its folder.

    program = Proxy(config, folder, program=WITH_CONSOLE).wait_ready()
    say = Console(program).say
    say("set_target", "app", "127.0.0.1:80", "drain")
"""

import json
import socket
import sys

from kit.proxy import ROOT

CONSOLE = f'''
import json, socket, sys
sys.path.insert(0, {str(ROOT)!r})
from tcp_proxy.control import supervisor
from tcp_proxy.control.changes.operator import CannotApply, ConfigErrors, Unknown
from tcp_proxy.runtime.loop import READ

start = supervisor.Supervisor._start

def start_with_console(self):
    start(self)
    self.console = socket.create_server("console", family=socket.AF_UNIX)
    self._loop.watch(self.console.fileno(), READ, lambda _: accept(self))

def accept(self):
    sock, _ = self.console.accept()
    call, args = json.loads(sock.recv(65536))
    def say(answer):
        sock.sendall(json.dumps(answer, default=str).encode())
        sock.close()
    try:
        if call in ("plan", "reload"):
            shown = lambda found: found if isinstance(found, list) else [*found.changes, *getattr(found, "errors", ())]
            text = args[0].encode() if args else None
            getattr(self.operator, call)(lambda found: say([str(x) for x in shown(found)]), text)
        elif call == "blocks":
            slots = self._context.counter_rows.slots
            say([slots.used, len(slots.retired), len(self._worker_pool)])
        elif call == "weight":
            say(self._context.targets.find(*args).config.weight)
        else:
            say(getattr(self.operator, call)(*args))
    except (CannotApply, ConfigErrors, Unknown) as error:
        say(f"{{type(error).__name__}}: {{error}}")

supervisor.Supervisor._start = start_with_console
from tcp_proxy.cli import main
sys.exit(main(sys.argv[1:]))
'''
WITH_CONSOLE = (sys.executable, "-c", CONSOLE)


class Console:
    def __init__(self, program):
        self.program = program

    def say(self, call, *args):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(str(self.program.folder / "console"))
            sock.sendall(json.dumps([call, args]).encode())
            return json.loads(b"".join(iter(lambda: sock.recv(65536), b"")))
