"""The configuration that `tcp-proxy --init` writes for somebody who has none: one that runs as it is. By the command line.

JSON has no comments; "$schema" leads an editor to the schema, which tells what each key means.
"""

import json
import os
from pathlib import Path

SCHEMA = Path(__file__).with_name("schema.json")
APP, PORT = "web", 8080


class CannotWrite(Exception):
    """One line for the user."""


def text(*, api: bool) -> str:
    example = {
        "$schema": SCHEMA.as_uri(),
        "access_log": "access.log",
        **({"api": {"listen": "127.0.0.1:8687"}} if api else {}),
        "apps": [
            {
                "name": APP,
                "bind": "127.0.0.1",
                "ports": [PORT],
                "targets": ["127.0.0.1:9001", "127.0.0.1:9002"],
                "health": {"type": "tcp", "interval": 5, "fall": 2},
            }
        ],
    }
    return json.dumps(example, indent=2) + "\n"


def write(path: str, *, api: bool) -> str:
    """A file of this name, which must not be there yet; what to do next. `api`: there is what the management API needs."""
    if path.endswith(".toml"):
        raise CannotWrite(f"{path}: a configuration of tcpffee is named so; wanted another name, as config.json")
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        raise CannotWrite(f"{path}: there is such a file already, so nothing is written") from None
    except OSError as error:
        raise CannotWrite(f"{path}: {error.strerror}") from None
    try:
        with open(fd, "w", encoding="utf-8") as file:
            file.write(text(api=api))
    except OSError as error:
        os.unlink(path)
        raise CannotWrite(f"{path}: {error.strerror}") from None
    return (NEXT + (CONTROL if api else "") + "An editor that knows JSON Schema tells what each key means.\n").format(path)


NEXT = f"""\
{{0}} is written: app {APP} takes connections at 127.0.0.1:{PORT} and spreads them over two targets.
Put your targets into it; `"bind": "*"` takes connections from other machines, too. Then:
  tcp-proxy --check {{0}}
  tcp-proxy {{0}}                  (without installation: python -m tcp_proxy)
"""
CONTROL = """\
  tcp-proxy-ctl status             (without installation: python -m tcp_proxy.ctl)
"""
