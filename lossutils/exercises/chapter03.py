"""The exercises of chapter 3, Averages and masks. Every answer is computed here with the library, none is typed in."""

from __future__ import annotations

import numpy as np

from ..information import entropy, surprisal
from . import detectors
from .definition import Exercise, Misconception
from .registry import register

# 3.1: three sequences.
COUNTS, MEANS = np.array([5, 20, 75]), np.array([4.0, 2.0, 1.0])
SUMS = COUNTS * MEANS
token_mean = float(SUMS.sum() / COUNTS.sum())

# 3.5: the logits of one step, in GiB.
TOKENS, VOCABULARY = 16_384, 32_000
ELEMENTS = TOKENS * VOCABULARY
gib = ELEMENTS * 4 / 2**30


# 3.6: the entropy of the smoothed target.
def _softened(epsilon: float, vocabulary: int) -> np.ndarray:
    target = np.full(vocabulary, epsilon / vocabulary)
    target[0] += 1 - epsilon
    return target


SMOOTHED = _softened(0.1, 46)
lowest = float(entropy(SMOOTHED))
_to_others = np.append(0.9, np.full(45, 0.1 / 45))  # as if the right token had no part of the shared 0.1

# 3.8: class weights.
NLL, WEIGHTS = np.array([2.0, 0.5]), np.array([1.0, 4.0])
weighted = float((NLL * WEIGHTS).sum() / WEIGHTS.sum())


# 3.4: the mean over a mask.
def masked_mean(nll, mask):
    kept = np.asarray(nll)[np.asarray(mask).astype(bool)]
    return kept.sum() / max(kept.size, 1)


def _quiet(function):
    """A wrong function, without the warnings that its mistake would raise."""

    def quiet(nll, mask):
        with np.errstate(all="ignore"):
            return function(nll, mask)

    return quiet


def _selected(nll, mask):
    """The losses with zeros where they are masked: no NaN is left."""
    return np.where(mask.astype(bool), nll, 0.0)


def _row_means(nll, mask):
    counts = np.maximum(mask.sum(axis=1), 1)
    return (_selected(nll, mask).sum(axis=1) / counts).mean()


NAN = np.nan
BATCHES = [
    (np.array([[2.0, 1.0, 4.0, 3.0], [1.0, 5.0, 9.0, 9.0]]), np.array([[1, 1, 1, 1], [1, 1, 0, 0]])),
    (np.array([[2.0, 1.0, 6.0], [4.0, NAN, NAN]]), np.array([[1, 1, 1], [1, 0, 0]])),
    (np.array([[1.0, 2.0, 3.0]]), np.array([[0, 0, 0]])),
]

register(
    Exercise(
        key="3.1",
        title="Three sequences",
        answer=token_mean,
        unit="nats/token",
        wrong=[
            Misconception(
                "mean of means",
                MEANS.mean(),
                "You averaged the three means. In that average a token of the first sequence counts fifteen times as "
                "much as one of the last. Each token should count once.",
            ),
            Misconception(
                "sum",
                SUMS.sum(),
                "This is the sum of all losses. The mean divides it by the number of tokens, 100.",
            ),
            Misconception(
                "sum over sequences",
                SUMS.sum() / 3,
                "You divided the sum of all losses by the number of sequences. This is a loss per sequence; a token "
                "mean divides by the tokens.",
            ),
            Misconception(
                "root of the length",
                (MEANS * np.sqrt(COUNTS)).sum() / np.sqrt(COUNTS).sum(),
                "You weighed each mean by the root of its length. That is how errors shrink; means are weighed by "
                "the length itself.",
            ),
            Misconception(
                "inverse weights",
                (MEANS / COUNTS).sum() / (1 / COUNTS).sum(),
                "You weighed each mean by one over its length: the shortest sequence dominates. It is the other way "
                "round.",
            ),
            detectors.bits_for_nats(token_mean),
        ],
        hints=[
            "How many nats does each sequence cost altogether?",
            "20, 40 and 75 nats. How many tokens are there?",
            "135 nats over 100 tokens.",
        ],
        praise="The mean of means would be 2.333: the five dear tokens would make up more than half of it.",
    ),
    Exercise(
        key="3.2",
        title="A loss of zero",
        answer="The targets are not shifted: each position is asked for the token that it has read",
        options=[
            "The model has learned the training set by heart",
            "The learning rate is too high and the loss has underflowed",
            "The targets are not shifted: each position is asked for the token that it has read",
            "The text is so regular that its entropy is close to zero",
        ],
        wrong=[
            Misconception(
                "overfitting",
                "The model has learned the training set by heart",
                "Then the validation loss would be high. It is zero too: the model has an answer for text that it has "
                "never seen, so the answer must be in the input.",
            ),
            Misconception(
                "learning rate",
                "The learning rate is too high and the loss has underflowed",
                "Too high a learning rate makes the loss large, or NaN. A loss can round to zero only where the model "
                "is right and very sure, and here it is, at every token.",
            ),
            Misconception(
                "easy text",
                "The text is so regular that its entropy is close to zero",
                "Then samples would look like that text. They repeat the last word instead: that is the function that "
                "was learned, the identity.",
            ),
        ],
        hints=[
            "What would a model have to do to get a loss of zero on text that it has never seen?",
            "Samples repeat what was read last. For which targets would that be the right answer?",
        ],
        praise="Validation with the same wrong line cannot find it; samples can.",
    ),
    Exercise(
        key="3.3",
        title="Which denominator?",
        answer="nll / 1000",
        options=[
            "nll / (its own number of targets)",
            "nll / (its own number of targets) / 4",
            "nll / 4",
            "nll / 1000",
        ],
        wrong=[
            Misconception(
                "no division by four",
                "nll / (its own number of targets)",
                "This adds up four means: about four times the loss, and tokens of small micro-batches count more.",
            ),
            Misconception(
                "mean of means",
                "nll / (its own number of targets) / 4",
                "This is the mean of means: a token of the first micro-batch counts four times as much as one of the "
                "last.",
            ),
            Misconception(
                "per micro-batch",
                "nll / 4",
                "The direction is right, since all tokens count alike, but the gradient is 250 times too large: the "
                "loss is per micro-batch and not per token.",
            ),
        ],
        hints=[
            "Write the loss of the large batch as one fraction.",
            "Its numerator is the sum of the four sums. What is its denominator, and who knows it?",
        ],
        praise="The count of all targets must be known before the first backward pass.",
    ),
    Exercise(
        key="3.4",
        title="A mean that knows what it averages",
        answer=masked_mean,
        cases=BATCHES,
        wrong=[
            Misconception(
                "mean over all positions",
                _quiet(lambda nll, mask: _selected(nll, mask).mean()),
                "The masked losses are gone from the sum but not from the count: you divided by all positions. "
                "Divide by how many count.",
            ),
            Misconception(
                "mean of row means",
                _quiet(_row_means),
                "You took the mean of each row and averaged those. Tokens of short rows then count more. Sum over "
                "everything first, then divide once.",
            ),
            Misconception(
                "divided by the batch size",
                _quiet(lambda nll, mask: _selected(nll, mask).sum() / len(nll)),
                "You divided by the number of rows: a loss per sequence. Divide by the number of positions that count.",
            ),
            Misconception(
                "NaN times zero",
                _quiet(lambda nll, mask: (nll * mask).sum() / max(mask.sum(), 1)),
                "Right until a masked position holds NaN: NaN times 0 is NaN. Select with the mask (nll[mask], or "
                "np.where) instead of multiplying by it.",
            ),
            Misconception(
                "zero over zero",
                _quiet(lambda nll, mask: _selected(nll, mask).sum() / np.float64(mask.sum())),
                "Right until nothing counts: then it is 0/0, NaN. Divide by max(count, 1).",
            ),
            Misconception(
                "the mask ignored",
                _quiet(lambda nll, mask: np.mean(nll)),
                "This is the mean of everything: the mask plays no part in it.",
            ),
        ],
        hints=[
            "Which losses may enter the sum? Select them before you add.",
            "nll[mask.astype(bool)] keeps them, in one flat array.",
            "Divide their sum by max(how many, 1).",
        ],
        praise="Sum and count, selected and not multiplied: three common mistakes avoided in two lines.",
    ),
    Exercise(
        key="3.5",
        title="How large are the logits?",
        answer=gib,
        unit="GiB",
        tolerance="2 decimals",
        wrong=[
            Misconception(
                "GB for GiB",
                ELEMENTS * 4 / 1e9,
                "These are gigabytes of a thousand million bytes. A GiB has 2 to the 30 bytes, 7 % more.",
            ),
            Misconception(
                "two bytes",
                ELEMENTS * 2 / 2**30,
                "This is the size in a 16-bit format. float32 takes four bytes a number.",
            ),
            Misconception(
                "elements",
                ELEMENTS / 2**30,
                "These are the elements, in units of 2 to the 30. Each takes four bytes.",
            ),
            Misconception(
                "bits",
                ELEMENTS * 32 / 2**30,
                "These are bits. Eight of them make a byte.",
            ),
            Misconception(
                "with gradient",
                2 * gib,
                "This is the logits and their gradient. The question asks for the logits alone.",
            ),
        ],
        hints=[
            "One logit for each token and each entry of the vocabulary.",
            "16,384 × 32,000 numbers of four bytes.",
            "16,384 is 2 to the 14, so the answer is 32,000 × 4 / 2 to the 16.",
        ],
        praise="And as much again for the gradient, unless the loss is taken in chunks.",
    ),
    Exercise(
        key="3.6",
        title="The lowest smoothed loss",
        answer=lowest,
        unit="nats",
        wrong=[
            Misconception(
                "zero",
                0.0,
                "Zero is the lowest negative log-likelihood. The smoothed loss also charges for the other 45 words, "
                "and they want a share of the probability.",
            ),
            Misconception(
                "NLL at the minimum",
                surprisal(SMOOTHED[0]),
                "This is the negative log-likelihood of the right word at the minimum. The smoothed loss has the other "
                "words' terms too.",
            ),
            Misconception(
                "nothing for the right word",
                entropy(_to_others),
                "Nearly. You shared 0.1 among the 45 other words. Label smoothing shares it among all 46, so the right "
                "word gets 0.9 + 0.1/46.",
            ),
            Misconception(
                "entropy of a coin",
                entropy(np.array([0.9, 0.1])),
                "This is the entropy of (0.9, 0.1), as if there were one wrong word. There are 45, and telling them "
                "apart costs too.",
            ),
            Misconception(
                "perplexity",
                np.exp(lowest),
                "This is exp of the answer, and it is the perplexity of nothing.",
            ),
            detectors.bits_for_nats(lowest),
        ],
        hints=[
            "The smoothed loss is a cross-entropy between the softened target and the prediction. When is it smallest?",
            "When the prediction is the target. Then it is the target's entropy.",
            "The target: 0.9 + 0.1/46 once, and 0.1/46 forty-five times.",
        ],
        praise="Any claim about a smoothed loss begins with this number.",
    ),
    Exercise(
        key="3.7",
        title="It never stops",
        answer="Whether the EOS that ends each answer is still among the targets",
        options=[
            "Whether the temperature of sampling is too high",
            "Whether the EOS that ends each answer is still among the targets",
            "Whether the padding is counted in the loss",
            "Whether the model has been trained long enough",
        ],
        wrong=[
            Misconception(
                "sampling",
                "Whether the temperature of sampling is too high",
                "A high temperature makes all words more random, and EOS more likely if anything. These answers are "
                "fine; only their end is missing.",
            ),
            Misconception(
                "padding counted",
                "Whether the padding is counted in the loss",
                "If the padding (EOS) were counted, the model would have learned EOS only too well. The symptom is the "
                "opposite.",
            ),
            Misconception(
                "training length",
                "Whether the model has been trained long enough",
                "It answers well, so it has learned. What no target ever asks for is not learned in any time.",
            ),
        ],
        hints=[
            "Which prediction is always wrong? Which target would have taught it?",
            "A collator that masks padding by its id masks every token with that id.",
        ],
        praise="And the held-out loss is fine because it uses the same mask.",
    ),
    Exercise(
        key="3.8",
        title="A weighted mean",
        answer=weighted,
        unit="nats",
        wrong=[
            Misconception(
                "divided by the count",
                (NLL * WEIGHTS).sum() / 2,
                "You divided by the number of targets. torch divides by the sum of their weights, 5.",
            ),
            Misconception(
                "unweighted",
                NLL.mean(),
                "This is the mean without weights.",
            ),
            Misconception(
                "sum",
                (NLL * WEIGHTS).sum(),
                "This is the weighted sum: reduction='sum'. The mean divides it by the sum of the weights.",
            ),
            Misconception(
                "weights swapped",
                (NLL * WEIGHTS[::-1]).sum() / WEIGHTS.sum(),
                "You gave the loss of 2 the weight 4. It belongs to the loss of 0.5.",
            ),
        ],
        hints=[
            "The numerator is 1 · 2 + 4 · 0.5.",
            "The denominator is not 2.",
            "Divide by the sum of the weights, 1 + 4.",
        ],
        praise="With it, a batch of one class alone has the same loss whatever the weight of that class.",
    ),
    title="Averages and masks",
    page="03_averages_and_masks.html",
)
