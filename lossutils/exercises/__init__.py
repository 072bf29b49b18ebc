"""Exercises that answer back: `check` names the misconception, `hint` helps, `progress` remembers.

- `definition`, `tolerance`, `detectors`: what an author writes (see the example in `definition`);
- `audit`: an exercise of many statements, some of them mistaken, scored as a whole;
- `reading`, `calling`, `judging`, `sentences`: how an answer is understood and judged;
- `checking`, `hints`, `progress_file`: what stands in a notebook;
- `feedback`, `rendering`: how it is shown, in a kernel and on the page;
- `registry`: which exercises there are. Chapter NN's are in ``chapterNN``.
"""

from .audit import Audit, Claim
from .checking import check, solution
from .definition import Exercise, Misconception
from .feedback import Feedback
from .hints import hint
from .judging import judge
from .progress_file import Progress, progress
from .registry import all_exercises, register, temporary

__all__ = [
    "Audit",
    "Claim",
    "Exercise",
    "Feedback",
    "Misconception",
    "Progress",
    "all_exercises",
    "check",
    "hint",
    "judge",
    "progress",
    "register",
    "solution",
    "temporary",
]
