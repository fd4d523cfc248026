"""The operations of the management API on stick tables: list, look up, set, delete, clear.

Main thread only; the tables' own thread finds the answer (control.sticky.tables), which comes Later. Keys may be written in
any spelling of their address.
"""

from collections.abc import Callable
from typing import Any

from tcp_proxy.control.context import Context
from tcp_proxy.control.replies import Arguments, Later, Operation, Refused
from tcp_proxy.control.sticky.lists import Listing, view
from tcp_proxy.control.targets.known import KnownApp
from tcp_proxy.sansio.stick_key import KeyMaker
from tcp_proxy.sansio.stick_table import StickTable
from tcp_proxy.wire.counters import STICK_FALLBACKS


class StickOrders:
    def __init__(self, context: Context) -> None:
        self._context = context

    def __repr__(self) -> str:
        return f"<StickOrders to {self._context.sticks!r}>"

    def operations(self) -> dict[str, Operation]:
        return {
            "sticks": self._list,
            "stick": self._look_up,
            "set_stick": self._set,
            "delete_stick": self._delete,
            "clear_sticks": self._clear,
        }

    def _app(self, arguments: Arguments) -> KnownApp:
        app = self._context.targets.apps.get(arguments["app"])
        if app is None:
            raise Refused(404, f"there is no app named {arguments['app']!r}")
        if app.config.sticky is None:
            raise Refused(409, f"app {app.config.name!r} is not sticky: it has no stick table")
        return app

    def _key(self, app: KnownApp, text: str) -> str:
        sticky = app.config.sticky
        assert sticky is not None
        try:
            is_text = bool(sticky.header)
            return KeyMaker(sticky.ipv4_prefix, sticky.ipv6_prefix, *sticky.slice, is_text=is_text).of_text(text)
        except ValueError as error:
            raise Refused(422, f"key {text!r}: {error}") from None

    def _list(self, arguments: Arguments) -> Later:
        app, later = self._app(arguments), Later()
        filters = {key: value for key, value in arguments.items() if key != "app"}
        fallbacks = self._context.counter_rows.memory.total(app.slot + STICK_FALLBACKS)
        reply = later.answer
        self._context.sticks.page(app.config.name, Listing(**filters), lambda page: reply({**page, "fallbacks": fallbacks}))
        return later

    def _look_up(self, arguments: Arguments) -> Later:
        app = self._app(arguments)
        key = self._key(app, arguments["key"])

        def find(table: StickTable, now: float) -> Any:
            entry = table.find(key, now)
            return view(entry, table, now) if entry is not None else None

        return self._change(app, find, key)

    def _set(self, arguments: Arguments) -> Later:
        app = self._app(arguments)
        key, target = self._key(app, arguments["key"]), arguments["target"]
        if target not in app.targets:
            raise Refused(422, f"app {app.config.name!r} has no target named {target!r}")
        return self._change(app, lambda table, now: view(table.set(key, target, now), table, now), key)

    def _delete(self, arguments: Arguments) -> Later:
        app = self._app(arguments)
        key = self._key(app, arguments["key"])
        return self._change(app, lambda table, _now: {"deleted": 1} if table.delete(key) else None, key)

    def _clear(self, arguments: Arguments) -> Later:
        """All, or those of one target."""
        target = arguments["target"]

        def clear(table: StickTable, _now: float) -> Any:
            return {"deleted": table.delete_all(entry.key for entry in table if target in ("", entry.target))}

        return self._change(self._app(arguments), clear, "")

    def _change(self, app: KnownApp, change: Callable[[StickTable, float], Any], key: str) -> Later:
        later = Later()

        def reply(found: Any) -> None:
            if found is None:
                later.refuse(Refused(404, f"app {app.config.name!r} knows no key {key!r}"))
            else:
                later.answer(found)

        self._context.sticks.change(app.config.name, change, reply)
        return later
