"""Which executables are to be run when a primary has been found. Looked for afresh each time: folders change."""

import logging
import os
from collections.abc import Iterable

logger = logging.getLogger(__name__)


def trigger_files(app: str, paths: Iterable[str]) -> list[str]:
    """What is to be warned of goes to the log."""
    files, warnings = find_triggers(paths)
    for warning in warnings:
        logger.warning("app %s: %s", app, warning)
    return files


def find_triggers(paths: Iterable[str]) -> tuple[list[str], list[str]]:
    """The files to run, in order: each path, or what is executable in it, by name; and what is to be warned of."""
    files: list[str] = []
    warnings: list[str] = []
    for path in paths:
        if not os.path.isdir(path):
            files.append(path)
            continue
        try:
            names = sorted(os.listdir(path), key=os.fsencode)
        except OSError as error:
            warnings.append(f"triggers {path}: {(error.strerror or str(error)).lower()}")
            continue
        for file in (os.path.join(path, name) for name in names):
            if os.path.isfile(file) and os.access(file, os.X_OK):
                files.append(file)
            else:
                what = "not executable" if os.path.isfile(file) else "no regular file"
                warnings.append(f"triggers {path}: {os.path.basename(file)} is left out: it is {what}")
    return files, warnings
