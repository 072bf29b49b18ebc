"""Every sentence that no single exercise owns: one place, for Python and the page."""

from __future__ import annotations

# verdict -> (symbol, words): never colour alone.
VERDICTS = {
    "right": ("✓", "Right"),
    "wrong": ("✗", "Not yet"),
    "unanswered": ("○", "Open"),
    "invalid": ("!", "Not judged"),
}
STUB = "Not answered yet. Put your answer in place of the three dots and run the cell."
RIGHT = "That is the answer."
EMPTY = "Type a number first, such as 2.5 or 5/2."
UNREAD = "This cannot be read as one number. Type it like 2.5, 5/2 or 1e-3, and work formulas out first."
ZERO = "A fraction with 0 below the line has no value."
INFINITE = "This is infinite or not a number (inf or nan). The answer is an ordinary, finite number."
UNIT = (
    "The answer is asked for in {unit}, but “{typed}” follows the number. Convert it, or leave the unit out."
)
NO_UNIT = "The answer is a plain number without a unit, but “{typed}” stands after it."
NEAR = "Very close, but not close enough. Keep more digits on the way; the answer needs {precision}."
WRONG_NUMBER = (
    "This is not the number, and not one of the usual slips either. Read the question again, or take a hint."
)
UNCHOSEN = "Choose one of the options first."
NO_OPTION = "This is none of the options. Answer with a letter: {letters}."
WRONG_ARRAY = (
    "The values differ from the right ones, and it is none of the usual slips. Check one entry by hand."
)
WRONG_FUNCTION = (
    "The results differ from the right ones, and it is none of the usual slips. Check one case by hand."
)

# An audit.
NO_ACCUSATION = "Accuse a statement first: choose what is wrong with it."
NO_FINDINGS = (
    'The answer is a dict of findings, such as {3: "b", 12: "k"}, or a string “3b 12k”; {came} came instead.'
)
NO_STATEMENT = "There is no statement {number} in this report."
NO_CHARGE = "“{charge}” is none of the charges. Give a letter from a to {last}."
SCORE = (
    "{points} of {best} points: {exact} found with the right charge, {other} for another reason, "
    "{false} accused wrongly, {missed} not found."
)
STANDS = "This one stands. {because}"
OTHER_CHARGE = "Something is wrong here, but not this. {look}"

# Names of failures that are found without any misconception being defined.
ROUNDING = "rounding"


def number_sentences(unit: str, precision: str, otherwise: str) -> dict[str, str]:
    """The sentences that a number exercise can need, filled in as far as its definition goes."""
    return {
        "empty": EMPTY,
        "unread": UNREAD,
        "zero": ZERO,
        "infinite": INFINITE,
        "unit": UNIT.replace("{unit}", unit) if unit else NO_UNIT,
        "near": NEAR.replace("{precision}", precision),
        "otherwise": otherwise or WRONG_NUMBER,
    }
