"""The statistics of the whole program, as the API's process asks for them: what is counted, and what is known beside it.

Main thread only.
"""

from typing import Any

from tcp_proxy.control.answers.tls_views import expiry, lists
from tcp_proxy.control.context import Context
from tcp_proxy.control.long_answer import Parts
from tcp_proxy.control.statistics.totals import Statistics
from tcp_proxy.control.store.state import State


def all_statistics(
    context: Context, statistics: Statistics, elections: dict[str, dict[str, Any]], store: State, is_brief: bool = False
) -> Parts:
    """`is_brief`: as for Statistics.as_dict."""
    cluster, tracer = context.cluster, context.tracer
    return Parts({
        **statistics.as_dict(is_brief),
        "elections": elections,
        "certificates": expiry(context.config),
        "revocation_lists": lists(context.config),
        "discoveries": [one.as_dict() for one in context.sources.values()],
        **({"state_file": {"failing": store.is_failing}} if store.is_failing is not None else {}),
        **({"traces": tracer.statistics()} if tracer is not None else {}),
        **({"cluster": cluster.statistics()} if cluster is not None else {}),
    })  # fmt: skip
