"""The exercises of chapter 8, The wrong loss. Every answer is computed here with the library, none is typed in."""

from __future__ import annotations

import math

import numpy as np
import torch

from ..cross_entropy import cross_entropy
from ..losses import brier_loss
from ..recalibration import restore_focal, restore_prior
from .definition import Exercise, Misconception
from .registry import register

# 8.1: running out costs four times as much as a leftover.
SHORT, OVER = 4.0, 1.0
order_quantile = SHORT / (SHORT + OVER)


# 8.3: the pull of a loss at a wrong margin of 5, two words.
def _pull(loss) -> float:
    z = torch.tensor([0.0, 5.0], dtype=torch.float64, requires_grad=True)
    loss(z, torch.tensor(0)).backward()
    return -z.grad[0].item()


brier_pull = _pull(brier_loss)

# 8.5: a weight of 9.
WEIGHT = 9.0
threshold = float(restore_prior(0.5, 1 / WEIGHT))

# 8.6: a focal model says 0.7.
focal_truth = float(restore_focal([0.7, 0.3])[0])


def _g(q: float, *, sign: float = 1.0, power: float = 1.0) -> float:
    return q / ((1 - q) ** 2 - sign * 2 * (1 - q) ** power * q * math.log(q))


def _share(g) -> float:
    return g(0.7) / (g(0.7) + g(0.3))


# 8.4: back to the truth.
def restored(q, w):
    q = np.asarray(q, dtype=float)
    return q / (q + w * (1 - q))


CASES = [(np.array([0.1, 0.35, 0.8]), 14.0), (np.array([0.0, 0.5, 1.0]), 3.0), (np.array([0.2, 0.6]), 0.5)]

register(
    Exercise(
        key="8.1",
        title="How many newspapers?",
        answer=order_quantile,
        wrong=[
            Misconception(
                "ratio of the costs",
                SHORT / OVER,
                "This is the ratio of the two costs. A quantile is a share, between 0 and 1.",
            ),
            Misconception(
                "the wrong side",
                OVER / (SHORT + OVER),
                "This quantile is exceeded four days in five. But running out is the dear mistake: one should order "
                "more than usual, not less.",
            ),
            Misconception(
                "over the larger cost",
                1 - OVER / SHORT,
                "You divided by the dear cost alone. At the best order the two pulls balance: 4 times the share above "
                "equals 1 times the share below, and the shares sum to one.",
            ),
            Misconception(
                "the median",
                0.5,
                "The median is best where both mistakes cost the same.",
            ),
        ],
        hints=[
            "In the pinball loss, what does a missed unit cost above, and what below?",
            "Above it costs the quantile, below one minus the quantile. Their ratio is 4 to 1.",
            "Solve u / (1 − u) = 4.",
        ],
        praise="The pinball loss with 0.8 is this shop's bill, divided by 5.",
    ),
    Exercise(
        key="8.2",
        title="Prices on a log scale",
        answer="The median of the prices",
        options=[
            "The mean of the prices",
            "The median of the prices",
            "The price that is seen most often",
            "Something above the mean of the prices",
        ],
        wrong=[
            Misconception(
                "exp undoes log",
                "The mean of the prices",
                "exp undoes log for one number, not for a mean: exp of the mean of logs is the geometric mean, "
                "which for these prices lies below the mean.",
            ),
            Misconception(
                "mode",
                "The price that is seen most often",
                "The mode of these prices lies at exp of the mean log minus the variance: below the median.",
            ),
            Misconception(
                "wrong direction",
                "Something above the mean of the prices",
                "exp is convex, so the mean of exp lies above exp of the mean (Jensen). It is the other way round.",
            ),
        ],
        hints=[
            "Squared error on logs asks for the mean of the logs.",
            "A normal distribution has its mean and its median in the same place. Which of the two survives exp?",
        ],
        praise="A transformation of the target changes the question. The median is the one that goes along.",
    ),
    Exercise(
        key="8.3",
        title="A weak pull",
        answer=brier_pull,
        tolerance="4 decimals",
        wrong=[
            Misconception(
                "cross-entropy",
                _pull(cross_entropy),
                "This is cross-entropy's pull, 1 − q. Brier multiplies it by something small.",
            ),
            Misconception(
                "binary Brier",
                brier_pull / 2,
                "You took (1 − q)² as the loss. Brier's loss has the other word's square too, and with two words that "
                "doubles it.",
            ),
            Misconception(
                "the probability alone",
                1 / (1 + math.exp(5)),
                "This is q itself, the probability of the right word.",
            ),
            Misconception(
                "no softmax",
                4 * (1 - 1 / (1 + math.exp(5))),
                "This is the slope in q. The logit moves q only by q (1 − q), and that is the factor that vanishes.",
            ),
        ],
        hints=[
            "With two words, what is the Brier loss as a function of q alone?",
            "It is 2 (1 − q)². Its slope in q is −4 (1 − q), and the slope of q in its logit is q (1 − q).",
            "q is 1 / (1 + exp 5), that is 0.0067.",
        ],
        praise="Cross-entropy pulls 38 times as hard, and at a lead of 10 more than five thousand times.",
    ),
    Exercise(
        key="8.4",
        title="Back to the truth",
        answer=restored,
        cases=CASES,
        wrong=[
            Misconception(
                "the wrong way",
                lambda q, w: q * w / (q * w + 1 - q),
                "This multiplies the odds by the weight once more. Training has done that already; divide.",
            ),
            Misconception(
                "not normalised",
                lambda q, w: q / w,
                "You divided the probability by the weight. What the weight has multiplied is the odds, q / (1 − q).",
            ),
            Misconception(
                "odds",
                lambda q, w: q / (w * np.maximum(1 - q, 1e-300)),
                "These are the odds. Turn them into a probability: odds / (1 + odds).",
            ),
            Misconception(
                "weight on yes",
                lambda q, w: q / (w * q + (1 - q)),
                "The denominator is not that of a probability: 'yes' and 'no' would not sum to one. Which of the two "
                "should the weight multiply?",
            ),
        ],
        hints=[
            "What has the weight done to the odds q / (1 − q)?",
            "It has multiplied them by w. Divide them by w.",
            "From odds to probability: odds / (1 + odds). Multiply above and below by w (1 − q).",
        ],
        praise="On logits it is one subtraction: z − ln w.",
    ),
    Exercise(
        key="8.5",
        title="Where is one half?",
        answer=threshold,
        wrong=[
            Misconception(
                "unchanged",
                0.5,
                "At 0.5 the weighted model is undecided. The truth there is 0.1: its odds were multiplied by 9.",
            ),
            Misconception(
                "the other direction",
                float(restore_prior(0.5, WEIGHT)),
                "This is the truth where the model says one half. You were asked what the model says where the "
                "truth is one half.",
            ),
            Misconception(
                "one over w",
                1 - 1 / WEIGHT,
                "The odds are 9 to 1, and 9 to 1 is 0.9: nine parts of ten, not eight of nine.",
            ),
            Misconception(
                "the weight",
                WEIGHT,
                "These are the odds. As a probability: odds / (1 + odds).",
            ),
        ],
        hints=[
            "At a truth of one half the odds are 1. What does the weight make of them?",
            "9 to 1.",
        ],
        praise="So a weight moves the threshold. It is honest to train without it and to move the threshold yourself.",
    ),
    Exercise(
        key="8.6",
        title="What does a focal model mean by 0.7?",
        answer=focal_truth,
        wrong=[
            Misconception(
                "taken at its word",
                0.7,
                "The focal loss is not proper: its minimiser is flatter than the truth. 0.7 means more than 0.7.",
            ),
            Misconception(
                "g of one class",
                _g(0.7),
                "This is g(0.7). Both classes have one; the truth is the share.",
            ),
            Misconception(
                "the sign of the logarithm",
                _share(lambda q: _g(q, sign=-1.0)),
                "Check the sign: log q is negative, so − γ (1 − q) q log q is positive and adds to the denominator.",
            ),
            Misconception(
                "power two twice",
                _share(lambda q: _g(q, power=2.0)),
                "The second term of the denominator has the power γ − 1, that is 1, and not 2.",
            ),
            Misconception(
                "denominator only",
                _share(lambda q: q / (1 - q) ** 2),
                "You left out the second term, the derivative of the discount.",
            ),
        ],
        hints=[
            "Work out g(0.7) and g(0.3) with γ = 2.",
            "g(0.7) is 0.7 divided by 0.09 + 0.1498.",
            "g(0.3) is 0.3 divided by 0.49 + 0.5057. The share of the first in the sum of the two.",
        ],
        praise="A focal model that sounds hesitant may have every reason to be sure.",
    ),
    Exercise(
        key="8.7",
        title="No majority",
        answer="All three equal",
        options=[
            "The first leads by 1, the others equal",
            "All three equal",
            "Their logarithms: log 0.45, log 0.35, log 0.2",
            "The first as far ahead as possible",
        ],
        wrong=[
            Misconception(
                "two-class rule",
                "The first leads by 1, the others equal",
                "So it would be with a majority. Here it costs 0.45 · 0 + 0.55 · 2 = 1.1, and equal scores cost 1.",
            ),
            Misconception(
                "as if it were proper",
                "Their logarithms: log 0.45, log 0.35, log 0.2",
                "This is cross-entropy's answer. The hinge knows nothing of probabilities; a lead of 0.251 costs more "
                "than none.",
            ),
            Misconception(
                "as if it were the absolute error",
                "The first as far ahead as possible",
                "Each unit of lead saves 0.45 while it is below 1 and costs 0.55. With no majority it never pays.",
            ),
        ],
        hints=[
            "Equal scores: what does each word cost when it comes?",
            "Give the first word a lead of d < 1. It costs 1 − d when it comes, and 1 + d when another comes.",
        ],
        praise="And most words of a language have no majority.",
    ),
    Exercise(
        key="8.8",
        title="What a temperature cannot change",
        answer="The share of examples whose likeliest word came true",
        options=[
            "The calibration error",
            "The share of examples whose likeliest word came true",
            "The perplexity",
            "The divergence from the truth",
        ],
        wrong=[
            Misconception(
                "calibration",
                "The calibration error",
                "This is what the temperature is fitted to mend, indirectly.",
            ),
            Misconception(
                "perplexity",
                "The perplexity",
                "The temperature is chosen so that the loss on held-out data is lowest. Perplexity is its exp.",
            ),
            Misconception(
                "divergence",
                "The divergence from the truth",
                "It moves with the loss: both depend on all the probabilities.",
            ),
        ],
        hints=[
            "Dividing all logits of a row by the same positive number: what stays?",
            "The order of the words stays.",
        ],
        praise="So a temperature costs nobody anything who needs only the first place.",
    ),
    title="The wrong loss",
    page="08_the_wrong_loss.html",
)
