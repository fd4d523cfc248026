"""Why a new program cannot take over, told to the old one that has started it: a pipe, named in the environment.

Any thread of the new program, until it is the owner; nothing happens where there is no such pipe.
"""

import contextlib
import os

VARIABLE = "TCP_PROXY_UPGRADE_REPORT"


def say(text: str) -> None:
    """Beside standard error."""
    if VARIABLE in os.environ:
        with contextlib.suppress(OSError, ValueError):
            os.write(int(os.environ[VARIABLE]), f"{text}\n".encode("utf-8", "backslashreplace")[:4096])


def close() -> None:
    """There is nothing more to say; scripts do not hear of it."""
    fd = os.environ.pop(VARIABLE, "")
    if fd:
        with contextlib.suppress(OSError, ValueError):
            os.close(int(fd))
