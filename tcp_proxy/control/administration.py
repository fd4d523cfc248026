"""What the management API may ask of the supervisor: operations by name, each a method that answers or refuses.

Main thread only. An operation takes the arguments of a question and returns the body of the answer, raises Refused, or
returns Later, for an answer that others have to give first. Whatever else goes wrong in one is a mistake of ours: it is
logged, the question is answered with 500, and the supervisor goes on.
"""

import json
import logging
import traceback
from collections.abc import Callable, Mapping
from typing import Any

logger = logging.getLogger(__name__)

Arguments = Mapping[str, Any]
Operation = Callable[[Arguments], Any]
Reply = Callable[[int, Any], None]


class Refused(Exception):
    """The answer is an error: an HTTP status, a sentence, and the single complaints, if there are several."""

    def __init__(self, status: int, detail: str, errors: list[dict[str, Any]] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors or []

    @property
    def body(self) -> dict[str, Any]:
        return {"detail": self.detail, "errors": self.errors}


class Later:
    """An answer that comes when `answer` or `refuse` is called."""

    def __init__(self) -> None:
        self._reply: Reply | None = None
        self._done: tuple[int, Any] | None = None

    def answer(self, body: Any) -> None:
        self._settle(200, body)

    def refuse(self, refused: Refused) -> None:
        self._settle(refused.status, refused.body)

    def to(self, reply: Reply) -> None:
        self._reply = reply
        if self._done is not None:
            reply(*self._done)

    def _settle(self, status: int, body: Any) -> None:
        if self._done is None:
            self._done = status, body
            if self._reply is not None:
                self._reply(status, body)


class Administration:
    """`operations`: by name."""

    def __init__(self, operations: Mapping[str, Operation]) -> None:
        self._operations = operations

    def __repr__(self) -> str:
        return f"<Administration of {len(self._operations)} operations>"

    def ask(self, operation: str, arguments: str, reply: Reply) -> None:
        """`reply(status, body)` is called once, now or later."""
        known = self._operations.get(operation)
        if known is None:
            reply(501, Refused(501, f"this version knows no operation {operation}").body)
            return
        try:
            found = known(json.loads(arguments))
        except Refused as refused:
            reply(refused.status, refused.body)
        except Exception as error:  # noqa: BLE001  a mistake in one operation must not end the supervisor
            logger.error("internal error, please report it: %s", "".join(traceback.format_exception(error)))  # noqa: TRY400
            reply(500, Refused(500, f"the operation {operation} failed; the log has the details").body)
        else:
            if isinstance(found, Later):
                found.to(reply)
            else:
                reply(200, found)
