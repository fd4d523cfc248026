"""What the sources of targets (`srv:`, `file:`) have said last, as lists of targets in JSON, and configurations with these.

The main thread writes `texts`; any thread may read, for a reload is made in one. What a source that is new says to a reload
goes with the configuration that was read (Discovery.first): of several, also those of plans, only one comes to run.

Always true: a target that was found has its source as `origin`, and never takes the name of one that the file has.
"""

import dataclasses
import json
from collections.abc import Callable

from tcp_proxy.config.discovery import SRV
from tcp_proxy.config.load import load_targets
from tcp_proxy.config.model import App, Config, Target
from tcp_proxy.config.target_model import Discovery

SHARES = ("weight", "priority")


class Found:
    def __init__(self) -> None:
        self.texts: dict[str, str] = {}  # by source

    def __repr__(self) -> str:
        return f"<Found {', '.join(self.texts)}>"

    def filling(self, load: Callable[[], Config]) -> Callable[[], Config]:
        return lambda: self.filled(load())

    def asking(self, load: Callable[[], Config]) -> Callable[[], Config]:
        """The same of the file: sources that are new are asked there and then."""

        def asked() -> Config:
            config = load()
            if any(app.discoveries for app in config.apps):
                from tcp_proxy.control.discovery.first_answers import first_answers  # noqa: PLC0415  nobody else pays for it

                config = _with_first(config, first_answers(config, self.texts))
            return self.filled(config)

        return asked

    def take_first(self, discovery: Discovery) -> str:
        """It runs: what it said to the reload is what is known, if nothing is; that, or ""."""
        if not discovery.first or discovery.source in self.texts:
            return ""
        self.texts[discovery.source] = discovery.first
        return discovery.first

    def filled(self, config: Config) -> Config:
        """With what is known now in the place of what was known then. Raises ConfigErrors."""
        if not any(app.discoveries for app in config.apps):
            return config
        return dataclasses.replace(config, apps=tuple(map(self._of_app, config.apps)))

    def _of_app(self, app: App) -> App:
        if not app.discoveries:
            return app
        own = dataclasses.replace(app, targets=tuple(target for target in app.targets if not target.origin))
        targets = {target.name: target for target in own.targets}
        for discovery in app.discoveries:
            for target in self._of(discovery, own):
                targets.setdefault(target.name, target)
        return dataclasses.replace(app, targets=tuple(targets.values()))

    def _of(self, discovery: Discovery, app: App) -> list[Target]:
        source = discovery.source
        text = self.texts.get(source, discovery.first or "[]")
        if discovery.template:
            more = json.loads(discovery.template)
            text = json.dumps([{**more, **entry} for entry in json.loads(text)])
        if app.has_primary and source.startswith(SRV):  # their order is all that counts there
            text = json.dumps([{key: entry[key] for key in entry if key not in SHARES} for entry in json.loads(text)])
        targets = load_targets(text, app, source)
        return [dataclasses.replace(target, origin=source) for target in targets]


def _with_first(config: Config, first: dict[str, str]) -> Config:
    def told(app: App) -> App:
        known = tuple(dataclasses.replace(one, first=first.get(one.source, "")) for one in app.discoveries)
        return dataclasses.replace(app, discoveries=known)

    return dataclasses.replace(config, apps=tuple(told(app) if app.discoveries else app for app in config.apps))
