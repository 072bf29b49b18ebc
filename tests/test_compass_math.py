"""Formulas become MathML that a browser can set: rows, primes, errors, and the font's characters."""

from __future__ import annotations

import pytest
from bs4 import BeautifulSoup
from docutils import nodes
from fontTools.ttLib import TTFont
from math_core import LatexError

from tools import book, compass_math

FONT = book.ROOT / "book" / "assets" / compass_math.FONT


def parsed(tex: str, *, display: bool = True) -> BeautifulSoup:
    return BeautifulSoup(compass_math.mathml(tex, display=display), "html.parser")


def test_a_formula_in_a_line_and_one_of_its_own_differ_in_display():
    assert parsed(r"\frac{1}{2}").math["display"] == "block"
    assert parsed(r"\frac{1}{2}", display=False).math.get("display") in (None, "inline")


@pytest.mark.parametrize(
    "tex",
    [
        r"a &= b \\ c &= d",
        r"\begin{aligned} a &= b \\ c &= d \end{aligned}",
        r"\begin{align} a &= b \\ c &= d \end{align}",
        "a = b\n\nc = d",
    ],
)
def test_rows_become_the_rows_of_one_table_without_numbers(tex):
    formula = parsed(tex)
    assert [row.get_text() for row in formula.math.mtable.find_all("mtr")] == ["a=b", "c=d"]
    assert len(formula.find_all("mtable")) == 1


def test_the_rows_of_an_inner_environment_are_not_aligned_once_more():
    formula = parsed(r"f(x) = \begin{cases} x & \text{if } x > 0 \\ 0 & \text{otherwise} \end{cases}")
    assert len(formula.find_all("mtable")) == 1
    assert "otherwise" in formula.get_text()


def test_an_operator_keeps_its_name_upright_and_its_distance():
    formula = parsed(r"\operatorname{softmax}(z) = \log q", display=False)
    names = [name for name in formula.find_all(["mi", "mo", "mtext"]) if len(name.get_text()) > 1]
    assert [name.get_text() for name in names] == ["softmax", "log"]


def test_a_prime_is_not_made_small_twice():
    formula = parsed("h'", display=False)
    assert formula.get_text() == "h′"
    assert formula.find("msup") is None
    assert parsed("h'^2", display=False).find("msup") is not None


def test_an_unknown_command_is_an_error_and_in_a_page_a_warning_with_its_place(monkeypatch):
    with pytest.raises(LatexError):
        compass_math.mathml(r"\nosuchcommand{x}", display=False)
    warned = []
    monkeypatch.setattr(compass_math._logger, "warning", lambda *message, location: warned.append(location))
    node = nodes.math(r"\nosuchcommand{x}", r"\nosuchcommand{x}")
    assert compass_math._element(None, node, display=False) == r"<code>\nosuchcommand{x}</code>"
    assert warned == [node]


def test_the_characters_of_a_page_are_those_of_its_formulas_with_their_italics_and_the_root():
    formulas = [compass_math.mathml(tex, display=False) for tex in ("x", r"\sqrt{2}")]
    page = f"<p>text {formulas[0]} and {formulas[1]}</p>"
    assert compass_math.characters([page]) == {ord("x"), 0x1D465, ord("2"), 0x221A}
    assert compass_math.characters(["<p>no formula</p>"]) == set()


def test_the_font_has_the_italic_of_every_letter_that_a_browser_sets_in_italics():
    with TTFont(FONT) as font:
        assert set(compass_math.ITALICS.values()) <= set(font.getBestCmap())


def test_a_cut_font_still_stretches_its_brackets_and_braces(tmp_path):
    copy = tmp_path / "font.woff2"
    copy.write_bytes(FONT.read_bytes())
    compass_math.keep_characters(copy, {ord("("), 0x23DF, 0x221A})
    with TTFont(copy) as font:
        assert set(font.getBestCmap()) >= {ord("("), 0x23DF, 0x221A}
        assert ord("q") not in font.getBestCmap()
        variants = font["MATH"].table.MathVariants
        assert font.getBestCmap()[ord("(")] in variants.VertGlyphCoverage.glyphs
        assert font.getBestCmap()[0x23DF] in variants.HorizGlyphCoverage.glyphs
    assert copy.stat().st_size < 20_000


def test_the_font_carries_its_licence_and_another_name_than_the_original():
    with TTFont(FONT) as font:
        names = {record.nameID: str(record) for record in font["name"].names}
    assert names[1] == "Compass Math"
    licence = FONT.with_name("compass-math-licence.txt").read_text(encoding="utf-8")
    assert "GUST Font License" in licence
