"""The apps of the file as it was read last, so that a reload builds those that are others now and takes the rest as it is.

The supervisor's process only; whichever thread reads the file has it. Kept are what was built and, of what stood in the
file, 64 bits of a hash with a key of this process. An app that names other files is not known: those may be others.
"""

import marshal
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tcp_proxy.config.model import App

PLAIN = 2  # the version of marshal in which equal values are equal bytes


class LastFile:
    def __init__(self) -> None:
        self.files: tuple[str, ...] = ()  # that were read with it: included ones, their folder, and secrets
        self._apps: dict[int, App] = {}  # by the hash of what stood in the file

    def __repr__(self) -> str:
        return f"<LastFile of {len(self._apps)} apps>"

    def known(self, plain: Any) -> "tuple[list[Any], list[int]]":
        """Each app of a file, built or as it stands there, and what it is kept by. The first is never known, so that there
        is always one for the schema to judge. Raises ValueError."""
        hashes = [hash(marshal.dumps(app, PLAIN)) for app in plain]
        return [*plain[:1], *(self._apps.get(by, app) for by, app in zip(hashes[1:], plain[1:], strict=True))], hashes

    def keep(self, hashes: Sequence[int], apps: "Sequence[App]") -> None:
        self._apps = {by: app for by, app in zip(hashes, apps, strict=True) if not _names_files(app)}


def _names_files(app: "App") -> bool:
    """Whether what it becomes depends on more than what stands there."""
    checks = [*app.health, *(check for target in app.targets for check in target.health or ())]
    has_files = app.tls is not None or app.access is not None or app.has_primary
    return has_files or any(target.tls is not None for target in app.targets) or any(check.command for check in checks)
