"""How the health checks of each target have come out so far.

Filled by the health threads, read by the supervisor's main thread. No lock is needed: a key belongs to one app, an app has
one health thread at a time, and a dict is copied in one step. It outlives the threads, so a reload does not reset it.
"""

from typing import Final

from tcp_proxy.control.health.probe import owner_of

SUCCESS: Final = "success"
FAILURE: Final = "failure"
ERROR: Final = "error"  # of this machine: no verdict on the target
RESULTS = (SUCCESS, FAILURE, ERROR)


class ProbeCounts:
    """A round of a check counts once, however many addresses the target has."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, str, str], int] = {}

    def __repr__(self) -> str:
        return f"<ProbeCounts of {len(self._counts)} kinds of results>"

    def add(self, app: str, target: str, check: str, success: bool | None) -> None:
        """In the app's health thread. `success`: None for an error of this machine."""
        result = ERROR if success is None else SUCCESS if success else FAILURE
        key = app, owner_of(target), check, result
        self._counts[key] = self._counts.get(key, 0) + 1

    def all(self) -> dict[tuple[str, str], dict[str, dict[str, int]]]:
        """(app, target) -> check -> result -> rounds"""
        found: dict[tuple[str, str], dict[str, dict[str, int]]] = {}
        for (app, target, check, result), count in self._counts.copy().items():
            found.setdefault((app, target), {}).setdefault(check, dict.fromkeys(RESULTS, 0))[result] = count
        return found

    def rename(self, app: str, old: str, new: str) -> None:
        """In the main thread: a target has another name; its health thread will hear of it."""
        for key in tuple(self._counts.copy()):
            if key[:2] == (app, old):
                renamed = app, new, *key[2:]
                self._counts[renamed] = self._counts.get(renamed, 0) + self._counts.pop(key)

    def keep(self, owners: set[tuple[str, str]]) -> None:
        """In the main thread: forget all but these (app, target), and those that a thread is just adding."""
        for key in tuple(self._counts.copy()):
            if key[:2] not in owners:
                self._counts.pop(key, None)
