"""What a worker is told of big apps, and of many, before the message that they belong to: kept until it comes.

The worker's loop thread only. While there is much of it garbage is not searched for (runtime.memory): that would look at all
of it, again and again, and sessions would wait.
"""

import dataclasses
from collections.abc import Iterator

from tcp_proxy.runtime import memory
from tcp_proxy.sansio.share import AT_ONCE
from tcp_proxy.wire.messages import AppPart, Apps, Configure, Snapshot, Targets
from tcp_proxy.wire.views import AppView, TargetView


class Staged:
    def __init__(self) -> None:
        self._targets: dict[str, list[TargetView]] = {}
        self._apps: list[AppView] = []
        self._parts: list[AppPart] = []
        self._count = 0  # of targets, since the last such message
        self._is_much = False

    def __repr__(self) -> str:
        return f"<Staged {len(self._apps) + len(self._parts)} apps, {sum(map(len, self._targets.values()))} targets>"

    def take_targets(self, message: Targets, _descriptors: list[int]) -> None:
        self._targets.setdefault(message.app, []).extend(message.targets)
        self._counted(len(message.targets))

    def take_apps(self, message: Apps, _descriptors: list[int]) -> None:
        self._counted(sum(len(view.targets) for view in (*message.apps, *(part.view for part in message.parts))))
        self._apps += map(self._whole, message.apps)
        self._parts += (dataclasses.replace(part, view=self._whole(part.view)) for part in message.parts)

    def all_of(self, message: Snapshot | Configure) -> Iterator[tuple[AppView, AppPart | None]]:
        """Each app with what is different of it, where that is not all; what came before is kept no longer."""
        self.take_apps(Apps(message.apps, message.parts if isinstance(message, Configure) else ()), [])
        apps, self._apps = self._apps, []
        parts, self._parts = self._parts, []
        yield from ((view, None) for view in apps)
        yield from ((part.view, part) for part in parts)

    def done(self) -> None:
        """The message that it belonged to has been obeyed, or never will be."""
        self._count = 0
        if self._is_much:
            self._is_much = False
            memory.release_collection()

    def _counted(self, targets: int) -> None:
        self._count += targets
        if self._count > AT_ONCE and not self._is_much:
            self._is_much = True
            memory.hold_collection()

    def _whole(self, view: AppView) -> AppView:
        """With the targets that came before it."""
        before = self._targets.pop(view.name, ())
        return dataclasses.replace(view, targets=(*before, *view.targets)) if before else view
