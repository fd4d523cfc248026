"""The command line: a configuration file becomes a running supervisor, or one clear line and an exit status.

    0 a clean end · 1 cannot start · 2 usage or configuration, a missing file included · 130, 143 a second signal

The first worker is started before anything else is imported, so that it imports while the configuration is checked.
What runs is described by a file, or by flopsy's flags (config.flopsy). This is the only file that knows both control
and dataplane, the latter by the name of its module.
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
from typing import TYPE_CHECKING, Any

from tcp_proxy import __version__, build
from tcp_proxy.config import flopsy
from tcp_proxy.config.last_file import LastFile
from tcp_proxy.runtime import completion

if TYPE_CHECKING:
    from tcp_proxy.config.log_model import AccessLogs
    from tcp_proxy.config.model import Config
    from tcp_proxy.control.access_log.writer import AccessLog
    from tcp_proxy.control.listeners.sockets import Listening
    from tcp_proxy.control.processes.spawned import Spawned
    from tcp_proxy.control.store.state import State
    from tcp_proxy.control.takeover.taken import Taken

logger = logging.getLogger(__name__)

CANNOT_START, WRONG_CONFIG = 1, 2
DEFAULT = "config.json"
UPGRADE = "TCP_PROXY_UPGRADE_REPORT"  # set by a program that has started this one to be taken over from
GROUP = "with a server at the same port for each that is listened on"
_CHECK = "{0}: a configuration is checked by --check FILE"
_FILE = "{0}: a configuration is named without a flag: tcp-proxy FILE"
OTHER_FLAGS = {  # what HAProxy, nginx, Envoy and Traefik have
    **dict.fromkeys(("-t", "-T", "--test", "--validate", "--mode"), _CHECK),
    **dict.fromkeys(("--config", "--config-file", "--configFile", "--configfile", "--config-path", "-conf"), _FILE),
    **dict.fromkeys(("-v", "-vv", "-V"), "{0}: the version is said by --version"),
    **dict.fromkeys(("-d", "-D", "--daemon"), "{0}: it stays in the foreground; systemd or a container starts it"),
}
API_NEEDS = ("fastapi", "uvicorn", "pydantic", "h11", "prometheus_client", "swagger_ui_bundle")
NO_FILE = f"{DEFAULT}: there is no such file; --init writes one to begin with, and tcp-proxy FILE runs another one"
NO_PROC = "/proc is not mounted, and descriptors and processes are counted there: mount -t proc proc /proc"


class CannotStart(Exception):
    """One line for the user."""


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status."""
    gc.disable()  # until it serves: what is imported stays, and looking at it again and again is a tenth of the start
    args = _parse(argv)
    if args.imported is not None:
        return _import(args)
    if args.init:
        return _init(args.config or DEFAULT)
    path = _path(args)
    if not flopsy.is_used(args) and path == DEFAULT and not os.path.lexists(path):
        _complain(NO_FILE)
        return WRONG_CONFIG
    last = LastFile()
    load = functools.partial(_read, path, last, _complain)
    again = functools.partial(_read, path, last, logger.warning)
    if flopsy.is_used(args):
        load = again = functools.partial(flopsy.load, flopsy.document(args))
    if args.check or args.print_config:
        return _check(args, load, last)
    if not os.path.isdir("/proc/self/fd"):
        _complain(f"cannot start: {NO_PROC}")
        return CANNOT_START
    # Until the supervisor takes the signals over, Ctrl-C ends us silently; a started worker ends with its channel.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from tcp_proxy.control.processes.spawned import Spawned, raise_descriptor_limit  # noqa: PLC0415  before the slow imports

    raise_descriptor_limit()
    try:
        spawned = Spawned()
    except OSError as error:
        _complain(f"cannot start: no worker process: {error}")
        return CANNOT_START
    try:
        config = _load(load, path)
        if config is None:
            return _discarded(spawned, WRONG_CONFIG)
        if config.user is not None:
            spawned = _become(config, spawned)
        return _serve(config, again, spawned, (path, *last.files), is_takeover=args.takeover)
    except CannotStart as error:
        _complain(str(error))
    except OSError as error:
        _complain(f"cannot start: {error}")
    return _discarded(spawned, CANNOT_START)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser()
    if completion.is_asked():
        raise SystemExit(completion.answer(parser))
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        flag = unknown[0].partition("=")[0]
        parser.error(OTHER_FLAGS.get(flag, f"unrecognized arguments: {' '.join(unknown)}").format(flag))
    if args.init and (args.check or args.imported is not None or flopsy.is_used(args)):
        parser.error("argument --init: allowed with the name of a file alone")
    if flopsy.is_used(args):
        flopsy.refuse_file(args, parser.error)
        if args.config is not None:
            parser.error(f"argument {args.config}: not allowed with the flags of a failover without a file")
        lacking = flopsy.missing(args)
        if lacking:
            parser.error(f"the following arguments are required: {lacking}")
    return args


def make_parser() -> argparse.ArgumentParser:
    description = "A TCP load balancer and failover proxy that says why each connection ended."
    parser = argparse.ArgumentParser(prog="tcp-proxy", description=description, allow_abbrev=False)
    parser.add_argument("config", nargs="?", help=f"the configuration file, or tcpffee's .toml (default: {DEFAULT})")
    parser.add_argument("--check", action="store_true", help="check the configuration and exit with 0 or 2")
    parser.add_argument(
        "--takeover", action="store_true", help="take the place of the tcp-proxy that runs with this configuration"
    )
    parser.add_argument("--init", action="store_true", help="write an example of a configuration, if there is no such file")
    parser.add_argument("--version", action="version", version=f"tcp_proxy {__version__} ({build()})")
    flopsy.add_flags(parser)
    others = parser.add_argument_group("other programs' configurations")
    others.add_argument(
        "--import", dest="imported", metavar="OTHER", nargs="?", const="",
        help="print the configuration that does what this haproxy.cfg, or this TOML of tcpffee, does, and exit"
        " (default: TCPFFEE_CONFIG_PATH)",
    )  # fmt: skip
    others.add_argument("--key-type", metavar="TYPE", help="for tcpffee's: IP or IP_WITH_FIRST_MESSAGE_SLICE")
    others.add_argument("--slice", nargs=2, metavar=("START", "END"), help="for tcpffee's: of the first message, in bytes")
    return parser


def _init(path: str) -> int:
    from tcp_proxy.config import example  # noqa: PLC0415

    try:
        sys.stdout.write(example.write(path, api=not _lacking_for_api()))
    except example.CannotWrite as error:
        _complain(str(error))
        return WRONG_CONFIG
    return 0


def _import(args: argparse.Namespace) -> int:
    """The document goes to stdout, what is to be said of it to stderr."""
    from tcp_proxy.config import tcpffee  # noqa: PLC0415
    from tcp_proxy.config.imports import imported  # noqa: PLC0415
    from tcp_proxy.config.report import CannotImport, ConfigErrors  # noqa: PLC0415

    environment = dict(os.environ)
    if args.key_type:
        environment["TCPFFEE_KEY_TYPE"] = args.key_type
    for end, value in zip(("START", "END"), args.slice or (), strict=False):
        environment[f"TCPFFEE_KEY_FIRST_MESSAGE_SLICE_{end}"] = value
    path = args.imported or environment.get("TCPFFEE_CONFIG_PATH") or tcpffee.DEFAULT_PATH
    try:
        text, notes = imported(path, environment)
    except (CannotImport, ConfigErrors) as error:
        _complain(str(error))
        return WRONG_CONFIG
    sys.stdout.write(text)
    _complain("\n".join(notes))
    return 0


def _check(args: argparse.Namespace, load: "Callable[[], Config]", last: LastFile) -> int:
    path = "the command line" if flopsy.is_used(args) else _path(args)
    config = _load(load, path)
    if config is None:
        return WRONG_CONFIG
    if args.print_config:
        sys.stdout.write(json.dumps(flopsy.document(args), indent=2) + "\n")
        return 0
    from tcp_proxy.config.access import doubts  # noqa: PLC0415
    from tcp_proxy.config.impossible import impossible_hosts  # noqa: PLC0415
    from tcp_proxy.config.model import NO_TARGETS  # noqa: PLC0415
    from tcp_proxy.config.proxyproto import long_headers  # noqa: PLC0415
    from tcp_proxy.control.processes.spawned import raise_descriptor_limit  # noqa: PLC0415
    from tcp_proxy.control.start_check import become, later_faults, program_fault, start_faults  # noqa: PLC0415
    from tcp_proxy.control.tls.expiry import warnings  # noqa: PLC0415
    from tcp_proxy.sansio.words import counted  # noqa: PLC0415

    for app in config.apps:
        if not (app.targets or app.discoveries):
            _complain(f"{path}: app {app.name} {NO_TARGETS}")
    raise_descriptor_limit()
    # What follows is looked at as the user that it is to be, if this one may become that.
    as_user = [fault for fault in (become(config) or program_fault(config),) if fault]
    doubtful = (*impossible_hosts(config), *long_headers(config), *doubts(config), *as_user)
    later = later_faults(config, (path, *last.files))
    for warning in (*doubtful, *start_faults(config), *later, *warnings(config)):
        _complain(f"{path}: {warning}")
    fault = _token_fault(config)
    if fault:
        _complain(f"{path}: $.api.token_file: {fault}")
        return WRONG_CONFIG
    listeners = sum(len(app.listeners) for app in config.apps)
    sys.stdout.write(f"{path}: right, {counted(len(config.apps), 'app')} on {counted(listeners, 'listener')}\n")
    for app in config.apps:
        for target in app.targets:
            if not target.address.port and not target.address.path and not target.ports:
                sys.stdout.write(f"app {app.name}: target {target.name} has no port: it is a group, {GROUP}\n")
    return 0


def _api_faults(config: "Config") -> list[str]:
    lacking = _lacking_for_api() if config.api is not None else []
    return [f"$.api: the management API needs {', '.join(lacking)}: pip install tcp_proxy brings them"] if lacking else []


def _cluster_faults(config: "Config") -> list[str]:
    from importlib.util import find_spec  # noqa: PLC0415

    cluster = config.cluster
    if cluster is None:
        return []
    if find_spec("aiohttp") is None:
        return ["$.cluster: it needs aiohttp: pip install 'tcp_proxy[cluster]' brings it"]
    from tcp_proxy.control.cluster_agent.credentials import Unusable, password, tls_context  # noqa: PLC0415

    try:
        password(cluster.password_file)
        if cluster.ca or cluster.certificate[0]:
            tls_context(cluster.ca, *cluster.certificate)
    except Unusable as error:
        return [f"$.cluster: {error}"]
    return []


def _lacking_for_api() -> list[str]:
    """A distribution may not have them."""
    from importlib.util import find_spec  # noqa: PLC0415

    return [name for name in API_NEEDS if find_spec(name) is None]


def _token_fault(config: "Config") -> str:
    """What is wrong with the file of the API's token; "" for nothing."""
    from tcp_proxy.control.api.token_file import read_token  # noqa: PLC0415

    try:
        if config.api is not None and config.api.token_file is not None:
            read_token(config.api.token_file)
    except ValueError as error:
        return str(error)
    return ""


def _path(args: argparse.Namespace) -> str:
    """Where the configuration is; tcpffee's variable says it for those who start this program as they started that."""
    return args.config or os.environ.get("TCPFFEE_CONFIG_PATH") or DEFAULT


def _read(path: str, last: LastFile, say: "Callable[[str], Any]") -> "Config":
    """A file of ours, or of tcpffee's, of which there is something to be said."""
    if path.endswith(".toml"):
        from tcp_proxy.config import tcpffee  # noqa: PLC0415

        return tcpffee.load(path, os.environ, say)
    from tcp_proxy.config.load import load_file  # noqa: PLC0415

    return load_file(path, last)


def _load(load: "Callable[[], Config]", path: str) -> "Config | None":
    """The checked configuration; None, and all its errors on stderr."""
    from tcp_proxy.config.load import ConfigErrors  # noqa: PLC0415
    from tcp_proxy.control.tls.trial import faults  # noqa: PLC0415
    from tcp_proxy.control.tracing.requirements import tracing_faults  # noqa: PLC0415

    try:
        config = load()
    except ConfigErrors as errors:
        _complain(str(errors))
        return None
    found = [*faults(config), *_api_faults(config), *_cluster_faults(config), *tracing_faults(config.tracing)]
    _complain("\n".join(f"{path}: {fault}" for fault in found))
    return None if found else config


def _become(config: "Config", spawned: "Spawned") -> "Spawned":
    """The user of the configuration; and a worker of that user's for the one that was started by root, who alone may end
    that one."""
    from tcp_proxy.control.processes.spawned import Spawned  # noqa: PLC0415
    from tcp_proxy.control.start_check import become, program_fault  # noqa: PLC0415

    was_root = os.geteuid() == 0
    if was_root:
        spawned.discard()
    fault = become(config) or program_fault(config)
    if fault:
        raise CannotStart(f"cannot start: {fault}")
    return Spawned() if was_root else spawned


def _serve(
    config: "Config", load: "Callable[[], Config]", spawned: "Spawned", files: Sequence[str], *, is_takeover: bool = False
) -> int:
    from tcp_proxy.control.listeners import descriptors  # noqa: PLC0415
    from tcp_proxy.control.listeners.activation import CannotTake  # noqa: PLC0415
    from tcp_proxy.control.listeners.api_socket import ApiSocket  # noqa: PLC0415
    from tcp_proxy.control.listeners.sockets import CannotListen  # noqa: PLC0415
    from tcp_proxy.control.processes.pid_file import PidFile, PidFileError  # noqa: PLC0415
    from tcp_proxy.control.start_check import later_faults  # noqa: PLC0415
    from tcp_proxy.control.store.state import CannotUse, State, StateFile  # noqa: PLC0415
    from tcp_proxy.control.supervisor import Supervisor  # noqa: PLC0415
    from tcp_proxy.control.takeover.listener import CannotTakeOver  # noqa: PLC0415
    from tcp_proxy.runtime import log  # noqa: PLC0415

    log.setup(config.log)
    for warning in later_faults(config, files):
        logger.warning("%s", warning)
    _require_rights(config)
    descriptors.require(config)
    pid_file = PidFile(config.pid_file) if config.pid_file else None
    store = State()
    try:
        taken = _take_over(config) if is_takeover else None
        if pid_file is not None and not (taken is not None and taken.lends_pid_file(pid_file.path)):
            pid_file.acquire()
        if taken is not None:
            store = taken.store(config.state)
        elif config.state:
            store = StateFile.open(config.state)
        if config.state or taken is not None:
            _require_saved(config, store)
        listening, unusable = _listening(config, taken)
        make_socket = ApiSocket if taken is None else taken.api_socket
        api_socket = make_socket(config.api) if config.api is not None else None
        access_log = _open_access_log(config.access_logs, config.tracing is not None) if config.access_logs.paths else None
        supervisor = Supervisor(config, load, listening, access_log, spawned, store, api_socket, pid_file, taken, unusable)
        gc.freeze()
        gc.enable()
        return supervisor.run()
    except (PidFileError, CannotUse, CannotListen, CannotTake, CannotTakeOver) as error:
        raise CannotStart(str(error)) from None
    finally:
        store.close()
        if pid_file is not None:
            pid_file.release()


def _listening(config: "Config", taken: "Taken | None") -> "tuple[list[Listening], set[str]]":
    """With the names of what a service manager has kept and nobody wants."""
    from tcp_proxy.control.listeners.activation import Activation  # noqa: PLC0415
    from tcp_proxy.control.listeners.sockets import bind_all  # noqa: PLC0415

    if taken is not None:
        return taken.listening(config), taken.unusable
    activation = Activation(os.environ)
    activation.require(config.apps)
    return bind_all(config.apps, activation), activation.unusable


def _take_over(config: "Config") -> "Taken | None":
    """What the running program has told; None: it has died meanwhile, and this one starts as if there had been none."""
    from tcp_proxy.control.takeover.listener import path_of  # noqa: PLC0415
    from tcp_proxy.control.takeover.succession import Orphaned, Succession  # noqa: PLC0415
    from tcp_proxy.control.takeover.taken import Taken  # noqa: PLC0415

    if not path_of(config):
        raise CannotStart("cannot take over: the configuration has neither pid_file nor state, beside which programs meet")
    succession = Succession(path_of(config))
    try:
        succession.greet()
        succession.ask_state()
    except Orphaned:
        succession.close()
        logger.warning("process %d has ended before it could be taken over from", succession.pid)
        return None
    return Taken(succession)


def _open_access_log(logs: "AccessLogs", is_traced: bool) -> "AccessLog":
    from tcp_proxy.control.access_log.writer import AccessLog  # noqa: PLC0415
    from tcp_proxy.control.tracing.output import TraceOutput  # noqa: PLC0415

    try:
        access_log = AccessLog(logs, TraceOutput() if is_traced else None)
        access_log.start()
    except OSError as error:
        raise CannotStart(f"cannot start: {error}") from None
    return access_log


def _require_saved(config: "Config", store: "State") -> None:
    """What was said at run time is judged with the file, as at a reload."""
    from tcp_proxy.config.together import contradiction  # noqa: PLC0415
    from tcp_proxy.control.changes.saved_overrides import saved_beside  # noqa: PLC0415
    from tcp_proxy.control.listeners import descriptors  # noqa: PLC0415

    together = saved_beside(store, config).apply()
    if together == config:
        return
    try:
        fault = contradiction(together)
        if fault:
            raise CannotStart(fault)
        _require_ping(together)
        descriptors.require(together)
    except (CannotStart, descriptors.TooFewDescriptors) as error:
        text = "what was said of targets at run time does not go with the configuration: "
        raise CannotStart(f"cannot start with the state in {config.state}: {text}{error}") from None


def _require_ping(config: "Config") -> None:
    if any(check.type == "ping" for check in config.checks):
        from tcp_proxy.control.health.ping import permission_error  # noqa: PLC0415

        error = permission_error()
        if error:
            raise CannotStart(error)


def _require_rights(config: "Config") -> None:
    _require_ping(config)
    if config.is_transparent:
        from tcp_proxy.runtime.source import transparent_fault  # noqa: PLC0415

        if fault := transparent_fault():
            raise CannotStart(f"cannot start: {fault}")


def _complain(text: str) -> None:
    sys.stderr.write("".join(f"{line}\n" for line in text.splitlines()))
    if UPGRADE in os.environ and text:
        from tcp_proxy.control.takeover import report  # noqa: PLC0415

        report.say(text)


def _discarded(spawned: "Spawned", status: int) -> int:
    spawned.discard()
    return status
