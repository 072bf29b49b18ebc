"""The exercises of chapter 10, Rewards. Every answer is computed here with the library, none is typed in."""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import norm

from ..alignment.best_of_n import best_of_n_distribution, best_of_n_kl_bound
from ..alignment.optimum import exact_optimum
from ..information import kl_divergence
from ..logspace import log_expit, softmax
from ..preference import kl_estimate
from .definition import Exercise, Misconception
from .registry import register

# 10.1: two scores.
BETTER, WORSE = 1.2, 0.5
wins = float(np.exp(log_expit(BETTER - WORSE)))

# 10.3: three answers, a price.
REFERENCE, REWARD, PRICE = np.array([0.7, 0.2, 0.1]), np.array([0.0, 1.0, 1.0]), 0.5
second = float(exact_optimum(REFERENCE, REWARD, PRICE)[1])

# 10.4: which price makes two answers equally likely?
RARE = 0.1
even_price = 1 / math.log((1 - RARE) / RARE)

# 10.5: best of 4, right with probability 0.3.
RIGHT, DRAWS = np.array([0.7, 0.3]), 4
best = best_of_n_distribution(RIGHT, [0.0, 1.0], DRAWS)
moved = float(kl_divergence(best, RIGHT))


# 10.6: advantages.
def advantages(rewards):
    rewards = np.asarray(rewards, dtype=float)
    n = rewards.shape[1]
    others = (rewards.sum(axis=1, keepdims=True) - rewards) / (n - 1)
    return rewards - others


GROUPS = [
    (np.array([[1.0, 0.0, 0.0, 0.5], [0.2, 0.9, -1.0, 0.4]]),),
    (np.array([[3.0, 1.0], [-2.0, 5.0], [0.5, 0.25]]),),
    (np.array([[10.0, 11.0, 12.0]]),),
]


# 10.7: an estimate that cannot be negative.
def k3(logp, logq):
    return kl_estimate(np.asarray(logp, dtype=float), np.asarray(logq, dtype=float), kind="k3")


SAMPLES = [
    (np.log([0.5, 0.2, 0.3]), np.log([0.4, 0.4, 0.2])),
    (np.array([-1.0, -6.0]), np.array([-4.0, -2.5])),
    (np.array([-2.0, -0.1]), np.array([-1.5, -0.6])),
]


def _ratio(logp, logq):
    return np.asarray(logq, dtype=float) - np.asarray(logp, dtype=float)


register(
    Exercise(
        key="10.1",
        title="Who wins?",
        answer=wins,
        wrong=[
            Misconception(
                "share of the scores",
                BETTER / (BETTER + WORSE),
                "You divided one score by the sum. The scores of Bradley and Terry are logarithms of strengths: take "
                "the sigmoid of their difference.",
            ),
            Misconception(
                "the other one",
                1 - wins,
                "This is the probability that the answer with the lower score wins.",
            ),
            Misconception(
                "odds",
                math.exp(BETTER - WORSE),
                "These are the odds, 2 to 1. As a probability: odds / (1 + odds).",
            ),
            Misconception(
                "difference",
                BETTER - WORSE,
                "This is the difference of the scores, the logarithm of the odds.",
            ),
            Misconception(
                "normal errors",
                float(norm.cdf(BETTER - WORSE)),
                "You used the normal distribution function (Thurstone's model). Bradley and Terry have the sigmoid.",
            ),
            Misconception(
                "one score alone",
                float(np.exp(log_expit(BETTER))),
                "You took the sigmoid of one score. Only differences mean something.",
            ),
        ],
        hints=[
            "Which function of the two scores does not change when both grow by the same amount?",
            "The difference is 0.7.",
            "1 / (1 + exp(−0.7)).",
        ],
        praise="Two to one, whatever the other answers are.",
    ),
    Exercise(
        key="10.2",
        title="Labels that never err",
        answer="It grows without end, more and more slowly",
        options=[
            "It settles at the difference of the two utilities",
            "It grows without end, more and more slowly",
            "It settles at ln 2",
            "It settles where the labels' share of agreement is matched, at a finite distance",
        ],
        wrong=[
            Misconception(
                "the scores are the utilities",
                "It settles at the difference of the two utilities",
                "The labels say which answer is better and never by how much. Nothing in them could tell the loss "
                "the difference of the utilities.",
            ),
            Misconception(
                "ln 2",
                "It settles at ln 2",
                "ln 2 is the loss at the start, where both scores are equal: a coin flip. It is no distance.",
            ),
            Misconception(
                "agreement is below one",
                "It settles where the labels' share of agreement is matched, at a finite distance",
                "So it is with noisy labels. Here the share is 1, and a sigmoid reaches 1 nowhere.",
            ),
        ],
        hints=[
            "The loss of one pair is −log σ(d). Where is it lowest?",
            "Its slope is −σ(−d): never zero, and smaller and smaller.",
        ],
        praise="That is why reward models are stopped early, or kept small by a penalty.",
    ),
    Exercise(
        key="10.3",
        title="The best policy",
        answer=second,
        wrong=[
            Misconception(
                "forgot the reference",
                float(softmax(REWARD / PRICE)[1]),
                "This is softmax(r / β). The reference multiplies: an answer that is rare there stays rarer.",
            ),
            Misconception(
                "times β",
                float(exact_optimum(REFERENCE, REWARD, 1 / PRICE)[1]),
                "You multiplied the reward by β. It is divided: a low price lets the reward count for more.",
            ),
            Misconception(
                "no price",
                float(exact_optimum(REFERENCE, REWARD, 1.0)[1]),
                "You took exp(r) and left out β.",
            ),
            Misconception(
                "not normalised",
                float(REFERENCE[1] * math.exp(1 / PRICE)),
                "This is the reference times exp(r / β). Divide by the sum over the three answers.",
            ),
            Misconception(
                "only the best",
                float(REFERENCE[1] / REFERENCE[1:].sum()),
                "This is the limit of a price of zero, where only the best answers are left.",
            ),
        ],
        hints=[
            "Each probability is multiplied by exp(r / β), and then all are divided by their sum.",
            "exp(1 / 0.5) is 7.389.",
            "0.2 · 7.389 divided by 0.7 + 0.3 · 7.389.",
        ],
        praise="The two answers with reward 1 keep their ratio of 2 to 1: the reward cannot tell them apart.",
    ),
    Exercise(
        key="10.4",
        title="Which price?",
        answer=even_price,
        wrong=[
            Misconception(
                "upside down",
                1 / even_price,
                "This is the logarithm of the odds, 1 / β.",
            ),
            Misconception(
                "decimal logarithm",
                1 / math.log10((1 - RARE) / RARE),
                "You used the logarithm to base 10. exp and the natural logarithm belong together.",
            ),
            Misconception(
                "logarithm of the probability",
                -1 / math.log(RARE),
                "You made exp(1 / β) equal to 1 / 0.1. What must be made up for is the ratio 0.9 / 0.1.",
            ),
            Misconception(
                "ratio without logarithm",
                RARE / (1 - RARE),
                "You divided by the ratio 9 and forgot the logarithm: exp(1 / β) is to be 9.",
            ),
        ],
        hints=[
            "The two must be equal after the reward: 0.9 = 0.1 · exp(1 / β).",
            "So 1 / β is ln 9.",
        ],
        praise="To raise an answer from 0.1 to one half is worth ln 9 nats of log-odds, at any price.",
    ),
    Exercise(
        key="10.5",
        title="How far does the best of four move?",
        answer=moved,
        unit="nats",
        wrong=[
            Misconception(
                "the bound",
                best_of_n_kl_bound(DRAWS),
                "This is log n − (n − 1)/n, an upper bound. It is reached where every answer is improbable and has a "
                "reward of its own; here there are two answers.",
            ),
            Misconception(
                "log n",
                math.log(DRAWS),
                "This is log n. Not even the bound is so large.",
            ),
            Misconception(
                "the other direction",
                float(kl_divergence(RIGHT, best)),
                "This is KL(model ‖ best of four). The policy that has moved comes first.",
            ),
            Misconception(
                "all four right",
                float(kl_divergence([1 - 0.3**DRAWS, 0.3**DRAWS], RIGHT)),
                "You took 0.3 to the fourth: all four answers right. One is enough; it fails only if all four are "
                "wrong.",
            ),
            Misconception(
                "bits",
                moved / math.log(2),
                "These are bits.",
            ),
        ],
        hints=[
            "The best of four is wrong only if all four are: 0.7 to the fourth.",
            "That is 0.2401, so it is right with probability 0.7599.",
            "0.7599 · ln(0.7599 / 0.3) + 0.2401 · ln(0.2401 / 0.7).",
        ],
        praise="Seven tenths of what the formula in the papers says.",
    ),
    Exercise(
        key="10.6",
        title="Better than the others",
        answer=advantages,
        cases=GROUPS,
        wrong=[
            Misconception(
                "mean of all",
                lambda rewards: rewards - rewards.mean(axis=1, keepdims=True),
                "You took the mean of all answers, the answer itself among them. It is in its own baseline then, and "
                "the result is too small by the factor (S − 1) / S.",
            ),
            Misconception(
                "mean over everything",
                lambda rewards: rewards - rewards.mean(),
                "You took one mean over all questions. Some questions are harder than others: that is what the group "
                "is for.",
            ),
            Misconception(
                "over the questions",
                lambda rewards: rewards - rewards.mean(axis=0, keepdims=True),
                "You averaged over the rows, so over questions. The answers to one question stand in a row.",
            ),
            Misconception(
                "divided by the spread",
                lambda rewards: (
                    (rewards - rewards.mean(axis=1, keepdims=True)) / rewards.std(axis=1, keepdims=True)
                ),
                "You divided by the standard deviation, as GRPO does. That changes the weight of each question; here "
                "it was not asked for.",
            ),
        ],
        hints=[
            "For one answer: its reward minus the mean of the other S − 1 rewards in its row.",
            "The sum of the others is the sum of the row minus the reward itself.",
            "rewards.sum(axis=1, keepdims=True) keeps the shape.",
        ],
        praise="Each row sums to zero: what is added to all rewards of a question changes nothing.",
    ),
    Exercise(
        key="10.7",
        title="An estimate that is never negative",
        answer=k3,
        cases=SAMPLES,
        wrong=[
            Misconception(
                "k1",
                lambda logp, logq: -_ratio(logp, logq),
                "This is k1. It is negative where the reference likes the sample better.",
            ),
            Misconception(
                "k2",
                lambda logp, logq: _ratio(logp, logq) ** 2 / 2,
                "This is k2, half the square. It is biased.",
            ),
            Misconception(
                "ratio upside down",
                lambda logp, logq: np.expm1(-_ratio(logp, logq)) + _ratio(logp, logq),
                "Your ratio is p / q. The samples come from p, so the ratio whose mean is one is q / p.",
            ),
            Misconception(
                "without the one",
                lambda logp, logq: np.exp(_ratio(logp, logq)) - _ratio(logp, logq),
                "You forgot to subtract 1: where both agree the estimate should be 0.",
            ),
        ],
        hints=[
            "Let d = logq − logp. What is the mean of exp(d) over samples of p?",
            "It is 1. So exp(d) − 1 may be added to −d without changing the mean.",
        ],
        praise="exp(d) lies above its tangent 1 + d everywhere. That is the whole trick.",
    ),
    Exercise(
        key="10.8",
        title="What would have warned you?",
        answer="The true worth of a sample of answers of the trained policy",
        options=[
            "The mean reward of the policy's answers on new questions",
            "The reward model's accuracy on held-out pairs of the old model's answers",
            "The true worth of a sample of answers of the trained policy",
            "The loss curve of the policy gradient",
        ],
        wrong=[
            Misconception(
                "the proxy again",
                "The mean reward of the policy's answers on new questions",
                "New questions, but the same judge. It is this number that was made to rise.",
            ),
            Misconception(
                "accuracy elsewhere",
                "The reward model's accuracy on held-out pairs of the old model's answers",
                "That accuracy was measured where the old model's answers are. The policy has gone to where the "
                "reward is highest, and there nobody has measured.",
            ),
            Misconception(
                "loss of the optimiser",
                "The loss curve of the policy gradient",
                "It falls because the reward rises. An optimiser that exploits an error has a beautiful curve.",
            ),
        ],
        hints=[
            "Which of the four does the optimiser not see?",
            "And which of them is measured on the answers that are given now?",
        ],
        praise="It costs judgements. They are the only ones that the optimiser has not been told.",
    ),
    title="Rewards",
    page="10_rewards.html",
)
