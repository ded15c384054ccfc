"""From a log to a spec: half-lives over its own ages, rhythms it can show, groups, heads that make sense."""

import dataclasses
import functools
from typing import Any, get_args

import jax
import numpy as np
import pytest
import toys
from toys import any_rank  # noqa: F401 - a fixture for every test here

from jaxdecay.configure import configure, group_levels, spread
from jaxdecay.data.histories import Histories
from jaxdecay.errors import InputError
from jaxdecay.model import Interest, abstract_params
from jaxdecay.model_options import ModelOptions
from jaxdecay.presets import Mixer
from jaxdecay.spec import Table

DAY = 86_400


def timed(*times: list[int], part: list[int] | None = None, **config: Any) -> Histories:
    """One user per list of times, always of the same item."""
    user = np.repeat(np.arange(len(times)), [len(one) for one in times])
    return Histories.from_arrays(
        user,
        np.zeros(len(user), int),
        np.concatenate(times),
        part=np.zeros(len(user)) if part is None else np.array(part),
        config={"repeat_share": 0.5, **config},
    )


def test_half_lives_reach_from_short_gaps_to_twice_the_long_spans() -> None:
    gaps = 3600 * np.arange(1, 12)  # their tenth is two hours, the span of their sum 66 hours
    half_lives = spread(timed(np.concatenate([[0], np.cumsum(gaps)]).tolist()), 5)
    np.testing.assert_allclose([half_lives[0], half_lives[-1]], [2 / 24, 2 * 66 / 24])
    ratio = np.array(half_lives[1:]) / np.array(half_lives[:-1])
    np.testing.assert_allclose(ratio, ratio[0])
    assert len(half_lives) == 5


def test_half_lives_ignore_ties_other_users_and_what_is_held_out() -> None:
    one = timed([0, 0, DAY, DAY, 3 * DAY, 4 * DAY])
    other = timed([0, 0, DAY, DAY, 3 * DAY, 4 * DAY, 900 * DAY], [7], part=[0] * 6 + [1, 0])
    assert spread(one, 4) == pytest.approx(spread(other, 4))


def test_satiation_starts_at_the_median_gap_and_stays_where_nothing_fades() -> None:
    log = timed([0, 0, DAY, 3 * DAY, 6 * DAY])
    assert configure(log, ModelOptions()).recovery == pytest.approx(2.0)
    assert configure(log, ModelOptions(half_lives="none")).recovery == np.inf
    assert configure(timed([5, 5, 5]), ModelOptions()).recovery == np.inf
    for without in (ModelOptions(satiation=False), ModelOptions(revisit=False)):
        assert configure(log, without).recovery == 0


def test_a_log_of_simultaneous_events_has_no_half_lives() -> None:
    assert spread(timed([5, 5, 5], [9]), 4) == ()
    assert spread(timed([0, DAY]), 0) == ()


def test_no_half_life_is_shorter_than_a_minute() -> None:
    half_lives = spread(timed(list(range(100))), 3)
    assert half_lives[0] == pytest.approx(60 / DAY)
    assert half_lives[-1] > half_lives[0]


@pytest.mark.parametrize(
    ("span", "tick", "periods"),
    [
        (60, 3600, (1.0, 7.0, 1.0, 7.0)),
        (20, 3600, (1.0, 1.0)),  # less than three weeks
        (2, 3600, ()),
        (60, DAY, (7.0,)),  # whole days show no hour of day, and no part of a day of a week
        (60, 2 * DAY, ()),  # four ticks do not fit into a week
        (60, DAY // 4, (1.0, 7.0, 7.0)),  # six hours do not fit into three
    ],
)
def test_rhythms_that_the_log_can_show(span: int, tick: int, periods: tuple[float, ...]) -> None:
    times = np.arange(0, span * DAY + 1, tick).tolist()
    found = configure(timed(times), ModelOptions())
    assert found.revisit_periods == periods
    assert len(found.revisit_sharpness) == len(periods)


def test_a_rhythm_is_as_sharp_as_said() -> None:
    times = np.arange(0, 60 * DAY + 1, 3600).tolist()
    found = configure(timed(times), ModelOptions(periods=("1d±3h", "7d", "7d±16h", "2d±12h")))
    assert found.revisit_periods == (1.0, 7.0, 7.0, 2.0)
    assert found.revisit_sharpness == (4, 1, 8, 1)


def test_the_clock_of_the_log_hides_behind_an_offset() -> None:
    times = (12_345 + np.arange(0, 60) * DAY).tolist()
    assert configure(timed(times), ModelOptions()).revisit_periods == (7.0,)


MONTH = list(range(0, 60 * DAY, DAY // 4))


def test_options_switch_heads_and_levels() -> None:
    full = configure(toys.log(), ModelOptions())
    assert (full.items, full.users, full.behaviours) == (7, 5, 2)
    assert all((full.revisit, full.per_item, full.per_user, full.per_behaviour, full.calendar))
    assert len(full.similarity_half_lives) == len(full.revisit_half_lives) == ModelOptions().modes
    assert full.popularity_half_lives[-1] == float("inf")
    assert full.item_columns == Table((3,), (1,), 1)
    assert full.context_columns == Table((3,), (1,), 1)
    off = ModelOptions(
        revisit=False, popularity=False, calendar=False, per_item=False, per_user=False, per_behaviour=False,
        columns=False, modes=2,
    )  # fmt: skip
    less = configure(toys.log(), off)
    assert not any((less.revisit, less.per_item, less.per_user, less.per_behaviour, less.calendar))
    assert less.revisit_half_lives == less.revisit_periods == less.popularity_half_lives == ()
    assert less.item_columns == less.user_columns == less.context_columns == Table()
    assert len(less.similarity_half_lives) == 2


@functools.cache
def all_parameters() -> set[str]:
    return parameters()


def parameters(**options: Any) -> set[str]:
    """Names of all parameters of the model that these options make of a log."""
    params = abstract_params(
        Interest(configure(toys.log(), ModelOptions.from_json({"preset": "base", **options})))
    )
    return {jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(params)}


@pytest.mark.parametrize(
    ("options", "gone"),
    [
        ({"encoder": "none"}, ("encoder", "forward", "'last'", "event_calendar", "'behaviour'")),
        ({"read": "last"}, ("'last'", "'similarity']['decay']")),
        ({"revisit": False}, ("revisit",)),
        ({"satiation": False}, ("satiation", "recovery")),
        ({"popularity": False}, ("popularity",)),
        ({"cold_items": False}, ("cold_level", "cold_exponent", "cold_mixture")),
        ({"calendar": False}, ("calendar",)),
        ({"per_item": False}, ("item_write",)),
        ({"per_user": False}, ("user_read",)),
        ({"per_behaviour": False}, ("behaviour_write",)),
        ({"periods": ()}, ("period_shift", "log_envelope")),
        ({"columns": False}, ("columns",)),
        ({"group_by": "none"}, ("group_write", "group_strength")),
        (
            {"half_lives": "none"},
            ("log_half_life", "_shift", "envelope", "_write", "_read", "recovery", "group_"),
        ),
    ],
)
def test_what_is_switched_off_has_no_parameters(options: dict[str, Any], gone: tuple[str, ...]) -> None:
    full, less = all_parameters(), parameters(**options)
    removed = full - less
    for part in gone:
        assert any(part in name for name in removed), part
        assert not any(part in name for name in less), part
    assert less <= full
    assert all(any(part in name for part in gone) for name in removed)


def test_presets_give_way_to_options() -> None:
    assert configure(toys.log(), ModelOptions()).encoder.blocks == 0
    base = configure(toys.log(), ModelOptions(preset="base"))
    assert (base.features, base.encoder.kind, base.encoder.blocks) == (64, "bank", 2)
    assert base.encoder.half_lives[-1] == float("inf")
    assert not 64 % (len(base.encoder.half_lives) + len(base.encoder.steps))
    large = configure(toys.log(), ModelOptions(preset="large"))
    assert (large.encoder.precision, large.encoder.remat) == ("bfloat16", True)
    own = ModelOptions(preset="large", features=8, blocks=1, dropout=0.0, precision="float32", remat=False)
    spec = configure(toys.log(), own)
    assert (spec.features, spec.encoder.blocks, spec.encoder.dropout) == (8, 1, 0.0)
    assert (spec.encoder.precision, spec.encoder.remat) == ("float32", False)
    reference = configure(toys.log(), ModelOptions(encoder="hstu", read="last", blocks=1, context=30))
    assert (reference.encoder.kind, reference.encoder.bank, reference.encoder.context) == ("hstu", False, 30)
    assert reference.encoder.half_lives == reference.encoder.steps == ()


@pytest.mark.parametrize("preset", ["small", "base"])
@pytest.mark.parametrize("encoder", [kind for kind in get_args(Mixer) if kind != "none"])
def test_every_encoder_has_the_size_of_the_preset(encoder: Any, preset: Any) -> None:
    spec = configure(toys.log(), ModelOptions(preset=preset, encoder=encoder))
    similarity = abstract_params(Interest(spec))["similarity"]
    width = {"small": 32, "base": 64}[preset]
    assert similarity["embedding"].shape == (7, width)
    assert set(similarity["encoder"]) == {"block_0", "block_1"}
    for block in similarity["encoder"].values():
        assert ("mixer" in block) == (encoder != "mlp")
        assert block["forward"]["out"]["kernel"].shape == (2 * width, width)


def test_options_of_some_encoders_reach_them_and_no_others() -> None:
    given: dict[str, Any] = {"context": 30, "span": 5, "attention_bias": "both"}
    shapes = {}
    for kind in get_args(Mixer):
        options = ModelOptions(encoder=kind, **given)
        shapes[kind] = configure(timed(MONTH), options).encoder
        assert configure(timed(MONTH), options.resolved()).encoder == shapes[kind]
    assert {kind for kind, one in shapes.items() if one.context == 30} == {"transformer", "hstu"}
    assert {kind for kind, one in shapes.items() if one.span == 5} == {"cnn"}
    assert {kind for kind, one in shapes.items() if one.bias == "both"} == {"transformer"}
    assert {kind for kind, one in shapes.items() if one.half_lives} == {"bank", "transformer"}
    gru = ModelOptions(encoder="gru", blocks=1)
    assert dataclasses.replace(gru, **given).resolved() == gru.resolved()
    assert dataclasses.replace(gru, encoder="cnn", span=5).resolved().span == 5


def test_attention_by_time_starts_from_the_half_lives_that_a_bank_does() -> None:
    never = float("inf")
    for options, days in (
        ({"half_lives": "fixed", "half_life": ("7d",)}, (7.0,) * 3),
        ({"half_life": ("12h", "30d")}, (0.5, 30.0, never)),
        ({"half_life": ("1d", "2d", "9d")}, (1.0, 9.0, never)),
        ({"half_lives": "none"}, (never,) * 3),
    ):
        given = {"encoder": "transformer", "attention_bias": "time", "features": 6, "heads": 3, **options}
        assert configure(timed(MONTH), ModelOptions.from_json(given)).encoder.half_lives == days
    names = parameters(encoder="transformer", attention_bias="time")
    assert any("mixer']['decay_days_shift" in name for name in names)
    assert not any("distance" in name for name in names)
    assert any("distance" in name for name in parameters(encoder="transformer", attention_bias="both"))


def test_without_an_encoder_the_last_event_alone_can_be_read() -> None:
    spec = configure(toys.log(), ModelOptions(read="last"))
    assert (spec.encoder.blocks, spec.encoder.bank) == (0, False)
    assert not any("'similarity']['decay']" in name for name in parameters(encoder="none", read="last"))
    quiet: dict[str, Any] = {"read": "last", "revisit": False, "popularity": False, "calendar": False}
    with pytest.raises(InputError, match="fades"):
        configure(toys.log(), ModelOptions(**quiet))
    assert configure(toys.log(), ModelOptions(**quiet, request_time="ignored"))


def test_initial_half_lives_are_those_that_learning_starts_from() -> None:
    for preset in ("small", "base"):
        kept = configure(toys.log(), ModelOptions(preset=preset, half_lives="initial"))
        assert kept == configure(toys.log(), ModelOptions(preset=preset))


def test_the_heads_of_an_encoder_follow_the_half_lives_asked_for() -> None:
    never = float("inf")
    for options, days in (
        ({"half_lives": "fixed", "half_life": ("7d",)}, (7.0,) * 4),
        ({"half_life": ("12h", "30d")}, (0.5, 30.0, never, 0.5)),
        ({"half_lives": "none"}, (never,) * 4),
    ):
        given = ModelOptions.from_json({"preset": "base", **options})
        assert configure(timed(MONTH), given).encoder.half_lives == days
    one = configure(timed(MONTH), ModelOptions(preset="base", modes=1, floor=False))
    assert len(set(one.encoder.half_lives)) == len(one.similarity_half_lives) == 1
    still = configure(timed([5, 5, 5]), ModelOptions(preset="base"))  # no gaps at all
    assert still.encoder.half_lives == (never,) * 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"span": 0}, "span=0"),
        ({"dropout": 1.0}, "give a share"),
        ({"blocks": 0}, "blocks=0"),
        ({"encoder": "bank", "features": 12}, "multiple of its 8 heads"),
        ({"encoder": "hstu", "features": 9, "heads": 2}, "multiple of its 2 heads"),
        ({"half_lives": "initial", "half_life_prior": ("7d±2x",)}, "learns none"),
    ],
)
def test_options_that_make_no_model_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        configure(toys.log(), ModelOptions(**options))


def test_a_log_without_repeats_has_no_revisit_head() -> None:
    spec = configure(timed(MONTH, repeat_share=0.0009), ModelOptions())
    assert not spec.revisit
    assert spec.revisit_half_lives == spec.revisit_periods == ()
    assert configure(timed(MONTH, repeat_share=0.001), ModelOptions()).revisit


def test_one_behaviour_has_no_weights_of_its_own() -> None:
    assert not configure(timed(MONTH, behaviours=["take"]), ModelOptions()).per_behaviour
    assert configure(timed(MONTH), ModelOptions()).behaviours == 1


def test_half_lives_given_are_those_learning_starts_from() -> None:
    spec = configure(timed(MONTH), ModelOptions(half_life=("12h", "30d")))
    assert spec.similarity_half_lives == spec.revisit_half_lives == (0.5, 30.0)


def test_fixed_half_lives_must_be_given_and_nothing_else_fades() -> None:
    with pytest.raises(InputError, match="--half-life"):
        configure(timed(MONTH), ModelOptions(half_lives="fixed"))
    spec = configure(timed(MONTH), ModelOptions(half_lives="fixed", half_life=("7d",)))
    assert spec.similarity_half_lives == spec.revisit_half_lives == spec.popularity_half_lives == (7.0,)
    assert spec.recovery == float("inf")
    assert not any((spec.floor, spec.per_item, spec.per_user, spec.groups, spec.revisit_periods))


@pytest.mark.parametrize(("floor", "expected"), [(True, (1.0, 4.0, 30.0)), (False, (1.0, 4.0, 8.0, 30.0))])
def test_an_encoder_takes_some_of_many_half_lives(floor: bool, expected: tuple[float, ...]) -> None:
    given = ("1d", "2d", "4d", "8d", "16d", "30d")
    options = ModelOptions(preset="base", half_life=given, floor=floor)
    found = configure(timed(MONTH), options).encoder.half_lives
    assert found == (*expected, *[float("inf")] * floor)


@pytest.mark.parametrize(
    "options", [{"blocks": 3}, {"dropout": 0.1}, {"precision": "bfloat16"}, {"remat": True}]
)
def test_options_of_an_encoder_need_one(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(options))}=.* needs an encoder"):
        ModelOptions(**options)
    with pytest.raises(InputError, match="needs an encoder"):
        ModelOptions(preset="base", encoder="none", **options)
    assert ModelOptions(preset="base", **options)


def test_equal_models_have_equal_resolved_options() -> None:
    base = ModelOptions(preset="base")
    written = ModelOptions(features=64, encoder="bank", blocks=2, dropout=0.1)
    assert base != written
    assert base.resolved() == written.resolved() == base.resolved().resolved()
    assert base.resolved() == dataclasses.replace(base, heads=2, context=7).resolved()
    assert configure(timed(MONTH), base) == configure(timed(MONTH), base.resolved())
    assert ModelOptions(preset="base", encoder="none").resolved() == ModelOptions(features=64).resolved()
    assert base.resolved() != dataclasses.replace(base, dropout=0.2).resolved()


def test_without_decay_nothing_fades_and_a_dead_request_time_is_refused() -> None:
    still = configure(toys.log(), ModelOptions(half_lives="none"))
    assert still.similarity_half_lives == still.revisit_half_lives == still.revisit_periods == ()
    assert still.popularity_half_lives == (float("inf"),)
    assert not any((still.per_item, still.per_user, still.adaptive, still.groups))
    dead = ModelOptions(half_lives="none", calendar=False)
    with pytest.raises(InputError, match="changes no ranking"):
        configure(toys.log(), dead)
    meant = ModelOptions(half_lives="none", calendar=False, request_time="ignored")
    assert configure(toys.log(), meant).request_time == "ignored"


def test_the_shortest_half_life_of_popularity_follows_how_much_happens() -> None:
    for gap, expected in ((1, 1000 / DAY), (30, 1 / 24)):
        spec = configure(timed(list(range(0, DAY + 1, gap))), ModelOptions())
        assert spec.popularity_half_lives[0] == pytest.approx(expected, rel=1e-3)
        assert spec.popularity_half_lives[3] == pytest.approx(0.5)
    second = timed([0] * 100_000 + [1])
    assert configure(second, ModelOptions()).popularity_half_lives[0] == pytest.approx(1 / 1440)


def test_relative_clocks_have_neither_calendar_nor_popularity() -> None:
    spec = configure(timed(MONTH, clock="relative"), ModelOptions())
    assert not spec.calendar
    assert spec.popularity_half_lives == ()


def item_columns(*sizes: int, widths: tuple[int, ...] | None = None) -> Histories:
    widths = widths or (1,) * len(sizes)
    names = [f"column {i}" for i in range(len(sizes))]
    coded = [{"values": [f"{i}/{code}" for code in range(1, size)]} for i, size in enumerate(sizes)]
    item = {
        "categorical_names": names, "cardinalities": list(sizes), "widths": list(widths), "numeric_names": [],
        "encoder": {"coded": coded},
    }  # fmt: skip
    return timed(MONTH, features={"item": item})


def test_the_only_small_column_makes_the_groups() -> None:
    histories = item_columns(900, 4)
    spec = configure(histories, ModelOptions())
    assert (spec.group_column, spec.groups) == (1, 4)
    assert group_levels(histories, spec) == ["1/1", "1/2", "1/3"]
    assert configure(item_columns(65), ModelOptions()).groups == 65
    assert configure(item_columns(66), ModelOptions()).groups == 0
    assert group_levels(histories, configure(histories, ModelOptions(group_by="none"))) == []


def test_of_several_small_columns_none_is_taken_unless_named() -> None:
    histories = item_columns(4, 5)
    assert configure(histories, ModelOptions()).groups == 0
    spec = configure(histories, ModelOptions(group_by="column 1"))
    assert (spec.group_column, spec.groups) == (1, 5)
    assert configure(histories, ModelOptions(group_by="none")).groups == 0


def test_a_column_of_several_values_shifts_the_places_and_makes_no_groups() -> None:
    histories = item_columns(9, 4, widths=(3, 1))
    spec = configure(histories, ModelOptions())
    assert (spec.group_column, spec.groups) == (3, 4)
    assert group_levels(histories, spec) == ["1/1", "1/2", "1/3"]
    for wrong, near in (("column 0", "; perhaps 'column 1'"), ("colour", "")):
        for half_lives in ("learned", "none"):
            with pytest.raises(InputError, match=f"there are column 1{near}$"):
                configure(histories, ModelOptions(group_by=wrong, half_lives=half_lives))
    with pytest.raises(InputError, match="there are none"):
        configure(timed(MONTH), ModelOptions(group_by="genre"))
