"""The shape of what is asked and answered of faults on purpose: a number out of range is refused before the supervisor."""

import pytest
from pydantic import ValidationError

from tcp_proxy.control.api.faults import NewFault


def test_what_is_left_out_is_nothing_for_ten_minutes():
    found = NewFault()
    assert (found.latency, found.timeout, found.direction, found.share, found.seconds) == (0, False, "both", 100, 600)


@pytest.mark.parametrize(
    "said", [{"latency": -1}, {"reset": 101}, {"share": 0}, {"direction": "x"}, {"slicer": 70000}, {"seconds": 0}, {"x": 1}]
)
def test_what_is_out_of_range_is_refused(said):
    with pytest.raises(ValidationError):
        NewFault(**said)
