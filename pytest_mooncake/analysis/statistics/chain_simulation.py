"""Many whole chains at once: the contrast of `contrast.py` in closed form, for simulation.

A chain of n trials has 2n + 1 rounds at k = -n … n, warm ones where k + n is odd. Its statistics at every look follow
from six sums of the rounds' noise, and these scale with the noise, so one set of normal numbers serves every ratio
of warm to cold noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """Sums over the first 2n + 1 rounds of (m,) chains: mean, Σ(y - mean)², Σ y·k, for warm and cold rounds."""

    trials: int
    mean_w: NDArray[Any]
    mean_c: NDArray[Any]
    square_w: NDArray[Any]
    square_c: NDArray[Any]
    tilt_w: NDArray[Any]
    tilt_c: NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """Effect, standard error and Welch df of (m,) chains at one look."""

    trials: int
    effect: NDArray[Any]
    se: NDArray[Any]
    df: NDArray[Any]


def sums(noise: NDArray[Any], trials: int) -> Sums:
    """Sums of the first `trials` trials of `noise`, shape (m, rounds); even columns are cold, odd ones warm."""
    import numpy as np

    k = np.arange(-trials, trials + 1, dtype=float)
    cold, warm = noise[:, 0 : 2 * trials + 1 : 2], noise[:, 1 : 2 * trials : 2]
    mean_w, mean_c = warm.mean(axis=1), cold.mean(axis=1)
    return Sums(
        trials,
        mean_w,
        mean_c,
        ((warm - mean_w[:, None]) ** 2).sum(axis=1),
        ((cold - mean_c[:, None]) ** 2).sum(axis=1),
        warm @ k[1::2],
        cold @ k[0::2],
    )


def statistics(of: Sums, *, scale_w: float = 1.0, scale_c: float = 1.0) -> Statistics:
    """The contrast of chains whose warm noise is `scale_w` and whose cold noise is `scale_c` times that of the sums."""
    import numpy as np

    n = of.trials
    k_w, k_c = own_squares(n)
    slope = (scale_w * of.tilt_w + scale_c * of.tilt_c) / (k_w + k_c)
    df_w, df_c = n - 1 - k_w / (k_w + k_c), n - k_c / (k_w + k_c)
    rss_w = scale_w**2 * of.square_w - 2 * slope * scale_w * of.tilt_w + slope**2 * k_w
    rss_c = scale_c**2 * of.square_c - 2 * slope * scale_c * of.tilt_c + slope**2 * k_c
    v_w = np.maximum(rss_w, 0) / df_w / n
    v_c = np.maximum(rss_c, 0) / df_c / (n + 1)
    variance = np.maximum(v_w + v_c, np.finfo(float).tiny)
    df = variance**2 / np.maximum(v_w**2 / df_w + v_c**2 / df_c, np.finfo(float).tiny)
    return Statistics(n, scale_w * of.mean_w - scale_c * of.mean_c, np.sqrt(variance), df)


def own_squares(trials: int) -> tuple[float, float]:
    """Σk² over the warm and over the cold rounds of a whole chain.

    >>> own_squares(3)
    (8.0, 20.0)
    """
    ks = range(-trials, trials + 1)
    warm = sum(k * k for k in ks if (k + trials) % 2)
    return float(warm), float(sum(k * k for k in ks) - warm)


def batches(runs: int, size: int = 25_000) -> Iterator[int]:
    """Split `runs` into batches that keep the arrays inside the processor's cache."""
    while runs > 0:
        yield min(size, runs)
        runs -= size
