"""Pages of a big table are made a slice at a time; what the rest does is in test_stick_tables.py."""

from tcp_proxy.control.sticky.lists import SLICE, Listing
from tcp_proxy.sansio.stick_table import StickTable


def test_a_slice_at_a_time_and_the_page_is_the_first_of_all():
    table = StickTable(10_000, 60.0)
    for number in range(3 * SLICE):
        table.claim(f"k{number * 7919 % 4999:04}", "t", 0, 0, 0.0)
    listing = Listing(limit=5)
    listing.begin(table, 10.0)
    turns = 1
    while not listing.look_on():
        turns += 1
    page = listing.page()
    assert turns == 3
    assert [entry["key"] for entry in page["entries"]] == sorted(entry.key for entry in table)[:5]
    assert page["next"] == page["entries"][-1]["key"]
    assert page["entries"][0]["seconds"] == 10.0
    assert page["by_target"] == {"t": 3 * SLICE}


def test_of_no_table_nothing():
    listing = Listing()
    listing.begin(None, 0.0)
    assert listing.look_on() is True
    assert listing.page()["entries"] == []
