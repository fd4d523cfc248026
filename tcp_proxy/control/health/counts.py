"""How the health checks of each target have come out so far.

Filled by the health threads, read by the supervisor's main thread. No lock is needed: a key belongs to one app, an app has
one health thread at a time, and a dict is copied in one step. It outlives the threads, so a reload does not reset it.
"""

from typing import Any, Final

from tcp_proxy.control.health.probe import owner_of

SUCCESS: Final = "success"
FAILURE: Final = "failure"
ERROR: Final = "error"  # of this machine: no verdict on the target
RESULTS = (SUCCESS, FAILURE, ERROR)


class ProbeCounts:
    """A round of a check counts once, however many addresses the target has."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], dict[tuple[str, str], int]] = {}
        self._before: dict[tuple[str, str], dict[tuple[str, str], int]] = {}  # of a program that was taken over

    def __repr__(self) -> str:
        return f"<ProbeCounts of {len(self._counts)} targets>"

    def add(self, app: str, target: str, check: str, success: bool | None) -> None:
        """In the app's health thread. `success`: None for an error of this machine."""
        result = ERROR if success is None else SUCCESS if success else FAILURE
        counts = self._counts.setdefault((app, owner_of(target)), {})
        counts[check, result] = counts.get((check, result), 0) + 1

    def of(self, app: str, target: str) -> dict[str, dict[str, int]]:
        """check -> result -> rounds"""
        found: dict[str, dict[str, int]] = {}
        if (app, target) not in self._counts and not self._before:
            return found
        for counts in (self._before, self._counts) if self._before else (self._counts,):
            for (check, result), count in counts.get((app, target), {}).copy().items():
                found.setdefault(check, dict.fromkeys(RESULTS, 0))[result] += count
        return found

    def given(self) -> list[list[Any]]:
        """For a program that takes over."""
        owners = {**self._before, **self._counts.copy()}
        return [
            [*owner, check, result, count]
            for owner in owners
            for check, results in self.of(*owner).items()
            for result, count in results.items()
        ]

    def take(self, given: list[list[Any]]) -> None:
        """In the main thread. What has been counted since we began comes on top."""
        for app, target, check, result, count in given:
            self._before.setdefault((app, target), {})[check, result] = count

    def rename(self, app: str, old: str, new: str) -> None:
        """In the main thread: a target has another name; its health thread will hear of it."""
        for all_counts in (self._counts, self._before):
            counts = all_counts.pop((app, old), {})
            if counts:
                into = all_counts.setdefault((app, new), {})
                for key, count in counts.copy().items():
                    into[key] = into.get(key, 0) + count

    def keep(self, owners: set[tuple[str, str]]) -> None:
        """In the main thread: forget all but these (app, target), and those that a thread is just adding."""
        for key in (self._counts.copy().keys() | self._before.keys()) - owners:
            self.forget(*key)

    def forget(self, app: str, target: str) -> None:
        """In the main thread."""
        self._counts.pop((app, target), None)
        self._before.pop((app, target), None)
