"""One target becomes another one, comes or leaves, by what was said at run time: at once, in one turn, all of it or nothing.

Main thread only. What a transition to the whole configuration with it would do (control.changes.transition), at the cost of
one target, however many there are. No listener, app or setting changes.
"""

import dataclasses

from tcp_proxy.config import delta
from tcp_proxy.config.diff import place
from tcp_proxy.config.model import App, Target
from tcp_proxy.config.together import contradiction_of
from tcp_proxy.control.changes.transition import CannotApply, require_descriptors
from tcp_proxy.control.changes.worker_updates import WorkerUpdates
from tcp_proxy.control.context import Context


def change_target(context: Context, worker_updates: WorkerUpdates, app: App, was: Target | None, now: Target | None) -> None:
    """Raises CannotApply. `app` is one that runs; None: the target was not there, or is not to be."""
    if was == now:
        return
    new_app, one = delta.of_target(app, was, now)
    apps = tuple(new_app if other is app else other for other in context.config.apps)
    new = dataclasses.replace(context.config, apps=apps)
    try:
        if now is not None and (was is None or place(was) != place(now) or was.health != now.health):
            fault = contradiction_of(new, new_app, now)
            if fault:
                raise OSError(fault)
        if now is not None and now.max_connections and (was is None or was.max_connections != now.max_connections):
            require_descriptors(context, new)
        answers, at = context.states.answers(), context.loop.now
        changed = context.targets.configure([one], context.generation + 1, answers, at)
    except OSError as error:
        raise CannotApply(str(error)) from None
    context.generation += 1
    context.config = new
    message = worker_updates.configuration(changed)
    for worker in context.worker_pool.introduced:
        context.worker_pool.tell(worker, lambda one: worker_updates.configure(one, message, changed))
    context.states.apply(changed)
    context.changed()
