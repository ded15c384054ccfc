"""The arrays that are served, taken out of a trained model."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecay.data.catalogue import counted_live
from jaxdecay.live import weights
from jaxdecay.live.weights import Weights
from jaxdecay.model import Interest
from jaxdecay.predict import Predictor


def weights_of(predictor: Predictor) -> Weights:
    """Of the predictor's model, for the items and users of its histories."""
    model, spec, histories = predictor.model, predictor.model.spec, predictor.histories
    with jax.numpy_rank_promotion("allow"):
        bound: Any = model.bind({"params": predictor.params})
        shares = jnp.zeros((len(spec.popularity_half_lives), 1, histories.items), jnp.float32)
        scorer, written = bound.scorer(predictor.items, shares)
        similarity, revisit = bound.similarity, bound.revisit
        users = np.arange(histories.users)
        described = similarity.user_columns(
            jnp.asarray(histories.user_categorical[users], jnp.int32),
            jnp.asarray(histories.user_numeric[users], jnp.float32),
        )
        found = weights.Similarity(
            vectors=_array(written.vectors),
            bank=_bank(similarity.decay, predictor, written.similarity),
            amplitude=_array(1.0 + similarity.amplitude),
            context=_columns(spec.context_columns, predictor.params["similarity"].get("context_columns", {})),
            users=_array(described),
            hours=None if similarity.hours is None else _array(similarity.hours),
            temperature=float(jnp.exp(similarity.log_temperature)),
            softness=float(jnp.exp(2.0 * similarity.log_softness)),
            timed=spec.request_time == "used",
        )
        return Weights(
            targets=_array(scorer.targets),
            bias=_array(scorer.bias),
            similarity=found,
            revisit=None if revisit is None else _revisit(revisit, predictor, written.revisit),
            popularity=_popularity(bound, predictor),
            known_users=histories.known_users,
            origin=predictor.reference.origin,
            weight=predictor.reference.weight,
            silent_zero=len(histories.config["behaviours"]) <= 1,
            entering=counted_live(histories),
        )


def _array(x: Any) -> np.ndarray:
    return np.array(x, np.float32)


def _bank(bank: Any, predictor: Predictor, content: Any) -> weights.Bank | None:
    if bank is None:
        return None
    items, behaviours = predictor.items, predictor.model.spec.behaviours
    basis = bank.basis()
    writes = [
        bank.write_weights(items.index, items.group, jnp.full_like(items.index, kind), content)
        for kind in range(behaviours)
    ]
    return weights.Bank(
        rate=np.array(basis.rate, np.float64),
        frequency=np.array(2 * jnp.pi / basis.period, np.float64),
        sharpness=tuple(basis.sharpness),
        writes=np.stack([_array(one) for one in writes], axis=1),
        reads=None if bank.user_read is None else _array(bank.user_read),
        adaptive=None if bank.state_read is None else _array(bank.state_read),
    )


def _columns(table: Any, params: dict[str, Any]) -> weights.Columns:
    tables = tuple(_array(params[f"column_{one}"]) for one in range(len(table.cardinalities)))
    return weights.Columns(tables, tuple(table.widths), _array(params["numeric"]) if table.numeric else None)


def _revisit(revisit: Any, predictor: Predictor, content: Any) -> weights.Revisit:
    bank = _bank(revisit.decay, predictor, content)
    assert bank is not None
    strength = revisit.behaviour_strength[None, :] + jnp.zeros((len(predictor.items.index), 1))
    if revisit.group_strength is not None:
        strength += revisit.group_strength[predictor.items.group][:, None]
    recovery = revisit.recovery
    if 0 < recovery < float("inf"):
        recovery = float(recovery * jnp.exp(revisit.recovery_shift))
    return weights.Revisit(
        bank,
        _array(jnp.exp(strength)),
        float(revisit.level),
        float(revisit.satiation) if revisit.recovery else 0.0,
        recovery,
    )


def _popularity(bound: Interest, predictor: Predictor) -> weights.Popularity | None:
    if bound.popularity is None:
        return None
    mixtures, exponents = (np.asarray(x, np.float32) for x in bound.popularity.weights())
    cold = np.flatnonzero(np.asarray(predictor.items.index) >= predictor.model.spec.items)
    return weights.Popularity(mixtures[:, :-1], mixtures[:, -1], exponents, cold, predictor.catalogue.rates)
