"""Numbers in sentences."""

import pytest

from tcp_proxy.sansio.words import counted


@pytest.mark.parametrize(("number", "text"), [(0, "0 apps"), (1, "1 app"), (2, "2 apps")])
def test_one_and_many(number, text):
    assert counted(number, "app") == text


def test_a_plural_of_its_own():
    assert (counted(1, "more address", "more addresses"), counted(3, "more address", "more addresses")) == (
        "1 more address", "3 more addresses",
    )  # fmt: skip
