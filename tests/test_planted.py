"""What the simulator plants: kernels with the half-lives they say, one world, options that are checked."""

import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdecay.data.planted import SimulateOptions, draw_world, half_life_of, kernel
from jaxdecay.errors import InputError

SMALL = SimulateOptions(users=40, items=30, days=30.0)


def test_chances_sum_to_one_over_the_items_already_born() -> None:
    world = draw_world(SMALL)
    time = world.birth[np.arange(10)] + np.array([-1, 0] * 5)
    base = world.base(np.arange(10), time)
    assert base.sum(axis=1) == pytest.approx(np.ones(10))
    assert np.all((base > 0) == (world.birth <= time[:, None]))


@given(half_life=st.floats(0.1, 1e3), swing=st.floats(0, 1), period=st.floats(0.5, 50))
def test_half_life_is_the_first_age_at_which_the_kernel_is_a_half(
    half_life: float, swing: float, period: float
) -> None:
    h = half_life_of(half_life, swing, period)
    assert 0 < h <= half_life
    assert kernel(h, half_life, swing, period) == pytest.approx(0.5, abs=1e-6)
    assert np.all(np.asarray(kernel(np.linspace(0, h * (1 - 1e-6), 5000), half_life, swing, period)) >= 0.5)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"half_lives": (1.0,)}, "half_lives"),
        ({"half_lives": (1.0, 2.0, -3.0, 4.0, 5.0)}, "half_lives"),
        ({"appeal": (0.0, 0.0)}, "appeal"),
        ({"appeal": (0.0, 0.0, 0.0, 0.0, float("inf"))}, "appeal"),
        ({"categories": ()}, "categories"),
        ({"categories": ("a", "a", "b", "c", "d")}, "categories"),
        ({"weekly_categories": ("cars",)}, "cars"),
        ({"items": 4}, "items"),
        ({"users": 0}, "users"),
        ({"days": float("nan")}, "days"),
        ({"swing": 1.5}, "swing"),
        ({"same_time": 1.0}, "same_time"),
        ({"kappa": -1.0}, "kappa"),
        ({"start": "yesterday"}, "start"),
    ],
)
def test_impossible_options_are_refused_by_name(given: dict, named: str) -> None:
    with pytest.raises(InputError, match=named) as refusal:
        SimulateOptions(**given)
    assert "\n" not in str(refusal.value)


def test_every_option_is_explained() -> None:
    source = Path(sys.modules[SimulateOptions.__module__].__file__ or "").read_text()
    body = source.split("class SimulateOptions:")[1].split("def ")[0].splitlines()
    fields = [
        k
        for k, line in enumerate(body)
        if line.startswith("    ") and ": " in line and " = " in line and '"""' not in line
    ]
    assert len(fields) == len(asdict(SimulateOptions()))
    assert all(body[k + 1].strip().startswith('"""') for k in fields)
