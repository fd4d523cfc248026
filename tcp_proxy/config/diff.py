"""What is different between two configurations: what a reload does, and what `plan` says it would do.

Pure. An app is the same app when it has the same name; a target of it the same target when it has the same name, or,
failing that, the same address; a listener the same listener when its address is written the same way. Everything that
a configuration can say is compared, key by key, so a key that is added to the model is compared too.
"""

import dataclasses
import itertools
import json
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from tcp_proxy.config.model import App, Check, Config, Target
from tcp_proxy.config.secrets import without_secrets, without_values
from tcp_proxy.sansio.address import ListenAddress, hosts_overlap
from tcp_proxy.sansio.frozen_dataclass import dataclass

AT_START = ("pid_file", "api", "cluster", "tracing", "state", "user", "group")  # keys of the top level that are read once
AT_ANY_TIME = "tracing.sample"  # a part of one of them that is not
NOT_SHOWN = 6  # names in a list beyond which it says how many more there are

Pair = tuple[Target | None, Target | None]


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. `kind` is what is done to `subject`: app, target, listener or setting, with _added, _removed,
    _moved (a listener to another app) or _changed. `key` is set for settings. `text` is for people."""

    kind: str
    text: str
    app: str = ""
    subject: str = ""
    key: str = ""
    needs_restart: bool = False  # it is not applied while the program runs
    closes: bool = False  # a listener: it is closed for a moment, because what takes its place overlaps with it

    def __str__(self) -> str:
        notes = (" (at the next start)" if self.needs_restart else "") + (" (closed for a moment)" if self.closes else "")
        return self.text + notes


def applied(old: Config, new: Config) -> Config:
    """What runs after a reload of `new`: all that was read at the start is as it was."""
    kept: dict[str, Any] = {key: getattr(old, key) for key in AT_START}
    if old.tracing is not None and new.tracing is not None:
        kept["tracing"] = dataclasses.replace(old.tracing, sample=new.tracing.sample)
    return dataclasses.replace(new, **kept)


def diff(old: Config, new: Config) -> list[Change]:
    """Every difference; [] exactly when the two are equal but for the order of apps and of listeners."""
    changes = list(_settings(old, new))
    before, after = {app.name: app for app in old.apps}, {app.name: app for app in new.apps}
    changes += [_app_removed(app) for name, app in before.items() if name not in after]
    changes += [_app_added(app) for name, app in after.items() if name not in before]
    changes += _listeners(old, new)
    for name, app in after.items():
        if name in before:
            changes += _app_changes(before[name], app)
    return changes


def match_targets(old: Iterable[Target], new: Iterable[Target]) -> list[Pair]:
    """Who is who: pairs (before, after) in the order of `new`, then those that leave as (before, None)."""
    by_name = {target.name: target for target in old}
    wanted = list(new)
    names = {target.name for target in wanted}
    free = {target.name: target for target in by_name.values() if target.name not in names}
    by_place: dict[tuple[Any, ...], list[Target]] = {}
    for target in reversed(free.values()):
        by_place.setdefault(place(target), []).append(target)
    pairs: list[Pair] = []
    for target in wanted:
        same = by_name.get(target.name)
        if same is None and by_place.get(place(target)):
            same = by_place[place(target)].pop()
            del free[same.name]
        pairs.append((same, target))
    return pairs + [(target, None) for target in free.values()]


def place(target: Target) -> tuple[Any, ...]:
    """What makes two targets of different names the same."""
    return target.address, target.ports


def place_text(target: Target) -> str:
    """The same for what other proxies are told."""
    address, ports = place(target)
    import hashlib  # noqa: PLC0415  it loads OpenSSL, which a start need not wait for

    return str(address) if not ports else f"ports {hashlib.sha256(repr(ports).encode()).hexdigest()[:16]}"


def listeners_of(config: Config) -> dict[ListenAddress, str]:
    """Each address that is listened on, and whose it is."""
    return {address: app.name for app in config.apps for address in app.listeners}


def overlapped(old: Iterable[ListenAddress], new: Iterable[ListenAddress]) -> set[ListenAddress]:
    """Those of `old` that must be closed before one of `new`, not the same, can be bound."""
    by_port: dict[int, list[ListenAddress]] = {}
    for address in new:
        by_port.setdefault(address.port, []).append(address)
    return {
        address
        for address in old
        for other in by_port.get(address.port, ())
        if other != address and hosts_overlap(address.host, other.host)
    }


def _settings(old: Config, new: Config) -> Iterator[Change]:
    for key, before, after in _differences(old, new):
        if key != "apps":
            text = f"{key}: {shown(_readable(key, before))} -> {shown(_readable(key, after))}"
            needs_restart = key.split(".")[0] in AT_START and key != AT_ANY_TIME
            yield Change("setting_changed", text, key=key, needs_restart=needs_restart)


def _app_added(app: App) -> Change:
    names = [target.name for target in app.targets]
    targets = f"{_many('target', names)} {_listed(names)}" if names else "no targets"
    return Change("app_added", f"app {app.name} added, listening on {_listed(app.listeners)}; {targets}", app.name)


def _app_removed(app: App) -> Change:
    listeners = f"{_many('listener', app.listeners)} {_listed(app.listeners)}"
    text = f"app {app.name} removed, with its {listeners}; its sessions go on to their end"
    return Change("app_removed", text, app.name)


def _listeners(old: Config, new: Config) -> Iterator[Change]:
    """Of apps that stay; and those of other apps where they are handed over, or close for a moment."""
    before, after = listeners_of(old), listeners_of(new)
    stay = {app.name for app in old.apps} & {app.name for app in new.apps}
    closing = overlapped(before.keys() - after.keys(), after.keys() - before.keys())
    for address, app in before.items():
        text = str(address)
        if address not in after:
            if app in stay or address in closing:
                closes = address in closing
                yield Change("listener_removed", f"app {app}: listener {text} removed", app, text, closes=closes)
        elif after[address] != app:
            to = after[address]
            yield Change("listener_moved", f"app {to}: listener {text} taken over from app {app}", to, text)
    for address, app in after.items():
        if address not in before and app in stay:
            yield Change("listener_added", f"app {app}: listener {address} added", app, str(address))


def _app_changes(old: App, new: App) -> Iterator[Change]:
    if old is new:  # nearly all, in a reload of one change
        return
    for key, before, after in _differences(old, new):
        if key not in ("listeners", "targets"):
            text = f"app {new.name}: {key}: {shown(_readable(key, before))} -> {shown(_readable(key, after))}"
            yield Change("app_changed", text, new.name, key=key)
    pairs = match_targets(old.targets, new.targets)
    if _is_reordered(old, pairs):
        yield Change("app_changed", f"app {new.name}: its targets are in another order", new.name, key="targets")
    for was, target in pairs:
        if target is None:
            assert was is not None
            text = f"app {new.name}: target {was.name} removed; its sessions go on to their end"
            yield Change("target_removed", text, new.name, was.name)
        elif was is None:
            yield Change("target_added", f"app {new.name}: target {target.name} added", new.name, target.name)
        else:
            for key, before, after in _differences(was, target):
                text = f"app {new.name}: target {was.name}: {key}: {shown(before)} -> {shown(after)}"
                yield Change("target_changed", text, new.name, was.name, key)


def _is_reordered(old: App, pairs: Iterable[Pair]) -> bool:
    """Whether those that stay are; a new one is a difference of its own, wherever it stands."""
    places = {target.name: number for number, target in enumerate(old.targets)}
    order = [places[was.name] for was, now in pairs if was is not None and now is not None]
    return any(one > other for one, other in itertools.pairwise(order))


def _differences(old: Any, new: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(key, before, after) of two values of one dataclass; keys of an object within are written log.level."""
    for field in dataclasses.fields(old) if old is not new else ():
        before, after = getattr(old, field.name), getattr(new, field.name)
        key = prefix + field.name
        if before == after or not field.compare:
            continue
        if _is_group(before) and type(before) is type(after):
            yield from _differences(before, after, f"{key}.")
        else:
            yield key, before, after


def _is_group(value: Any) -> bool:
    """A few named values; an address is one."""
    return dataclasses.is_dataclass(value) and type(value).__str__ is object.__str__


# -- in words


def shown(value: Any) -> str:
    """A value as in the file, near enough for a person."""
    if value is None:
        return "none"
    if isinstance(value, Check):
        return _check(value)
    if isinstance(value, tuple):
        return f"[{', '.join(map(shown, value))}]"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        if not _is_group(value):
            return str(value)
        names = [field.name for field in dataclasses.fields(value) if field.repr]
        members = (f"{name}: {shown(_readable(name, getattr(value, name)))}" for name in names)
        return f"{{{', '.join(members)}}}"
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value, ensure_ascii=False, default=str)


def _readable(key: str, value: Any) -> Any:
    """Without what the variables of scripts hold, and headers."""
    if key == "tracing.headers" or (key == "headers" and isinstance(value, tuple)):
        return tuple(name for name, _ in value)
    return without_values(value) if key.rpartition(".")[2] == "environment" and isinstance(value, tuple) else value


def _check(check: Check) -> str:
    """Its type, and what is not as usual."""
    plain, check = Check(type=check.type), without_secrets(check)
    return " ".join([check.type, *(f"{key}={shown(value)}" for key, _, value in _differences(plain, check))])


def _many(noun: str, items: Collection[Any]) -> str:
    return noun if len(items) == 1 else f"{noun}s"


def _listed(items: Iterable[Any]) -> str:
    names = list(map(str, items))
    more = len(names) - NOT_SHOWN
    return ", ".join(names[:NOT_SHOWN]) + (f" and {more} more" if more > 0 else "")
