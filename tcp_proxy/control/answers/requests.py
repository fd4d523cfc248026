"""What became of a request in mode http, in plain sentences. Pure: a view of it in, text out."""

from dataclasses import asdict
from typing import Any

from tcp_proxy.control.answers.why import attempts, bytes_text, seconds_text
from tcp_proxy.runtime.log import utc
from tcp_proxy.wire.inquiries import RequestView

View = dict[str, Any]


def view(incarnation: str, known: RequestView) -> View:
    """As the API has it: with the ids that the access log has, and the first line in its parts."""
    found = asdict(known)
    session = f"{incarnation}-{found.pop('session')}"
    session, number, line = found.pop("session_id") or session, found.pop("number"), found.pop("line")
    method, _, rest = line.partition(" ")
    path, _, version = rest.rpartition(" ")
    if not path:  # cut, or no request line at all
        path, version = version, ""
    return {
        "id": f"{session}-{number}",
        "session": session,
        "own_id": found.pop("own_id") or None,
        "method": method,
        "path": path,
        "version": version,
        **found,
        "tried": list(found["tried"]),
        "target": known.target or None,
        "status": known.status or None,
        "answer_seconds": known.answer_seconds if known.answer_seconds >= 0 else None,
        "ended_at": known.ended_at or None,
        "reason": known.reason or None,
        "error": known.error or None,
    }


def story(found: View) -> str:
    line = " ".join(filter(None, (found["method"], found["path"], found["version"]))) or "no request line"
    ended_at, seconds = found["ended_at"], found["seconds"]
    when = f"at {utc(ended_at - seconds)}" if ended_at else f"{seconds_text(seconds)} ago"
    lines = [f"Request {found['id']} of app {found['app']}: {line}"]
    lines.append(f"It came {when} from {found['client']} by listener {found['listener']}, in session {found['session']}.")
    if found["own_id"]:
        lines.append(f"Its client calls it {found['own_id']} (X-Request-ID).")
    lines += attempts(found)
    lines.append(_answer(found))
    lines.append(
        f"{bytes_text(found['bytes_up'])} of its body went to the target, {bytes_text(found['bytes_down'])} of the answer's "
        "came back."
    )
    if found["reason"] is None:
        return "\n".join([*lines, "It goes on."])
    lines.append(f"It was over at {utc(found['ended_at'])}, after {seconds_text(found['seconds'])}.")
    return "\n".join([*lines, f"(reason: {found['reason']})"])


def _answer(found: View) -> str:
    target, status = found["target"], found["status"]
    if found["error"] and status:
        given = f" It had been given to target {target}." if target else ""
        return f"The proxy answered with the status {status}: {found['error']}.{given}"
    if status is not None and target is None:
        return f"The proxy answered with the status {status}."
    if status is not None:
        after = "" if found["answer_seconds"] is None else f" after {seconds_text(found['answer_seconds'])}"
        return f"Target {target} answered with the status {status}{after}."
    if found["error"]:
        return f"It was not answered: {found['error']}."
    return f"Target {target} has not answered." if target else "No target has it, and nothing was answered."
