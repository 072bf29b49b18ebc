"""The exercises of chapter 12, Capstone: the audit with its rubric, and seven fragments of other reports."""

from __future__ import annotations

import math

import numpy as np
from scipy import integrate, stats

from .audit import Audit, Claim
from .definition import Exercise, Misconception
from .registry import register

CHARGES = {
    "seeds": "a difference no larger than seeds make",
    "tokens": "per-token numbers of different tokenizers compared",
    "level": "a difference is taken for a level",
    "unit": "nats taken for bits, or bits for nats",
    "shift": "targets not shifted: it repeats what it reads",
    "proxy": "the proxy is taken for the goal",
    "order": "averaged in the wrong order: not a sum over a count",
    "taught": "judged on the examples that it was trained on",
    "reach": "a law drawn on to where it cannot hold",
    "mask": "two averages over different positions of the text",
    "smooth": "smoothed labels: not a likelihood",
    "weight": "class weights were not taken out again",
    "leak": "the test text was in the training text",
    "clip": "a constant in the logarithm hides the worst",
    "pairs": "the wrong error: the same text was not used in pairs",
    "parts": "the mean is read as if it held for every part",
}

CLAIMS = [
    Claim(
        1,
        "The first loss is a little below ln 20, so the start is sound.",
        "A fresh model with small logits costs about ln V. A hundredth of a nat below it is the luck of one batch.",
    ),
    Claim(
        2,
        "Training loss and held-out loss agree, as they must here.",
        "Each document is new when it is scored, so the training loss is a held-out loss. A gap needs a second pass.",
    ),
    Claim(
        3,
        "The power law through four points says where 10,000 steps will end.",
        "Its promise is below the entropy rate of Exhibit A, 1.060: no model gets there. The law has no floor in it.",
        "reach",
        look="Compare the promise with the lines of Exhibit A.",
    ),
    Claim(
        4,
        "Wren 1's perplexity is what the table says.",
        "exp of its loss is smaller. The table holds the mean of the documents' perplexities, and exp is convex.",
        "order",
        look="Take exp of the loss that stands in the same row.",
    ),
    Claim(
        5,
        "The test part fits into loss × tokens / 8 bytes.",
        "The losses are in nats. Divide by ln 2 before you count eight to a byte: the file is 1.44 times as long.",
        "unit",
        look="Eight what make a byte?",
    ),
    Claim(
        6,
        "Some groups of twenty documents lie below the entropy rate: no leak.",
        "Two hundred tokens scatter by that much, on both sides. A loss below the floor is a sign only on a long text.",
    ),
    Claim(
        7,
        "Parrot is below the entropy rate on 12,264 tokens: counting suits this language.",
        "Nothing beats the entropy rate on so long a text. Most of the archive's documents stand in it several times, "
        "so a random fifth is no held-out text.",
        ("leak", "taught"),
        look="How many of the archive's documents are different?",
    ),
    Claim(
        8,
        "The two intervals overlap, so no difference between Wren 0 and Wren 1 is shown.",
        "Both scored the same 60 documents, and most of either interval is their difficulty. The differences, document "
        "by document, say something else.",
        "pairs",
        look="What do the two models share, and which line of the exhibit uses it?",
    ),
    Claim(
        9,
        "Bytes have the lower perplexity, so the byte model is better.",
        "A document has more than twice as many bytes as words. Multiply each loss by its pieces: the whole text costs "
        "the byte model more.",
        "tokens",
        look="Options per what?",
    ),
    Claim(
        10,
        "Fine-tuning has lowered the loss to a quarter.",
        "The first is over all tokens of the corpus, the second over the answers in the demonstrations only. Over the "
        "same tokens the corpus loss rose, and that of these answers fell from another height.",
        "mask",
        look="Which tokens are in the one number, and which in the other?",
    ),
    Claim(
        11,
        "By its corpus loss Wren H has forgotten 8 % of all it knew, tutorials too.",
        "The row of its parts says that tutorials cost as much as before. What rose is the forum, whose habits it was "
        "taught to give up.",
        "parts",
        look="The exhibit has a row for each kind of document.",
    ),
    Claim(
        12,
        "Wren H has the higher loss and is the more useful model.",
        "The loss asks how the corpus goes on, help asks for the right answer. The forum seldom gives it.",
    ),
    Claim(
        13,
        "Its next tokens are less well calibrated; about answers this says nothing.",
        "A claim no larger than its measurement.",
    ),
    Claim(
        14,
        "The demonstrations cost next to nothing: answering is mastered.",
        "It has learned 32 answers by heart. On questions that were held out the loss turned long before, and rose.",
        "taught",
        look="Which of the two curves is about new questions?",
    ),
    Claim(
        15,
        "The lighter corpus weight brings a fifth more help.",
        "Other seeds stand beside each other. With the same seed the two settings differ by about a hundredth, and the "
        "seeds of one setting by several.",
        "seeds",
        look="Compare within a column before you compare across.",
    ),
    Claim(
        16,
        "The first loss of DPO is 0.6931, as in every such run.",
        "Before the first step the model is its own reference: margin 0, and −log of one half is ln 2.",
    ),
    Claim(
        17,
        "The loss fell and the margin grew, so the preferred answers became likelier.",
        "On average they became less likely. The loss sees the difference alone, and the rejected answers fell faster.",
        "level",
        look="The exhibit has the two log-probabilities, not only their difference.",
    ),
    Claim(
        18,
        "No token costs more than 11.51 nats: nothing has become impossible.",
        "11.51 is −ln of 0.00001, the constant that was added to the probability. It is the cap, not the loss.",
        "clip",
        look="Why should three texts have the same dearest loss, to four digits?",
    ),
    Claim(
        19,
        "The reward model agrees with four held-out pairs in five: far from perfect, and said so.",
        "The questions of these pairs were not trained on, and the number is not larger than it should be.",
    ),
    Claim(
        20,
        "Best-of-64 more than doubles the reward, so its answers are more than twice as good.",
        "The reward model chose them and the reward model praises them. Judged by hand, they are worse than the best "
        "of 8.",
        ("proxy", "level"),
        look="Who judged? And what did the other judge say?",
    ),
    Claim(
        21,
        "Best-of-64 moves the answers by at most 3.17 nats.",
        "ln n − (n − 1)/n is a bound, and it is called one.",
    ),
    Claim(
        22,
        "The filter's mean probability is 57 %: more than half of the questions are forbidden.",
        "One in four is, by Exhibit A. The filter was trained with a weight of 5, and repeats it.",
        "weight",
        look="Exhibit A knows how many questions are forbidden.",
    ),
]

SOUND = [claim.number for claim in CLAIMS if claim.stands]

# 12.2: a lint for the rows of a table.


def lint(loss, perplexity):
    loss, perplexity = np.asarray(loss, dtype=float), np.asarray(perplexity, dtype=float)
    ratio = perplexity / np.exp(loss)
    kind = np.where(ratio > 1, 2, 3)
    kind = np.where(np.abs(perplexity / 2**loss - 1) <= 0.01, 1, kind)
    return np.where(np.abs(ratio - 1) <= 0.01, 0, kind)


def _lint_in_bits(loss, perplexity):
    return lint(np.asarray(loss, dtype=float) * math.log(2), perplexity)


def _lint_absolute(loss, perplexity):
    loss, perplexity = np.asarray(loss, dtype=float), np.asarray(perplexity, dtype=float)
    kind = np.where(perplexity > np.exp(loss), 2, 3)
    kind = np.where(np.abs(perplexity - 2**loss) <= 0.01, 1, kind)
    return np.where(np.abs(perplexity - np.exp(loss)) <= 0.01, 0, kind)


def _lint_turned(loss, perplexity):
    found = lint(loss, perplexity)
    return np.where(found == 2, 3, np.where(found == 3, 2, found))


def _lint_without_bits(loss, perplexity):
    found = lint(loss, perplexity)
    return np.where(found == 1, 3, found)


LINT_CASES = [
    (np.array([1.117, 1.117, 2.0, 3.5]), np.array([3.056, 3.48, 4.0, 20.0])),
    (np.array([6.0, 3.0]), np.array([404.0, 8.03])),
    (np.array([2.5, 0.4]), np.array([12.18, 1.6])),
]

# 12.3: how much of the test has leaked.
REPORTED, FRESH, SEEN = 1.86, 2.40, 0.60
leaked = (FRESH - REPORTED) / (FRESH - SEEN)

# 12.4: the best of five seeds.
DEVIATION, SEEDS = 0.06, 5


def _largest_of(n: int) -> float:
    """The mean of the largest of n standard normal numbers."""
    return integrate.quad(lambda x: x * n * stats.norm.pdf(x) * stats.norm.cdf(x) ** (n - 1), -9, 9)[0]


flattered = DEVIATION * _largest_of(SEEDS)

# 12.5: a false alarm somewhere.
TESTS, LEVEL = 20, 0.05
alarm = 1 - (1 - LEVEL) ** TESTS

# 12.6: the margin behind a DPO loss.
DPO_LOSS, BETA = 0.25, 0.1
margin = -math.log(math.expm1(DPO_LOSS)) / BETA

register(
    Audit(
        key="12.1",
        title="The audit",
        claims=CLAIMS,
        charges=CHARGES,
        wrong=[
            Misconception(
                "everybody",
                {claim.number: "a" for claim in CLAIMS},
                "You accused every statement. Eight of them stand, and each costs two points.",
            ),
            Misconception(
                "what looks odd",
                {number: "m" for number in SOUND},
                "You accused just those that look odd and are right. A surprise is a reason to compute, not a finding.",
            ),
            Misconception(
                "arithmetic only",
                {4: "g", 5: "d"},
                "You checked the sums. Now ask what each number is about: which text, which tokens, whose judgement.",
            ),
            Misconception(
                "the headline only",
                {20: "f"},
                "The headline is where one looks first. The tables before it are not better.",
            ),
        ],
        hints=[
            "Recompute what can be recomputed from the page: exp of a loss, bytes from nats, a total from a mean and "
            "its count.",
            "Hold each number against the lines of Exhibit A: the blind guess, the entropy rate, the share of "
            "forbidden questions, the number of different documents.",
            "Ask of each comparison: the same text, the same tokens, the same judge, the same seed?",
            "Open the code under Exhibits C, F, I and K. What is averaged, what is added, what is weighted?",
            "Fourteen of the 22 statements are mistaken, and no charge is needed twice.",
        ],
        praise="You may sign the next one.",
        otherwise="What is said of each of your findings stands below; what you did not accuse is not told.",
    ),
    Exercise(
        key="12.2",
        title="A lint for tables",
        answer=lint,
        cases=LINT_CASES,
        wrong=[
            Misconception(
                "bits",
                _lint_in_bits,
                "You took 2 to the loss for the right perplexity. The loss is in nats.",
            ),
            Misconception(
                "absolute tolerance",
                _lint_absolute,
                "You allowed a distance of 0.01. At a perplexity of 400 that is less than its rounding; one per cent "
                "of the value is asked for.",
            ),
            Misconception(
                "larger and smaller",
                _lint_turned,
                "You mixed up 2 and 3. A mean of perplexities is too large: code 2.",
            ),
            Misconception(
                "two to the loss is smaller, too",
                _lint_without_bits,
                "A perplexity of 2 to the loss got the code 3. It is smaller than exp of the loss, but we know why: "
                "ask for it before.",
            ),
        ],
        hints=[
            "What should the perplexity be? Compare by a ratio, not by a difference.",
            "Start from 2 where the ratio is above one and 3 where it is below; then write 1 and 0 over it.",
            "np.where, three times.",
        ],
        praise="Four lines, and they would have stopped Exhibit C.",
    ),
    Exercise(
        key="12.3",
        title="How much has leaked?",
        answer=leaked,
        tolerance="2 decimals",
        wrong=[
            Misconception(
                "share of the loss",
                1 - REPORTED / FRESH,
                "This is by how much of itself the loss fell. Tokens that were seen are not free: they cost 0.60.",
            ),
            Misconception(
                "what is clean",
                (REPORTED - SEEN) / (FRESH - SEEN),
                "This is the share that had not been seen.",
            ),
            Misconception(
                "the difference",
                FRESH - REPORTED,
                "This is the gain in nats. How many tokens, each gaining 1.80, does it take?",
            ),
        ],
        hints=[
            "The reported loss is an average of two kinds of tokens.",
            "1.86 = s · 0.60 + (1 − s) · 2.40.",
        ],
        praise="Less than a third of the test was enough to make it useless.",
    ),
    Exercise(
        key="12.4",
        title="The best of five seeds",
        answer=flattered,
        tolerance="2%",
        wrong=[
            Misconception(
                "one deviation",
                DEVIATION,
                "One standard deviation is a little too modest. The best of five is further out: 1.163 of them.",
            ),
            Misconception(
                "standard error",
                DEVIATION / math.sqrt(SEEDS),
                "This is how well the mean of five is known. The best of five is not a mean.",
            ),
            Misconception(
                "best of two",
                DEVIATION * _largest_of(2),
                "This would be the best of two. More draws reach further.",
            ),
            Misconception(
                "two deviations",
                2 * DEVIATION,
                "Two standard deviations above: only one run in 44 lies there, and there were five.",
            ),
        ],
        hints=[
            "How far above its mean does the largest of five normal numbers lie, on average?",
            "Draw some: rng.normal(size=(100_000, 5)).max(axis=1).mean() is about 1.163.",
            "Times the standard deviation.",
        ],
        praise="And this was five. Hyperparameter searches take the best of hundreds.",
    ),
    Exercise(
        key="12.5",
        title="Twenty tests",
        answer=alarm,
        tolerance="2 decimals",
        wrong=[
            Misconception(
                "added up",
                TESTS * LEVEL,
                "One alarm is to be expected on average. That does not mean that there always is one.",
            ),
            Misconception(
                "one test", LEVEL, "This is the chance of a false alarm in one test. There are twenty."
            ),
            Misconception(
                "none",
                (1 - LEVEL) ** TESTS,
                "This is the chance that there is no alarm at all.",
            ),
        ],
        hints=[
            "What is the chance that none of the twenty alarms?",
            "0.95 to the power of 20. And one minus it?",
        ],
        praise="A table of twenty comparisons has a star in it, whatever is compared.",
    ),
    Exercise(
        key="12.6",
        title="The margin behind a loss",
        answer=margin,
        unit="nats",
        tolerance="1%",
        wrong=[
            Misconception(
                "without β",
                margin * BETA,
                "This is β times the margin, what stands inside the sigmoid. Divide by β.",
            ),
            Misconception(
                "loss over β",
                DPO_LOSS / BETA,
                "The loss is −log σ of β times the margin, not β times the margin.",
            ),
            Misconception(
                "sign",
                -margin,
                "A loss below ln 2 needs a margin above zero.",
            ),
            Misconception(
                "the loss as a probability",
                math.log((1 - DPO_LOSS) / DPO_LOSS) / BETA,
                "You took 0.25 for the probability of the wrong order. The probability of the right one is exp(−0.25).",
            ),
        ],
        hints=[
            "−log σ(β m) = 0.25. What is σ(β m)?",
            "exp(−0.25) = 0.779. Its logit is β m.",
        ],
        praise="A probability ratio of 290,000 between two answers, and nothing said about either.",
    ),
    Exercise(
        key="12.7",
        title="The number to ask for",
        answer="The share of answers that judges prefer, who did not see the reward",
        options=[
            "The reward of 1,000 more answers",
            "The share of answers that judges prefer, who did not see the reward",
            "The accuracy of the reward model on the pairs of its training",
            "The loss of the policy on the corpus",
        ],
        wrong=[
            Misconception(
                "more of the same",
                "The reward of 1,000 more answers",
                "It would make the interval narrower, around a number that answers another question.",
            ),
            Misconception(
                "the judge's school report",
                "The accuracy of the reward model on the pairs of its training",
                "On its training pairs it is good by training, and on the policy's new answers nobody knows.",
            ),
            Misconception(
                "the loss",
                "The loss of the policy on the corpus",
                "Chapter 9: it says how the corpus goes on, and not whether the answers are any good.",
            ),
        ],
        hints=[
            "The policy was trained to please the judge who praises it.",
            "Which of the four comes from somebody else?",
        ],
        praise="A second judge, who was not optimised against. The KL to the reference is the next thing to ask for.",
    ),
    Exercise(
        key="12.8",
        title="Odd, and right",
        answer="A validation loss below the training loss in the first epoch, with dropout",
        options=[
            "A perplexity of 14 and a loss of 2.5 nats/token in one row",
            "A validation loss below the training loss in the first epoch, with dropout",
            "A held-out loss of 1.1 nats/token on a million tokens of a language with an entropy rate of 1.4",
            "A DPO run whose first loss is 0.5 with the model itself as the reference",
        ],
        wrong=[
            Misconception(
                "exp",
                "A perplexity of 14 and a loss of 2.5 nats/token in one row",
                "exp(2.5) is 12.2. Somebody averaged perplexities.",
            ),
            Misconception(
                "below the floor",
                "A held-out loss of 1.1 nats/token on a million tokens of a language with an entropy rate of 1.4",
                "Nothing is below the entropy rate on so long a text. The test was read before, or the answer is seen.",
            ),
            Misconception(
                "not ln 2",
                "A DPO run whose first loss is 0.5 with the model itself as the reference",
                "It must be 0.6931. Here the reference is another model, or the two sums run over different tokens.",
            ),
        ],
        hints=["Three of them break a law that has no exception.", "What does dropout do, and when?"],
        praise="Exercise 6.6 had it. An auditor who has never seen it would have written a false finding.",
    ),
    title="Capstone: an audit",
    page="12_capstone.html",
)
