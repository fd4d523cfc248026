"""The command line: a configuration file becomes a running supervisor, or one clear line and an exit status.

    0 a clean end · 1 cannot start · 2 usage or configuration, a missing file included · 130, 143 a second signal

The first worker is started before anything else is imported, so that it imports while the configuration is checked.
What runs is described by a file, or by flopsy's flags (config.flopsy). This is the only file that knows both wings, the
data plane's by the name of its module.
"""

import argparse
import functools
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tcp_proxy import __version__
from tcp_proxy.config import flopsy

if TYPE_CHECKING:
    from tcp_proxy.config.model import Config
    from tcp_proxy.control.workers import Spawned

logger = logging.getLogger(__name__)

CANNOT_START, WRONG_CONFIG = 1, 2
DEFAULT = "config.json"


class CannotStart(Exception):
    """One line for the user."""


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status."""
    gc.disable()  # until it serves: what is imported stays, and looking at it again and again is a tenth of the start
    args = _parse(argv)
    if args.imported is not None:
        return _import(args)
    path = args.config or DEFAULT
    load = functools.partial(flopsy.load, flopsy.document(args)) if flopsy.is_used(args) else functools.partial(_read, path)
    if args.check or args.print_config:
        return _check(args, load)
    # Until the supervisor takes the signals over, Ctrl-C ends us silently; a started worker ends with its channel.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from tcp_proxy.control.workers import Spawned, raise_descriptor_limit  # noqa: PLC0415  before the slow imports

    raise_descriptor_limit()
    try:
        spawned = Spawned()
    except OSError as error:
        _complain(f"cannot start: no worker process: {error}")
        return CANNOT_START
    try:
        config = _load(load)
        if config is None:
            return _discarded(spawned, WRONG_CONFIG)
        return _serve(config, load, spawned)
    except CannotStart as error:
        _complain(str(error))
    except OSError as error:
        _complain(f"cannot start: {error}")
    return _discarded(spawned, CANNOT_START)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    args = parser.parse_args(argv)
    if flopsy.is_used(args):
        if args.config is not None:
            parser.error(f"argument {args.config}: not allowed with the flags of a failover without a file")
        lacking = flopsy.missing(args)
        if lacking:
            parser.error(f"the following arguments are required: {lacking}")
    return args


def _parser() -> argparse.ArgumentParser:
    description = "A TCP load balancer and failover proxy that says why each connection ended."
    parser = argparse.ArgumentParser(prog="tcp-proxy", description=description, allow_abbrev=False)
    parser.add_argument("config", nargs="?", help=f"the configuration file (default: {DEFAULT})")
    parser.add_argument("--check", action="store_true", help="check the configuration and exit with 0 or 2")
    parser.add_argument("--version", action="version", version=f"tcp_proxy {__version__}")
    flopsy.add_flags(parser)
    tcpffee = parser.add_argument_group("tcpffee's configuration")
    tcpffee.add_argument(
        "--import", dest="imported", metavar="TOML", nargs="?", const="",
        help="print the configuration that does what this one of tcpffee does, and exit (default: TCPFFEE_CONFIG_PATH)",
    )  # fmt: skip
    tcpffee.add_argument("--key-type", metavar="TYPE", help="for --import: IP or IP_WITH_FIRST_MESSAGE_SLICE")
    tcpffee.add_argument("--slice", nargs=2, metavar=("START", "END"), help="for --import: of the first message, in bytes")
    return parser


def _import(args: argparse.Namespace) -> int:
    """The document goes to stdout, what is to be said of it to stderr."""
    from tcp_proxy.config import tcpffee  # noqa: PLC0415
    from tcp_proxy.config.load import ConfigErrors, load_text  # noqa: PLC0415

    environment = dict(os.environ)
    if args.key_type:
        environment["TCPFFEE_KEY_TYPE"] = args.key_type
    for end, value in zip(("START", "END"), args.slice or (), strict=False):
        environment[f"TCPFFEE_KEY_FIRST_MESSAGE_SLICE_{end}"] = value
    path = args.imported or environment.get("TCPFFEE_CONFIG_PATH") or tcpffee.DEFAULT_PATH
    try:
        document, notes = tcpffee.convert(tcpffee.read(path), environment)
        text = json.dumps(document, indent=2) + "\n"
        load_text(text.encode(), f"{path}, imported")
    except (tcpffee.CannotImport, ConfigErrors) as error:
        _complain(str(error))
        return WRONG_CONFIG
    sys.stdout.write(text)
    _complain("\n".join(notes))
    return 0


def _check(args: argparse.Namespace, load: "Callable[[], Config]") -> int:
    config = _load(load)
    if config is None:
        return WRONG_CONFIG
    if args.print_config:
        sys.stdout.write(json.dumps(flopsy.document(args), indent=2) + "\n")
        return 0
    path = "the command line" if flopsy.is_used(args) else args.config or DEFAULT
    listeners = sum(len(app.listeners) for app in config.apps)
    sys.stdout.write(f"{path}: right, {len(config.apps)} apps on {listeners} listeners\n")
    return 0


def _read(path: str) -> "Config":
    from tcp_proxy.config.load import load_file  # noqa: PLC0415

    return load_file(path)


def _load(load: "Callable[[], Config]") -> "Config | None":
    """The checked configuration; None, and all its errors on stderr."""
    from tcp_proxy.config.load import ConfigErrors  # noqa: PLC0415

    try:
        return load()
    except ConfigErrors as errors:
        _complain(str(errors))
        return None


def _serve(config: "Config", load: "Callable[[], Config]", spawned: "Spawned") -> int:
    from tcp_proxy import log  # noqa: PLC0415
    from tcp_proxy.control.access_log import AccessLog  # noqa: PLC0415
    from tcp_proxy.control.api_socket import ApiSocket  # noqa: PLC0415
    from tcp_proxy.control.pid_file import PidFile, PidFileError  # noqa: PLC0415
    from tcp_proxy.control.sockets import CannotListen, bind_all  # noqa: PLC0415
    from tcp_proxy.control.state import CannotUse, State, StateFile  # noqa: PLC0415
    from tcp_proxy.control.supervisor import Supervisor  # noqa: PLC0415

    log.setup(config.log)
    _require_ping(config)
    pid_file = PidFile(config.pid_file) if config.pid_file else None
    store = State()
    try:
        if pid_file is not None:
            pid_file.acquire()
        if config.state:
            store = StateFile.open(config.state)
        listening = bind_all(config.apps)
        api_socket = ApiSocket(config.api) if config.api is not None else None
        access_log = AccessLog(config.access_log, config.log.format) if config.access_log else None
        if access_log is not None:
            access_log.start()
        supervisor = Supervisor(config, load, listening, access_log, spawned, store, api_socket)
        gc.freeze()
        gc.enable()
        return supervisor.run()
    except (PidFileError, CannotUse, CannotListen) as error:
        raise CannotStart(str(error)) from None
    finally:
        store.close()
        if pid_file is not None:
            pid_file.release()


def _require_ping(config: "Config") -> None:
    if any(check.type == "ping" for check in config.checks):
        from tcp_proxy.control.health.ping import permission_error  # noqa: PLC0415

        error = permission_error()
        if error:
            raise CannotStart(error)


def _complain(text: str) -> None:
    sys.stderr.write("".join(f"{line}\n" for line in text.splitlines()))


def _discarded(spawned: "Spawned", status: int) -> int:
    spawned.discard()
    return status
