"""The check `script`: an executable of the user's says whether the target is well; exit status 0 is.

It is called with the words of `command` and the address of the target behind them, and TCP_PROXY_APP and TCP_PROXY_TARGET
in its environment, and TCP_PROXY_SOURCE where the configuration says from where connects come (runtime.source).
control.scripts runs it: in a session of its own, at most 16 at a time in the whole program, ended when the time is over,
which runs from its start. What it prints goes to the log at level debug, its last line into the evidence. One that cannot be
started because this machine is short of something is no verdict.
"""

import logging
import os
from collections.abc import Mapping

from tcp_proxy.config.model import Check
from tcp_proxy.config.secrets import secrets_of
from tcp_proxy.control.health.connecting import with_port
from tcp_proxy.control.health.probe import Done, Result, shown
from tcp_proxy.control.scripts import Script, ScriptResult, Scripts
from tcp_proxy.wire.views import Endpoint

MOST = 200  # characters of its last line


def start(scripts: Scripts, env: Mapping[str, str], endpoint: Endpoint, check: Check, done: Done) -> Script:
    """A Script is a Probe: it can be cancelled."""
    path, *words = check.command
    address = shown(with_port(endpoint, check.port))

    def ended(result: ScriptResult) -> None:
        line = f": {result.last_line[:MOST]}" if result.last_line else ""
        done(Result(None if result.is_local else result.success, f"script {path} {address}: {result.text}{line}"))

    if check.source is not None:
        env = {**env, "TCP_PROXY_SOURCE": " ".join(filter(None, (*check.source.addresses, check.source.interface)))}
    secrets = secrets_of(check, os.environ)
    return scripts.run(path, [*words, address], env, check.timeout, ended, f"{path} {address}", logging.DEBUG, secrets)
