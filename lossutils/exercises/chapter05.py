"""The exercises of chapter 5, May I compare these two numbers? Every answer is computed here, none is typed in."""

from __future__ import annotations

import numpy as np

from ..perplexity import bits_per_byte, perplexity
from ..windows import plan_windows
from .definition import Exercise, Misconception
from .registry import register

# 5.1: one loss, many numbers.
NLL_SUM, TOKENS, BYTES = 9_000.0, 4_000, 16_000
bits = float(bits_per_byte(NLL_SUM, BYTES))

# 5.3: from tokens to bytes.
PER_TOKEN, TOKEN_LENGTH = 20.0, 4.0
per_byte = PER_TOKEN ** (1 / TOKEN_LENGTH)

# 5.5: a standard error.
DOCUMENTS, LENGTH, BETWEEN, WITHIN = 50, 1_000, 0.3, 2.0
error = BETWEEN / np.sqrt(DOCUMENTS)

# 5.6: how much text?
DIFFERENCE, PAIRED_ERROR, SCORED = 0.02, 0.01, 10_000
NEEDED_SIGMAS = 2.8  # 1.96 for the test and 0.84 for finding it in 80 % of the cases
needed = SCORED * (NEEDED_SIGMAS * PAIRED_ERROR / DIFFERENCE) ** 2

# 5.8: when does the model pay for itself?
WEIGHTS, WEIGHT_BYTES, MODEL_RATE, LZMA_RATE = 300_000, 2, 1.6, 2.6
model_size = WEIGHTS * WEIGHT_BYTES
break_even = model_size * 8 / (LZMA_RATE - MODEL_RATE)


# 5.4: what a window shows.
def seen(n, length, stride):
    plan = plan_windows(n + 1, length, stride)
    return np.concatenate([np.arange(w.first, w.end) - w.begin for w in plan])


def _disjoint(n, length, stride):
    return np.arange(n) % length + 1


def _always_full(n, length, stride):
    return np.minimum(np.arange(1, n + 1), length)


def _restarted(n, length, stride):
    """As if each later window began where the scoring begins."""
    t = np.arange(n)
    return np.where(t < length, t + 1, (t - length) % stride + 1)


def _unshifted(n, length, stride):
    """As if the last window were not moved left: padded, or shorter."""
    t = np.arange(n)
    return np.where(t < length, t + 1, length - stride + 1 + (t - length) % stride)


CASES = [(10, 4, 2), (9, 4, 3), (6, 8, 4), (12, 4, 4), (7, 3, 1), (11, 5, 2)]

register(
    Exercise(
        key="5.1",
        title="Bits per byte",
        answer=bits,
        unit="bits per byte",
        wrong=[
            Misconception(
                "nats",
                NLL_SUM / BYTES,
                "These are nats per byte. Divide by ln 2 to get bits.",
            ),
            Misconception(
                "per token",
                NLL_SUM / TOKENS / np.log(2),
                "These are bits per token. What is asked for is a number that does not know the tokenizer: divide by "
                "the bytes.",
            ),
            Misconception(
                "loss",
                NLL_SUM / TOKENS,
                "This is the loss in nats/token. Which unit, and which denominator, is asked for?",
            ),
            Misconception(
                "perplexity",
                float(perplexity(NLL_SUM, TOKENS)),
                "This is the perplexity per token. Bits per byte is no exponential: it is the loss itself, in bits, "
                "over the bytes.",
            ),
            Misconception(
                "per byte perplexity",
                float(perplexity(NLL_SUM, BYTES)),
                "This is the perplexity per byte. Its base-2 logarithm is what is asked for.",
            ),
            Misconception(
                "upside down",
                BYTES / NLL_SUM * np.log(2),
                "This is bytes per bit. Turn it over.",
            ),
        ],
        hints=[
            "How many bits are 9,000 nats?",
            "12,984 bits, and they stand for 16,000 bytes. The tokens are not needed.",
        ],
        praise="The number of tokens was not needed: that is the point of it.",
    ),
    Exercise(
        key="5.2",
        title="Twelve and thirty",
        answer="Nobody can tell yet: the two count different tokens",
        options=[
            "The first: its perplexity is lower on the same text",
            "The second: it chooses among four times as many tokens, so 30 is the greater feat",
            "Neither: after dividing by the vocabulary sizes the two are nearly equal",
            "Nobody can tell yet: the two count different tokens",
        ],
        wrong=[
            Misconception(
                "lower wins",
                "The first: its perplexity is lower on the same text",
                "Lower per token. But its tokens are likely to be shorter: then it makes more predictions for the same "
                "text, and easier ones.",
            ),
            Misconception(
                "handicap",
                "The second: it chooses among four times as many tokens, so 30 is the greater feat",
                "A large vocabulary makes each prediction harder and the predictions fewer. Which of the two wins has "
                "to be computed: sum the losses, divide by the bytes.",
            ),
            Misconception(
                "per vocabulary",
                "Neither: after dividing by the vocabulary sizes the two are nearly equal",
                "Dividing by the vocabulary means nothing: most entries are no option most of the time. What differs "
                "is how many bytes a token stands for.",
            ),
        ],
        hints=[
            "How many predictions does either model make for this text?",
            "What would you need to know to turn either number into bits per byte?",
        ],
        praise="With the number of tokens of each, or bytes per token, it takes one line.",
    ),
    Exercise(
        key="5.3",
        title="Per byte",
        answer=per_byte,
        wrong=[
            Misconception(
                "divided",
                PER_TOKEN / TOKEN_LENGTH,
                "You divided the perplexity by the length. Losses can be divided; perplexities are exponentials of "
                "them, so here a root is taken.",
            ),
            Misconception(
                "power",
                PER_TOKEN**TOKEN_LENGTH,
                "You took the fourth power: this is the perplexity of four tokens together. A byte is a quarter of a "
                "token.",
            ),
            Misconception(
                "bits per token",
                np.log2(PER_TOKEN),
                "These are bits per token.",
            ),
            Misconception(
                "bits per byte",
                np.log2(PER_TOKEN) / TOKEN_LENGTH,
                "These are bits per byte. Two to this power is the perplexity per byte.",
            ),
            Misconception(
                "nats per byte",
                np.log(PER_TOKEN) / TOKEN_LENGTH,
                "These are nats per byte. e to this power is the perplexity per byte.",
            ),
        ],
        hints=[
            "The loss of the whole text stays. What is it divided by now?",
            "Per byte the loss is a quarter: ln 20 / 4.",
        ],
        praise="The fourth root: four such bytes make a token, and the options multiply.",
    ),
    Exercise(
        key="5.4",
        title="What a window shows",
        answer=seen,
        cases=CASES,
        wrong=[
            Misconception(
                "disjoint",
                _disjoint,
                "These are windows that share nothing: each starts anew. With a stride below the length, later windows "
                "keep tokens as context.",
            ),
            Misconception(
                "stride one",
                _always_full,
                "This is stride 1: from the second window on every token sees a full window. With a larger stride only "
                "the last token of a window does.",
            ),
            Misconception(
                "context forgotten",
                _restarted,
                "Your later windows begin where their scoring begins. They begin earlier: `length` tokens before their "
                "last target.",
            ),
            Misconception(
                "last window padded",
                _unshifted,
                "Right until the last window. It scores fewer tokens than `stride`, but it is full like the others, so "
                "it reaches further back.",
            ),
        ],
        hints=[
            "How many tokens does the first window score, and how many does each of them see?",
            "A later window ends at some token e (counted from 1) and shows the `length` tokens before it. Its targets "
            "are the last `stride` of the tokens up to e, or those that are left.",
            "For token t > length: e = min(n, length + k * stride) with k = ceil((t - length) / stride). It sees "
            "length - (e - t).",
        ],
        praise="Between length − stride + 1 and length tokens, once the first window is over.",
    ),
    Exercise(
        key="5.5",
        title="A standard error",
        answer=error,
        unit="nats/token",
        wrong=[
            Misconception(
                "tokens",
                WITHIN / np.sqrt(DOCUMENTS * LENGTH),
                "You took the tokens for independent. Then the documents' means would differ by 2/√1000 = 0.063; they "
                "differ by 0.3.",
            ),
            Misconception(
                "mixed",
                BETWEEN / np.sqrt(DOCUMENTS * LENGTH),
                "You took the spread of the documents and the count of the tokens. There are 50 draws of a document.",
            ),
            Misconception(
                "spread for error",
                BETWEEN,
                "This is the spread of single documents. The mean of 50 varies less.",
            ),
            Misconception(
                "no root",
                BETWEEN / DOCUMENTS,
                "The error of a mean falls with the root of the count.",
            ),
            Misconception(
                "token spread",
                WITHIN / np.sqrt(DOCUMENTS),
                "You took the spread of the tokens with the count of the documents. The spread of the documents' means "
                "is given: it holds all that the tokens add.",
            ),
        ],
        hints=[
            "What was drawn independently, and how often?",
            "50 documents, whose means have a standard deviation of 0.3.",
        ],
        praise="Nearly five times the 0.009 of the independent tokens.",
    ),
    Exercise(
        key="5.6",
        title="How much text?",
        answer=needed,
        unit="tokens",
        tolerance="1%",
        wrong=[
            Misconception(
                "no power",
                SCORED * (1.96 * PAIRED_ERROR / DIFFERENCE) ** 2,
                "With 1.96 errors the interval just reaches zero on average: half of such experiments would find "
                "nothing. The question asks for 2.8.",
            ),
            Misconception(
                "no square",
                SCORED * NEEDED_SIGMAS * PAIRED_ERROR / DIFFERENCE,
                "The error falls with the root of the text, so the text grows with the square of the ratio.",
            ),
            Misconception(
                "upside down",
                SCORED * (DIFFERENCE / (NEEDED_SIGMAS * PAIRED_ERROR)) ** 2,
                "Upside down: the difference is only two errors, so more text is needed, not less.",
            ),
            Misconception(
                "factor only",
                (NEEDED_SIGMAS * PAIRED_ERROR / DIFFERENCE) ** 2,
                "This is the factor by which the text must grow. Of which text?",
            ),
            Misconception(
                "two errors in all",
                SCORED * NEEDED_SIGMAS**2,
                "The difference is 2 errors already. From 2 to 2.8 is a factor of 1.4, before squaring.",
            ),
        ],
        hints=[
            "How many standard errors is the difference now, and how many should it be?",
            "From 2 to 2.8: the error must shrink by a factor of 1.4.",
            "The error falls with the root of the text.",
        ],
        praise="Twice the text, for 1.4 times the certainty.",
    ),
    Exercise(
        key="5.7",
        title="Held out?",
        answer="Remove duplicate paragraphs, split by document, train tokenizer and model on one side",
        options=[
            "Split the paragraphs at random, train on one side, then remove what is double within either side",
            "Train the tokenizer on everything, remove duplicates, split by document, train the model on one side",
            "Remove duplicate paragraphs, split by document, train tokenizer and model on one side",
            "Split by document, train tokenizer and model on one side, remove duplicates from the other",
        ],
        wrong=[
            Misconception(
                "within a side",
                "Split the paragraphs at random, train on one side, then remove what is double within either side",
                "A duplicate hurts when its two copies are on different sides, and those stay. And paragraphs of one "
                "document share names and phrases: split whole documents.",
            ),
            Misconception(
                "tokenizer first",
                "Train the tokenizer on everything, remove duplicates, split by document, train the model on one side",
                "A small leak, but one: the merges were chosen with the held-out text, so its words are shorter in "
                "tokens than a stranger's would be.",
            ),
            Misconception(
                "too late",
                "Split by document, train tokenizer and model on one side, remove duplicates from the other",
                "Within the held-out side there is little to remove. What leaks stands once on each side.",
            ),
        ],
        hints=[
            "Where are the two copies of a paragraph that leaks?",
            "What else is learned from text besides the model?",
        ],
        praise="And say it in the report: a split is part of the number.",
    ),
    Exercise(
        key="5.8",
        title="When does the model pay?",
        answer=break_even / 1e6,
        unit="million bytes",
        wrong=[
            Misconception(
                "bytes and bits",
                model_size / (LZMA_RATE - MODEL_RATE) / 1e6,
                "The model's size is in bytes and the saving in bits per byte: a factor of 8 is missing.",
            ),
            Misconception(
                "gain forgotten",
                model_size * 8 / MODEL_RATE / 1e6,
                "You divided by what the model needs for a byte. What counts is what it saves.",
            ),
            Misconception(
                "lzma only",
                model_size * 8 / LZMA_RATE / 1e6,
                "You divided by what lzma needs for a byte. The text itself must still be sent: count what is saved.",
            ),
            Misconception(
                "one byte a weight",
                WEIGHTS * 8 / (LZMA_RATE - MODEL_RATE) / 1e6,
                "Each weight takes two bytes.",
            ),
        ],
        hints=[
            "How large is the model, in bits?",
            "4.8 million bits. How many bits does it save for each byte of text?",
        ],
        praise="Below that size the model costs more than it saves, unless the receiver has it anyway.",
    ),
    title="May I compare these two numbers?",
    page="05_may_i_compare.html",
)
