"""What would keep a configuration from being started on this machine by this user: looked at by --check, as warnings.

Binds no port of the configuration, makes no file, resolves no name. A start looks again, and refuses by itself; this one
may be asked on another machine, or as another user, than the one that is meant.
"""

import os
import socket
import stat
import sys
from collections.abc import Iterator, Sequence

import tcp_proxy
from tcp_proxy.config.diff import listeners_of
from tcp_proxy.config.model import Config
from tcp_proxy.config.tls_model import files_of
from tcp_proxy.control.health.ping import permission_error
from tcp_proxy.control.listeners import descriptors
from tcp_proxy.runtime import privileges
from tcp_proxy.runtime.privileges import CannotBecome
from tcp_proxy.runtime.source import transparent_fault
from tcp_proxy.sansio.address import ANY, Address
from tcp_proxy.sansio.source import addresses_of
from tcp_proxy.sansio.syslog import is_syslog


def become(config: Config) -> str:
    """The user that the configuration says, if any, from now on; why not, as a clause."""
    if config.user is None:
        return ""
    try:
        privileges.become(privileges.identity(config.user, config.group))
    except CannotBecome as error:
        return f"user: {error}"
    return ""


def program_fault(config: Config) -> str:
    """Whether this user can start workers, which run the same program."""
    for path, right in ((sys.executable, os.X_OK), (tcp_proxy.__file__, os.R_OK)):
        if config.user is not None and not os.access(path, right):
            return f"user: {config.user} has no access to the program itself: {path}"
    return ""


def later_faults(config: Config, read: Sequence[str]) -> list[str]:
    """What was read before the user was another one, and will not be again: one line for each file. `read`: those that the
    configuration stands in."""
    if config.user is None:
        return []
    files = [*read, *_lists(config), *_tls_files(config)]
    return [
        f"{file} cannot be read by user {config.user}: a reload would fail, and what is new in it stay unread"
        for file in dict.fromkeys(filter(None, files))
        if _is_denied(file)
    ]


def _is_denied(file: str) -> bool:
    """A folder that may not be looked into hides whether there is a file."""
    try:
        os.stat(file)
    except PermissionError:
        return True
    except OSError:
        return False
    return not os.access(file, os.R_OK)


def _lists(config: Config) -> Iterator[str]:
    for app in config.apps:
        if app.access is not None:
            yield from (one.entry[1:] for one in app.access.entries if one.entry.startswith("@"))


def _tls_files(config: Config) -> Iterator[str]:
    for app in config.apps:
        for way in (app.tls, *dict.fromkeys(target.tls for target in app.targets)):
            if way is not None:
                yield from files_of(way)


def start_faults(config: Config) -> list[str]:
    """One line for each."""
    return [
        *_files(config), *_addresses(config), *_ports(config), *_targets(config), *_sources(config), *_process(config),
    ]  # fmt: skip


def _files(config: Config) -> Iterator[str]:
    logs = [("access_log", path) for path in config.access_logs.files if path != "-" and not is_syslog(path)]
    for key, path in (("pid_file", config.pid_file), ("state", config.state), *logs):
        if path:
            yield from _file(key, path)
    if config.api is not None and config.api.listen.path:
        yield from _file("api.listen", config.api.listen.path)


def _file(key: str, path: str) -> Iterator[str]:
    folder = os.path.dirname(path) or "."
    if os.path.isdir(path):
        yield f"{key}: {path} is a folder"
    elif not os.path.isdir(folder):
        yield f"{key}: {path} cannot be made: there is no folder {folder}"
    elif not os.access(path if os.path.exists(path) and key != "api.listen" else folder, os.W_OK):
        yield f"{key}: {path} cannot be written by this user"


def _addresses(config: Config) -> Iterator[str]:
    hosts = {listener.host for app in config.apps for listener in app.listeners}
    if config.api is not None and config.api.listen.host:
        hosts.add(config.api.listen.host)
    for host in sorted(hosts - {ANY}):
        fault = _bind_fault(host)
        if fault:
            yield f"{host} cannot be listened on: {fault}"


def _bind_fault(host: str) -> str:
    """Of an address, on a port that the kernel chooses and that nobody listens on."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
            sock.bind((host, 0))
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _ports(config: Config) -> Iterator[str]:
    """Those that need a privilege."""
    first = _number("/proc/sys/net/ipv4/ip_unprivileged_port_start", 10, "")
    if _number("/proc/self/status", 16, "CapEff:") >> privileges.NET_BIND_SERVICE & 1:
        return
    ports = sorted({listener.port for listener in listeners_of(config) if listener.port < first})
    if ports:
        which = f"port {ports[0]}" if len(ports) == 1 else f"ports {ports[0]} to {ports[-1]}"
        yield f"{which}: this user may not listen below {first} (see CAP_NET_BIND_SERVICE, ip_unprivileged_port_start)"


def _number(path: str, base: int, mark: str) -> int:
    """What stands behind the mark, at the beginning of a line; 0 if nothing does."""
    try:
        with open(path) as file:
            return next((int(line.removeprefix(mark), base) for line in file if line.startswith(mark)), 0)
    except (OSError, ValueError):
        return 0


def _targets(config: Config) -> Iterator[str]:
    for app in config.apps:
        for target in app.targets:
            for server in target.servers:
                fault = _target_fault(server)
                if fault:
                    yield f"app {app.name}: target {target.name}: {fault}"


def _target_fault(server: Address) -> str:
    """What is seen without connecting."""
    _, percent, interface = server.host.partition("%")
    if percent and interface not in {name for _, name in socket.if_nameindex()}:
        return f"this machine has no interface {interface}"
    try:
        is_socket = not server.path or stat.S_ISSOCK(os.stat(server.path).st_mode)
    except OSError:
        return ""  # it may come
    return "" if is_socket else f"{server.path} is no socket"


def _sources(config: Config) -> Iterator[str]:
    """From where connects are to come."""
    known = {name for _, name in socket.if_nameindex()}
    for source in dict.fromkeys(source for app in config.apps for source in app.sources):
        for address in (found for entry in source.addresses for found in addresses_of(entry)):
            fault = _bind_fault(address)
            if fault:
                yield f"source: {address} cannot be connected from: {fault}"
                break
        if source.interface and source.interface not in known:
            yield f"source: this machine has no interface {source.interface}"
    if config.is_transparent and (fault := transparent_fault()):
        yield fault


def _process(config: Config) -> Iterator[str]:
    error = permission_error() if any(check.type == "ping" for check in config.checks) else None
    if error:
        yield error
    try:
        descriptors.require(config)
    except descriptors.TooFewDescriptors as few:
        yield str(few)
