"""``lossutils diagnose LOG``: what a training curve shows, in words, as JSON and as a picture."""

from __future__ import annotations

import json
from pathlib import Path

import lossutils
from lossutils._cli_numbers import number
from lossutils.curves import FORMATS, Run, diagnose, read_run

__all__: list[str] = []

PICTURES = (".svg", ".png", ".pdf")

_whole = number(int, lambda value: value >= 2, "a whole number of at least 2")
_loss = number(float, lambda value: 0 <= value < float("inf"), "a loss in nats, as 1.69")
_steps = number(float, lambda value: 0 < value < float("inf"), "a number of steps above 0")


def add_diagnose(commands) -> None:
    """Add the command to argparse's subcommands."""
    command = commands.add_parser(
        "diagnose",
        help="what a training curve shows, and what to try next",
        description="Read a training log and say what its curve shows, with evidence and steps, and what to try next.",
        epilog="The more it knows, the more it can tell: a validation loss for over-fitting and leaks, --vocab-size "
        "for the start, --floor or --bigger for under-fitting. What it cannot tell it says.",
    )
    add = command.add_argument
    add(
        "log",
        metavar="LOG",
        help="CSV, JSON lines, JSON (trainer_state.json too), a TensorBoard file or its folder",
    )
    add("--format", choices=FORMATS, help="of the log (default: as its name says)")
    add(
        "--step-column",
        metavar="NAME",
        help="column of the steps (default: step, global_step, iteration, ...)",
    )
    add("--loss-column", metavar="NAME", help="column of the training loss (default: loss, train_loss, ...)")
    add(
        "--validation-column",
        metavar="NAME",
        help="column of the validation loss (default: val_loss, eval_loss, ...)",
    )
    add("--vocab-size", type=_whole, metavar="V", help="number of tokens: a fresh model starts at ln V")
    add(
        "--floor",
        type=_loss,
        metavar="NATS",
        help="the lowest loss that any model could reach, if it is known",
    )
    add(
        "--pass-steps",
        type=_steps,
        metavar="N",
        help="steps of one pass over the text (default: from the log's epochs); tells a leak from over-fitting",
    )
    add("--bigger", metavar="LOG", help="the log of a bigger model's run, to compare with")
    add("--plot", metavar="FILE", help="draw the curve and the findings: .svg, .png or .pdf")
    add("--json", action="store_true", help="print everything as JSON, with all digits")
    command.set_defaults(run=run_diagnose)


def run_diagnose(arguments) -> str:
    """Return what is to be printed; write the picture if one is wanted."""
    plot = None if arguments.plot is None else Path(arguments.plot)
    if plot is not None:  # before the work, not after it
        if plot.suffix.lower() not in PICTURES:
            raise ValueError(f"--plot {arguments.plot!r} must end in {', '.join(PICTURES)}")
        if not plot.parent.is_dir():
            raise ValueError(f"--plot {arguments.plot!r}: the folder {str(plot.parent)!r} does not exist")
    run = _read(arguments, arguments.log)
    bigger = None if arguments.bigger is None else _read(arguments, arguments.bigger)
    diagnosis = diagnose(run, bigger=bigger)
    if plot is not None:
        _draw(plot, run, diagnosis, bigger)
    if not arguments.json:
        return str(diagnosis)
    report = {
        "lossutils": lossutils.__version__,
        "command": "diagnose",
        "log": str(arguments.log),
        "vocab_size": run.vocab_size,
        "floor": run.floor,
        "pass_steps": run.pass_steps,
        "bigger": arguments.bigger,
        "plot": arguments.plot,
        **diagnosis.to_dict(),
    }
    return json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)


def _read(arguments, path: str) -> Run:
    given = {
        "step": arguments.step_column,
        "train": arguments.loss_column,
        "validation": arguments.validation_column,
    }
    return read_run(
        path,
        format=arguments.format if path == arguments.log else None,
        columns={role: name for role, name in given.items() if name is not None},
        vocab_size=arguments.vocab_size,
        floor=arguments.floor,
        pass_steps=arguments.pass_steps if path == arguments.log else None,
    )


def _draw(path: Path, run: Run, diagnosis, bigger: Run | None) -> None:
    from lossutils.plotting import plot_diagnosis, style

    with style():
        figure = plot_diagnosis(run, diagnosis, bigger=bigger).figure
        metadata = {"Date": None} if path.suffix.lower() == ".svg" else None
        figure.savefig(path, metadata=metadata, bbox_inches="tight", dpi=150)
