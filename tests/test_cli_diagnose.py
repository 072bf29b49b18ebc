"""``lossutils diagnose``: words, JSON and a picture from a log, and one line for each mistake."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from lossutils.cli import main


@pytest.fixture
def log(tmp_path):
    """A run with a spike, as CSV."""
    steps = np.arange(200)
    loss = 1.6 + 2.2 * np.exp(-steps / 25) + 0.05 * np.random.default_rng(0).standard_normal(200)
    loss[120:130] += 5
    path = tmp_path / "run.csv"
    path.write_text("step,loss\n" + "".join(f"{s},{v}\n" for s, v in zip(steps, loss, strict=True)))
    return path


def test_a_report_names_the_finding_and_what_it_cannot_tell(log, capsys):
    assert main(["diagnose", str(log)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("run: spike\n")
    assert "steps 120 to 129" in out
    assert "overfitting: needs a validation loss" in out
    assert "bad start: needs the vocabulary size" in out
    assert err == ""


def test_what_is_known_is_used(log, capsys):
    assert main(["diagnose", str(log), "--vocab-size", "46", "--floor", "0.2"]) == 0
    out = capsys.readouterr().out
    assert "underfitting (warning" in out
    assert "bad start" not in out


def test_the_length_of_a_pass_tells_a_leak_from_overfitting(tmp_path, capsys):
    path = tmp_path / "run.csv"
    held_out = [3.8, 2.6, 2.9, 4.2, 5.3, 6.2, 6.9, 7.4, 7.8, 8.1]
    rows = [
        f"{step},{3.8 * 0.97**step},{held_out[step // 30] if step % 30 == 0 else ''}" for step in range(300)
    ]
    path.write_text("step,loss,val_loss\n" + "\n".join(rows))
    for options, kind in (
        ([], "overfitting"),
        (["--pass-steps", "5"], "overfitting"),
        (["--pass-steps", "1e3"], "leak"),
    ):
        assert main(["diagnose", str(path), "--json", *options]) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["kinds"] == [kind]
        assert report["pass_steps"] == (float(options[1]) if options else None)


def test_json_holds_the_same_with_all_digits(log, capsys):
    assert main(["diagnose", str(log), "--json", "--vocab-size", "46"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["command"], report["kinds"], report["vocab_size"]) == ("diagnose", ["spike"], 46)
    assert report["findings"][0]["first_step"] == 120
    assert report["findings"][0]["numbers"]["peak"] == pytest.approx(6.6, abs=0.2)


def test_a_bigger_run_can_be_compared(log, tmp_path, capsys):
    rows = log.read_text().splitlines()
    worse = tmp_path / "small.csv"
    lines = (line.split(",") for line in rows[1:])
    worse.write_text("step,loss\n" + "".join(f"{s},{0.5 * float(v) + 2}\n" for s, v in lines))
    assert main(["diagnose", str(worse), "--bigger", str(log)]) == 0
    assert "could be gained" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "magic"), [("a.svg", b"<?xml"), ("a.png", b"\x89PNG"), ("a.pdf", b"%PDF")])
def test_a_picture_is_written(log, tmp_path, name, magic, capsys):
    path = tmp_path / name
    assert main(["diagnose", str(log), "--plot", str(path)]) == 0
    assert path.read_bytes().startswith(magic)
    assert capsys.readouterr().out.startswith("run: spike")


def test_a_picture_names_the_finding_and_is_the_same_each_time(log, tmp_path, capsys):
    pictures = []
    for name in ("a.svg", "b.svg"):
        assert main(["diagnose", str(log), "--plot", str(tmp_path / name)]) == 0
        pictures.append((tmp_path / name).read_bytes())
    capsys.readouterr()
    assert pictures[0] == pictures[1]
    assert b"spike (warning)" in pictures[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("step,accuracy\n0,1\n", "no column for the training loss; it has 'step', 'accuracy'"),
        ("step,loss\n0,nan\n1,nan\n", "none of the 2 training losses is a finite number"),
        ("", "is empty"),
        ("step,loss\n" + "".join(f"{s},1\n" for s in (5, 9, 1, 8, 2, 7, 5, 3, 0, 9, 1)), "several runs"),
    ],
)
def test_a_log_that_cannot_be_read_is_one_line_on_stderr(text, words, tmp_path, capsys):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    assert main(["diagnose", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert err.count("\n") == 1


def test_one_point_is_no_error_but_cannot_be_told(tmp_path, capsys):
    path = tmp_path / "one.csv"
    path.write_text("step,loss\n0,3.5\n")
    assert main(["diagnose", str(path), "--plot", str(tmp_path / "one.svg")]) == 0
    assert "There is 1 finite loss; a shape needs 20" in capsys.readouterr().out


def test_unsorted_steps_are_sorted_with_a_note(log, capsys):
    head, *lines = log.read_text().splitlines()
    log.write_text("\n".join([head, *reversed(lines)]))
    assert main(["diagnose", str(log)]) == 0
    out = capsys.readouterr().out
    assert "steps 120 to 129" in out
    assert "note: " in out and "were sorted" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--plot", "picture.gif"], "must end in .svg"),
        (["--plot", "no/such/folder/a.svg"], "does not exist"),
        (["--bigger", "none.csv"], "none.csv does not exist"),
        (["--loss-column", "nll"], "no column 'nll'"),
    ],
)
def test_a_wrong_option_is_one_line_on_stderr(arguments, words, log, capsys):
    assert main(["diagnose", str(log), *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, words in err) == ("", True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--vocab-size", "1"],
        ["--vocab-size", "x"],
        ["--floor", "-1"],
        ["--floor", "nan"],
        ["--pass-steps", "0"],
    ],
)
def test_a_number_out_of_its_range_is_refused(arguments, log, capsys):
    with pytest.raises(SystemExit) as error:
        main(["diagnose", str(log), *arguments])
    assert error.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_the_program_itself_says_it(log):
    result = subprocess.run(
        [sys.executable, "-m", "lossutils", "diagnose", str(log)], capture_output=True, text=True, check=True
    )
    assert result.stdout.startswith("run: spike")
    assert result.stderr == ""
