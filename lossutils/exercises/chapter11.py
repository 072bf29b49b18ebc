"""The exercises of chapter 11, DPO. Every answer is computed here with the library, none is typed in."""

from __future__ import annotations

import numpy as np

from ..logspace import log_expit
from ..preference import dpo_loss
from .definition import Exercise, Misconception
from .registry import register

# 11.1: one pair.
PAIR = (-12.0, -20.0, -10.0, -15.0)


def _loss(chosen, rejected, ref_chosen, ref_rejected, beta: float = 0.1) -> float:
    return float(dpo_loss([chosen], [rejected], [ref_chosen], [ref_rejected], beta=beta))


# 11.2: odds of 3 to 1 where the reference has 1 to 1.
BETA_2, ODDS = 0.5, 3.0
reward_gap = BETA_2 * float(np.log(ODDS))

# 11.4: nine of ten annotators.
BETA_4, AGREE = 0.2, 0.9
logit = float(log_expit(np.log(AGREE / (1 - AGREE))) - log_expit(-np.log(AGREE / (1 - AGREE))))
dpo_stop = logit / BETA_4

# 11.5: IPO, seven of ten.
BETA_5, SHARE = 0.1, 0.7
target = 1 / (2 * BETA_5)
ipo_stop = (2 * SHARE - 1) * target

# 11.6: a tenth wrong, and a tenth assumed.
EPS = 0.1
forecast = (1 - EPS) ** 2 + EPS**2


# 11.7: stable at any margin.
def pair_loss(chosen, rejected, ref_chosen, ref_rejected, beta):
    return dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta=beta, reduction="none")


def _margin(c, r, rc, rr):
    return (c - rc) - (r - rr)


def _plainly(c, r, rc, rr, beta):
    with np.errstate(over="ignore", divide="ignore"):
        return -np.log(1 / (1 + np.exp(-beta * _margin(c, r, rc, rr))))


def _case(margins, beta):
    margins = np.array(margins, dtype=float)
    zeros = np.zeros_like(margins)
    return margins - 7.0, zeros - 9.0, zeros - 7.0, zeros - 9.0, beta


CASES = [
    (np.array([-3.0, -9.5]), np.array([-7.0, -8.0]), np.array([-4.0, -9.0]), np.array([-6.0, -9.0]), 0.1),
    _case([-2.0, 0.0, 5.0], 0.5),
    _case([-10_000.0, 10_000.0], 0.1),
]


register(
    Exercise(
        key="11.1",
        title="One pair by hand",
        answer=_loss(*PAIR),
        unit="nats",
        wrong=[
            Misconception(
                "no reference",
                _loss(PAIR[0], PAIR[1], 0.0, 0.0),
                "You left the reference out: the margin is a difference of log-ratios, here −2 and −5.",
            ),
            Misconception(
                "the wrong way round",
                _loss(PAIR[1], PAIR[0], PAIR[3], PAIR[2]),
                "The sign of the margin is turned: it is chosen minus rejected. Both fell, the rejected one further.",
            ),
            Misconception(
                "no beta",
                _loss(*PAIR, beta=1.0),
                "You forgot β: it multiplies the margin.",
            ),
            Misconception(
                "the chosen answer alone",
                _loss(PAIR[0], 0.0, PAIR[2], 0.0),
                "This looks at the chosen answer alone, which fell by 2. The rejected one fell by 5.",
            ),
            Misconception(
                "the probability",
                float(np.exp(-_loss(*PAIR))),
                "This is σ(βm), the forecast probability. The loss is minus its logarithm.",
            ),
        ],
        hints=[
            "By how much has each answer's log-probability changed since the reference?",
            "By −2 and by −5. The margin is the first minus the second.",
            "The margin is 3. The loss is log(1 + exp(−0.1 · 3)).",
        ],
        praise="Below ln 2, although the chosen answer has become less likely.",
    ),
    Exercise(
        key="11.2",
        title="Read a reward off a policy",
        answer=reward_gap,
        wrong=[
            Misconception(
                "no beta",
                float(np.log(ODDS)),
                "This is the difference of the log-ratios. A reward is β times it.",
            ),
            Misconception(
                "divided by beta",
                float(np.log(ODDS)) / BETA_2,
                "You divided by β. The policy has r/β in the exponent, so the reward is β times the log-ratio.",
            ),
            Misconception(
                "no logarithm",
                BETA_2 * ODDS,
                "The odds themselves are 3. The reward goes with their logarithm.",
            ),
            Misconception(
                "one answer",
                BETA_2 * float(np.log(0.75 / 0.5)),
                "This is the implicit reward of yes alone, 0.75 against 0.5. No has one too, and it is negative.",
            ),
        ],
        hints=[
            "Solve π = π_ref exp(r/β) / Z for r, once for yes and once for no.",
            "In the difference log Z cancels. What are the two log-ratios?",
            "Their difference is log 3. Times β.",
        ],
        praise="And the reward of one answer by itself is not to be had: Z would be needed.",
    ),
    Exercise(
        key="11.3",
        title="A first loss that is not ln 2",
        answer="The reference is not the model that training starts from",
        options=[
            "β is too large",
            "The labels are noisy",
            "The reference is not the model that training starts from",
            "The chosen answers are longer than the rejected ones",
        ],
        wrong=[
            Misconception(
                "beta",
                "β is too large",
                "At a margin of zero β multiplies zero. A first loss of ln 2 holds for every β.",
            ),
            Misconception(
                "noise",
                "The labels are noisy",
                "A turned label turns the sign of the margin, and minus zero is zero. Noise shows later.",
            ),
            Misconception(
                "length",
                "The chosen answers are longer than the rejected ones",
                "Lengths enter policy and reference alike and cancel, as long as both are sums or both are means.",
            ),
        ],
        hints=[
            "What is the margin of a pair if policy and reference agree?",
            "Which of the four could make policy and reference disagree before the first update?",
        ],
        praise="Another checkpoint, dropout left on, another template or precision: all are this one.",
    ),
    Exercise(
        key="11.4",
        title="Where does DPO stop?",
        answer=dpo_stop,
        unit="nats",
        tolerance="2 decimals",
        wrong=[
            Misconception(
                "no beta",
                logit,
                "This is βm, the difference of rewards. The margin is that over β.",
            ),
            Misconception(
                "times beta",
                logit * BETA_4,
                "You multiplied by β. It is βm that must be log 9.",
            ),
            Misconception(
                "IPO",
                (2 * AGREE - 1) / (2 * BETA_4),
                "This is where IPO would stop. DPO stops where its forecast σ(βm) is right.",
            ),
            Misconception(
                "never",
                0.0,
                "DPO runs away only from labels without doubt. One annotator in ten disagrees: there is a minimum, "
                "and it is not at the start.",
            ),
            Misconception(
                "log of the share",
                float(np.log(AGREE)) / BETA_4,
                "You took the logarithm of 0.9. The inverse of σ is the logarithm of the odds, 0.9 / 0.1.",
            ),
        ],
        hints=[
            "The loss is a cross-entropy. What does the forecast say at its minimum?",
            "σ(βm) = 0.9. What is βm?",
            "βm = log(0.9 / 0.1). Divide by β.",
        ],
        praise="A disagreement of one in ten is what holds the policy near its reference.",
    ),
    Exercise(
        key="11.5",
        title="Where does IPO stop?",
        answer=ipo_stop,
        unit="nats",
        wrong=[
            Misconception(
                "no disagreement",
                target,
                "This is 1/(2β), where IPO stops if nobody disagrees. Three of ten pull the other way.",
            ),
            Misconception(
                "the share of the target",
                SHARE * target,
                "You took 70 % of the target. The other 30 % want minus the target, they do not want zero.",
            ),
            Misconception(
                "DPO",
                float(np.log(SHARE / (1 - SHARE))) / BETA_5,
                "This is where DPO would stop.",
            ),
            Misconception(
                "one over beta",
                (2 * SHARE - 1) / BETA_5,
                "The target is 1/(2β), not 1/β.",
            ),
        ],
        hints=[
            "Seven of ten pairs say (m − 5)². What do the other three say?",
            "(−m − 5)², that is (m + 5)². The mean of two squares is lowest at the mean of their targets.",
        ],
        praise="A square asks for a mean (chapter 8): here for the mean of +5 and −5.",
    ),
    Exercise(
        key="11.6",
        title="Doubt upon doubt",
        answer=forecast,
        wrong=[
            Misconception(
                "counted once",
                1 - EPS,
                "This is the forecast if either the noise or the smoothing were there. Both are.",
            ),
            Misconception(
                "added",
                1 - 2 * EPS,
                "You added the two. A label that is wrong and smoothed away counts for the right answer again.",
            ),
            Misconception(
                "multiplied only",
                (1 - EPS) ** 2,
                "You left out the labels that are turned round twice, 0.1 · 0.1.",
            ),
            Misconception(
                "cured",
                1.0,
                "That would be robust DPO. The conservative loss does not undo the noise.",
            ),
        ],
        hints=[
            "A label is right with 0.9, and the loss then puts 0.9 of its weight on it. What of a wrong label?",
            "A wrong label gets 0.9 of the weight on the wrong side, and 0.1 on the right one.",
        ],
        praise="0.18 of doubt where the data hold 0.1.",
    ),
    Exercise(
        key="11.7",
        title="A loss for any margin",
        answer=pair_loss,
        cases=CASES,
        wrong=[
            Misconception(
                "log of sigmoid",
                _plainly,
                "Right for ordinary margins. At −10,000 exp overflows, σ is 0 and the loss infinite instead of 1,000: "
                "use logaddexp.",
            ),
            Misconception(
                "no reference",
                lambda c, r, rc, rr, beta: np.logaddexp(0, -beta * (c - r)),
                "You left out the reference. The margin is a difference of log-ratios.",
            ),
            Misconception(
                "sign",
                lambda c, r, rc, rr, beta: np.logaddexp(0, beta * _margin(c, r, rc, rr)),
                "The sign: a larger margin must cost less.",
            ),
            Misconception(
                "no beta",
                lambda c, r, rc, rr, beta: np.logaddexp(0, -_margin(c, r, rc, rr)),
                "You forgot β.",
            ),
            Misconception(
                "averaged",
                lambda c, r, rc, rr, beta: np.logaddexp(0, -beta * _margin(c, r, rc, rr)).mean(),
                "You returned the mean. One number a pair was asked for.",
            ),
        ],
        hints=[
            "Minus the log of σ(x) is log(1 + exp(−x)). What happens in it at x = −1,000?",
            "NumPy has logaddexp(a, b) = log(exp(a) + exp(b)), computed so that nothing overflows.",
        ],
        praise="A fresh start needs this less than a run in trouble does, and that is when you look at the number.",
    ),
    Exercise(
        key="11.8",
        title="Read the log",
        answer="Sample from the model, and add the likelihood of the chosen answers to the loss",
        options=[
            "Nothing: the loss and the margins are what counts",
            "Sample from the model, and add the likelihood of the chosen answers to the loss",
            "Train longer, the chosen answers will recover",
            "Make β smaller, so that the policy may move further",
        ],
        wrong=[
            Misconception(
                "the loss is all",
                "Nothing: the loss and the margins are what counts",
                "35 nats: the chosen answers are a million billion times less likely than before. Their probability "
                "has gone to answers that stand in no pair.",
            ),
            Misconception(
                "patience",
                "Train longer, the chosen answers will recover",
                "Nothing in the loss asks them to. It falls as long as the margin grows, and more training is more "
                "of the same.",
            ),
            Misconception(
                "smaller beta",
                "Make β smaller, so that the policy may move further",
                "A smaller β wants larger margins before the pull lets go. This run has moved too far already.",
            ),
        ],
        hints=[
            "Where has the probability of the chosen answers gone, if the rejected ones have lost even more?",
            "To answers in no pair. How would you find out which, and how would you hold the chosen ones up?",
        ],
        praise="First look at what it says, then mend it.",
    ),
    title="DPO",
    page="11_dpo.html",
)
