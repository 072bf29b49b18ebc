"""The exercises of chapter 4, Perplexity. Every answer is computed here with the library, none is typed in."""

from __future__ import annotations

import numpy as np

from ..information import bits_to_nats, entropy, surprisal
from ..perplexity import perplexity
from .definition import Exercise, Misconception
from .registry import register

# 4.1: three tokens had probabilities 1/2, 1/4 and 1/32.
THREE_TOKENS = np.array([1 / 2, 1 / 4, 1 / 32])
THREE_NATS = float(surprisal(THREE_TOKENS).sum())
three_tokens = float(perplexity(THREE_NATS, 3))

# 4.2: a loss of 2 bits a token and one of 2 nats a token, as a ratio of perplexities.
BITS, NATS = 3.5, 2.5
from_bits = float(perplexity(float(bits_to_nats(BITS)), 1))
from_nats = float(perplexity(NATS, 1))

# 4.3: 99 tokens at probability 1/4 and one at a millionth.
N_EASY, EASY, RARE = 99, 1 / 4, 1e-6
one_in_a_million = float(perplexity(N_EASY * surprisal(EASY) + surprisal(RARE), N_EASY + 1))


# 4.4: one perplexity from the mean losses and the lengths of documents.
def pooled_perplexity(losses, lengths):
    losses, lengths = np.asarray(losses, dtype=float), np.asarray(lengths)
    return perplexity(float(losses @ lengths), int(lengths.sum()))


DOCUMENTS = [
    ([2.0, 4.0], [100, 100]),
    ([6.0, 2.0], [10, 1000]),
    ([1.5, 0.7, 3.1], [20, 400, 80]),
]


# 4.7: the perplexity of the best bigram model, from the joint probabilities of two neighbours.
def best_bigram(joint):
    joint = np.asarray(joint, dtype=float)
    first = joint.sum(axis=1)
    given = joint / first[:, None]
    return np.exp(first @ entropy(given))


def _rows_unweighted(joint):
    joint = np.asarray(joint, dtype=float)
    return np.exp(entropy(joint / joint.sum(axis=1, keepdims=True)).mean())


def _mean_of_rows_perplexities(joint):
    joint = np.asarray(joint, dtype=float)
    first = joint.sum(axis=1)
    return first @ np.exp(entropy(joint / first[:, None]))


def _backwards(joint):
    return best_bigram(np.asarray(joint, dtype=float).T)


JOINTS = [
    ([[0.4, 0.1], [0.1, 0.4]],),
    ([[0.6, 0.1, 0.0], [0.05, 0.1, 0.05], [0.05, 0.0, 0.05]],),
    ([[0.1, 0.3, 0.1], [0.0, 0.2, 0.1], [0.1, 0.05, 0.05]],),
]

# 4.8: the loss falls by 0.2 nats from a perplexity of 20.
BEFORE, GAIN = 20.0, 0.2
after = float(perplexity(float(np.log(BEFORE)) - GAIN, 1))

register(
    Exercise(
        key="4.1",
        title="Three tokens, one perplexity",
        answer=three_tokens,
        unit="tokens",
        wrong=[
            Misconception(
                "mean of 1/q",
                (1 / THREE_TOKENS).mean(),
                "You averaged the three perplexities 2, 4 and 32. The rarest token decides such a mean nearly "
                "alone. Average "
                "the losses and exponentiate once.",
            ),
            Misconception(
                "1 / mean of q",
                1 / THREE_TOKENS.mean(),
                "This is one over the mean probability: a harmonic mean of 2, 4 and 32. Perplexity is their "
                "geometric mean.",
            ),
            Misconception(
                "geometric mean of q",
                1 / three_tokens,
                "This is the geometric mean of the probabilities. The perplexity is its reciprocal, and never "
                "below 1.",
            ),
            Misconception(
                "the loss itself",
                THREE_NATS / 3,
                "This is the mean loss in nats. Exponentiate it.",
            ),
            Misconception(
                "no mean",
                np.exp(THREE_NATS),
                "You exponentiated the sum. That is one over the probability of the whole text: divide the sum "
                "by 3 first.",
            ),
            Misconception(
                "two to the nats",
                2 ** (THREE_NATS / 3),
                "You raised 2 to a loss in nats. Two goes with bits, e with nats.",
            ),
        ],
        hints=[
            "In bits the three tokens cost 1, 2 and 5.",
            "Their mean is 8/3 bits. And 2 to that power?",
        ],
        praise="Two to the power 8/3: a die with between six and seven sides would be as hard to guess.",
    ),
    Exercise(
        key="4.2",
        title="Bits or nats?",
        answer=from_bits / from_nats,
        tolerance="3 decimals",
        wrong=[
            Misconception(
                "both with e",
                np.exp(BITS - NATS),
                "You raised e to both. The first loss is in bits: two to the power 3.5.",
            ),
            Misconception(
                "both with 2",
                2 ** (BITS - NATS),
                "You raised 2 to both. The second loss is in nats: e to the power 2.5.",
            ),
            Misconception(
                "the wrong way round",
                from_nats / from_bits,
                "This is B's perplexity over A's. A's comes first.",
            ),
            Misconception(
                "ratio of losses",
                bits_to_nats(BITS) / NATS,
                "This compares the losses. The question asks for the ratio of the perplexities.",
            ),
        ],
        hints=[
            "Each loss needs its own base: two for bits, e for nats.",
            "A has the perplexity 2^3.5 = 11.314.",
            "B has e^2.5 = 12.182. Divide.",
        ],
        praise="The larger number belonged to the better model. Units first.",
    ),
    Exercise(
        key="4.3",
        title="One in a million",
        answer=one_in_a_million,
        unit="tokens",
        wrong=[
            Misconception(
                "arithmetic mean",
                (N_EASY / EASY + 1 / RARE) / (N_EASY + 1),
                "You averaged 1/q. One token then contributes a million, and the other 99 do not matter any more.",
            ),
            Misconception(
                "mean probability",
                (N_EASY + 1) / (N_EASY * EASY + RARE),
                "You averaged the probabilities. The token with a millionth then costs as little as one with "
                "zero would.",
            ),
            Misconception(
                "left out",
                1 / EASY,
                "You left the rare token out. It is one in a hundred, and it counts with weight 1/100 in the "
                "mean loss.",
            ),
            Misconception(
                "the loss itself",
                np.log(one_in_a_million),
                "This is the mean loss in nats. Exponentiate it.",
            ),
        ],
        hints=[
            "The 99 easy tokens cost ln 4 nats each, the rare one 13.816.",
            "Add up, divide by 100, exponentiate.",
        ],
        praise="A token of a millionth raises the perplexity by an eighth. One of zero would make it infinite.",
    ),
    Exercise(
        key="4.4",
        title="The perplexity of a corpus",
        answer=pooled_perplexity,
        cases=DOCUMENTS,
        wrong=[
            Misconception(
                "mean of perplexities",
                lambda losses, lengths: np.exp(losses).mean(),
                "You exponentiated each document's loss and averaged. Hard documents dominate that mean, "
                "whatever their "
                "length. Average first, over tokens.",
            ),
            Misconception(
                "weighted mean of perplexities",
                lambda losses, lengths: np.average(np.exp(losses), weights=lengths),
                "The weights are right, the order is not: average the losses with these weights, then exponentiate.",
            ),
            Misconception(
                "mean of means",
                lambda losses, lengths: np.exp(np.mean(losses)),
                "Each document counted the same, long or short. Each token must: weigh by the lengths.",
            ),
            Misconception(
                "base two",
                lambda losses, lengths: 2 ** np.average(losses, weights=lengths),
                "The losses are in nats: use e, not 2.",
            ),
            Misconception(
                "no exponential",
                lambda losses, lengths: np.average(losses, weights=lengths),
                "This is the right mean loss, in nats. Exponentiate it.",
            ),
        ],
        hints=[
            "What did all tokens together cost? A document's loss times its length.",
            "Divide by all tokens, exponentiate at the very end.",
        ],
        praise="A sum, a count, one exponential: chapter 3's TokenMean does the same.",
    ),
    Exercise(
        key="4.5",
        title="What does ten mean?",
        answer="That a fair die with ten sides would have cost the same on average",
        options=[
            "That at every token ten words had a real chance",
            "That a fair die with ten sides would have cost the same on average",
            "That the right word was among its ten likeliest words",
            "That its likeliest word was right once in ten tokens",
        ],
        wrong=[
            Misconception(
                "ten plausible words",
                "That at every token ten words had a real chance",
                "An average says nothing of the single token, and ten equally hard is not ten: one favourite and "
                "45 rare "
                "words together also have perplexity 10.",
            ),
            Misconception(
                "top ten",
                "That the right word was among its ten likeliest words",
                "Perplexity looks at the probability of the word that came, not at its rank.",
            ),
            Misconception(
                "accuracy",
                "That its likeliest word was right once in ten tokens",
                "So it is for the die. But the favourite with its long tail is right more than every second "
                "time, at the "
                "same perplexity.",
            ),
        ],
        hints=[
            "Look at the three panels of perplexity ten. What do they share?",
            "Only the average cost.",
        ],
        praise="It is a price, translated into dice.",
    ),
    Exercise(
        key="4.6",
        title="Below the floor again",
        answer="It has learned its training text by heart",
        options=[
            "It has beaten the entropy",
            "It has learned its training text by heart",
            "The training text is too short to measure a loss",
            "Seven-grams see more than the world remembers",
        ],
        wrong=[
            Misconception(
                "beaten the entropy",
                "It has beaten the entropy",
                "The floor holds for text that the model has not seen. Its counts contain the very answers that "
                "it was asked for.",
            ),
            Misconception(
                "too short",
                "The training text is too short to measure a loss",
                "Chance moves the loss of 5,000 tokens by about 0.012 nats. Here more than a nat is missing.",
            ),
            Misconception(
                "sees more",
                "Seven-grams see more than the world remembers",
                "No view of the past, however long, takes the expected loss below the entropy rate. And six "
                "words are less than "
                "the world remembers.",
            ),
        ],
        hints=[
            "How often does a given sequence of seven words occur in 5,000?",
            "Mostly once. What does a model of counts predict after six words that it has seen once?",
        ],
        praise="The gap between training and held-out loss is the price, and the order with the smallest "
        "held-out loss is the "
        "cure. So is more text.",
    ),
    Exercise(
        key="4.7",
        title="A step from joint probabilities",
        answer=best_bigram,
        cases=JOINTS,
        wrong=[
            Misconception(
                "joint entropy",
                lambda joint: np.exp(entropy(np.ravel(joint))),
                "This is the perplexity of the pair: both words are to be guessed. Given the first, only the "
                "second is open.",
            ),
            Misconception(
                "unigram",
                lambda joint: np.exp(entropy(np.sum(joint, axis=0))),
                "This is the unigram step: you forgot the word before.",
            ),
            Misconception(
                "unweighted rows",
                _rows_unweighted,
                "Each first word counted the same. Weigh the entropy of its row by how often it comes.",
            ),
            Misconception(
                "mean of perplexities",
                _mean_of_rows_perplexities,
                "You exponentiated each row's entropy and then averaged. Average the entropies, exponentiate once.",
            ),
            Misconception(
                "no exponential",
                lambda joint: np.log(best_bigram(joint)),
                "This is the conditional entropy, in nats. Its exponential is the perplexity.",
            ),
        ],
        hints=[
            "joint.sum(axis=1) is how often each first word comes; a row divided by it is the best prediction "
            "after that word.",
            "Entropy of each such row, averaged with the first words' probabilities.",
            "Then the exponential.",
        ],
        praise="The library goes over all contexts that way, for any order: world.staircase.",
    ),
    Exercise(
        key="4.8",
        title="Two tenths of a nat",
        answer=after,
        unit="tokens",
        wrong=[
            Misconception(
                "subtracted",
                BEFORE - GAIN,
                "You took 0.2 off the perplexity. It came off the loss, and perplexity is its exponential.",
            ),
            Misconception(
                "twenty per cent",
                BEFORE * (1 - GAIN),
                "A first approximation: 0.2 nats is about twenty per cent. For a number this large the "
                "exponential differs.",
            ),
            Misconception(
                "the wrong direction",
                BEFORE * np.exp(GAIN),
                "The loss fell, so the perplexity must fall.",
            ),
            Misconception(
                "base two",
                BEFORE * 2**-GAIN,
                "You used 2 to the power −0.2: that would be 0.2 bits.",
            ),
        ],
        hints=[
            "What is the loss of a model with perplexity 20?",
            "exp(ln 20 − 0.2) is 20 times what?",
        ],
        praise="A difference of losses is a ratio of perplexities: 0.819 wherever one starts.",
    ),
    Exercise(
        key="4.9",
        title="Is this network bad?",
        answer="Nothing: it is about as good as a model can be on such windows",
        options=[
            "The network is too small",
            "It was not trained for long enough",
            "Nothing: it is about as good as a model can be on such windows",
            "Its training text was too short",
        ],
        wrong=[
            Misconception(
                "too small",
                "The network is too small",
                "It would be worth a thought if 1.445 were the floor. In a window that starts in mid-stream the "
                "first words cost "
                "more, whoever predicts: the floor of its mean is 1.541.",
            ),
            Misconception(
                "not trained",
                "It was not trained for long enough",
                "More training can take away at most 0.001 nats here: the floor of the mean over such windows is "
                "1.541.",
            ),
            Misconception(
                "too little text",
                "Its training text was too short",
                "More text helps a model that over-fits. This one is 0.001 nats above the floor of its windows, "
                "1.541.",
            ),
        ],
        hints=[
            "What does the perfect reader pay for the first word of a window that starts in mid-stream?",
            "world.floor(32).mean() is 1.541.",
        ],
        praise="Compare a loss with the floor of its own protocol.",
    ),
    title="Perplexity",
    page="04_perplexity.html",
)
