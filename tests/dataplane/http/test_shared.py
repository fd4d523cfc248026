"""What the clients of a worker share beside connections."""

import re

from tests.dataplane.http.rig import HttpHouse


def test_the_date_is_that_of_the_loop_s_clock():
    with HttpHouse() as house:
        assert house.http.shared.date == b"Thu, 01 Jan 1970 00:16:40 GMT"
        house.pass_time(86400.0)
        assert house.http.shared.date == b"Fri, 02 Jan 1970 00:16:40 GMT"
        assert re.fullmatch(rb"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", house.http.shared.date)
