"""What a shell asks when TAB is pressed: the program is started, says what may come next, and does nothing else.

`argcomplete` answers (extra `completion`); packaging/completion has what shells are told. Without it there is no answer, and
above all nothing is done: a TAB must never start a proxy.
"""

import argparse
import os

ASKED = "_ARGCOMPLETE"  # in the environment then


def is_asked() -> bool:
    return ASKED in os.environ


def answer(parser: argparse.ArgumentParser) -> int:
    """The exit status, where nobody can answer."""
    try:
        import argcomplete  # noqa: PLC0415  an extra, loaded when a shell asks
    except ImportError:
        return 1
    argcomplete.autocomplete(parser)
    return 1
