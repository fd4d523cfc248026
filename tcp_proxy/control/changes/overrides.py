"""What was said of targets at run time, and how it meets the file: the configuration that runs is `apply` of the two.

Pure values. What is said at run time wins, over reloads too, until the file's own value of that very key changes: then
the file has the newer value. A target that the file removes takes what was said of it along; one that was removed at run
time stays away until its entry in the file changes; one that was added at run time stays until the file gets one of its
name or address, or its app leaves; one that was added under the name of a removed one, until the file's entry changes.
Who is who in another file is what config.diff says: by name, failing that by address.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tcp_proxy.config.diff import match_targets, place
from tcp_proxy.config.model import App, Config, Target
from tcp_proxy.sansio.frozen_dataclass import dataclass

Key = tuple[str, str]  # app, target

ADMINS = ("ready", "drain", "disabled")


def admin_of(target: Target) -> str:
    return "disabled" if target.disabled else "drain" if target.drain else "ready"


class Said(NamedTuple):
    """One value that stands. `key`: admin, weight, added or removed; `file`: what the file has in its place."""

    app: str
    target: str
    key: str
    value: str | int | bool
    file: str | int | bool

    def __str__(self) -> str:
        name = f"app {self.app}: target {self.target}"
        if self.key == "added":
            return f"{name}: added at run time"
        if self.key == "removed":
            return f"{name}: removed at run time; the file has it"
        said = f"{self.key} {self.value}" if self.key == "weight" else self.value
        return f"{name}: {said}, said at run time; the file says {self.file}"


@dataclass(frozen=True, slots=True)
class Override:
    """`base` is the target as the file had it when something was said first. Of an added one: None, or the removed one of
    the file whose name it has taken."""

    base: Target | None
    admin: str = ""  # one of ADMINS, or "": the file's
    weight: int | None = None
    added: Target | None = None
    definition: str = ""  # of an added one, as it came
    removed: bool = False
    number: int = dataclasses.field(default=0, compare=False)  # of an added one: they come in this order

    @property
    def is_empty(self) -> bool:
        return not (self.admin or self.weight is not None or self.added or self.removed)

    def said(self, app: str, target: str) -> Iterator[Said]:
        """Each value of it."""
        if self.removed:
            yield Said(app, target, "removed", True, False)
        if self.added:
            yield Said(app, target, "added", True, False)
        own = self.added or self.base
        if own is not None and self.admin:
            yield Said(app, target, "admin", self.admin, admin_of(own))
        if own is not None and self.weight is not None:
            yield Said(app, target, "weight", self.weight, own.weight)

    def over(self, target: Target) -> Target:
        if self.weight is not None:
            target = dataclasses.replace(target, weight=self.weight)
        if self.admin:
            target = dataclasses.replace(target, drain=self.admin == "drain", disabled=self.admin == "disabled")
        return target


class Overrides:
    """`file` is the configuration as the file says it. `version` is another one whenever something else is said."""

    def __init__(self, file: Config, said: dict[Key, Override] | None = None) -> None:
        self.file = file
        self.said = said or {}
        self.version = 0
        self._removed: tuple[int, dict[str, list[str]]] = -1, {}

    def __repr__(self) -> str:
        return f"<Overrides of {len(self.said)} targets>"

    def apply(self, file: Config | None = None) -> Config:
        """What is to run."""
        file = file or self.file
        said = self._by_app()
        if not said:
            return file
        return dataclasses.replace(file, apps=tuple(_over(app, said.get(app.name, {})) for app in file.apps))

    def target(self, app: str, target: str) -> Target | None:
        """What is to run of one target; None: it is not to."""
        one, base = self.said.get((app, target)), _find(self.file, app, target)
        if one is None:
            return base
        if one.removed:
            return None
        return one.over(one.added) if one.added else base and one.over(base)

    def standing(self) -> Iterator[Said]:
        """Every value that was said and stands."""
        for (app, target), one in tuple(self.said.items()):
            yield from one.said(app, target)

    def of(self, app: str, target: str) -> list[Said]:
        one = self.said.get((app, target))
        return [] if one is None else list(one.said(app, target))

    def removed(self, app: str) -> list[str]:
        """The targets of the file that are not to run; looked up again only when something else is said."""
        if self._removed[0] != self.version:
            found: dict[str, list[str]] = {}
            for (name, target), one in self.said.items():
                if one.removed:
                    found.setdefault(name, []).append(target)
            self._removed = self.version, found
        return self._removed[1].get(app, [])

    def without(self, app: str, target: str) -> "Overrides":
        """What is left when an app's, or a target's, are taken back; "" stands for all."""
        said = {key: one for key, one in self.said.items() if (app and app != key[0]) or (target and target != key[1])}
        return Overrides(self.file, said)

    def set(self, app: str, target: str, admin: str | None, weight: int | None) -> None:
        """None leaves it as it is."""
        one = self._of(app, target)
        if admin is not None:
            one = dataclasses.replace(one, admin=admin)
        if weight is not None:
            one = dataclasses.replace(one, weight=weight)
        self._say((app, target), one)

    def add(self, app: str, target: Target, definition: str) -> None:
        """Its name may be that of one of the file that was removed. It comes last."""
        base = _find(self.file, app, target.name)
        self.said.pop((app, target.name), None)
        number = 1 + max((one.number for one in self.said.values()), default=0)
        self._say((app, target.name), Override(base, added=target, definition=definition, number=number))

    def remove(self, app: str, target: str) -> None:
        """One that was added is forgotten; one of the file is remembered as removed."""
        base = _find(self.file, app, target)
        self._say((app, target), None if base is None else Override(base, removed=True))

    def unsay(self, key: Key, before: Override | None) -> None:
        """It could not be applied: what was said before."""
        self._say(key, before)

    def rebased(self, file: Config) -> "Overrides":
        """What is left of it beside another file."""
        said: dict[Key, Override] = {}
        by_app = self._by_app()
        for app in file.apps if by_app else ():
            if app.name in by_app:
                before = _targets(self.file, app.name)
                sources = {discovery.source for discovery in app.discoveries}  # one of these may list it again
                after = {was.name: now for was, now in match_targets(before, app.targets) if was and now}
                for target, one in by_app[app.name].items():
                    now = after.get(target) if one.base else None
                    if now is None and one.added:
                        now = _new_one(one.added, before, app)
                    is_away = now is None and one.base is not None and one.base.origin in sources
                    left = one if is_away else _rebased(one, now)
                    if left is not None and not left.is_empty:
                        said[app.name, now.name if now else target] = left
        return Overrides(file, said)

    def rebase(self, file: Config) -> None:
        """This is the file now."""
        self.become(self.rebased(file))

    def become(self, other: "Overrides") -> None:
        self.file, self.said = other.file, other.said
        self.version += 1

    def _say(self, key: Key, one: Override | None) -> None:
        if one is None:
            self.said.pop(key, None)
        else:
            self.said[key] = one
        self.version += 1  # last: a thread that compares meanwhile has looked at it first

    def replaced(self, config: Callable[[Config], Config], target: Callable[[Target], Target]) -> "Overrides":
        """The same, where the file and each target are what these make of them."""

        def one(known: Override) -> Override:
            base, added = (None if found is None else target(found) for found in (known.base, known.added))
            return dataclasses.replace(known, base=base, added=added)

        return Overrides(config(self.file), {key: one(known) for key, known in self.said.items()})

    def _of(self, app: str, target: str) -> Override:
        return self.said.get((app, target)) or Override(_find(self.file, app, target))

    def _by_app(self) -> dict[str, dict[str, Override]]:
        found: dict[str, dict[str, Override]] = {}
        for (app, target), one in self.said.items():
            found.setdefault(app, {})[target] = one
        return found


def _over(app: App, said: dict[str, Override]) -> App:
    if not said:
        return app
    targets = []
    for target in app.targets:
        one = said.get(target.name)
        if one is None:
            targets.append(target)
        elif not (one.removed or one.added):
            targets.append(one.over(target))
    targets += [one.over(one.added) for one in said.values() if one.added]
    return dataclasses.replace(app, targets=tuple(targets))


def _rebased(one: Override, now: Target | None) -> Override | None:
    """What is left of it; `now` is its target in the file."""
    if one.added is not None:
        if now is None:
            return dataclasses.replace(one, base=None)
        return one if now == one.base else None
    if now is None or one.base is None:
        return None
    if one.removed:
        return one if now == one.base else None
    admin = one.admin if admin_of(now) == admin_of(one.base) else ""
    weight = one.weight if now.weight == one.base.weight else None
    return dataclasses.replace(one, base=now, admin=admin, weight=weight)


def _new_one(added: Target, before: tuple[Target, ...], app: App) -> Target | None:
    """The file's own entry of a target that was added at run time, if it has got one."""
    known = {target.name for target in before}
    return next(
        (
            target
            for target in app.targets
            if target.name == added.name or (target.name not in known and place(target) == place(added))
        ),
        None,
    )


def _targets(file: Config, app: str) -> tuple[Target, ...]:
    return next((one.targets for one in file.apps if one.name == app), ())


def _find(file: Config, app: str, target: str) -> Target | None:
    return next((known for known in _targets(file, app) if known.name == target), None)
