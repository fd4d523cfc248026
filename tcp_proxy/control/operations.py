"""All operations that the management API may ask of the supervisor, put together from the parts that do them.

Main thread only; made once, at the start, and only where there is an API.
"""

from collections.abc import Callable

from tcp_proxy.control.answers.administration import Administration
from tcp_proxy.control.answers.all_statistics import all_statistics
from tcp_proxy.control.answers.cluster import ClusterOrders
from tcp_proxy.control.answers.faults import FaultOrders
from tcp_proxy.control.answers.lists import Lists
from tcp_proxy.control.answers.moving import moving
from tcp_proxy.control.answers.orders import Orders
from tcp_proxy.control.answers.sessions import Questions
from tcp_proxy.control.answers.sticky import StickOrders
from tcp_proxy.control.changes.operator import Operator
from tcp_proxy.control.context import Context
from tcp_proxy.control.failover.all_apps import Failovers
from tcp_proxy.control.long_answer import Parts
from tcp_proxy.control.replies import Arguments, InTurn, Operation
from tcp_proxy.control.statistics.samples import Samples
from tcp_proxy.control.statistics.totals import Statistics
from tcp_proxy.control.store.durable import Durable
from tcp_proxy.control.store.state import State


def administration(
    context: Context,
    questions: Questions,
    operator: Operator,
    failovers: Failovers,
    statistics: Statistics,
    store: State,
    state: Callable[[], str],
    more: dict[str, Operation],
) -> Administration:
    """`state()`: starting, serving or stopping. `more`: operations of others."""
    looking = Lists(context, questions, state, statistics.started, operator.overrides)
    orders = Orders(operator, Durable(context.loop, store).answer, context.slices)
    operations = {**looking.operations(), **orders.operations()}
    operations |= failovers.operations() | StickOrders(context).operations() | moving(context) | more
    operations |= FaultOrders(context).operations() | ClusterOrders(context).operations()

    def counted(arguments: Arguments) -> Parts:
        return all_statistics(context, statistics, failovers.statistics(), store, arguments.get("brief", False))

    operations["statistics"] = InTurn(counted)
    samples = Samples(context.counter_rows.memory, context.counter_rows.slots, context.targets)
    operations["samples"] = InTurn(lambda _: samples.take())
    return Administration(operations, context.slices)
