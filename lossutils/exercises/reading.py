"""Read one number from what a learner typed or computed. The page's exercise.js has the same grammar."""

from __future__ import annotations

import math
import re
import sys
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np

SPACE = "[ \\t\\r\\n\u00a0\u2009\u202f]"
GROUPED = (
    rf"[1-9][0-9]{{0,2}}(?:(?:,[0-9]{{3}})+(?:\.[0-9]+)?|(?:{SPACE}[0-9]{{3}})+(?:[.,][0-9]+)?)(?![0-9])"
)
PLAIN = r"(?:[0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)"
NUMBER = rf"[+-]?{SPACE}*(?:{GROUPED}|{PLAIN})(?:[eE][+-]?[0-9]+(?![0-9]))?"
ANSWER = re.compile(rf"[≈~=]?{SPACE}*({NUMBER})(?:{SPACE}*/{SPACE}*({NUMBER}))?{SPACE}*(.*)", re.DOTALL)
ONE_GROUP = re.compile(r"^[+-]?[1-9][0-9]{0,2},[0-9]{3}(?![0-9,.])")
POWER = re.compile(rf"{SPACE}*[×xX*·]{SPACE}*10{SPACE}*\^{SPACE}*([+-]?){SPACE}*([0-9]+)")
LONE_POWER = re.compile(rf"^([≈~=]?{SPACE}*[+-]?)10\^{SPACE}*([+-]?)([0-9]+)")
NOT_FINITE = re.compile(r"[+-]?(?:inf|infinity|nan|∞)", re.IGNORECASE | re.ASCII)
UNIT_WORD = re.compile(r"[A-Za-z%][^0-9]*", re.DOTALL)


@dataclass(frozen=True)
class Reading:
    """What was understood: the candidate numbers, or the name of the sentence that says why there is none."""

    numbers: tuple[float, ...] = ()
    problem: str = ""
    typed: str = ""


def normal_unit(unit: str) -> str:
    """'Nats per token', 'nat/tokens' and 'nats / token' are one unit: 'nat/token'."""
    text = re.sub(f"{SPACE}+", " ", unit.lower()).strip(" ")
    text = text.replace(" per ", "/").replace("percent", "%")
    parts = [part.strip(" ") for part in text.split("/")]
    return "/".join(part[:-1] if len(part) > 1 and part.endswith("s") else part for part in parts)


def _number(text: str, *, comma_groups: bool) -> float:
    text = re.sub(SPACE, "", text)
    if text.count(",") > 1 or ("," in text and "." in text) or (comma_groups and ONE_GROUP.search(text)):
        text = text.replace(",", "")
    return float(text.replace(",", "."))


def read_text(text: str, *, unit: str = "") -> Reading:
    """Read one number as people write it: '2.5', '2,5', '5/2', '1e-3', '≈ 2.5 bits', '12 %', '50,304'.

    Use it for a typed answer. A comma with three digits after it may be a decimal comma or mark thousands:
    both readings are returned, the decimal one first.

    Parameters
    ----------
    text : str
        What was typed.
    unit : str
        The unit that the question asks for; it may follow the number. A percent sign divides by 100 where
        the question does not ask for percent.

    Returns
    -------
    Reading
        `numbers` (finite floats, one or two), or `problem`: 'empty', 'unread', 'zero', 'infinite', or
        'unit' with the foreign unit in `typed`.

    Examples
    --------
    >>> read_text("≈ 2,5 bits", unit="bits").numbers
    (2.5,)
    >>> read_text("1,024").numbers
    (1.024, 1024.0)
    >>> read_text("ln 2").problem
    'unread'

    See Also
    --------
    read_value : the same for any Python object.
    """
    text = re.sub(f"^{SPACE}+|{SPACE}+$", "", text.replace("−", "-").replace("–", "-"))
    if not text:
        return Reading(problem="empty")
    if NOT_FINITE.fullmatch(text):
        return Reading(problem="infinite")
    power = POWER.search(text)
    if power and "/" in text[: power.start()]:  # 5/2×10^3: two people read it in two ways
        return Reading(problem="unread")
    text = LONE_POWER.sub(r"\g<1>1e\2\3", POWER.sub(r"e\1\2", text, count=1))
    match = ANSWER.fullmatch(text)
    if not match or (match[3] and not UNIT_WORD.fullmatch(match[3])):
        return Reading(problem="unread")
    factor = 1.0
    if match[3]:
        typed, asked = normal_unit(match[3]), normal_unit(unit)
        if typed == "%" and asked != "%":
            factor = 100.0
        elif typed not in (asked, asked.split("/")[0]):
            return Reading(problem="unit", typed=match[3][:24])
    numbers = []
    for comma_groups in (False, True):
        value = _number(match[1], comma_groups=comma_groups)
        if match[2]:
            below = _number(match[2], comma_groups=comma_groups)
            if below == 0:
                return Reading(problem="zero")
            value = value / below
        value = value / factor
        if not math.isfinite(value):
            return Reading(problem="infinite")
        if value not in numbers:
            numbers.append(value)
    return Reading(numbers=tuple(numbers))


def is_tensor(value: Any) -> bool:
    """Whether `value` is a torch tensor. Does not import torch: where it is not loaded there are none."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def to_array(value: Any) -> np.ndarray:
    """A float64 copy of numbers in any container; a TypeError or ValueError says why not."""
    if is_tensor(value):
        if value.is_complex():
            raise TypeError("complex numbers came; real ones are needed")
        value = value.detach().cpu().double().numpy()
    elif isinstance(value, (list, tuple)):
        value = [to_array(item) for item in value]
        if len({item.shape for item in value}) > 1:
            raise ValueError("the rows have different lengths; all must have the same")
    elif isinstance(value, (int, Fraction, Decimal)):
        value = float(value)  # a whole number beyond the floats raises OverflowError here, not a puzzle later
    elif not isinstance(value, (complex, np.ndarray, np.generic)):
        if not hasattr(type(value), "__float__"):
            raise TypeError(f"{describe(value)} came; numbers are needed")
        value = float(value)
    array = np.asarray(value)
    if array.dtype.kind == "c":
        raise TypeError("complex numbers came; real ones are needed")
    if array.dtype.kind not in "biuf":
        raise TypeError("the array holds something other than numbers")
    return np.array(array, dtype=np.float64)


def read_value(value: Any, *, unit: str = "") -> Reading | str:
    """Read one number from any Python object: a `Reading`, or a sentence for the learner."""
    if isinstance(value, str):
        return read_text(value, unit=unit)
    if isinstance(value, (bool, np.bool_)):
        return f"This is {value!s}, a truth value. The answer is a number."
    if callable(value):
        return "This is a function or a class, not its result. Call it, and check the number that it returns."
    try:
        array = to_array(value)
    except OverflowError:
        return Reading(problem="infinite")
    except (TypeError, ValueError):
        return f"The answer is one number; {describe(value)} came instead."
    if array.size != 1:
        return f"The answer is one number; {describe(value)} with {array.size} of them came instead."
    number = float(array.reshape(()))
    return Reading(numbers=(number,)) if math.isfinite(number) else Reading(problem="infinite")


def describe(value: Any) -> str:
    """A kind word for what `value` is."""
    if value is None:
        return "None"
    words = {
        str: "a string",
        list: "a list",
        tuple: "a tuple",
        dict: "a dict",
        set: "a set",
        complex: "a complex number",
    }
    if is_tensor(value):
        return "a tensor"
    if isinstance(value, np.ndarray):
        return "an array"
    return words.get(type(value), f"something of type {type(value).__name__}")


def is_unfilled(value: Any) -> bool:
    """Whether the stub's three dots are still there, alone or inside a list, tuple or array of objects."""
    if value is Ellipsis:
        return True
    if isinstance(value, (list, tuple)):
        return any(item is Ellipsis for item in value)
    if isinstance(value, np.ndarray) and value.dtype == object:
        return any(item is Ellipsis for item in value.flat)
    return False
