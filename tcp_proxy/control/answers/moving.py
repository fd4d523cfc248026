"""The operation of the management API that moves live sessions from one worker to another.

Main thread only; control.processes.session_moves does it.
"""

from functools import partial
from typing import Any

from tcp_proxy.control.context import Context
from tcp_proxy.control.processes.workers import Worker
from tcp_proxy.control.replies import Arguments, Later, Operation, Refused
from tcp_proxy.wire.moves import SessionsMoved


def moving(context: Context) -> dict[str, Operation]:
    return {"rebalance": partial(_rebalance, context)}


def _rebalance(context: Context, arguments: Arguments) -> Any:
    """{"moves": who gave to whom, "workers": what each that serves has now, "replaced": the one that is emptied}."""
    index = arguments["empty"]
    if context.worker_pool.is_stopping:
        raise Refused(409, "the program ends")
    if index is None:
        later = Later()
        context.session_moves.even_out(lambda found: later.answer(_body(context, found, None)))
        return later
    worker = context.session_moves.replace(index)
    if worker is None:
        raise Refused(404, f"there is no worker {index}")
    return _body(context, [], worker)


def _body(context: Context, found: list[tuple[Worker, Worker, SessionsMoved]], replaced: Worker | None) -> dict[str, Any]:
    moves = [
        {"from": giver.index, "to": taker.index, "moved": told.moved, "refused": told.refused, "why": told.why}
        for giver, taker, told in found
    ]
    return {
        "moves": moves,
        "workers": [_worker(context, worker) for worker in context.worker_pool.ready],
        "replaced": _worker(context, replaced) if replaced is not None else None,
    }


def _worker(context: Context, worker: Worker) -> dict[str, Any]:
    return {"worker": worker.index, "pid": worker.pid, "sessions": context.counter_rows.sessions(worker)}
