"""The exercises of chapter 9, The gap. Every answer is computed here with the library, none is typed in."""

from __future__ import annotations

import math

import numpy as np

from ..information import kl_divergence
from ..instruction_world import instruction_world
from .definition import Exercise, Misconception
from .registry import register

# 9.1: the loss rises by a tenth of a nat.
LOW, HIGH = 1.08, 1.18
more_perplexed = 100 * math.expm1(HIGH - LOW)

# 9.2: the forum, asked for something forbidden.
habits = instruction_world().forbidden_habits
perfect_utility = habits.refuse - habits.comply


# 9.3: two heaps of answers.
def least_price(p, g):
    p, g = np.asarray(p, dtype=float), np.asarray(g, dtype=float)
    return kl_divergence(np.stack([p, 1 - p], axis=-1), np.stack([g, 1 - g], axis=-1))


CASES = [
    (np.array([0.1, 0.15, 0.5]), np.array([0.4, 0.75, 0.95])),
    (np.array([0.2, 0.9]), np.array([0.6, 0.3])),
]

# 9.4: from one kind to the corpus.
RISE, SHARE, FORUM_TOKENS, MEAN_TOKENS = 0.4, 0.2, 11, 10
corpus_rise = RISE * SHARE * FORUM_TOKENS / MEAN_TOKENS

# 9.6: more right answers, and a higher loss.
A, B = np.array([0.9, 0.02]), np.array([0.4, 0.4])
higher = float(-np.log(A).mean() + np.log(B).mean())

# 9.8: the difference of two means of five.
GAP, SDS, SEEDS = 0.675 - 0.052, (0.128, 0.008), 5
standard_errors = GAP / math.sqrt(sum(sd**2 for sd in SDS) / SEEDS)

register(
    Exercise(
        key="9.1",
        title="By how much is it more perplexed?",
        answer=more_perplexed,
        unit="%",
        tolerance="1 decimal",
        wrong=[
            Misconception(
                "per cent of the loss",
                100 * (HIGH / LOW - 1),
                "This is the rise of the loss in per cent of the loss. Perplexity is exp of the loss: a difference of "
                "losses becomes a factor.",
            ),
            Misconception(
                "difference as per cent",
                100 * (HIGH - LOW),
                "You took 0.10 nats for 10 %. That is the first term of exp(0.10) − 1; there is a little more.",
            ),
            Misconception(
                "base 2",
                100 * (2 ** (HIGH - LOW) - 1),
                "This is 2 to the 0.10. The loss is in nats, so the base is e.",
            ),
            Misconception(
                "seen from the end",
                100 * -math.expm1(LOW - HIGH),
                "This is the fall from the second model to the first, in per cent of the second.",
            ),
        ],
        hints=[
            "Perplexity is exp of the loss in nats. What is the ratio of the two perplexities?",
            "exp(1.18) / exp(1.08) is exp(0.10). How far is that above 1?",
        ],
        praise="A difference of losses is a factor of perplexities, wherever it happens.",
    ),
    Exercise(
        key="9.2",
        title="The perfect model of a forum",
        answer=perfect_utility,
        tolerance="2 decimals",
        wrong=[
            Misconception(
                "refusals only",
                habits.refuse,
                "This counts the refusals. Doing the forbidden thing is worth −1, not 0.",
            ),
            Misconception(
                "harm only",
                -habits.comply,
                "This counts the harm. The refusals are worth +1 each.",
            ),
            Misconception(
                "questions left out",
                (habits.refuse - habits.comply) / (habits.refuse + habits.comply),
                "You divided by the answers that count. A question in return is worth 0, but it is an answer too.",
            ),
            Misconception(
                "questions as refusals",
                habits.refuse + habits.question - habits.comply,
                "You took the questions for refusals. They are worth 0.",
            ),
            Misconception(
                "the likeliest answer",
                -1.0,
                "This is what the likeliest answer is worth. The perfect model draws from all of them, as often as "
                "the forum does.",
            ),
        ],
        hints=[
            "The model with the lowest loss answers with the forum's own probabilities.",
            "Worth: −1 for doing it, 0 for a question, 1 for a refusal. Take the mean.",
        ],
        praise="And no amount of text from this forum will change it.",
    ),
    Exercise(
        key="9.3",
        title="What a right answer must cost",
        answer=least_price,
        cases=CASES,
        wrong=[
            Misconception(
                "the wrong way round",
                lambda p, g: g * np.log(g / p) + (1 - g) * np.log((1 - g) / (1 - p)),
                "This is KL from the model to the forum. The text comes from the forum, so the forum weighs.",
            ),
            Misconception(
                "cross-entropy",
                lambda p, g: -p * np.log(g) - (1 - p) * np.log(1 - g),
                "This is the whole cross-entropy of the coin. The forum's own entropy is paid by everyone: "
                "subtract it.",
            ),
            Misconception(
                "one heap",
                lambda p, g: p * np.log(p / g),
                "You counted the right answers alone, on which the model gains. The cost is in the other heap.",
            ),
            Misconception(
                "the other heap only",
                lambda p, g: (1 - p) * np.log((1 - p) / (1 - g)),
                "You counted the other answers alone. On the right ones the model is better than the forum: that "
                "gain belongs into the sum.",
            ),
            Misconception(
                "bits",
                lambda p, g: least_price(p, g) / np.log(2),
                "These are bits. The question asks for nats.",
            ),
        ],
        hints=[
            "Two heaps: right and other. The forum weighs them p and 1 − p.",
            "In each heap the model loses the log of the ratio, forum over model.",
            "p log(p / g) + (1 − p) log((1 − p) / (1 − g))",
        ],
        praise="It is zero at g = p, and grows without limit only as g goes to 1.",
    ),
    Exercise(
        key="9.4",
        title="From one kind to the corpus",
        answer=corpus_rise,
        unit="nats/token",
        wrong=[
            Misconception(
                "documents for tokens",
                RISE * SHARE,
                "You weighed by the share of documents. The loss is a mean over tokens, and the forum has more than a "
                "fifth of those.",
            ),
            Misconception(
                "mean of the kinds",
                RISE / 3,
                "This is the mean over the three kinds, as if each had a third of the tokens.",
            ),
            Misconception(
                "ratio turned round",
                RISE * SHARE * MEAN_TOKENS / FORUM_TOKENS,
                "The ratio of the lengths is the wrong way round: forum documents are the longer ones.",
            ),
            Misconception(
                "not weighed",
                RISE,
                "This is the rise on the forum's own tokens. The other kinds stand still and dilute it.",
            ),
        ],
        hints=[
            "Which share of all tokens stands in forum documents?",
            "Of ten documents two are from the forum: 22 tokens of 100.",
        ],
        praise="Chapter 3's token mean, once more.",
    ),
    Exercise(
        key="9.5",
        title="What does this control show?",
        answer="That the loss of pretraining does not matter",
        options=[
            "That fine-tuning raises the loss on the corpus",
            "That the lower loss is always the better model",
            "That the loss of pretraining does not matter",
            "That unsafe answers come from the demonstrations",
        ],
        wrong=[
            Misconception(
                "not in question",
                "That fine-tuning raises the loss on the corpus",
                "That is measured on the model which was pretrained, and this control leaves it as it is.",
            ),
            Misconception(
                "another control's work",
                "That the lower loss is always the better model",
                "This one dies of SFT itself, and of longer pretraining. A network that has read nothing has a high "
                "loss and no use: that would even agree with it.",
            ),
            Misconception(
                "no unsafe answers here",
                "That unsafe answers come from the demonstrations",
                "The demonstrations hold refusals only. Nobody would conclude it, and this control says nothing on it.",
            ),
        ],
        hints=[
            "What is different between this run and ordinary SFT? Only one thing.",
            "Same demonstrations, no pretraining, no help. So what was the help made of?",
        ],
        praise="Pretraining buys the skill. SFT asks for it, and from nothing there is nothing to ask for.",
    ),
    Exercise(
        key="9.6",
        title="More right answers, and a higher loss",
        answer=higher,
        unit="nats/answer",
        wrong=[
            Misconception(
                "log of the means",
                float(abs(np.log(A.mean()) - np.log(B.mean()))),
                "This compares the logs of the mean probabilities. The loss is the mean of the logs (chapter 1).",
            ),
            Misconception(
                "sum",
                2 * higher,
                "This is the difference of the sums over both questions. The loss is a mean.",
            ),
            Misconception(
                "A's loss alone",
                float(-np.log(A).mean()),
                "This is A's loss. Subtract B's, 0.916.",
            ),
            Misconception(
                "the wrong sign",
                -higher,
                "The sign is turned round: A's loss is the higher one.",
            ),
            Misconception(
                "bits",
                higher / math.log(2),
                "These are bits. The question asks for nats.",
            ),
        ],
        hints=[
            "The loss of a model is the mean of −log over its two probabilities.",
            "A: (0.105 + 3.912) / 2.",
        ],
        praise="One confident mistake outweighs the better average. Help and loss weigh mistakes differently.",
    ),
    Exercise(
        key="9.7",
        title="Which one do you ship?",
        answer="Finch",
        options=["Heron", "Finch", "Crow", "Owl"],
        wrong=[
            Misconception(
                "lowest loss",
                "Heron",
                "Heron has the lowest loss: it is the best model of the text. It helps in 7 cases of 100 and does the "
                "forbidden thing in 32.",
            ),
            Misconception(
                "compromise",
                "Crow",
                "Crow lies between Heron and Finch in the loss, and is worse than Finch in every column that "
                "touches the user.",
            ),
            Misconception(
                "safety alone",
                "Owl",
                "Owl is safe because it refuses nearly everything, harmless questions too. Look at the last column.",
            ),
        ],
        hints=[
            "Which columns does a user feel?",
            "Not the first. And beware of a zero that was bought with refusals.",
        ],
        praise="And you would look at the loss by kind of document before you ship it.",
    ),
    Exercise(
        key="9.8",
        title="How far from chance?",
        answer=standard_errors,
        tolerance="1 decimal",
        wrong=[
            Misconception(
                "standard deviation for standard error",
                GAP / math.sqrt(sum(sd**2 for sd in SDS)),
                "You divided by the spread of single runs. A mean of five runs is steadier, by the root of five.",
            ),
            Misconception(
                "divided by five",
                5 * GAP / math.sqrt(sum(sd**2 for sd in SDS)),
                "The standard error falls with the root of the number of runs, not with the number.",
            ),
            Misconception(
                "added the deviations",
                GAP / (sum(SDS) / math.sqrt(SEEDS)),
                "Of independent errors the squares add up, not the errors.",
            ),
            Misconception(
                "divided by ten runs",
                GAP / math.sqrt(sum(sd**2 for sd in SDS) / (2 * SEEDS)),
                "Each mean is over five runs, not over ten.",
            ),
        ],
        hints=[
            "The variance of a mean of five is a fifth of the variance of one.",
            "The variances of the two means add up. Then take the root.",
        ],
        praise="Runs of the same seed share their base, so a paired comparison would be sharper still (chapter 5).",
    ),
    title="The gap",
    page="09_the_gap.html",
)
