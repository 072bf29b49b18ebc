"""Chapter 2, From logits to loss."""

import mpmath as mp
import numpy as np

from lossutils import softmax, surprisal

MAY_VARY = {
    "many-small-terms": "the processor's width decides how the library adds",
    "coarse-loss": "a mean that is accumulated in bfloat16",
    "error-map": "last digits differ between processors and library versions",
    "benchmark-tables": "make bench renews it on each machine",
    "price-of-care": "make bench renews it on each machine",
    "lab-break-the-loss": "rounding errors differ between processors",
}

SOURCED = {
    "4.14": "the mantissa of 4.14e-8, which the cell prints",
    "11.9": "float32's step at 1, 2**-23 = 11.9e-8",
    "4.75": "issue 1020 of optax",
    "4.7477": "issue 1020 of optax",
    "4.9904": "issue 1020 of optax",
}


def number(text):
    return float(text.replace(",", "").replace("−", "-"))


def came_and_rival(came, rival):
    return softmax(np.array([number(came), number(rival), 1.0, 0.0]))


def float32(value):
    """An exact value rounded once, as an ideal processor does."""
    return np.float32(float(value))


def four_ways(offset, z_y):
    """The loss by the four ways, each operation exact (50 digits) and then rounded to float32; and the truth."""
    with mp.workdps(50), np.errstate(all="ignore"):
        z = [np.float32(value) + np.float32(number(offset)) for value in (number(z_y), 1.0, 2.0)]
        m = max(z)
        raw = [float32(mp.exp(mp.mpf(float(value)))) for value in z]
        e = [float32(mp.exp(mp.mpf(float(value - m)))) for value in z]
        log_sum = float32(mp.log(mp.mpf(float(e[0] + e[1] + e[2]))))
        share = float(raw[0] / (raw[0] + raw[1] + raw[2]))
        behind = log_sum - (z[0] - m)
        return {
            "truth": float(mp.log1p(mp.exp(1 - mp.mpf(number(z_y))) + mp.exp(2 - mp.mpf(number(z_y))))),
            "naive": float(-float32(mp.log(share))) if share > 0 else -share * np.inf,
            "lse": (m + log_sum) - z[0],
            "shifted": behind,
            "careful": float32(mp.log1p(mp.mpf(float(e[1] + e[2])))) if e[0] == 1 else behind,
        }


def four_ways_text(key):
    def text(offset, z_y):
        value = float(four_ways(offset, z_y)[key]) + 0.0
        return "not defined" if np.isnan(value) else f"{value:.4g} nats".replace("-", "−")

    return text


def signed(value):
    text = f"{value:.3f}"
    return (text.lstrip("-") if float(text) == 0 else text).replace("-", "−")


READOUTS = {
    "push": {
        "loss": lambda came, rival: f"{surprisal(came_and_rival(came, rival)[0]):.3f} nats",
        "p_came": lambda came, rival: f"{came_and_rival(came, rival)[0]:.3f}",
        "pull": lambda came, rival: signed(came_and_rival(came, rival)[0] - 1),
        "push": lambda came, rival: f"{came_and_rival(came, rival)[1]:.3f}",
    },
    "four-ways": {key: four_ways_text(key) for key in ("truth", "naive", "lse", "shifted", "careful")},
}
