"""What an app says of outlier detection becomes a value. Pure; a part of config.build."""

from typing import Any

from tcp_proxy.config.model import Outlier
from tcp_proxy.config.positions import Path
from tcp_proxy.config.report import Report
from tcp_proxy.config.values import Plain, given_of

OF_HTTP = ("consecutive_gateway_failures", "slower_than")


def build_outlier(app: Plain, path: Path, report: Report) -> Outlier | None:
    plain: Any = app.get("outlier")
    if plain is None:
        return None
    path = (*path, "outlier")
    if app.get("balance") == "failover":
        report.value(path, 'balance "failover" looks for another primary instead; wanted no "outlier" beside it')
    outlier = Outlier(**given_of(Outlier, plain))
    for key in OF_HTTP:
        if app.get("mode") != "http" and plain.get(key):
            report.key((*path, key), f'"{key}" is of mode http; wanted "mode": "http", or not this key')
    counts = outlier.consecutive_failures or outlier.consecutive_gateway_failures or outlier.success_rate_stdev_factor
    if not counts and not report:
        report.value(path, "nothing ejects a target; wanted failures in a row, or a success rate, that do")
    return outlier
