"""Chapter 6, Healthy curves."""

import json
from pathlib import Path

import numpy as np
from scipy.optimize import curve_fit

from lossutils.curves import smooth

MAY_VARY = {
    "step-zero": "logits of a network whose initial weights torch draws",
    "three-runs": "losses of trained networks",
    "healthy-curve": "a figure of trained networks",
    "shelves": "curves of trained networks",
    "what-it-knows": "predictions of trained networks",
    "the-walk": "a figure of trained networks",
    "curve-scrubber": "the curve and the words of a trained network",
    "noise-measured": "losses of trained networks",
    "batch-noise": "a figure of trained networks",
    "smoothing": "the curve of a trained network",
    "decay": "losses of trained networks",
    "lab-your-own-settings": "a picture of a trained network",
}

SOURCED = {
    "1.69": "Hoffmann et al. (2022), the fitted E in nats/token",
    "1.82": "Besiroglu et al. (2024), the fitted E in nats/token (1.8172)",
    "0.13": "1.82 - 1.69",
    "4.9": "the validation loss that exercise 6.6 is about",
}

STORED = json.loads((Path(__file__).parents[2] / "book/experiments/chapter06.json").read_text())
LENGTH, MIDDLE = 151, 75


def weights(method, width, at):
    """The weights of the values 0 ... 150 in the smoothed value at one step."""
    age = at - np.arange(LENGTH)
    if method == "trailing mean":
        w = ((age >= 0) & (age < width)).astype(float)
        return w / w.sum()
    if method.startswith("exponential"):
        beta = (width - 1) / (width + 1)
        w = np.where(age >= 0, (1 - beta) * beta ** np.maximum(age, 0), 0.0)
        return w if method.endswith("from 0") else w / w.sum()
    return np.array([smooth(np.arange(LENGTH), e, span=width)[at] for e in np.eye(LENGTH)])


def noise_left(method, width, at):
    return f"{np.sqrt((weights(method, int(width), at) ** 2).sum()):.0%}"


def law(small, large):
    """The fit of the points that are left, by another optimiser: E, α, its standard error, the number of points."""
    use = slice(int(small), len(STORED["parameters"]) - int(large))
    n = np.array(STORED["parameters"][use], dtype=float)
    losses = np.array(STORED["languages"][0]["losses"][use])

    def form(n, floor, log_a, alpha):
        return floor + np.exp(log_a) * (n / n[0]) ** -alpha

    start = (losses.min() - 0.05, np.log(losses[0] - losses.min() + 0.05), 0.6)
    found, covariance = curve_fit(
        form, n, losses, p0=start, ftol=1e-13, xtol=1e-13, gtol=1e-13, maxfev=20_000
    )
    return found[0], found[2], np.sqrt(covariance[0, 0]), n.size


def signed(value):
    return f"{value:.3f} nats/word".replace("-", "−")


READOUTS = {
    "curve-scrubber": {"tokens": lambda step: f"{int(step) * 16 * 32:,}"},
    "smoothing": {
        "lag": lambda method, width: f"{0 if method == 'local line' else (int(width) - 1) / 2:.1f} steps",
        "noise": lambda method, width: noise_left(method, width, MIDDLE),
        "newest": lambda method, width: noise_left(method, width, LENGTH - 1),
    },
    "which-points": {
        "points": lambda small, large: f"{law(small, large)[3]}",
        "E": lambda small, large: signed(law(small, large)[0]),
        "miss": lambda small, large: signed(law(small, large)[0] - STORED["languages"][0]["floor"]),
        "error": lambda small, large: signed(law(small, large)[2]),
        "alpha": lambda small, large: f"{law(small, large)[1]:.2f}",
    },
}
