"""An audit: numbered statements of a report, of which some are mistaken. The reader accuses; false accusations cost.

One definition serves both sides, as for the other exercises: `check` in a notebook, and the card on the page
(``exercise.js`` has the same arithmetic).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from . import sentences
from .definition import Exercise, normal_option, plain_text
from .reading import describe

CHARGE_LETTERS = "abcdefghijklmnopqr"
EXACT, OTHER, FALSE = 2, 1, -2  # points: the right charge; a mistake, for another reason; a sound statement
MOST_CLAIMS = 25  # what the page keeps of an answer has 100 characters
FINDINGS = re.compile(r"\s*(?:[0-9]+\s*[:=]?\s*[a-zA-Z](?![a-zA-Z])[\s,;]*)*")
FINDING = re.compile(r"([0-9]+)\s*[:=]?\s*([a-zA-Z])")


@dataclass(frozen=True)
class Claim:
    """One numbered statement of the report.

    Parameters
    ----------
    number : int
        Its number in the report.
    text : str
        The statement in short, as the card shows it.
    because : str
        What is wrong with it, and where one sees that; or why it stands. Said to whoever accused it (rightly, or
        of a sound statement).
    charges : str or sequence of str
        The name of the charge that it deserves (several names where more than one is fair); empty if it stands.
    look : str
        Where to look again: said to whoever accused a mistaken statement of something else.

    Examples
    --------
    >>> Claim(2, "The first loss is ln V.", "So it must be.").stands
    True
    """

    number: int
    text: str
    because: str
    charges: str | Sequence[str] = ()
    look: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.number, bool) or not isinstance(self.number, int) or not 1 <= self.number <= 99:
            raise ValueError(f"number: got {self.number!r}; it must be an integer from 1 to 99")
        names = (self.charges,) if isinstance(self.charges, str) else tuple(self.charges)
        object.__setattr__(self, "charges", names)
        for name in ("text", "because"):
            plain_text(f"{name} of statement {self.number}", getattr(self, name))
        plain_text(f"look of statement {self.number}", self.look, empty=self.stands)

    @property
    def stands(self) -> bool:
        """Whether the statement is sound."""
        return not self.charges


class Score(NamedTuple):
    """What a list of findings earns."""

    points: int
    best: int
    exact: int
    other: int
    false: int
    missed: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Audit(Exercise):
    """An exercise in which the reader says which statements of a report are mistaken, and what is wrong with them.

    Use it for a whole report. Its right answer follows from the statements and is not given.

    Parameters
    ----------
    claims : sequence of Claim
        The statements in order. Some must stand: without them an accusation would cost nothing.
    charges : mapping of str to str
        What one may accuse a statement of: name -> words. They get the letters a, b, c, ...; some should fit no
        statement, so that the last one cannot be had by elimination.
    answer : dict, optional
        Left out: it is {number: letter} of all mistaken statements.
    wrong : sequence of Misconception
        Each `value` is a dict of findings as a reader gives it; it is recognised by *which* statements it accuses.

    Raises
    ------
    ValueError
        Numbers that repeat, a charge that is not in the list, no sound or no mistaken statement, and what `Exercise`
        refuses.

    Notes
    -----
    Points: 2 for a mistaken statement with the right charge, 1 for one with another charge, −2 for a sound one, 0 for
    silence. Four fifths of the most that can be had are a right answer. What was not accused is not told.

    Examples
    --------
    >>> from lossutils.exercises import Misconception, judge
    >>> audit = Audit(
    ...     key="99.1", title="Two lines", hints=["Check the units."],
    ...     claims=[
    ...         Claim(1, "1 nat = 1.44 bits.", "1 / ln 2."),
    ...         Claim(2, "ln 8 = 3 bits.", "ln 8 is 2.08 nats.", "unit", look="Which logarithm?"),
    ...         Claim(3, "ln 1 = 0.", "A certainty costs nothing."),
    ...     ],
    ...     charges={"unit": "a wrong unit", "leak": "a leak"},
    ...     wrong=[Misconception("all", {1: "a", 2: "a", 3: "a"}, "You accused everybody."),
    ...            Misconception("the first", {1: "a"}, "Convert it."),
    ...            Misconception("the last", {3: "b"}, "What is the logarithm of one?")],
    ... )
    >>> audit.answer
    {2: 'a'}
    >>> print(judge(audit, "2a 3b").message)
    0 of 2 points: 1 found with the right charge, 0 for another reason, 1 accused wrongly, 0 not found.
    >>> audit.notes("2a 3b")
    ((2, 'ln 8 is 2.08 nats.'), (3, 'This one stands. A certainty costs nothing.'))

    See Also
    --------
    lossutils.exercises.check : takes {2: "a", 3: "b"} or "2a 3b".
    """

    claims: Sequence[Claim]
    charges: Mapping[str, str]
    answer: Any = None
    letters: Mapping[str, str] = field(init=False, repr=False, default=None)

    def _prepare(self) -> None:
        if self.options or self.cases or self.unit:
            raise ValueError(f"exercise {self.key}: an audit has no options, cases or unit")
        claims, charges = tuple(self.claims), dict(self.charges)
        numbers = [claim.number for claim in claims]
        if len(set(numbers)) < len(numbers) or len(numbers) > MOST_CLAIMS:
            raise ValueError(
                f"claims: exercise {self.key} has numbers {numbers}; each must be used once, and {MOST_CLAIMS} at most"
            )
        if not 2 <= len(charges) <= len(CHARGE_LETTERS):
            raise ValueError(
                f"charges: exercise {self.key} has {len(charges)}; from 2 to {len(CHARGE_LETTERS)}"
            )
        for name, words in charges.items():
            plain_text(f"charge {name!r}", words)
        unknown = {name for claim in claims for name in claim.charges} - set(charges)
        if unknown:
            raise ValueError(
                f"claims: exercise {self.key} uses charges that it does not list: {sorted(unknown)}"
            )
        if len({claim.stands for claim in claims}) < 2:
            raise ValueError(
                f"claims: exercise {self.key} needs statements that stand and statements that do not"
            )
        letters = dict(zip(charges, CHARGE_LETTERS, strict=False))
        store = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731 - the dataclass is frozen
        store("claims", claims)
        store("charges", charges)
        store("letters", letters)
        store("kind", "audit")
        store("answer", {claim.number: letters[claim.charges[0]] for claim in claims if not claim.stands})
        store("right_target", frozenset(self.answer))
        store("wrong_targets", tuple(frozenset(self._given(item.value, item.name)) for item in self.wrong))

    def _given(self, value: Any, name: str) -> dict[int, str]:
        found = self.read(value)
        if isinstance(found, str) or not found:
            raise ValueError(f"value of {name!r}: exercise {self.key}: got {value!r}; it must be findings")
        return found

    def _same(self, one: Any, other: Any) -> bool:
        return one == other

    def listed(self) -> tuple[str, ...]:
        """The statements and the charges, a line each."""
        statements = (f"({claim.number}) {claim.text}" for claim in self.claims)
        charges = (f"{self.letters[name]}) {words}" for name, words in self.charges.items())
        return (*statements, *charges)

    def read(self, findings: Any) -> dict[int, str] | str:
        """Findings as {number: letter} in the order of the report, or the sentence that says why they are none."""
        if isinstance(findings, str):
            if not FINDINGS.fullmatch(findings):
                return sentences.NO_FINDINGS.replace("{came}", f"“{findings[:40]}”")
            pairs = [(number, letter) for number, letter in FINDING.findall(findings)]
        elif isinstance(findings, Mapping):
            pairs = list(findings.items())
        else:
            return sentences.NO_FINDINGS.replace("{came}", describe(findings))
        known = {str(claim.number): claim.number for claim in self.claims}
        found = {}
        for number, charge in pairs:
            if str(number).strip() not in known:
                return sentences.NO_STATEMENT.replace("{number}", str(number)[:12])
            if charge is None or charge is ...:
                continue  # not accused
            letter = self._letter(charge)
            if letter is None:
                last = self.letters[list(self.letters)[-1]]
                return sentences.NO_CHARGE.replace("{charge}", str(charge)[:24]).replace("{last}", last)
            found[known[str(number).strip()]] = letter
        return dict(sorted(found.items()))

    def _letter(self, charge: Any) -> str | None:
        if not isinstance(charge, str):
            return None
        text = normal_option(charge)
        for name, letter in self.letters.items():
            if text in (letter, normal_option(name), normal_option(self.charges[name])):
                return letter
        return None

    def typed(self, findings: Any) -> str:
        """Findings in the short form, '2a 3b', as the page keeps them; '' if they are none."""
        found = self.read(findings)
        return (
            ""
            if isinstance(found, str)
            else " ".join(f"{number}{letter}" for number, letter in found.items())
        )

    def score(self, findings: Any) -> Score:
        """Count points.

        Examples
        --------
        See :class:`Audit`.
        """
        found = self.read(findings)
        found = {} if isinstance(found, str) else found
        exact = other = false = missed = 0
        for claim in self.claims:
            letter = found.get(claim.number)
            if letter is None:
                missed += not claim.stands
            elif claim.stands:
                false += 1
            elif letter in [self.letters[name] for name in claim.charges]:
                exact += 1
            else:
                other += 1
        points = EXACT * exact + OTHER * other + FALSE * false
        return Score(points, EXACT * len(self.answer), exact, other, false, missed)

    def notes(self, typed: str) -> tuple[tuple[int, str], ...]:
        """What is said of each accused statement: (number, sentence)."""
        found = self.read(typed)
        if isinstance(found, str):
            return ()
        said = []
        for claim in self.claims:
            if claim.number in found:
                hit = found[claim.number] in [self.letters[name] for name in claim.charges]
                if claim.stands:
                    said.append((claim.number, sentences.STANDS.replace("{because}", claim.because)))
                else:
                    other = sentences.OTHER_CHARGE.replace("{look}", claim.look)
                    said.append((claim.number, claim.because if hit else other))
        return tuple(said)

    @property
    def pass_points(self) -> int:
        """How many points make a right answer: four fifths, rounded up."""
        return -(-4 * EXACT * len(self.answer) // 5)


def judge_audit(exercise: Audit, answer: Any) -> tuple[str, str, str]:
    """Verdict, sentence and misconception of a list of findings."""
    found = exercise.read(answer)
    if isinstance(found, str):
        return "invalid", found, ""
    if not found:
        return "unanswered", sentences.NO_ACCUSATION, ""
    score = exercise.score(found)
    message = sentences.SCORE
    for name, value in score._asdict().items():
        message = message.replace(f"{{{name}}}", str(value).replace("-", "−"))
    if score.points >= exercise.pass_points:
        return "right", f"{message} {exercise.praise}".strip(), ""
    for item, accused in zip(exercise.wrong, exercise.wrong_targets, strict=True):
        if accused == set(found):
            return "wrong", f"{message} {item.message}", item.name
    return "wrong", f"{message} {exercise.otherwise}".strip(), ""


def audit_data(exercise: Audit) -> dict[str, Any]:
    """What the page's card needs, beside what every card has."""
    return {
        "claims": [
            {
                "number": claim.number,
                "text": claim.text,
                "charges": [exercise.letters[name] for name in claim.charges],
                "because": claim.because,
                "look": claim.look,
            }
            for claim in exercise.claims
        ],
        "charges": [
            {"label": exercise.letters[name], "text": words} for name, words in exercise.charges.items()
        ],
        "points": [EXACT, OTHER, FALSE],
        "pass": exercise.pass_points,
        "praise": exercise.praise,
        "otherwise": exercise.otherwise,
        "wrong": [
            {"accused": sorted(accused), "message": item.message}
            for item, accused in zip(exercise.wrong, exercise.wrong_targets, strict=True)
        ],
        "sentences": {
            "empty": sentences.NO_ACCUSATION,
            "score": sentences.SCORE,
            "stands": sentences.STANDS,
            "other": sentences.OTHER_CHARGE,
        },
    }
