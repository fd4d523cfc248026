"""Other programs' configurations become ours: HAProxy's by its sections, everything else is tcpffee's TOML."""

import json
from collections.abc import Mapping

from tcp_proxy.config import tcpffee
from tcp_proxy.config.files import PIPE_WAIT, read_file
from tcp_proxy.config.haproxy.document import convert
from tcp_proxy.config.haproxy.text import is_one
from tcp_proxy.config.load import load_text
from tcp_proxy.config.report import CannotImport, ConfigErrors


def imported(path: str, environment: Mapping[str, str]) -> tuple[str, list[str]]:
    """The document as text, and what is to be said of it; the last of that is what still keeps it from starting, if anything
    does. Raises CannotImport, and ConfigErrors for what is wrong in tcpffee's."""
    try:
        text = read_file(path, tcpffee.MAX_SIZE, PIPE_WAIT).decode()
    except OSError as error:
        raise CannotImport(f"{path}: {error.strerror or error}") from None
    except ValueError as error:  # not in UTF-8, or not even a path
        raise CannotImport(f"{path}: this is no text: {error}") from None
    if not is_one(text):
        _, document, notes = tcpffee.judged(path, tcpffee.parsed(path, text), environment)
        return document, notes
    try:
        found, notes = convert(text)
    except CannotImport as error:
        raise CannotImport(f"{path}: {error}") from None
    document = json.dumps(found, indent=2) + "\n"
    try:
        load_text(document.encode(), f"{path}, imported")
    except ConfigErrors as errors:
        notes += [f"still to be mended: {error}" for error in errors.errors]
    return document, notes
