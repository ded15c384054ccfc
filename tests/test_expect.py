"""Whole numbers, and single values where several may be."""

from typing import Any

import numpy as np
import pytest

from jaxdecay.errors import InputError
from jaxdecay.expect import several, whole


@pytest.mark.parametrize("value", [2, np.int8(2), np.uint64(2), np.array(2)])
def test_a_whole_number_is_one_of_any_type(value: Any) -> None:
    found = whole("k", value, 2, 2)
    assert (found, type(found)) == (2, int)


@pytest.mark.parametrize("value", [1, 4, -2, 2.0, "2", None, True, np.True_, np.nan, [2], np.array([2.0])])
def test_anything_else_is_none(value: Any) -> None:
    with pytest.raises(InputError) as refusal:
        whole("k", value, 2, 3)
    assert str(refusal.value) == f"k={value!r}: give a whole number from 2 to 3"


def test_without_a_bound() -> None:
    assert whole("seed", 10**30) == 10**30
    with pytest.raises(InputError, match=r"seed=-1: give a whole number from 0$"):
        whole("seed", -1)


@pytest.mark.parametrize(
    ("given", "expected"),
    [("30d", ["30d"]), (None, [None]), (2, [2]), ((1, 2), [1, 2]), (range(2), [0, 1]), ([], []), ("", [""])],
)
def test_a_single_value_is_a_list_of_one(given: Any, expected: list) -> None:
    assert several(given) == expected
