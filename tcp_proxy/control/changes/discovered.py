"""Targets that come and go by what the DNS (`srv:`) or a file (`file:`) says, without a reload.

Main thread only. A resolver's threads ask the DNS, a thread reads the files; what is new takes the place of what was known,
in what runs and in the file as it is remembered, as any change does: sessions with those that leave go on to their end. What
is wrong is one warning, and what was there before stays.

    a source:  UNKNOWN ──an answer──> KNOWN ──another one──> applied ──> KNOWN      (a failure leaves it where it is)
"""

import json
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from tcp_proxy.config.discovery import FILE, SRV
from tcp_proxy.config.model import App, Config, Target
from tcp_proxy.control.changes.reload import Reload
from tcp_proxy.control.context import Context
from tcp_proxy.control.discovery.source import SourceState
from tcp_proxy.control.discovery.target_files import TargetFiles
from tcp_proxy.control.targets.resolver import Answer, Resolver
from tcp_proxy.sansio.srv import targets_of

logger = logging.getLogger(__name__)

SHOWN = 6  # names in a line of the log


class Discovered:
    """`answered` is called when a source has said something for the first time, or a change is applied."""

    def __init__(self, context: Context, reload: Reload, answered: Callable[[], Any]) -> None:
        self._context = context
        self._reload = reload
        self._answered = answered
        self._states = context.sources
        self._files = TargetFiles(context.loop, self._file_read)
        self._resolver: Resolver | None = None
        self._servers: Any = None  # that it asks

    def __repr__(self) -> str:
        return f"<Discovered by {len(self._states)} sources>"

    def look(self) -> None:
        """Another configuration runs, perhaps with other sources."""
        config = self._context.config
        wanted = _apps_of(config)
        for source in self._states.keys() - wanted.keys():
            del self._states[source]
            self._context.found.forget(source)
        for source, apps in wanted.items():
            state = self._states.get(source)
            if state is None:
                state = self._states[source] = SourceState(source)
                self._begin(state)
            state.apps = tuple(app.name for app in apps)
        self._files.watch({name.removeprefix(FILE): apps for name, apps in wanted.items() if name.startswith(FILE)})
        self._ask({name.removeprefix(SRV) for name in wanted if name.startswith(SRV)}, config)
        self._tell_pending()

    def _begin(self, state: SourceState) -> None:
        """With what it has said to the reload that brings it, if it has."""
        text = self._context.found.take_first(state.source)
        if text is not None:
            state.targets, state.changes, state.is_answered = len(json.loads(text)), 1, True

    def stop(self) -> None:
        self._files.stop()
        if self._resolver is not None:
            self._resolver.stop()

    def _ask(self, names: set[str], config: Config) -> None:
        """Of the DNS: these, and no others."""
        if self._resolver is not None and (config.nameservers != self._servers or not names):
            self._resolver.leave()
            self._resolver = None
        if not names:
            return
        if self._resolver is None:
            from tcp_proxy.control.discovery.srv import SrvLookup  # noqa: PLC0415  nobody else pays for it

            self._servers, lookup = config.nameservers, SrvLookup(config.nameservers)
            report: Any = self._srv_answered
            self._resolver = Resolver(
                self._context.loop, report, lookup, interval=lookup.wait_of, name="srv"  # type: ignore[arg-type]
            )  # fmt: skip
        self._resolver.want_only(names)

    # -- what sources say

    def _srv_answered(self, answer: Answer) -> None:
        records: Any = answer.addresses
        text = json.dumps(targets_of(records)) if records else ""
        self._heard(f"{SRV}{answer.host}", text, answer.error)

    def _file_read(self, path: str, text: str, fault: str) -> None:
        self._heard(f"{FILE}{path}", text, fault)

    def _heard(self, source: str, text: str, error: str) -> None:
        state, texts = self._states.get(source), self._context.found.texts
        if state is None or self._context.is_stopping:
            return
        if error:
            self._failed(state, error)
        elif text != texts.get(source):
            state.targets = len(json.loads(text))
            before = texts.get(source)
            texts[source] = text
            if before is not None or json.loads(text):
                done = partial(self._applied, state, self._names(source), (before, text))
                self._reload.revise(lambda known: known.replaced(self._context.found.filled, _same), done)
                return
        state.error = error
        self._first(state)

    def _applied(self, state: SourceState, before: set[str], texts: tuple[str | None, str], error: str) -> None:
        """`before`: the names as they were; `texts`: all of it, as it was and as it is to be."""
        known = self._context.found.texts
        if error:
            if texts[0] is not None and known.get(state.source) == texts[1]:  # else there is a newer answer already
                known[state.source] = texts[0]
            elif known.get(state.source) == texts[1]:
                del known[state.source]
            self._failed(state, f"cannot be applied: {error}")
        else:
            state.error = ""
            state.changes += 1
            after = self._names(state.source)
            added, removed = sorted(after - before), sorted(before - after)
            logger.info("%s: %d targets%s", state.source, len(after), _said(added, removed))
            self._publish(state, added, removed)
        self._first(state)

    def _failed(self, state: SourceState, error: str) -> None:
        state.failures += 1
        if error != state.error:
            stays = "what was known before stays" if state.source in self._context.found.texts else "nothing is known of it"
            logger.warning("%s: %s; %s", state.source, error, stays)
        state.error = error
        self._publish(state, [], [])

    def _first(self, state: SourceState) -> None:
        state.is_answered = True
        self._tell_pending()
        self._answered()

    def _tell_pending(self) -> None:
        self._context.targets.is_discovering = not all(state.is_answered for state in self._states.values())

    def _names(self, source: str) -> set[str]:
        return {target.name for app in self._context.config.apps for target in app.targets if target.origin == source}

    def _publish(self, state: SourceState, added: list[str], removed: list[str]) -> None:
        data = {"source": state.source, "apps": list(state.apps), "added": added, "removed": removed, "error": state.error}
        self._context.events.publish("discovery", data)


def _apps_of(config: Config) -> dict[str, tuple[App, ...]]:
    found: dict[str, tuple[App, ...]] = {}
    for app in config.apps:
        for discovery in app.discoveries:
            found[discovery.source] = (*found.get(discovery.source, ()), app)
    return found


def _same(target: Target) -> Target:
    return target


def _said(added: list[str], removed: list[str]) -> str:
    both = (("added", added), ("removed", removed))
    parts = [f"{word} {', '.join(names[:SHOWN])}{' …' * (len(names) > SHOWN)}" for word, names in both if names]
    return f": {'; '.join(parts)}" if parts else ""
