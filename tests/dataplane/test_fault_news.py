"""What is said of an app's faults reaches it; an app that has left needs none."""

from tcp_proxy.dataplane.fault_news import take_faults
from tcp_proxy.wire.messages import Faults
from tcp_proxy.wire.views import FaultView
from tests.dataplane.test_apps import Rig


def test_an_app_has_them_until_it_has_none():
    with Rig({}) as rig:
        apps = {"web": rig.app}
        take_faults(apps, Faults("web", (FaultView(1, "x", latency=1.0),)), [])
        assert rig.app.is_paced
        assert rig.app.faults.find(1, ("127.0.0.1", 1)) is not None
        take_faults(apps, Faults("gone", ()), [])
        take_faults(apps, Faults("web", ()), [])
        assert rig.app.faults is None
        assert not rig.app.is_paced
