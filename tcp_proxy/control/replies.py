"""How an operation of the management API is answered: with a body, with an error, or later; at once, or when its turn comes.

Values of the main thread, without knowledge of any operation; `answers` has those.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from tcp_proxy.sansio.frozen_dataclass import dataclass

Arguments = Mapping[str, Any]
Operation = Callable[[Arguments], Any]
Reply = Callable[[int, Any], None]


class Refused(Exception):
    """The answer is an error: an HTTP status, a sentence, and the single self_reports, if there are several."""

    def __init__(self, status: int, detail: str, errors: list[dict[str, Any]] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors or []

    @property
    def body(self) -> dict[str, Any]:
        return {"detail": self.detail, "errors": self.errors}


@dataclass(frozen=True, slots=True)
class InTurn:
    """An operation that is done after those of its kind that were asked before, and in slices if its body is long
    (control.long_answer): what it reads, no other of its kind changes meanwhile."""

    operation: Operation

    def __call__(self, arguments: Arguments) -> Any:
        return self.operation(arguments)


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


class Written(Protocol):
    """The way of an answer: a status, and the body as JSON text, which may come in pieces."""

    def __call__(self, status: int, text: str, *, more: bool = False) -> None: ...


class Operations(Protocol):
    """What the API's process may ask."""

    def ask(self, operation: str, arguments: str, written: Written) -> None:
        """`arguments` is JSON; `written` is called now or later, `more` times and once."""
