"""What the supervisor says of faults on purpose, on its way to the app. The worker's loop thread only."""

from collections.abc import Mapping

from tcp_proxy.dataplane.apps import LiveApp
from tcp_proxy.wire.messages import Faults


def take_faults(apps: Mapping[str, LiveApp], message: Faults, _descriptors: list[int]) -> None:
    """The app may have left."""
    app = apps.get(message.app)
    if app is not None:
        app.meet(message.faults)
