"""The log: one line per event on stderr, text or JSON, UTC with milliseconds. Both wings may set it up.

A line is one line whatever a message holds; a stderr that is broken or gone never raises.
"""

import json
import logging
import sys
import time

from tcp_proxy.config.model import Log


class TextFormatter(logging.Formatter):
    """2026-11-21T07:33:44.123Z INFO  message"""

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return f"{utc(record.created)} {record.levelname:<7} {one_line(text)}"


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, logger, thread, message, and the exception if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": utc(record.created),
            "level": record.levelname,
            "logger": record.name,
            "thread": record.threadName,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)  # ASCII: some control characters and line ends are not


def setup(config: Log) -> None:
    """Send everything of `config.level` and above to stderr; replaces an earlier set-up."""
    logging.raiseExceptions = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if config.format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(config.level.upper())


def utc(seconds: float) -> str:
    """Unix time as 2026-11-21T07:33:44.123Z."""
    milliseconds = round(seconds * 1000)
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(milliseconds // 1000))
    return f"{whole}.{milliseconds % 1000:03d}Z"


def one_line(text: str) -> str:
    r"""Line ends and other control characters as \n, \x1b …: nobody writes lines of his own into a log."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
