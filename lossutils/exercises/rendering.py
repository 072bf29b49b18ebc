"""The HTML of a card and of the progress view: text for any viewer, JSON for the page's element.

The bytes depend on the definition and the answer alone. Text is escaped; JSON cannot close its script
element. What stands outside the JSON is shown where exercise.js does not run: in JupyterLab, and on a page
without JavaScript.
"""

from __future__ import annotations

import json
from html import escape
from typing import Any

from .audit import Audit, audit_data
from .definition import Exercise, Zone
from .feedback import Feedback
from .progress_file import STATES, Progress, chapter_words
from .sentences import RIGHT, UNCHOSEN, VERDICTS, number_sentences

# Only a viewer without exercise.css needs these: JupyterLab's own variables make the card fit its theme.
INK = "var(--compass-ink,var(--jp-content-font-color1,inherit))"
TONES = {
    "right": "var(--compass-good,var(--jp-success-color1,#0f7b55))",
    "wrong": "var(--compass-bad,var(--jp-error-color1,#b42318))",
    "unanswered": "var(--compass-muted,var(--jp-border-color1,#57606a))",
    "invalid": "var(--compass-muted,var(--jp-border-color1,#57606a))",
}


def embedded_json(data: Any) -> str:
    """Compact JSON that is safe inside a script element."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def exercise_data(exercise: Exercise) -> dict[str, Any]:
    """What the page's card needs to judge an answer as Python does."""
    data: dict[str, Any] = {
        "key": exercise.key,
        "title": exercise.title,
        "kind": exercise.kind,
        "hints": list(exercise.hints),
    }
    if exercise.kind == "number":
        data |= {
            "unit": exercise.unit,
            "right": _zone(exercise.right_target),
            "praise": exercise.praise or RIGHT,
            "wrong": [
                {"zone": _zone(zone), "message": item.message}
                for item, zone in zip(exercise.wrong, exercise.wrong_targets, strict=True)
            ],
            "sentences": number_sentences(exercise.unit, exercise.precision.words, exercise.otherwise),
        }
    elif exercise.kind == "choice":
        messages = {
            index: item.message for item, index in zip(exercise.wrong, exercise.wrong_targets, strict=True)
        }
        data |= {
            "options": [
                {
                    "label": exercise.letter(index),
                    "text": text,
                    "verdict": "wrong" if index in messages else "right",
                    "message": messages.get(index, exercise.praise or RIGHT),
                }
                for index, text in enumerate(exercise.options)
            ],
            "sentences": {"empty": UNCHOSEN},
        }
    elif isinstance(exercise, Audit):
        data |= audit_data(exercise)
    return data


def _zone(zone: Zone) -> list[float]:
    return [zone.value, zone.width, zone.near]


def _options(exercise: Exercise | None) -> str:
    """The options to choose from: in JupyterLab the card is the only place where they stand."""
    if exercise is None or not exercise.listed():
        return ""
    return f'<p style="margin:0.2em 0 0.4em">{"<br>".join(map(escape, exercise.listed()))}</p>'


def _notes(feedback: Feedback) -> str:
    lines = (f"({number}) {escape(text)}" for number, text in feedback.notes)
    return f'<p style="margin:0.2em 0">{"<br>".join(lines)}</p>' if feedback.notes else ""


def feedback_html(feedback: Feedback) -> str:
    """The card: title and sentence for every viewer, and for the page the definition as JSON.

    Parameters
    ----------
    feedback : Feedback
        What `check` found.

    Returns
    -------
    str
        A `compass-exercise` element; a plain box where there is no such exercise.

    Examples
    --------
    >>> print(feedback_html(Feedback("invalid", "There is no exercise “9.9”.", key="9.9"))[:34])
    <div class="compass-exercise-plain
    """
    symbol, words = VERDICTS[feedback.verdict]
    exercise = feedback.exercise
    title = f" · {escape(exercise.title)}" if exercise else ""
    plain = (
        f'<div class="compass-exercise-plain" style="border-left:4px solid {TONES[feedback.verdict]};'
        f'padding:0.25em 0.9em;color:{INK}">'
        f'<p style="margin:0.2em 0"><strong>Exercise {escape(feedback.key)}</strong>{title}</p>{_options(exercise)}'
        f'<p style="margin:0.2em 0">{symbol} <strong>{words}.</strong> {escape(feedback.message)}</p>'
        f"{_notes(feedback)}</div>"
    )
    if exercise is None:
        return plain
    data = exercise_data(exercise)
    if feedback.verdict != "unanswered":
        data["given"] = {"verdict": feedback.verdict, "message": feedback.message, "typed": feedback.typed}
    return (
        f'<compass-exercise key="{exercise.key}">{plain}'
        f'<script type="application/json">{embedded_json(data)}</script></compass-exercise>'
    )


def progress_html(progress: Progress) -> str:
    """The progress view: a list for every viewer; on the page it shows what the reader's browser remembers.

    Parameters
    ----------
    progress : Progress
        What the file beside the notebook says. The page's element replaces it by its own record.

    Returns
    -------
    str
        A `compass-progress` element.
    """
    sections = []
    for chapter, items in progress.chapters:
        lines = ""
        for item in items:
            state = progress.states[item.key]
            lines += f"<li>{STATES[state]} {item.key} {escape(item.title)}: {state}</li>"
        sections.append(
            f"<p><strong>{escape(chapter_words(chapter))}</strong> ({progress.counted(items)})</p>"
            f'<ul style="list-style:none;padding-left:1em">{lines}</ul>'
        )
    data = [
        {
            "name": chapter_words(chapter),
            "page": chapter.page,
            "exercises": [{"key": item.key, "title": item.title} for item in items],
        }
        for chapter, items in progress.chapters
    ]
    return (
        f'<compass-progress><div class="compass-progress-plain">{"".join(sections)}'
        f"<p>{progress.done} of {progress.total} exercises done. {escape(progress.advice)}</p></div>"
        f'<script type="application/json">{embedded_json({"chapters": data})}</script></compass-progress>'
    )
