"""Numbers of jobs on a task's command line."""

from hypothesis import given
from hypothesis import strategies as st

from ctt.launch.task import compressed, expanded


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=50))
def test_numbers_survive_their_short_form_in_order(numbers: list[int]) -> None:
    assert expanded(compressed(numbers)) == numbers


def test_ranges_are_short() -> None:
    assert compressed([0, 1, 2, 7, 9, 10]) == "0-2,7,9-10"
    assert len(compressed(list(range(1000)))) < 8
