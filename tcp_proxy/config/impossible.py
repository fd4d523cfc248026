"""What a configuration names and cannot be, found without asking anybody: hosts that no resolver can know and no connect
can reach.

Pure. Said by --check, as warnings: a target's host that cannot be written is an error already (sansio.address); the rest
is somebody else's to judge, a resolver of a network of its own for one.
"""

from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from tcp_proxy.config.model import App, Check, Config
from tcp_proxy.config.positions import shown
from tcp_proxy.sansio.address import name_fault, place_fault


def impossible_hosts(config: Config) -> list[str]:
    """One line for each."""
    said = [line for app in config.apps for line in _of_app(app)]
    hosts = config.api.hosts if config.api is not None else ()
    said += _named("api.hosts:", ((host, host) for host in hosts))
    return list(dict.fromkeys(said))


def _of_app(app: App) -> Iterator[str]:
    for target in app.targets:
        for host in sorted(target.hosts):
            fault = place_fault(host)
            if fault:
                yield f"app {app.name}: target {target.name}: {fault}"
    routes = app.http.routes if app.http is not None else ()
    yield from _named(f"app {app.name}: a route's host", ((route.host, route.host.removeprefix("*.")) for route in routes))
    for whose, checks in ((app.name, app.health), *((f"{app.name}: target {one.name}", one.health) for one in app.targets)):
        yield from _named(f"app {whose}: a check's Host", _hosts_of(checks or ()))


def _hosts_of(checks: Iterable[Check]) -> Iterator[tuple[str, str]]:
    """As written, and without the port."""
    for check in checks:
        for name, value in check.headers:
            if name.lower() == "host":
                yield value, value.rpartition(":")[0] if value.rpartition(":")[2].isdecimal() else value


def _named(whose: str, hosts: Iterable[tuple[str, str]]) -> Iterator[str]:
    for written, host in hosts:
        fault = name_fault(host) if host and not _is_address(host) else ""
        if fault:
            yield f"{whose} {shown(written)} is {fault}"


def _is_address(host: str) -> bool:
    """Any IP literal: who asks by it says it so."""
    try:
        ip_address(host[1:-1] if host.startswith("[") and host.endswith("]") else host)
    except ValueError:
        return False
    return True
