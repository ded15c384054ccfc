"""Pictures. Each is a frame of exactly what is drawn, and a function that draws such a frame into a
matplotlib `Axes`.

Everything that a colour says is also said by a shape, a dash or a place, so that the pictures read in grey. A
plot function takes ``ax`` (default: a new figure that no window shows) and returns it; `save` writes it. The
extra ``plots`` is needed. What makes these frames of a trained run is `jaxdecay.pictures`.
"""

from jaxdecay.errors import InputError

try:
    import matplotlib.axes  # noqa: F401
except ModuleNotFoundError:
    raise InputError("pictures need matplotlib, which is missing: pip install 'jaxdecay[plots]'") from None

from jaxdecay.plots.ages import (
    ablation_frame,
    calibration_frame,
    cohorts,
    plot_ablation,
    plot_calibration,
    plot_staleness,
    staleness_frame,
)
from jaxdecay.plots.drift import plot_statistic, statistic_frame
from jaxdecay.plots.half_lives import (
    half_lives_frame,
    plot_half_lives,
    plot_spread,
    spread_frame,
)
from jaxdecay.plots.interests import plot_trajectory, trajectory_frame
from jaxdecay.plots.kernels import kernels_frame, learned_frame, plot_kernels, plot_learned
from jaxdecay.plots.memory import memory_frame, plot_memory
from jaxdecay.plots.metrics import metrics_frame, plot_metrics, plot_trade_off, trade_off_frame
from jaxdecay.plots.paper import Axes, Figure, check_format, save
from jaxdecay.plots.training import (
    history_frame,
    plot_history,
    plot_training_half_lives,
    training_half_lives_frame,
)
from jaxdecay.plots.weights import plot_weights, weights_frame

__all__ = [
    "Axes",
    "Figure",
    "ablation_frame",
    "calibration_frame",
    "check_format",
    "cohorts",
    "half_lives_frame",
    "history_frame",
    "kernels_frame",
    "learned_frame",
    "memory_frame",
    "metrics_frame",
    "plot_ablation",
    "plot_calibration",
    "plot_half_lives",
    "plot_history",
    "plot_kernels",
    "plot_learned",
    "plot_memory",
    "plot_metrics",
    "plot_spread",
    "plot_staleness",
    "plot_statistic",
    "plot_trade_off",
    "plot_training_half_lives",
    "plot_trajectory",
    "plot_weights",
    "save",
    "spread_frame",
    "staleness_frame",
    "statistic_frame",
    "trade_off_frame",
    "training_half_lives_frame",
    "trajectory_frame",
    "weights_frame",
]
