"""A file beside what runs: all that takes long to find out before it is applied, or to say what it would change.

Pure, so that a thread can do it while the main loop serves. What is said at run time meanwhile makes it a comparison with
something else than what runs; `is_with` tells.
"""

import dataclasses
import logging
from collections.abc import Callable, Iterator

from tcp_proxy.config.delta import AppDelta, of_apps
from tcp_proxy.config.diff import Change, diff
from tcp_proxy.config.model import App, Config
from tcp_proxy.config.report import ConfigErrors
from tcp_proxy.config.together import contradiction
from tcp_proxy.control.changes.overrides import Overrides
from tcp_proxy.control.targets.resolver import endpoints
from tcp_proxy.sansio.address import Address
from tcp_proxy.sansio.frozen_dataclass import dataclass

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Comparison:
    """`running` is what it was compared with, `version` that of what was said. `said` is what is left of that beside the
    file, `new` what is to run then: with the very values of `running` where nothing differs."""

    running: Config
    version: int
    file: Config
    said: Overrides
    new: Config
    deltas: list[AppDelta]
    changes: list[Change]
    hosts: list[str]  # the names of targets that are new, or have another address
    fault: str  # what contradicts in it, as one line

    def is_with(self, running: Config, overrides: Overrides) -> bool:
        return self.running is running and self.version == overrides.version


def or_errors(call: Callable[[], Comparison | list[str]]) -> Comparison | list[str]:
    """What it returns, or what is wrong with the configuration."""
    try:
        return call()
    except ConfigErrors as errors:
        return [str(error) for error in errors.errors]
    except Exception as error:  # a mistake of ours: the old configuration goes on
        logger.exception("the configuration cannot be read")
        return [f"internal error, please report it: {error!r}"]


def compare(running: Config, overrides: Overrides, file: Config) -> Comparison:
    version = overrides.version
    said = Overrides(overrides.file, dict(overrides.said)).rebased(file)
    return compared(running, said, version)


def compared(running: Config, said: Overrides, version: int) -> Comparison:
    """The same with what is left of what was said."""
    new = _with_known(running, said.apply())
    deltas = of_apps(running.apps, new.apps)
    hosts = list(dict.fromkeys(_names(deltas)))
    return Comparison(running, version, said.file, said, new, deltas, diff(running, new), hosts, contradiction(new, running))


def _with_known(running: Config, new: Config) -> Config:
    """No value is kept twice."""
    known = {app.name: app for app in running.apps}
    return dataclasses.replace(new, apps=tuple(_of_app(known.get(app.name), app) for app in new.apps))


def _of_app(known: App | None, app: App) -> App:
    if known is None or known is app:
        return app
    before = {target.name: target for target in known.targets}
    targets = tuple(was if (was := before.get(one.name)) == one and was is not None else one for one in app.targets)
    app = dataclasses.replace(app, targets=targets)
    return known if app == known else app


def _names(deltas: list[AppDelta]) -> Iterator[str]:
    for delta in deltas:
        for was, now in delta.pairs:
            if now is not None and (was is None or was.servers != now.servers):
                yield from (host for host in now.hosts if not endpoints(Address(host, 1), ()))
