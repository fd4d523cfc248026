"""A haproxy.cfg becomes a configuration of ours that does the same, and a list of what has no counterpart, by line.

Pure. Each frontend and listen is an app, or several where its binds differ; the servers of every backend that
it may use are the app's targets, and its use_backend lines routes to them. Nothing is dropped in silence: a line is either
in the document, or in the notes, or says what is done here anyway (proxy.USUAL).
"""

import json
from collections import Counter
from typing import Any

from tcp_proxy.config.haproxy import balance, bind, cookie, proxy, server
from tcp_proxy.config.haproxy.proxy import ELSEWHERE, Proxy
from tcp_proxy.config.haproxy.routes import routes
from tcp_proxy.config.haproxy.server import Server
from tcp_proxy.config.haproxy.text import Line, Section, seconds, sections, short
from tcp_proxy.config.report import CannotImport

Plain = dict[str, Any]

QUEUE = 10_000  # clients; there is no end of HAProxy's


def convert(text: str) -> tuple[Plain, list[str]]:
    """The document, and what is to be said of it, in the order of the file. Raises CannotImport."""
    document = _Document()
    for section in sections(text):
        document.add(section)
    return document.finished(), document.notes()


class _Document:
    def __init__(self) -> None:
        self._notes: dict[tuple[int, str], str] = {}
        self._top: Plain = {}
        self._defaults: dict[str, Proxy] = {}
        self._base = Proxy(Line(0, ()))
        self._frontends: list[Proxy] = []
        self._backends: dict[str, Proxy] = {}
        self._used: set[str] = set()

    def notes(self) -> list[str]:
        return [text for _, text in sorted(self._notes.items())]

    def note(self, line: Line, why: str) -> None:
        self._notes[line.number, why] = f"line {line.number}: {line}: {why}"

    def add(self, section: Section) -> None:
        words = section.head.words
        if section.kind == "global":
            for line in section.lines:
                self._global(line)
        elif section.kind == "defaults":
            base = self._base_of(section.head) if "from" in words else Proxy(section.head)
            self._base = proxy.read(section, base, self.note)
            self._defaults[section.name] = self._base
        elif section.kind in ("frontend", "listen", "backend"):
            if not section.name:
                raise CannotImport(f"line {section.head.number}: {section.kind}: wanted a name")
            one = proxy.read(section, self._base_of(section.head), self.note)
            if section.kind != "backend":
                self._frontends.append(one)
            if section.kind != "frontend":
                self._backends[section.name] = one
        else:
            self.note(section.head, f"this section has {ELSEWHERE}, with its lines")

    def _base_of(self, head: Line) -> Proxy:
        words = head.words
        name = words[words.index("from") + 1] if "from" in words[:-1] else None
        if name is not None and name not in self._defaults:
            raise CannotImport(f"line {head.number}: there is no section defaults {name}")
        return self._base if name is None else self._defaults[name]

    def _global(self, line: Line) -> None:
        name, value = line.words[0], line.words[1] if len(line.words) > 1 else ""
        if name == "nbthread" and value.isdecimal():
            self._top["workers"] = int(value)
        elif name in ("user", "group") and value:
            self._top[name] = value
        elif name == "pidfile" and value:
            self._top["pid_file"] = value
        elif name == "log" and value and "access_log" not in self._top:
            self._log(line, value)
        elif name == "stats":
            self.note(line, "statistics are the management API's business: see the key api")
        elif name == "daemon":
            self.note(line, "the program stays in the foreground: systemd or a container starts it")
        elif name == "maxconn":
            self.note(line, "there is no limit of all apps together: see limits.sessions of each")
        else:
            self.note(line, ELSEWHERE)

    def _log(self, line: Line, value: str) -> None:
        self._top["access_log"] = proxy.log_place(value)
        self.note(line, proxy.LOGGED)

    # -- apps

    def finished(self) -> Plain:
        apps = [app for frontend in self._frontends for app in self._apps(frontend)]
        if not apps:
            raise CannotImport("there is no frontend and no listen with a bind: nothing to listen on")
        for name, backend in self._backends.items():
            if backend.kind == "backend" and name not in self._used:
                self.note(backend.head, "nobody uses this backend, left out")
        return {**self._top, "apps": apps}

    def _apps(self, frontend: Proxy) -> list[Plain]:
        where = bind.listeners(frontend.binds, self.note)
        if not where:
            self.note(frontend.head, "it has no bind, left out")
            return []
        app = self._app(frontend)
        return [{"name": f"{frontend.name}-{n}" if n > 1 else frontend.name, **one, **app} for n, one in enumerate(where, 1)]

    def _app(self, frontend: Proxy) -> Plain:
        """All of it but where it listens."""
        chosen = [(way, self._backend(name, line), line) for way, name, line in routes(frontend, self.note)]
        default = self._default(frontend)
        backends = {id(one): one for one in (default, *(one for _, one, _ in chosen)) if one is not None}
        servers = {key: self._servers(one) for key, one in backends.items()}
        self._name(list(backends.values()), servers)
        app: Plain = {"mode": frontend.mode} if frontend.mode == "http" else {}
        targets = [found for key in backends for found in servers[key]]
        app["targets"] = [found.target for found in targets]
        ways = [{**way, "targets": _names(servers[id(one)])} for way, one, _ in chosen if one and servers[id(one)]]
        if ways:
            app["routes"] = ways
            if default is not None and servers[id(default)]:
                app["routes"] = [*ways, {"targets": _names(servers[id(default)])}]
        main = default or next(iter(backends.values()), frontend)
        self._say_balance(app, main, list(backends.values()))
        _put_health(app, targets)
        self._say_rest(app, frontend, main, targets)
        return app

    def _backend(self, name: str, line: Line) -> Proxy | None:
        self._used.add(name)
        if name not in self._backends:
            self.note(line, f"there is no backend {name}, left out")
        return self._backends.get(name)

    def _default(self, frontend: Proxy) -> Proxy | None:
        if frontend.default_backend is not None:
            return self._backend(frontend.default_backend.words[1], frontend.default_backend)
        return frontend if frontend.kind == "listen" and frontend.servers else None

    def _servers(self, backend: Proxy) -> list[Server]:
        found = [server.read(backend, line, self.note) for line in backend.servers]
        return [one for one in found if one is not None]

    def _name(self, backends: list[Proxy], servers: dict[int, list[Server]]) -> None:
        """Servers of several backends may have one name; no two targets of an app have."""
        counts = Counter(found.name for some in servers.values() for found in some)
        for backend in backends:
            for found in servers[id(backend)]:
                if counts[found.name] > 1:
                    found.target["name"] = f"{backend.name}-{found.name}"

    def _say_balance(self, app: Plain, main: Proxy, backends: list[Proxy]) -> None:
        app |= balance.policy(main, self.note) or {"balance": "round_robin"}
        for backend in backends:
            found = balance.policy(backend, self.note)
            if backend.balance is not None and found is None:
                self.note(backend.balance, "this policy has no counterpart; round_robin is taken")
            elif found is not None and backend is not main and any(app.get(key) != value for key, value in found.items()):
                self.note(backend.balance or backend.head, f"an app has one policy: {main.name}'s")

    def _say_rest(self, app: Plain, frontend: Proxy, main: Proxy, targets: list[Server]) -> None:
        app["retries"] = main.retries
        app["timeouts"] = self._timeouts(frontend, main)
        limits: Plain = {}
        if frontend.maxconn:
            limits["sessions"] = frontend.maxconn
        if any("max_connections" in found.target for found in targets) or frontend.maxconn:
            limits["queue"] = QUEUE
            wait = main.timeouts.get("queue", main.timeouts.get("connect"))
            limits |= {"queue_timeout": short(wait)} if wait else {}
        if limits:
            app["limits"] = limits
        if main.source:
            app |= proxy.source_keys(main.source, main.head, self.note)
        if frontend.access_log is not None:
            app["access_log"] = frontend.access_log
        if main.closes and frontend.mode == "http":
            app["upstream_connections"] = 0
        slow = max((seconds(found.words.get("slowstart", "")) or 0.0 for found in targets), default=0.0)
        if slow:
            app["slow_start"] = short(slow)
        if any(found.words.get("on-marked-down") == "shutdown-sessions" for found in targets):
            app["on_down"] = "close"
        self._say_sticky(app, frontend, main)

    def _say_sticky(self, app: Plain, frontend: Proxy, main: Proxy) -> None:
        if main.cookie is not None and frontend.mode == "http":
            found = cookie.sticky(main.cookie, self.note)
            app |= {"sticky": found} if found is not None else {}
        if main.stick_on is None:
            if main.stick_table is not None:
                self.note(main.stick_table, "a table for counting has no counterpart, left out")
        elif frontend.mode == "http":
            self.note(main.stick_on, 'mode http has no sticky table; balance "source_hash" keeps a client')
        else:
            words = main.stick_table.words if main.stick_table is not None else ()
            expires = seconds(words[words.index("expire") + 1]) if "expire" in words[:-1] else None
            app["sticky"] = {"key": "source_ip", **({"expires": short(expires)} if expires else {})}

    def _timeouts(self, frontend: Proxy, main: Proxy) -> Plain:
        found: Plain = {}
        own = {name: value for name, value in frontend.timeouts.items() if name in ("client", "client-fin")}
        known = {**frontend.timeouts, **main.timeouts, **own}
        idle = max(known.get("client", 0.0), known.get("server", 0.0))
        if frontend.mode == "tcp":
            found["idle"] = known.get("tunnel", idle)
        else:
            request = frontend.timeouts.get("http-request", frontend.timeouts.get("client", 0.0))
            kept = frontend.timeouts.get("http-keep-alive", request)
            found |= {"idle": known.get("tunnel", 0.0), "request": request, "next_request": kept}
            found["response"] = known.get("server", 0.0)
        found["connect"] = known.get("connect", 0.0)
        found["half_closed"] = max(known.get("client-fin", 0.0), known.get("server-fin", 0.0))
        found["first_bytes"] = frontend.inspect_delay or 0.0
        return {key: short(value) for key, value in found.items() if value}


def _names(servers: list[Server]) -> list[str]:
    return [found.target["name"] for found in servers]


def _put_health(app: Plain, targets: list[Server]) -> None:
    """At the app, where all are checked alike."""
    kinds = {json.dumps(found.health, sort_keys=True) for found in targets}
    if len(kinds) <= 1:
        app["health"] = targets[0].health if targets else []
        return
    app["health"] = []
    for found in targets:
        if found.health:
            found.target["health"] = found.health
