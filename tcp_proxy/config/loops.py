"""Apps of one configuration that lead to each other: a client would go round and round until no descriptor is left.

Pure; a part of config.build. An app leads to another one when one of its targets certainly is that app's listener
(sansio.address.leads_to): names, and addresses of this machine behind a listener on all of them, are not known here. A loop
of one app is found where its targets are read.
"""

import dataclasses
from collections.abc import Iterator, Sequence

from tcp_proxy.config.model import App, Target
from tcp_proxy.sansio.address import ListenAddress, leads_to

Ports = dict[int, list[tuple[int, ListenAddress]]]


def find_loop(apps: Sequence[App]) -> tuple[int, ...]:
    """The apps of one loop by their places, each leading to the next and the last to the first; () if there is none."""
    ports = _ports(apps)
    left: dict[int, Iterator[int]] = {}  # by app: where it leads and nobody has looked yet; in the order of the way here
    seen: set[int] = set()
    for start in range(len(apps)):
        todo = [] if start in seen else [start]
        while todo:
            number = todo[-1]
            if number not in left:
                seen.add(number)
                left[number] = iter(sorted(_leads_to(number, apps, ports)))
            after = next(left[number], None)
            if after is None:
                del left[todo.pop()]
            elif after in left:
                return tuple(todo[todo.index(after) :])
            elif after not in seen:
                todo.append(after)
    return ()


def leads_to_others(apps: Sequence[App], app: App, target: Target) -> bool:
    """Whether this target, which may be one of the app, leads to another app."""
    number = next(number for number, other in enumerate(apps) if other is app)
    alone = [*apps]
    alone[number] = dataclasses.replace(app, targets=(target,))
    return bool(_leads_to(number, alone, _ports(apps)))


def _ports(apps: Sequence[App]) -> Ports:
    ports: Ports = {}
    for number, app in enumerate(apps):
        for listener in app.listeners:
            ports.setdefault(listener.port, []).append((number, listener))
    return ports


def _leads_to(number: int, apps: Sequence[App], ports: Ports) -> set[int]:
    app, found = apps[number], set()
    shared = [port for port in {listener.port for listener in app.listeners} if len(ports[port]) > 1]
    for target in app.targets:
        if target.address.port and target.address.port not in ports and not target.ports:
            continue  # nearly all, and there may be 20,000
        for server in target.servers:
            for port in (server.port,) if server.port else shared:
                others = ports.get(port, ())
                found |= {other for other, listener in others if other != number and leads_to(server.host, port, listener)}
    return found
