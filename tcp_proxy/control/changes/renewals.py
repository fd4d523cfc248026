"""Certificates that were renewed on disk come into use, and nothing else of the configuration is read again.

Main thread only. What a thread has read and judged (control.tls.file_watch) takes the place of what was read before, in
what runs and in the file as it is remembered; it goes to the workers as any change does. What is wrong is one warning, and
what was there before stays.
"""

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator
from functools import partial

from tcp_proxy.config.model import App, Config, Target
from tcp_proxy.config.tls_model import Certificate, TargetTls, Tls, parts_of, way_of
from tcp_proxy.control.changes.reload import Reload
from tcp_proxy.control.context import Context
from tcp_proxy.control.tls.expiry import Expiry, days_left
from tcp_proxy.control.tls.file_watch import FileWatch, Value
from tcp_proxy.runtime.log import utc

logger = logging.getLogger(__name__)

AT_ONCE = 500  # in a slice, of what has certificates
SHOWN = 6  # of those who have the same files; how many more there are is said


class Renewals:
    def __init__(self, context: Context, reload: Reload, clock: Callable[[], float] = time.time) -> None:
        self._context = context
        self._reload = reload
        self._clock = clock
        self._is_looking = False
        self._watch = FileWatch(context.loop, self._found)
        self.expiry = Expiry(context.loop, lambda: context.config, context.events, clock, context.slices.do)

    def __repr__(self) -> str:
        return f"<Renewals by {self._watch!r}>"

    def start(self) -> None:
        self.expiry.start()
        self.look()

    def look(self) -> None:
        """Another configuration runs, perhaps with other files."""
        if not self._is_looking:
            self._is_looking = True
            self._context.slices.do(self._looking())

    def _looking(self) -> Iterator[None]:
        self._is_looking = False
        config = self._context.config
        self._context.ticket_keys.look(config)
        found: dict[Value, None] = {}
        for number, (_, tls) in enumerate(_values(config), 1):
            found[tls] = None
            if not number % AT_ONCE:
                yield
        self._watch.watch(found)
        yield from self.expiry.looking()

    def stop(self) -> None:
        self._watch.stop()

    def _found(self, old: Value, new: Value | str) -> None:
        self._context.slices.do(self._taking(old, new))

    def _taking(self, old: Value, new: Value | str) -> Iterator[None]:
        owners: list[str] = []
        for number, (owner, tls) in enumerate(_values(self._context.config), 1):
            owners += [owner] if tls == old else []
            if not number % AT_ONCE:
                yield
        if not owners or self._context.is_stopping:
            return  # a reload was faster
        if not isinstance(new, str):
            new = _expired(old, new, self._clock()) or new
        if isinstance(new, str):
            logger.warning("%s: %s; what was read before stays in use", _listed(owners), new)
            self._tell(owners, new, ok=False)
            return
        config, target = partial(_replaced, old=old, new=new), partial(_of_target, old=old, new=new)
        self._reload.revise(lambda known: known.replaced(config, target), partial(self._taken, owners, old, new))

    def _taken(self, owners: list[str], old: Value, new: Value, error: str) -> None:
        if error:
            logger.error("%s: renewed files cannot be applied: %s", _listed(owners), error)
            return
        for text in _news(old, new):
            logger.info("%s: %s", _listed(owners), text)
            self._tell(owners, text, ok=True)

    def _tell(self, owners: list[str], text: str, *, ok: bool) -> None:
        self._context.events.publish("certificate", {"owners": owners[:SHOWN], "ok": ok, "text": text})


def _listed(owners: list[str]) -> str:
    more = len(owners) - SHOWN
    return ", ".join(owners[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _values(config: Config) -> Iterator[tuple[str, Value]]:
    for app in config.apps:
        if app.tls is not None:
            yield f"app {app.name}", app.tls
        for one in app.targets:
            if one.tls is not None:
                yield f"app {app.name}: target {one.name}", way_of(one.tls)


def _replaced(config: Config, old: Value, new: Value) -> Config:
    return dataclasses.replace(config, apps=tuple(_of_app(app, old, new) for app in config.apps))


def _of_app(app: App, old: Value, new: Value) -> App:
    if isinstance(new, Tls):
        return dataclasses.replace(app, tls=new) if app.tls == old else app
    if not any(target.tls is not None and way_of(target.tls) == old for target in app.targets):
        return app
    return dataclasses.replace(app, targets=tuple(_of_target(target, old, new) for target in app.targets))


def _of_target(target: Target, old: Value, new: Value) -> Target:
    if not isinstance(new, TargetTls) or target.tls is None or way_of(target.tls) != old:
        return target
    return dataclasses.replace(target, tls=dataclasses.replace(new, server_name=target.tls.server_name))


def _expired(old: Value, new: Value, now: float) -> str:
    for was, one in zip(parts_of(old), parts_of(new), strict=True):
        if not isinstance(was, Certificate) or not isinstance(one, Certificate):
            continue
        if days_left(one, now) == 0 and days_left(was, now) != 0:
            return f"{one.chain_file}: the certificate has expired, at {utc(one.not_after)}"
    return ""


def _news(old: Value, new: Value) -> list[str]:
    changed = [one for was, one in zip(parts_of(old), parts_of(new), strict=True) if was != one]
    return [
        f"the certificate in {one.chain_file} is renewed, until {utc(one.not_after)}"
        if isinstance(one, Certificate) else f"{one.path} is read again"
        for one in changed
    ]  # fmt: skip
