"""Where logs go to, as the configuration names it: what the schema cannot say.

Pure; the supervisor's process only.
"""

from tcp_proxy.config.log_model import STDERR
from tcp_proxy.config.positions import Path, shown
from tcp_proxy.config.report import Report
from tcp_proxy.config.values import Plain
from tcp_proxy.sansio.syslog import is_syslog, parse


def check_access_log(plain: Plain, path: Path, report: Report) -> None:
    """At the top, or of an app."""
    text = plain.get("access_log") or ""
    if "\0" in text:
        report.value((*path, "access_log"), "a zero character in a path")
    if is_syslog(text):
        _check_syslog(text, (*path, "access_log"), report)


def check_log(plain: Plain | None, report: Report) -> None:
    """The program's own."""
    text = (plain or {}).get("to")
    if text is not None and text != STDERR:
        _check_syslog(text, ("log", "to"), report)


def _check_syslog(text: str, path: Path, report: Report) -> None:
    try:
        parse(text)
    except ValueError as error:
        report.value(path, f"found {shown(text)}: {error}")
