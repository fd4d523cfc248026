"""What the management API may ask of the supervisor: operations by name, each a method that answers or refuses.

Main thread only. An operation takes the arguments of a question and returns the body of the answer, raises Refused, or
returns Later, for an answer that others have to give first. One that is InTurn is asked when those before it are done, and
its body is written in slices. Whatever else goes wrong in one is a mistake of ours: it is logged, the question is answered
with 500, and the supervisor goes on.
"""

import json
import logging
import traceback
from collections.abc import Iterator, Mapping
from typing import Any

from tcp_proxy.control.long_answer import Long, LongMap, Parts, pieces
from tcp_proxy.control.replies import InTurn, Later, Operation, Refused, Written
from tcp_proxy.control.slices import Slices

logger = logging.getLogger(__name__)


class Administration:
    """`operations`: by name."""

    def __init__(self, operations: Mapping[str, Operation], slices: Slices) -> None:
        self._operations = operations
        self._slices = slices

    def __repr__(self) -> str:
        return f"<Administration of {len(self._operations)} operations, {self._slices!r}>"

    def ask(self, operation: str, arguments: str, written: Written) -> None:
        """`written(status, text)` is called once, now or later; before that with pieces of the text, and `more`."""
        known = self._operations.get(operation)
        if known is None:
            written(501, _text(Refused(501, f"this version knows no operation {operation}").body))
        elif isinstance(known, InTurn) or self._slices.is_hidden:
            self._slices.do(self._do(known, operation, arguments, written))
        else:
            for _ in self._do(known, operation, arguments, written):
                pass

    def _do(self, known: Operation, operation: str, arguments: str, written: Written) -> Iterator[None]:
        def refused(refusal: Refused) -> None:
            written(refusal.status, _text(refusal.body))

        try:
            found = known(json.loads(arguments))
            if isinstance(found, Later):
                found.to(lambda status, body: self._answer(operation, status, body, written))
            else:
                yield from _pieces(200, found, written)
        except Refused as refusal:
            refused(refusal)
        except Exception as error:  # noqa: BLE001  a mistake in one operation must not end the supervisor
            refused(_bug(operation, error))

    def _answer(self, operation: str, status: int, body: Any, written: Written) -> None:
        """It came later."""
        if isinstance(body, Long | LongMap | Parts):
            self._slices.do(self._do(lambda _: body, operation, "{}", written))
        else:
            written(status, _text(body))


def _pieces(status: int, body: Any, written: Written) -> Iterator[None]:
    before = None
    for text in pieces(body):
        if before is not None:
            written(status, before, more=True)
            yield
        before = text
    written(status, before or "")


def _bug(operation: str, error: Exception) -> Refused:
    logger.error("internal error, please report it: %s", "".join(traceback.format_exception(error)))
    return Refused(500, f"the operation {operation} failed; the log has the details")


def _text(body: Any) -> str:
    return "".join(pieces(body))
