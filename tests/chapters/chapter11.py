"""Chapter 11, DPO."""

import numpy as np
from scipy.integrate import quad, solve_ivp
from scipy.optimize import brentq
from scipy.special import expit

MAY_VARY = {
    "fig-two-roads-11": "ends of a numerical optimiser",
    "first-loss-11": "losses of trained networks",
    "noisy-labels-11": "utilities of trained networks",
    "fig-moved-11": "log-probabilities of trained networks",
    "what-it-says-11": "scores and samples of trained networks",
    "sums-or-means-11": "ends of a numerical optimiser",
    "lab-train-on-preferences": "a picture of a trained network",
}

SOURCED = {
    "74.4": "Razin et al. (2025), abstract: refusal rate of Llama-3-8B-Instruct before, in per cent",
    "33.4": "Razin et al. (2025), abstract: the same after DPO",
}

START = np.array([0.08, 0.52, 0.40])  # refuse, comply, ask back
END = 1e4  # of the clock


def number(text):
    return float(text.replace("\N{MINUS SIGN}", "-").split()[0])


def shown(value, spec):
    return f"{value:{spec}}".replace("-", "\N{MINUS SIGN}")


def with_unit(value, spec):
    return f"{shown(value, spec)} nats"


def parts(loss):
    """Which loss, and the share of wrong labels, of a name such as "DPO, 10% wrong"."""
    kind, _, wrong = loss.partition(", ")
    return kind, float(wrong.split("%")[0].split()[0]) / 100 if wrong else 0.0


def stop(loss, beta):
    kind, wrong = parts(loss)
    if kind == "IPO":
        return (1 - 2 * wrong) / (2 * number(beta))
    return np.log((1 - wrong) / wrong) / number(beta) if wrong else np.inf


def margin(loss, beta):
    """The margin at the end: IPO in closed form; for DPO the time that a margin takes, by quadrature, inverted."""
    kind, wrong = parts(loss)
    if kind == "IPO":
        return stop(loss, beta) * -np.expm1(-4 * END)
    b = number(beta)
    if not wrong:
        return brentq(lambda u: np.exp(u) + u - 1 - 2 * b**2 * END, 0, 100) / b
    goal = np.log((1 - wrong) / wrong)

    def late(u):
        spent = quad(lambda v: 1 / (expit(-v) - wrong), 0, u, limit=500)[0]
        return spent / (2 * b**2) - END

    nearly = goal * (1 - 1e-7)
    return (brentq(late, 0, nearly) if late(nearly) > 0 else goal) / b


def tilted(m):
    p = START * np.exp([m / 2, -m / 2, 0])
    return p / p.sum()


def drift(alike, nll):
    """The policy along the displacement's path, integrated in its probabilities with another method."""
    G = np.array([[1, alike, 0.3], [alike, 1, 0], [0.3, 0, 1]])

    def speed(t, log_p):
        p = np.exp(log_p)
        m = (log_p[0] - log_p[1]) - np.log(START[0] / START[1])
        dz = G @ (0.1 * expit(-0.1 * m) * np.array([1, -1, 0]) + nll * (np.array([1, 0, 0]) - p))
        return dz - p @ dz

    times = np.geomspace(0.1, END, 49)
    found = solve_ivp(speed, (0, END), np.log(START), method="Radau", t_eval=times, rtol=1e-8, atol=1e-10)
    log_p = found.y.T
    gained = (log_p[-1] - np.log(START)) @ [1, -1, 0]
    p = np.exp(log_p)
    return {"margin": gained, "refuse": p[-1, 0], "highest": p[:, 0].max(), "ask": p[-1, 2]}


def drifted(key, spec, unit=False):
    def say(alike, nll):
        value = drift(number(alike), number(nll))[key]
        return with_unit(value, spec) if unit else shown(value, spec)

    return say


READOUTS = {
    "pair-loss": {
        "loss_here": lambda margin, beta: with_unit(np.logaddexp(0, -number(beta) * number(margin)), ".3f"),
        "pull_here": lambda margin, beta: shown(expit(-number(beta) * number(margin)), ".3f"),
        "right": lambda margin, beta: shown(expit(number(beta) * number(margin)), ".3f"),
        "factor": lambda margin, beta: shown(np.exp(number(margin)), ".3g"),
    },
    "three-answers": {
        "margin": lambda loss, beta: with_unit(margin(loss, beta), ".2f"),
        "stop": lambda loss, beta: (
            with_unit(stop(loss, beta), ".2f") if np.isfinite(stop(loss, beta)) else "∞ nats"
        ),
        "refuse": lambda loss, beta: shown(tilted(margin(loss, beta))[0], ".4f"),
        "comply": lambda loss, beta: shown(tilted(margin(loss, beta))[1], ".2g"),
        "ask": lambda loss, beta: shown(tilted(margin(loss, beta))[2], ".4f"),
    },
    "displacement": {
        "margin": drifted("margin", ".1f", unit=True),
        "refuse": drifted("refuse", ".3f"),
        "highest": drifted("highest", ".3f"),
        "ask": drifted("ask", ".3f"),
    },
}
