"""Chapter 8, The wrong loss."""

import numpy as np
from scipy.optimize import brentq

from lossutils.recalibration import restore_focal, restore_prior

MAY_VARY = {
    "twenty-words": "accuracies of trained models",
    "fig-twenty-words": "a figure of trained models",
    "what-six-learned": "divergences of trained networks",
    "fig-taught": "a figure of trained networks",
    "what-they-write-8": "samples of trained networks",
    "calibrated-and-useless": "scores of a trained network",
    "temperatures": "temperatures of trained networks",
    "fig-reliability-8": "a figure of trained networks",
    "lab-choose-a-loss": "a picture of a trained network",
}

SOURCED = {}


def number(text):
    return float(text.replace("\N{MINUS SIGN}", "-"))


def asked_for(p, loss):
    """Where the mean loss is lowest, by its closed form or by inverting it; on the chapter's grid of thousandths."""
    p = number(p)
    if loss == "absolute error":
        return float(p > 0.5)
    if loss == "hinge":
        return 1 / (1 + np.exp(-1 if p > 0.5 else 1))
    if loss.startswith("focal"):
        return round(brentq(lambda q: restore_focal([q, 1 - q])[0] - p, 0.001, 0.999), 3)
    return p


def pulls(margin, classes):
    """The five losses' pull on the right word, from the gradients written in probabilities."""
    lead, n = np.exp(number(margin)), int(classes)
    q = np.full(n, 1.0)
    q[1] = lead
    q /= q.sum()
    right, rest, length = q[0], q[1:].sum(), np.sqrt((q**2).sum())
    loss = rest**2 + (q[1:] ** 2).sum()
    return {
        "ce_here": rest,
        "brier_here": 2 * right * loss,
        "spherical_here": right / length * (q[1:] ** 2).sum() / length**2,
        "mae_here": 2 * right * rest,
        "focal_here": rest**2 * (rest - 2 * right * np.log(right)),
    }


def short(value):
    return f"{value:.2g}".replace("-", "\N{MINUS SIGN}")


READOUTS = {
    "which-probability": {
        "p": lambda p, loss: p,
        "best": lambda p, loss: f"{asked_for(p, loss):.3f}",
        "off": lambda p, loss: f"{abs(asked_for(p, loss) - number(p)):.3f}",
    },
    "pull": {
        key: lambda margin, classes, key=key: short(pulls(margin, classes)[key])
        for key in ("ce_here", "brier_here", "spherical_here", "mae_here", "focal_here")
    },
    "class-weight": {
        "learned": lambda p, weight: f"{restore_prior(number(p), 1 / number(weight)):.3f}",
        "restored": lambda p, weight: f"{number(p):.3f}",
        "even": lambda p, weight: f"{1 / (1 + number(weight)):.3f}",
    },
}
