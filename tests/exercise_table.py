"""Definitions and the table of typed answers that Python and the page are both held to."""

from __future__ import annotations

import math

from lossutils.exercises import Exercise, Misconception, detectors, sentences

SIXTH = math.log(6) / math.log(2)  # 2.584962500721156


def entropy_nats(p):
    return -sum(x * math.log(x) for x in p if x > 0)


BITS = Exercise(
    key="97.1",
    title="One face of a die",
    answer=SIXTH,
    unit="bits",
    wrong=[
        Misconception("log base", math.log(6), "NATS: this is the natural logarithm."),
        Misconception("sign", -SIXTH, "SIGN: a surprise is never negative."),
        Misconception("no logarithm", 1 / 6, "PROBABILITY: take −log2 of it."),
    ],
    hints=["What is the probability of one face?", "Take −log2 of 1/6.", "1 + log2 of 3."],
    praise="PRAISE: two and a half questions.",
)
COUNT = Exercise(
    key="97.2",
    title="How many tokens & types <are> there?",
    answer=lambda: 50_304,
    tolerance="exact",
    wrong=[
        Misconception("unpadded", 50_257, "UNPADDED: the table is padded to a multiple of 64."),
        Misconception("thousand", 50, "THOUSAND: say it in tokens, not in thousands."),
        Misconception("bytes", 256, "BYTES: these are the byte values only."),
    ],
    hints=["Round up."],
    otherwise="OTHERWISE: count again.",
)
PERCENT = Exercise(
    key="97.3",
    title="How much smaller?",
    answer=12.5,
    unit="%",
    tolerance="2%",
    wrong=[
        detectors.fraction_for_percent(12.5),
        detectors.sign_flipped(12.5),
        Misconception("what is left", 87.5, "LEFT: this is what is left."),
    ],
    hints=["Of the original."],
)
CHOICE = Exercise(
    key="97.4",
    title="Forward or reverse?",
    answer="It spreads over both humps",
    options=[
        "It sits on one hump",
        "It spreads over both humps",
        "It is narrow & between",
        "It depends",
    ],
    wrong=[
        Misconception("reverse", "a", "REVERSE: that is KL(q ‖ p)."),
        Misconception("narrow", "It is narrow & between", "NARROW: and too sure."),
        Misconception("start", "d", "START: there is one minimum."),
    ],
    hints=["Average over p.", "What does q ≈ 0 cost?"],
)
ARRAY = Exercise(
    key="97.5",
    title="The softmax of three logits",
    answer=[0.5, 0.25, 0.25],
    wrong=[
        Misconception("uniform", [1 / 3] * 3, "UNIFORM."),
        Misconception("unnormalised", [2.0, 1.0, 1.0], "UNNORMALISED: divide by the sum."),
        Misconception("first only", [1.0, 0.0, 0.0], "ARGMAX: this is the argmax."),
    ],
    hints=["Divide by the sum."],
)
FUNCTION = Exercise(
    key="97.6",
    title="Entropy that survives a zero",
    answer=entropy_nats,
    cases=[([0.5, 0.5],), ([0.7, 0.2, 0.1, 0.0],), ([1.0, 0.0],)],
    wrong=[
        detectors.bits_for_nats(entropy_nats),
        Misconception("largest", lambda p: math.log(len(p)), "UNIFORM: that is the largest entropy."),
        Misconception("no weights", lambda p: sum(-math.log(x) for x in p if x > 0), "WEIGHTS: weigh by p."),
    ],
    hints=["Which entries may take part?", "p > 0."],
)
EXERCISES = (BITS, COUNT, PERCENT, CHOICE, ARRAY, FUNCTION)

UNREAD, EMPTY, ZERO, INFINITE = sentences.UNREAD, sentences.EMPTY, sentences.ZERO, sentences.INFINITE
PRAISE, RIGHT = BITS.praise, sentences.RIGHT
NEAR = "Very close, but not close enough. Keep more digits on the way; the answer needs 3 decimals."
OTHER = sentences.WRONG_NUMBER
NATS, SIGN, PROBABILITY = (item.message for item in BITS.wrong)
UNPADDED, THOUSAND, BYTES = (item.message for item in COUNT.wrong)
FRACTION, PERCENT_SIGN, LEFT = (item.message for item in PERCENT.wrong)


def unit(typed: str) -> str:
    said = f"The answer is asked for in bits, but “{typed}” follows the number."
    return f"{said} Convert it, or leave the unit out."


def no_unit(typed: str) -> str:
    return f"The answer is a plain number without a unit, but “{typed}” stands after it."


# exercise, what is typed, the verdict, the message.
TYPED = [
    (BITS, "2.585", "right", PRAISE),
    (BITS, "2,585", "right", PRAISE),
    (BITS, "2.584", "right", PRAISE),
    (BITS, "2.5849625007", "right", PRAISE),
    (BITS, "  2.585  ", "right", PRAISE),
    (BITS, "\u00a02.585\u202f", "right", PRAISE),
    (BITS, "≈2.585", "right", PRAISE),
    (BITS, "~ 2.585", "right", PRAISE),
    (BITS, "= 2.585", "right", PRAISE),
    (BITS, "+2.585", "right", PRAISE),
    (BITS, "2585e-3", "right", PRAISE),
    (BITS, "2.585E0", "right", PRAISE),
    (BITS, "25.85×10^-1", "right", PRAISE),
    (BITS, "0.2585 * 10^1", "right", PRAISE),
    (BITS, "2585/1000", "right", PRAISE),
    (BITS, "5,17 / 2", "right", PRAISE),
    (BITS, "-5.17/-2", "right", PRAISE),
    (BITS, "2.585 bits", "right", PRAISE),
    (BITS, "2.585bit", "right", PRAISE),
    (BITS, "2.585 BITS ", "right", PRAISE),
    (BITS, "258.5 %", "right", PRAISE),
    (BITS, "258.5 percent", "right", PRAISE),
    (BITS, "1.792", "wrong", NATS),
    (BITS, "1,7918", "wrong", NATS),
    (BITS, "1.79", "wrong", NATS),
    (BITS, "-2.585", "wrong", SIGN),
    (BITS, "−2.585", "wrong", SIGN),
    (BITS, "–2.585", "wrong", SIGN),
    (BITS, "- 2.585", "wrong", SIGN),
    (BITS, "1/6", "wrong", PROBABILITY),
    (BITS, ".1667", "wrong", PROBABILITY),
    (BITS, ",1667", "wrong", PROBABILITY),
    (BITS, "16.67%", "wrong", PROBABILITY),
    (BITS, "2.58", "wrong", NEAR),
    (BITS, "2.59", "wrong", NEAR),
    (BITS, "2.6", "wrong", OTHER),
    (BITS, "7", "wrong", OTHER),
    (BITS, "5/2", "wrong", OTHER),
    (BITS, "0", "wrong", OTHER),
    (BITS, "-0", "wrong", OTHER),
    (BITS, "10^-3", "wrong", OTHER),
    (BITS, "1e-3", "wrong", OTHER),
    (BITS, "1e-400", "wrong", OTHER),
    (BITS, "2,585,000", "wrong", OTHER),
    (BITS, "2.585 nats", "invalid", unit("nats")),
    (BITS, "2.585 bits per second", "invalid", unit("bits per second")),
    (BITS, "2.585 " + "x" * 30, "invalid", unit("x" * 24)),
    (BITS, "2.585e", "invalid", unit("e")),
    (BITS, "2.585 $&", "invalid", UNREAD),
    (BITS, "2.585 x$&", "invalid", unit("x$&")),
    (BITS, "2.585 a😀b", "invalid", unit("a😀b")),
    (BITS, "2.585.", "invalid", UNREAD),
    (BITS, "", "unanswered", EMPTY),
    (BITS, "   ", "unanswered", EMPTY),
    (BITS, "log2(6)", "invalid", UNREAD),
    (BITS, "ln 2", "invalid", UNREAD),
    (BITS, "two", "invalid", UNREAD),
    (BITS, "2^3", "invalid", UNREAD),
    (BITS, "2*3", "invalid", UNREAD),
    (BITS, "1 1/2", "invalid", UNREAD),
    (BITS, "2.5 3.1", "invalid", UNREAD),
    (BITS, "5/2/1", "invalid", UNREAD),
    (BITS, "5/2×10^3", "invalid", UNREAD),
    (BITS, "1.2.3", "invalid", UNREAD),
    (BITS, "--2", "invalid", UNREAD),
    (BITS, "1_000", "invalid", UNREAD),
    (BITS, "٢", "invalid", UNREAD),
    (BITS, "½", "invalid", UNREAD),
    (BITS, "...", "invalid", UNREAD),
    (BITS, "<b>2</b>", "invalid", UNREAD),
    (BITS, "1/0", "invalid", ZERO),
    (BITS, "0/0", "invalid", ZERO),
    (BITS, "inf", "invalid", INFINITE),
    (BITS, "-Infinity", "invalid", INFINITE),
    (BITS, "∞", "invalid", INFINITE),
    (BITS, "NaN", "invalid", INFINITE),
    (BITS, "1e999", "invalid", INFINITE),
    (BITS, "9" * 400, "invalid", INFINITE),
    (COUNT, "50304", "right", RIGHT),
    (COUNT, "50,304", "right", RIGHT),
    (COUNT, "50 304", "right", RIGHT),
    (COUNT, "5.0304e4", "right", RIGHT),
    (COUNT, "50,304.0", "right", RIGHT),
    (COUNT, "50.304", "wrong", COUNT.otherwise),
    (COUNT, "0,050,304", "invalid", UNREAD),
    (COUNT, "50,257", "wrong", UNPADDED),
    (COUNT, "50257", "wrong", UNPADDED),
    (COUNT, "50", "wrong", THOUSAND),
    (COUNT, "256", "wrong", BYTES),
    (COUNT, "50305", "wrong", COUNT.otherwise),
    (COUNT, "50304 tokens", "invalid", no_unit("tokens")),
    (PERCENT, "12.5", "right", RIGHT),
    (PERCENT, "12.5%", "right", RIGHT),
    (PERCENT, "12,4 percent", "right", RIGHT),
    (PERCENT, "1/8", "wrong", FRACTION),
    (PERCENT, "0.125", "wrong", FRACTION),
    (PERCENT, "-12.5 %", "wrong", PERCENT_SIGN),
    (PERCENT, "88", "wrong", LEFT),
]
# The option's letter on the page; Python takes its text as well.
CHOSEN = [
    ("a", "wrong", CHOICE.wrong[0].message),
    ("b", "right", RIGHT),
    ("c", "wrong", CHOICE.wrong[1].message),
    ("d", "wrong", CHOICE.wrong[2].message),
]
