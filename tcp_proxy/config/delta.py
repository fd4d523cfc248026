"""What of a configuration is another one than before, as values: so much, and no more, is to be done.

Pure; what says the same in words is config.diff, whose rules for who is who are used. An app that leaves has no part in it.
"""

import dataclasses
import itertools
from collections.abc import Sequence

from tcp_proxy.config.diff import Pair, match_targets
from tcp_proxy.config.model import App, Target
from tcp_proxy.sansio.frozen_dataclass import dataclass


@dataclass(frozen=True, slots=True)
class AppDelta:
    """An app that is new, or different. `pairs` are its targets before and after: None before: a new one; None after: it
    leaves. Those that are as they were have none, unless the app's `source` is another one. New ones come after all others,
    unless it is reordered."""

    app: App
    pairs: tuple[Pair, ...]
    is_new: bool = False
    is_reordered: bool = False


def whole(app: App) -> AppDelta:
    """Of an app that is new."""
    return AppDelta(app, tuple((None, target) for target in app.targets), is_new=True)


def of_apps(old: Sequence[App], new: Sequence[App]) -> list[AppDelta]:
    known = {app.name: app for app in old}
    found = [_of_app(known[app.name], app) if app.name in known else whole(app) for app in new]
    return [delta for delta in found if delta is not None]


def of_target(app: App, was: Target | None, now: Target | None) -> tuple[App, AppDelta]:
    """The app with one target that is another one now, or new, or gone; None: there was, or is, none."""
    targets = list(app.targets)
    if was is None:
        targets += [now] if now is not None else []
    else:
        place = next(number for number, target in enumerate(targets) if target.name == was.name)
        targets[place : place + 1] = [now] if now is not None else []
    new = dataclasses.replace(app, targets=tuple(targets))
    return new, AppDelta(new, ((was, now),))


def _of_app(old: App, new: App) -> AppDelta | None:
    if old is new:
        return None
    pairs = match_targets(old.targets, new.targets)
    is_moved = old.source != new.source  # what an app says for its targets makes each of them another one
    different = tuple((was, now) for was, now in pairs if is_moved or (was is not now and was != now))
    is_reordered = _is_reordered(old, pairs)
    is_same = not different and not is_reordered
    if is_same and dataclasses.replace(old, targets=()) == dataclasses.replace(new, targets=()):
        return None
    return AppDelta(new, different, is_reordered=is_reordered)


def _is_reordered(old: App, pairs: Sequence[Pair]) -> bool:
    """Whether those that stay are in another order, or a new one is before one of them."""
    places = {target.name: number for number, target in enumerate(old.targets)}
    order = [len(places) if was is None else places[was.name] for was, now in pairs if now is not None]
    return any(one > other for one, other in itertools.pairwise(order))
