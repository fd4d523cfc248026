"""All that a proxy counts, asked for in brief: of many targets most have counted nothing, and say it in one word."""

from typing import Any

from tcp_proxy.ctl.client import Client

View = dict[str, Any]


def statistics_of(api: Client) -> View:
    """As the API has it where it is not brief."""
    found: View = api.get("statistics", brief="true")
    nothing = found.pop("nothing", {})
    for app in found["apps"].values():
        rest = nothing.get("http" if "requests" in app else "tcp", {})
        app["targets"] = {name: _whole(view, rest) for name, view in app["targets"].items()}
    return found


def _whole(view: View, rest: View) -> View:
    return view if "bytes" in view else {"state": view["state"], **rest, **view}
