"""The log: one line per event on stderr, or to a syslog server, text or JSON, UTC with milliseconds. Control and dataplane
may set it up.

The supervisor sets it up; its children say what they have to say over their channels, or to a standard error that the
supervisor reads. A line is one line whatever a message holds; a stderr that is broken or gone never raises, and one that
nobody reads holds up nobody (log_writer), nor does a syslog server that is away (syslog_writer).
"""

import json
import logging
import os
import sys
import time
from functools import lru_cache
from typing import TYPE_CHECKING

from tcp_proxy.config.log_model import STDERR, Log
from tcp_proxy.runtime.log_writer import LogStream, LogWriter

if TYPE_CHECKING:
    from tcp_proxy.runtime.syslog_writer import SyslogWriter

LOST = "%d lines of the log are missing here: standard error did not take them"
LOST_AT_SYSLOG = "%d lines of the log are missing here: the syslog server did not take them"


class TextFormatter(logging.Formatter):
    """2026-11-21T07:33:44.123Z INFO  message"""

    def format(self, record: logging.LogRecord) -> str:
        return f"{utc(record.created)} {record.levelname:<7} {self.message(record)}"

    def message(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return one_line(text)


class MessageFormatter(TextFormatter):
    """Without the time and the level, which a syslog message has in its header."""

    def format(self, record: logging.LogRecord) -> str:
        return self.message(record)


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


class Handler(logging.Handler):
    """Formats in the thread that logs, and has the line written in another one."""

    writer: "LogWriter | SyslogWriter"

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.writer.put(self.line(record))
        except Exception:  # noqa: BLE001  arguments that do not fit
            self.handleError(record)

    def flush(self) -> None:
        """At the end of the program, by logging.shutdown."""
        self.writer.flush()

    def close(self) -> None:
        self.writer.stop()
        super().close()

    def line(self, record: logging.LogRecord) -> bytes:
        raise NotImplementedError


class StderrHandler(Handler):
    def __init__(self, fd: int) -> None:
        super().__init__()
        self.writer = self.lines = LogWriter(fd, lambda count: self.line(_warning(LOST, count)))

    def line(self, record: logging.LogRecord) -> bytes:
        return self.format(record).encode(errors="backslashreplace") + b"\n"


class SyslogHandler(Handler):
    """What is to be said of the server is said on stderr."""

    def __init__(self, to: str, stderr: StderrHandler | None) -> None:
        from tcp_proxy.runtime.syslog_writer import SyslogWriter  # noqa: PLC0415  nobody else pays for it
        from tcp_proxy.sansio import syslog  # noqa: PLC0415

        super().__init__()
        self.to = to
        self.stderr = stderr
        self._receiver = syslog.parse(to)
        self._host = os.uname().nodename
        self._severities = {
            logging.ERROR: syslog.ERROR, logging.WARNING: syslog.WARNING, logging.INFO: syslog.INFO,
            logging.DEBUG: syslog.DEBUG,
        }  # fmt: skip
        self._header, self._message = syslog.header, syslog.message
        self.writer = SyslogWriter(self._receiver, lambda count: self.line(_warning(LOST_AT_SYSLOG, count)), self._say)

    def line(self, record: logging.LogRecord) -> bytes:
        severity = self._severities.get(record.levelno, self._severities[logging.ERROR])
        head = self._header(self._receiver, self._host, os.getpid(), utc(record.created), severity)
        return self._message(head, self.format(record).encode(errors="backslashreplace"))

    def _say(self, text: str) -> None:
        if self.stderr is not None:
            self.stderr.emit(_warning("log.to %s: %s", self.to, text))


def _warning(message: str, *args: object) -> logging.LogRecord:
    values = {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING", "msg": message, "args": args}
    return logging.makeLogRecord(values)


def setup(config: Log) -> None:
    """Send everything of `config.level` and above where `config.to` says, and what else is written to stderr the way of the
    log; replaces an earlier set-up. Raises OSError when the machine has no thread left."""
    logging.raiseExceptions = False
    root = logging.getLogger()
    before = next((known for known in root.handlers if isinstance(known, SyslogHandler)), None)
    first = next((known for known in root.handlers if isinstance(known, StderrHandler)), None)
    stderr = first or (before.stderr if before is not None else _begin())
    is_json = config.format == "json"
    if stderr is not None:
        stderr.setFormatter(JsonFormatter() if is_json else TextFormatter())
    if config.to == STDERR:
        root.handlers[:] = [stderr or logging.NullHandler()]
    elif before is not None and before.to == config.to:
        before.setFormatter(JsonFormatter() if is_json else MessageFormatter())
        before = None
    else:
        handler = SyslogHandler(config.to, stderr)
        handler.setFormatter(JsonFormatter() if is_json else MessageFormatter())
        _start(handler.writer)
        root.handlers[:] = [handler]
    if before is not None:
        before.close()
    root.setLevel(config.level.upper())


def _begin() -> StderrHandler | None:
    """None when nobody gave us a stderr."""
    if sys.stderr is None:
        return None
    handler = StderrHandler(sys.stderr.fileno())
    _start(handler.writer)
    sys.stderr = LogStream(handler.lines)
    return handler


def _start(writer: "LogWriter | SyslogWriter") -> None:
    try:
        writer.start()
    except RuntimeError as error:
        raise OSError(f"no thread for the log: {error}") from None


def utc(seconds: float) -> str:
    """Unix time as 2026-11-21T07:33:44.123Z."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return f"{_whole_seconds(whole)}.{milliseconds:03d}Z"


@lru_cache(4)
def _whole_seconds(at: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))


def one_line(text: str) -> str:
    r"""Line ends and other control characters as \n, \x1b …: nobody writes lines of his own into a log."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
