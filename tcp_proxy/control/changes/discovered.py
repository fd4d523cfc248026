"""Targets that come and go by what the DNS (`srv:`) or a file (`file:`) says, without a reload.

Main thread only. A resolver's threads ask the DNS, a thread reads the files; what is new takes the place of what was known,
in what runs and in the file as it is remembered, as any change does: sessions with those that leave go on to their end. What
is wrong is one warning, and what was there before stays. What could not be applied is tried again, for nobody says the same
twice: there was no room, say, or another source stood in the way.

    a source:  UNKNOWN ──an answer──> KNOWN ──another one──> applied ──> KNOWN      (a failure leaves it where it is)
                                        ^ └──it cannot be──> REFUSED ──AGAIN──┐
                                        └──another answer──────┘ ^──applied? ─┘
"""

import json
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from tcp_proxy.config.discovery import FILE, SRV
from tcp_proxy.config.model import App, Config, Target
from tcp_proxy.config.target_model import Discovery
from tcp_proxy.control.changes.reload import Reload
from tcp_proxy.control.context import Context
from tcp_proxy.control.discovery.source import SourceState
from tcp_proxy.control.discovery.target_files import TargetFiles
from tcp_proxy.control.targets.resolver import Answer, Resolver
from tcp_proxy.runtime.loop import Timer
from tcp_proxy.sansio.srv import targets_of

logger = logging.getLogger(__name__)

SHOWN = 6  # names in a line of the log
AGAIN = 5.0  # seconds until what could not be applied is tried again


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
        self._refused: dict[str, tuple[str, Timer]] = {}  # by source: what it said last and could not be applied
        self._running: dict[str, str | None] = {}  # by source, while something else is being applied: what runs

    def __repr__(self) -> str:
        return f"<Discovered by {len(self._states)} sources>"

    def look(self) -> None:
        """Another configuration runs, perhaps with other sources."""
        config = self._context.config
        wanted = _apps_of(config)
        for source in self._states.keys() - wanted.keys():
            del self._states[source]
            self._context.found.texts.pop(source, None)
            self._running.pop(source, None)
            self._forget_refused(source)
        for source, apps in wanted.items():
            state = self._states.setdefault(source, SourceState(source))
            state.apps = tuple(app.name for app in apps)
            for discovery in [one for app in apps for one in app.discoveries if one.source == source]:
                self._begin(state, discovery)
        self._files.watch({name.removeprefix(FILE): apps for name, apps in wanted.items() if name.startswith(FILE)})
        self._ask({name.removeprefix(SRV) for name in wanted if name.startswith(SRV)}, config)
        self._tell_pending()

    def _begin(self, state: SourceState, discovery: Discovery) -> None:
        """With what it has said to the reload, if it had said nothing before."""
        text = self._context.found.take_first(discovery)
        if text:
            state.targets, state.changes, state.is_answered, state.error = len(json.loads(text)), 1, True, ""

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
        else:
            self._forget_refused(source)
            if text != texts.get(source):
                state.targets = len(json.loads(text))
                if source in texts or json.loads(text):
                    self._apply(state, text)
                    return
                texts[source] = text
        state.error = error
        self._first(state)

    def _apply(self, state: SourceState, text: str, *, is_again: bool = False) -> None:
        texts = self._context.found.texts
        self._running.setdefault(state.source, texts.get(state.source))
        texts[state.source] = text
        done = partial(self._applied, state, self._names(state.source), text, is_again)
        self._reload.revise(lambda known: known.replaced(self._context.found.filled, _same), done)

    def _applied(self, state: SourceState, before: set[str], said: str, is_again: bool, error: str) -> None:
        """`before`: the names as they were; `said`: all of it, as it is to be."""
        known = self._context.found.texts
        is_last = known.get(state.source) == said  # else there is a newer answer already
        if not error and state.source in self._running:
            self._running[state.source] = said
        running = self._running.pop(state.source, said) if is_last else said
        if error:
            if is_last:
                if running is not None:
                    known[state.source] = running
                else:
                    del known[state.source]
                self._refuse(state, said)
            text = f"cannot be applied: {error}"
            if not is_again or text != state.error:
                self._failed(state, text)
        else:
            state.error = ""
            state.changes += 1
            after = self._names(state.source)
            added, removed = sorted(after - before), sorted(before - after)
            logger.info("%s: %d targets%s", state.source, len(after), _said(added, removed))
            self._publish(state, added, removed)
        self._first(state)

    def _refuse(self, state: SourceState, text: str) -> None:
        self._forget_refused(state.source)
        self._refused[state.source] = text, self._context.loop.call_later(AGAIN, self._try_again, state.source)

    def _try_again(self, source: str) -> None:
        text, _ = self._refused.pop(source)
        if source in self._states and not self._context.is_stopping:
            self._apply(self._states[source], text, is_again=True)

    def _forget_refused(self, source: str) -> None:
        if source in self._refused:
            self._refused.pop(source)[1].cancel()

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
