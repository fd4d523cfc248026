"""What targets that were said at run time may contradict in another file than the one they were held against.

Pure. The file alone was judged when it was read (config.build), and a target when it came; here is what takes both, for
a reload and for a start with a state file.
"""

from tcp_proxy.config.loops import find_loop, leads_to_others
from tcp_proxy.config.model import App, Config, Target
from tcp_proxy.sansio.address import leads_to


def contradiction(config: Config, running: Config | None = None) -> str:
    """The first one as one line; "" if there is none. The very apps that are `running` have been judged."""
    judged = {id(app) for app in running.apps} if running is not None else ()
    for app in config.apps:
        if id(app) in judged:
            continue
        ports = _ports(app)
        for target in app.targets:
            fault = _fault(app, ports, target)
            if fault:
                return f"app {app.name}: target {target.name}: {fault}"
    return _loop(config)


def contradiction_of(config: Config, app: App, target: Target) -> str:
    """The same, where only this target, of this app, is another one than before."""
    fault = _fault(app, _ports(app), target)
    if fault:
        return f"app {app.name}: target {target.name}: {fault}"
    return _loop(config) if leads_to_others(config.apps, app, target) else ""


def _loop(config: Config) -> str:
    loop = find_loop(config.apps)
    if loop:
        way = " -> ".join(config.apps[number].name for number in (*loop, loop[0]))
        return f"apps lead to each other: {way}; every session could go round and round"
    return ""


def _ports(app: App) -> set[int]:
    return {listener.port for listener in app.listeners}


def _fault(app: App, ports: set[int], target: Target) -> str:
    if app.has_primary and target.is_group:
        return 'it is a group; with "balance": "failover" a target is one server'
    lacking = ports - {port for port, _ in target.ports} if target.ports else set()
    if lacking:
        return f"it has no server for the port {min(lacking)}, on which the app listens"
    for server in target.servers:
        for port in (server.port,) if server.port else ports:
            if port in ports and any(leads_to(server.host, port, listener) for listener in app.listeners):
                return f"{server} leads to the app's own listener"
    for check in app.health if target.health is None else target.health:
        if any(server.path for server in target.servers) and (check.type == "ping" or check.port is not None):
            return "it is a UNIX socket, which has no host and no port to be checked"
    return ""
