"""The exercises of chapter 1, Surprise. Every answer is computed here with the library, none is typed in."""

from __future__ import annotations

import numpy as np

from ..information import distribution_cross_entropy, entropy, kl_divergence, nats_to_bits, surprisal
from . import detectors
from .definition import Exercise, Misconception
from .registry import register

# 1.1: three tokens had probabilities 0.04, 0.5 and 0.8.
THREE_TOKENS = np.array([0.04, 0.5, 0.8])
mean_loss = float(surprisal(THREE_TOKENS).mean())


# 1.2: entropy in bits, as a function of a list of probabilities.
def entropy_bits(p):
    return nats_to_bits(entropy(np.asarray(p, dtype=float)))


def _without_guard(p):
    with np.errstate(all="ignore"):
        p = np.asarray(p, dtype=float)
        return -np.sum(p * np.log2(p))


def _mean_surprise(p):
    p = np.asarray(p, dtype=float)
    return np.mean(nats_to_bits(surprisal(p[p > 0])))


def _largest_entropy(p):
    return np.log2(len(p))


DISTRIBUTIONS = [
    ([0.5, 0.5],),
    ([0.7, 0.1, 0.1, 0.1],),
    ([0.5, 0.25, 0.25, 0.0],),
    ([1.0, 0.0],),
]


# 1.3: KL(N(0, 1) || N(0, 2²)), by the closed form for two centred normal distributions.
def _kl_centred_normals(sigma_p: float, sigma_q: float) -> float:
    return np.log(sigma_q / sigma_p) + sigma_p**2 / (2 * sigma_q**2) - 0.5


gaussian_kl = _kl_centred_normals(1.0, 2.0)

# 1.5: 10,000 tokens at 1.2 nats each, in bytes.
TOKENS, LOSS = 10_000, 1.2
code_bytes = float(nats_to_bits(LOSS)) * TOKENS / 8


# 1.6: the one distribution that minimises the mean loss on a text.
def best_constant(ids, vocab_size):
    counts = np.bincount(ids, minlength=vocab_size)
    return counts / counts.sum()


def _most_common_only(ids, vocab_size):
    return np.eye(vocab_size)[np.bincount(ids, minlength=vocab_size).argmax()]


TEXTS = [
    (np.array([0, 0, 1, 2, 0, 1]), 3),
    (np.array([4, 4, 1]), 5),
]

# 1.7: believe q = (0.9, 0.1) in a world that is p = (0.5, 0.5).
FAIR, SURE = np.array([0.5, 0.5]), np.array([0.9, 0.1])
excess = float(nats_to_bits(kl_divergence(FAIR, SURE)))

register(
    Exercise(
        key="1.1",
        title="The loss of three tokens",
        answer=mean_loss,
        unit="nats/token",
        wrong=[
            detectors.bits_for_nats(mean_loss),
            detectors.sum_for_mean(mean_loss, 3),
            detectors.sign_flipped(mean_loss),
            Misconception(
                "log of the mean",
                surprisal(THREE_TOKENS.mean()),
                "You averaged the probabilities and took −log of the average. A loss averages the surprises: "
                "−log first, then the mean. The two differ because the rare token costs so much.",
            ),
            Misconception(
                "mean probability",
                THREE_TOKENS.mean(),
                "This is the mean of the probabilities. The question asks for the mean of their surprises, −log p.",
            ),
            Misconception(
                "log base 10",
                mean_loss / np.log(10),
                "This is the logarithm to base 10. Nats use the natural logarithm, np.log.",
            ),
        ],
        hints=[
            "Each token costs −log of its own probability.",
            "The three costs are 3.219, 0.693 and 0.223 nats.",
            "Add them and divide by three.",
        ],
        praise="One bad token out of three makes up three quarters of the loss.",
    ),
    Exercise(
        key="1.2",
        title="Entropy that survives a zero",
        answer=entropy_bits,
        cases=DISTRIBUTIONS,
        wrong=[
            detectors.nats_for_bits(entropy_bits),
            detectors.sign_flipped(entropy_bits),
            Misconception(
                "0 · log 0",
                _without_guard,
                "Right until a probability is 0: then 0 · log 0 is NaN in floating point. What never happens "
                "never surprises, so its term is 0. Leave it out of the sum.",
            ),
            Misconception(
                "unweighted mean",
                _mean_surprise,
                "You averaged the surprises as if all outcomes were equally likely. The average must weigh "
                "each one by its probability.",
            ),
            Misconception(
                "largest entropy",
                _largest_entropy,
                "This is the entropy of the uniform distribution: the largest that is possible with so many "
                "outcomes.",
            ),
        ],
        hints=[
            "Turn the list into an array. Which entries may take part?",
            "Keep p > 0 only: p = p[p > 0].",
            "Then −Σ p · log2 p.",
        ],
        praise="It also gives 0 for the sure thing, where the short formula gives NaN.",
    ),
    Exercise(
        key="1.3",
        title="The divergence of two bell curves",
        answer=gaussian_kl,
        unit="nats",
        wrong=[
            detectors.bits_for_nats(gaussian_kl),
            Misconception(
                "reversed direction",
                _kl_centred_normals(2.0, 1.0),
                "This is KL(q ‖ p): the average was taken over the wide curve. KL(p ‖ q) averages over p, the "
                "narrow one.",
            ),
            Misconception(
                "variance for deviation",
                _kl_centred_normals(1.0, np.sqrt(2.0)),
                "You used 2 as the variance of q. It is the standard deviation: the variance is 4.",
            ),
            Misconception(
                "only the logarithm",
                np.log(2.0),
                "This is log(σq/σp) alone. The squares matter too: on average the point lies one standard "
                "deviation of p away, and q finds that less far than p does.",
            ),
        ],
        hints=[
            "Write log p(x) − log q(x) for the two densities. The constants with π cancel.",
            "What remains is log(σq/σp) + x²/(2σq²) − x²/(2σp²). Average it over p, where E[x²] = σp².",
            "log 2 + 1/8 − 1/2.",
        ],
        praise="The other direction costs 0.807 nats: a narrow belief about a wide world is the dearer mistake.",
    ),
    Exercise(
        key="1.4",
        title="Forward or reverse?",
        answer="It spreads over both humps and the valley between them",
        options=[
            "It sits on one hump and ignores the other",
            "It spreads over both humps and the valley between them",
            "It becomes as narrow as it can, halfway between the humps",
            "It depends only on which hump it starts near",
        ],
        wrong=[
            Misconception(
                "reverse KL",
                "It sits on one hump and ignores the other",
                "That is what minimising KL(q ‖ p) does. Cross-entropy minimises KL(p ‖ q): every example "
                "that q calls nearly impossible costs a fortune, so q cannot afford to ignore a hump.",
            ),
            Misconception(
                "the best single guess",
                "It becomes as narrow as it can, halfway between the humps",
                "Halfway is right, narrow is not. A narrow curve there would give the examples on both humps "
                "tiny probabilities, and cross-entropy charges −log of those.",
            ),
            Misconception(
                "local minimum",
                "It depends only on which hump it starts near",
                "The cross-entropy of one bell curve has a single minimum: the mean and the variance of the "
                "data. Where it starts does not matter. It would for KL(q ‖ p).",
            ),
        ],
        hints=[
            "Training minimises the average of −log q(x) over examples x that come from p.",
            "What does one example cost if q gives it a probability near 0?",
        ],
        praise="The minimum has the mean and the variance of the data, so it puts much of its probability "
        "where no data is.",
    ),
    Exercise(
        key="1.5",
        title="How big is the file?",
        answer=code_bytes,
        unit="bytes",
        tolerance=1.0,
        wrong=[
            Misconception(
                "bits for bytes",
                8 * code_bytes,
                "This is the size in bits. Eight of them make a byte.",
            ),
            Misconception(
                "nats for bits",
                LOSS * TOKENS / 8,
                "You used nats as if they were bits. One nat is 1.4427 bits.",
            ),
            Misconception(
                "nats to bits the wrong way",
                LOSS * np.log(2) * TOKENS / 8,
                "You multiplied by ln 2. Nats become bits by dividing by ln 2: there are more bits than nats.",
            ),
            Misconception(
                "per-byte",
                code_bytes * 3.8,
                "You multiplied by the bytes of a token. The loss is already per token; how long a token is "
                "in the text does not matter for the size of the code.",
            ),
        ],
        hints=[
            "The whole text costs 10,000 × 1.2 nats.",
            "Divide by ln 2 for bits, then by 8 for bytes.",
        ],
        praise="The 38,000 bytes of text shrink to under 6 % of their size.",
    ),
    Exercise(
        key="1.6",
        title="The best constant guess",
        answer=best_constant,
        cases=TEXTS,
        wrong=[
            Misconception(
                "uniform",
                lambda ids, vocab_size: np.full(vocab_size, 1 / vocab_size),
                "The uniform distribution is the best guess before any token was seen. After that, common "
                "tokens deserve more.",
            ),
            Misconception(
                "winner takes all",
                _most_common_only,
                "All on the most common token maximises accuracy. Cross-entropy then charges −log 0 = ∞ for "
                "every other token.",
            ),
            Misconception(
                "add one",
                lambda ids, vocab_size: (
                    (np.bincount(ids, minlength=vocab_size) + 1) / (len(ids) + vocab_size)
                ),
                "Adding one to each count is wise for tokens still to come (chapter 4). But on this text, "
                "Gibbs' inequality says that the plain frequencies cost least.",
            ),
            Misconception(
                "counts",
                lambda ids, vocab_size: np.bincount(ids, minlength=vocab_size).astype(float),
                "These are the counts. A distribution sums to one: divide by how many tokens there are.",
            ),
        ],
        hints=[
            "The mean loss of a constant q on the text is the cross-entropy between the text's frequencies and q.",
            "By Gibbs' inequality it is smallest when q is …",
            "np.bincount(ids, minlength=vocab_size) counts; divide by the length.",
        ],
        praise="Minimising the loss is counting. Chapter 4 builds n-gram models from just this.",
    ),
    Exercise(
        key="1.7",
        title="Lower than the floor",
        answer="The test text has leaked, or the loss is not averaged over these tokens",
        options=[
            "The model has found structure that the entropy rate misses",
            "Luck: a sample's loss may fall below the floor",
            "The test text has leaked, or the loss is not averaged over these tokens",
            "The model is overfitted and will do worse on other texts",
        ],
        wrong=[
            Misconception(
                "beating the entropy",
                "The model has found structure that the entropy rate misses",
                "The entropy rate counts all structure: it is what is left when everything before is known. "
                "By Gibbs' inequality no predictor that has not seen the answers has a lower expected loss.",
            ),
            Misconception(
                "luck",
                "Luck: a sample's loss may fall below the floor",
                "It may, by about one standard error: 0.84/√20,000 = 0.006 nats/token. This is 0.145 below, "
                "more than twenty of them.",
            ),
            Misconception(
                "overfitting",
                "The model is overfitted and will do worse on other texts",
                "Overfitting makes the loss on fresh text higher, not lower. A low loss here means that this "
                "text was not fresh, or that the number is not what it says.",
            ),
        ],
        hints=[
            "How far below the floor would chance take the mean of 20,000 tokens?",
            "The standard error is the standard deviation over the root of the count. How many of them is 0.145?",
        ],
        praise="Too good to be true is a finding: look at the split, the shift by one, and the "
        "denominator (chapters 3 and 7).",
    ),
    Exercise(
        key="1.8",
        title="The price of being sure",
        answer=excess,
        unit="bits",
        wrong=[
            detectors.nats_for_bits(excess),
            Misconception(
                "reversed direction",
                nats_to_bits(kl_divergence(SURE, FAIR)),
                "This is KL(q ‖ p), here also the difference of the two entropies: it averages over what you "
                "believed. The coin falls as it does: average over p = (½, ½).",
            ),
            Misconception(
                "cross-entropy",
                nats_to_bits(distribution_cross_entropy(FAIR, SURE)),
                "This is the whole cross-entropy. One bit of it is the coin's own entropy, which nobody can "
                "avoid. The question asks for the excess.",
            ),
            Misconception(
                "heads only",
                nats_to_bits(surprisal(SURE[0])),
                "This is what heads costs you. Half of the tosses show tails, and each of those costs 3.322 bits.",
            ),
        ],
        hints=[
            "With believed probabilities 0.9 and 0.1, heads costs 0.152 bits and tails 3.322 bits.",
            "Each comes half of the time. What does a toss cost on average?",
            "Subtract what a fair coin costs one who knows that it is fair.",
        ],
        praise="Three quarters of a bit a toss, for ever, for having been too sure.",
    ),
    title="Surprise",
    page="01_surprise.html",
)
