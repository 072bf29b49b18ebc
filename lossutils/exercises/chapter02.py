"""The exercises of chapter 2, From logits to loss. Every answer is computed here, none is typed in."""

from __future__ import annotations

import numpy as np

from ..logspace import log_expit, log_softmax, logsumexp, softmax
from .definition import Exercise, Misconception
from .registry import register

# 2.1: the log-sum-exp of 50,257 logits that are all 3.
WORDS, HEIGHT = 50_257, 3.0
flat_height = float(logsumexp(np.full(WORDS, HEIGHT)))

# 2.2: the gradient of the loss at the right word's logit, when its probability is 0.8.
P_RIGHT = 0.8
pull = float(softmax(np.log([P_RIGHT, 1 - P_RIGHT]))[0]) - 1


# 2.3: a log-softmax along the last axis, in NumPy.
def log_softmax_np(z):
    return log_softmax(np.asarray(z, dtype=float), axis=-1)


@np.errstate(all="ignore")
def _no_maximum(z):
    z = np.asarray(z, dtype=float)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


@np.errstate(all="ignore")
def _through_probabilities(z):
    z = np.asarray(z, dtype=float)
    p = np.exp(z - z.max(axis=-1, keepdims=True))
    return np.log(p / p.sum(axis=-1, keepdims=True))


@np.errstate(all="ignore")
def _over_everything(z):
    z = np.asarray(z, dtype=float)
    z = z - z.max()
    return z - np.log(np.exp(z).sum())


def _first_axis(z):
    return log_softmax(np.asarray(z, dtype=float), axis=0)


def _losses(z):
    return -log_softmax_np(z)


def _maximum_not_given_back(z):
    z = np.asarray(z, dtype=float)
    return z - np.log(np.exp(z - z.max(axis=-1, keepdims=True)).sum(axis=-1, keepdims=True))


LOGITS = [
    (np.array([2.0, 1.0, 0.0, -1.0]),),
    (np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 5.0]]),),
    (np.array([1000.0, 1001.0]),),
    (np.array([0.0, -800.0]),),
]

# 2.4: the loss at the start: ln V + σ²/2.
VOCABULARY, SIGMA = 32_768, 1.5
first_loss = float(logsumexp(np.zeros(VOCABULARY))) + SIGMA**2 / 2

# 2.6: the distance of neighbouring bfloat16 numbers between 64 and 128.
LOW_END, MANTISSA = 64.0, 7
bfloat16_step = LOW_END / 2**MANTISSA


# 2.7: the loss of two words from the margin d of their logits.
def margin_loss(d):
    return -log_expit(np.asarray(d, dtype=np.float64))


@np.errstate(all="ignore")
def _plain_margin_loss(d):
    return np.log(1 + np.exp(-np.asarray(d)))


@np.errstate(all="ignore")
def _overflowing_margin_loss(d):
    return np.log1p(np.exp(-np.asarray(d)))


MARGINS = [(np.array([0.0, 2.0, -3.0, 17.0, -200.0], dtype=np.float32),)]

# 2.8: the gradient of −log(p + δ) at the right word's logit.
P_TINY, DELTA = 1e-12, 1e-9
clipped_gradient = -P_TINY * (1 - P_TINY) / (P_TINY + DELTA)

register(
    Exercise(
        key="2.1",
        title="The height of a flat row",
        answer=flat_height,
        unit="nats",
        wrong=[
            Misconception(
                "forgot the shift",
                np.log(WORDS),
                "This is ln V, the log-sum-exp of logits that are all 0. Log-sum-exp moves along with its "
                "argument: lse(x + b) = lse(x) + b.",
            ),
            Misconception(
                "the loss",
                HEIGHT - np.log(WORDS),
                "You subtracted ln V. That is the logit relative to the number of words. The sum holds V "
                "equal terms, and its logarithm is larger than any of them.",
            ),
            Misconception(
                "the maximum",
                HEIGHT,
                "This is the maximum. Log-sum-exp is never below it, and lies near it only when one term "
                "outweighs the rest. Here 50,257 terms are equal.",
            ),
            Misconception(
                "multiplied",
                HEIGHT * np.log(WORDS),
                "You multiplied. The sum is V times e to the 3, and the logarithm of a product is a sum.",
            ),
            Misconception(
                "no exponential",
                np.log(HEIGHT * WORDS),
                "This is the logarithm of the sum of the logits. The exponential comes first.",
            ),
        ],
        hints=[
            "Write the sum down: 50,257 times the same term.",
            "The logarithm of a product is the sum of the logarithms.",
            "3 + ln 50,257.",
        ],
        praise="And the loss is the same as with logits of 0: lse − z = ln V, whatever the height.",
    ),
    Exercise(
        key="2.2",
        title="The pull on the right word",
        answer=pull,
        wrong=[
            Misconception(
                "sign",
                -pull,
                "The size is right. But the loss falls when the logit of the right word rises, so the "
                "derivative is negative: p − 1.",
            ),
            Misconception(
                "p alone",
                P_RIGHT,
                "This is the derivative of log-sum-exp, p. The loss has a second term, minus the logit "
                "itself, which adds −1.",
            ),
            Misconception(
                "derivative by p",
                -1 / P_RIGHT,
                "This is the derivative of −log p with respect to the probability. The question asks for the "
                "logit: multiply by the derivative of p with respect to it, p(1 − p).",
            ),
            Misconception(
                "derivative of p",
                P_RIGHT * (1 - P_RIGHT),
                "This is the derivative of the probability with respect to the logit. The loss is −log of it: "
                "divide by −p.",
            ),
            Misconception(
                "minus p",
                -P_RIGHT,
                "This would be the gradient if the model had given it a probability of 0.2. Prediction minus "
                "truth is p − 1.",
            ),
        ],
        hints=[
            "The gradient is prediction minus truth.",
            "The prediction is 0.8. What is the truth at the word that came?",
        ],
        praise="A word that is already likely is hardly pulled any more.",
    ),
    Exercise(
        key="2.3",
        title="A log-softmax that holds",
        answer=log_softmax_np,
        cases=LOGITS,
        wrong=[
            Misconception(
                "no maximum",
                _no_maximum,
                "Right for small logits. With logits of 1000 the exponential overflows. Subtract the row's "
                "maximum first: the result does not notice.",
            ),
            Misconception(
                "through the probabilities",
                _through_probabilities,
                "You took the logarithm of the softmax. At a gap of 800 the probability is 0 in float64, and "
                "its logarithm −∞. Stay in logs: (z − m) − log Σ exp(z − m).",
            ),
            Misconception(
                "over everything",
                _over_everything,
                "You normalised over the whole array. Each row is a prediction of its own: use axis=-1 with "
                "keepdims=True, for the maximum and for the sum.",
            ),
            Misconception(
                "over the first axis",
                _first_axis,
                "You normalised over axis 0, the rows of the batch. The words are on the last axis.",
            ),
            Misconception(
                "losses",
                _losses,
                "The sizes are right and the signs are wrong: these are the losses, −log p.",
            ),
            Misconception(
                "maximum lost",
                _maximum_not_given_back,
                "You subtracted the maximum inside the sum only. Outside, it is still in z, so all results "
                "are too high by the maximum.",
            ),
        ],
        hints=[
            "Subtract the row's maximum from the row. Which axis, and which option keeps the shapes fitting?",
            "After that, log-softmax is z − log Σ exp(z), for the shifted z.",
            "z = z - z.max(axis=-1, keepdims=True), then subtract np.log(np.exp(z).sum(axis=-1, keepdims=True)).",
        ],
        praise="It gives −800 at a gap of 800, where the logarithm of the softmax gives −∞.",
    ),
    Exercise(
        key="2.4",
        title="Before the first step",
        answer=first_loss,
        unit="nats/token",
        wrong=[
            Misconception(
                "no noise",
                np.log(VOCABULARY),
                "This is ln V, the loss when all logits are equal. Noise costs extra: σ²/2.",
            ),
            Misconception(
                "forgot the half",
                np.log(VOCABULARY) + SIGMA**2,
                "You added σ². The mean of e to the z, for normal z, is e to the σ²/2.",
            ),
            Misconception(
                "deviation for variance",
                np.log(VOCABULARY) + SIGMA / 2,
                "You used the standard deviation where the variance belongs: σ²/2.",
            ),
            Misconception(
                "sign of the noise",
                np.log(VOCABULARY) - SIGMA**2 / 2,
                "You subtracted. Random opinions are worse than none: they make the loss larger.",
            ),
            Misconception(
                "bits",
                first_loss / np.log(2),
                "This is in bits. The question asks for nats/token.",
            ),
        ],
        hints=[
            "Without noise all words are equally likely. What does one of 32,768 cost?",
            "Noise with standard deviation σ adds σ²/2.",
        ],
        praise="More than a nat is paid for opinions that have no ground yet.",
    ),
    Exercise(
        key="2.5",
        title="Which one survives?",
        answer="log Σ exp(z − m) − (z_y − m), with m the maximum",
        options=[
            "log Σ exp(z) − z_y",
            "m + log Σ exp(z − m) − z_y, from left to right, with m the maximum",
            "log Σ exp(z − m) − (z_y − m), with m the maximum",
            "−log( exp(z_y) / Σ exp(z) )",
        ],
        wrong=[
            Misconception(
                "overflow",
                "log Σ exp(z) − z_y",
                "exp of a million overflows: the sum is infinite, and so is the loss.",
            ),
            Misconception(
                "added back too early",
                "m + log Σ exp(z − m) − z_y, from left to right, with m the maximum",
                "Nothing overflows. But adding m back rounds the sum to a multiple of 0.0625, the step of "
                "float32 at a million, and subtracting z_y leaves that rounding. This is lse − z_y.",
            ),
            Misconception(
                "quotient of infinities",
                "−log( exp(z_y) / Σ exp(z) )",
                "exp of a million overflows above and below the line: infinity by infinity is NaN.",
            ),
        ],
        hints=[
            "Two of them take the exponential of a million.",
            "Of the other two, one has a number near a million in the middle of the computation.",
        ],
        praise="Nothing in it is ever large, so nothing is rounded coarsely.",
    ),
    Exercise(
        key="2.6",
        title="The steps of a coarse number",
        answer=bfloat16_step,
        tolerance="4 digits",
        wrong=[
            Misconception(
                "step at one",
                2.0**-MANTISSA,
                "This is the step just above 1. Steps grow with the numbers: 100 lies between 64 and 128.",
            ),
            Misconception(
                "largest rounding error",
                bfloat16_step / 2,
                "This is the largest error of rounding to the nearest, half a step. (Or you counted 8 digits "
                "after the leading 1; there are 7.)",
            ),
            Misconception(
                "upper end",
                2 * bfloat16_step,
                "You divided 128. The steps between 64 and 128 belong to the lower end, 64: there are 128 "
                "steps on a stretch of 64.",
            ),
            Misconception(
                "another stretch",
                8 / 2**MANTISSA,
                "This is the step of bfloat16 between 8 and 16, the one in the text (float16 has the same near 100). "
                "100 lies between 64 and 128, and bfloat16 keeps 7 digits after the leading 1.",
            ),
        ],
        hints=[
            "Between which powers of two does 100 lie?",
            "A stretch from one power of two to the next is cut into 2 to the 7 steps.",
            "64 / 128.",
        ],
        praise="A perplexity near 100 that is kept in bfloat16 moves in steps of one half.",
    ),
    Exercise(
        key="2.7",
        title="The loss of a margin",
        answer=margin_loss,
        cases=MARGINS,
        wrong=[
            Misconception(
                "log of one plus",
                _plain_margin_loss,
                "The formula is right on paper. In float32, 1 + exp(−17) is rounded to 1, and the loss is 0; at "
                "−200 the exponential overflows. (−log of the sigmoid does the same.)",
            ),
            Misconception(
                "overflow",
                _overflowing_margin_loss,
                "log1p keeps the small losses. But at a margin of −200 the exponential overflows, though the "
                "loss is just 200. Take the larger term out first: max(−d, 0) + log1p(exp(−|d|)).",
            ),
            Misconception(
                "wrong way round",
                lambda d: margin_loss(-np.asarray(d)),
                "This is the loss when the wrong word came. The margin is right minus wrong, so a large one is "
                "cheap.",
            ),
            Misconception(
                "only the hinge",
                lambda d: np.maximum(-np.asarray(d, dtype=float), 0.0),
                "This is what remains when the margin is large. Near zero the rest counts: at a margin of 0 the "
                "loss is ln 2.",
            ),
            Misconception(
                "log-probability",
                lambda d: -margin_loss(d),
                "The size is right and the sign is wrong: this is the log-probability. The loss is minus it.",
            ),
        ],
        hints=[
            "Two logits, d and 0. The loss is log(1 + exp(−d)).",
            "For large d use log1p. For very negative d, take the larger of the two terms out of the sum.",
            "np.maximum(-d, 0) + np.log1p(np.exp(-np.abs(d)))",
        ],
        praise="Reward models and DPO are trained on this function; chapters 10 and 11 use it as log_expit.",
    ),
    Exercise(
        key="2.8",
        title="What the constant leaves over",
        answer=clipped_gradient,
        tolerance="1%",
        wrong=[
            Misconception(
                "without the constant",
                P_TINY - 1,
                "This is the gradient of the exact loss, p − 1, practically −1. The constant has taken nearly all of "
                "it away. By how much?",
            ),
            Misconception(
                "derivative by p",
                -1 / (P_TINY + DELTA),
                "This is the derivative with respect to the probability. Multiply by the derivative of p with "
                "respect to the logit, p(1 − p).",
            ),
            Misconception(
                "sign",
                -clipped_gradient,
                "The size is right. Raising the right word's logit makes the loss fall, so the derivative is "
                "negative.",
            ),
            Misconception(
                "only p",
                -P_TINY,
                "You left out the division by p + δ, which is about 1e-9.",
            ),
        ],
        hints=[
            "Chain rule: the derivative of −log(p + δ) by p, times the derivative of p by the logit.",
            "The second one is p(1 − p). Together: −p(1 − p)/(p + δ).",
            "About −p/δ.",
        ],
        praise="A thousandth of the pull that the exact loss would give, on a word that the model has nearly "
        "ruled out.",
    ),
    title="From logits to loss",
    page="02_logits_to_loss.html",
)
