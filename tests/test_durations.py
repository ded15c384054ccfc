"""Durations and priors as people write them."""

import math

import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdecay.durations import Prior, Rhythm, days, parse_prior, parse_rhythm, show_days
from jaxdecay.errors import InputError
from jaxdecay.kernels import raised_cosine


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("86400s", 1.0),
        ("90 min", 1.5 / 24),
        ("12h", 0.5),
        (" 7d ", 7.0),
        ("3w", 21.0),
        ("2y", 730.5),
        (".5d", 0.5),
        ("1.5d", 1.5),
        ("2.d", 2.0),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text: str, expected: float) -> None:
    assert days(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text", ["", "7", "d", "0d", "0.0h", "-1d", "7 days", "1d2h", "7D", "1e3d", "nan d", "inf", "٧d.", "7m"]
)
def test_what_is_no_duration_is_quoted_with_a_remedy(text: str) -> None:
    with pytest.raises(InputError, match="is no duration; write a number above 0") as caught:
        days(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7d±2x", Prior(None, 7.0, 2.0)),
        ("7d+-2x", Prior(None, 7.0, 2.0)),
        ("news=6h±1.5x", Prior("news", 0.25, 1.5)),
        ("a=b=1w ± 3 x", Prior("a=b", 7.0, 3.0)),
        ("7d±2", Prior(None, 7.0, 2.0)),
    ],
)
def test_a_prior_is_a_duration_a_factor_and_perhaps_a_group(text: str, expected: Prior) -> None:
    assert parse_prior(text) == expected


@pytest.mark.parametrize(
    "text", ["7d", "7d±", "7d±x", "7d±1x", "7d±0.5x", "7d±-2x", "7d±nanx", "news=7d", "7d±infx"]
)
def test_a_prior_without_a_factor_above_one_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is no prior on a half-life") as caught:
        parse_prior(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", ["±2x", "news=±2x", "seven±2x", "7±2x"])
def test_a_prior_without_a_duration_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is no duration"):
        parse_prior(text)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1 / 1440, "1.0 min"),
        (0.5, "12.0 h"),
        (1.5, "36.0 h"),
        (7.0, "7.0 d"),
        (700.0, "700.0 d"),
        (3652.5, "10.0 y"),
        (math.inf, "never"),
    ],
)
def test_durations_are_shown_in_the_unit_that_reads_best(value: float, expected: str) -> None:
    assert show_days(value) == expected


@given(st.floats(0.01, 30_000))
def test_what_is_shown_can_be_read_again(value: float) -> None:
    assert days(show_days(value)) == pytest.approx(value, rel=0.06)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7d", Rhythm(7.0)),
        ("1d±3h", Rhythm(1.0, 4)),
        ("1d +- 6h", Rhythm(1.0)),
        ("1w±1d", Rhythm(7.0, 3)),
        ("1h±15min", Rhythm(1 / 24)),
        ("2h±3min", Rhythm(1 / 12, 112)),
    ],
)
def test_a_rhythm_is_a_period_and_perhaps_how_near_to_it(text: str, expected: Rhythm) -> None:
    assert parse_rhythm(text) == expected


@pytest.mark.parametrize("text", ["1d±7h", "1d±1min", "7d±1w"])
def test_a_rhythm_too_wide_or_too_sharp_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is no rhythm; after ±, write from a 40th to a quarter") as caught:
        parse_rhythm(text)
    assert repr(text) in str(caught.value)


def test_a_width_that_no_sharpness_makes_is_refused_with_its_neighbours() -> None:
    with pytest.raises(
        InputError, match=r"'1d±5h': no such width can be made; the nearest are ±6.0 h and ±4.4 h"
    ):
        parse_rhythm("1d±5h")


def test_a_width_is_where_one_half_is_left() -> None:
    for sharpness in (1, 4, 9):
        rhythm = Rhythm(7.0, sharpness)
        left = raised_cosine(jnp.array([rhythm.width, 7.0 + rhythm.width]), 7.0, sharpness)
        assert left.tolist() == pytest.approx([0.5, 0.5], rel=1e-4)


@pytest.mark.parametrize("text", ["", "1d±", "±3h", "1d±3", "1d±3h±2h"])
def test_a_rhythm_of_no_durations_says_so(text: str) -> None:
    with pytest.raises(InputError, match="is no duration"):
        parse_rhythm(text)
