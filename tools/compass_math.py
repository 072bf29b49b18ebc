"""The book's Sphinx extension for mathematics: a formula becomes MathML when the page is built.

The browser then sets it by itself, with no script and before anything else has loaded; a screen reader reads it as
mathematics. What a formula needs besides is a font with the sizes of brackets and sums: book/assets/fonts has one,
and a built site gets of it what its formulas show.

A formula that cannot be converted is a warning at its place in the source, so it fails the build.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from pathlib import Path

from bs4 import BeautifulSoup
from docutils import nodes
from fontTools import subset
from math_core import LatexError, LatexToMathML
from sphinx.locale import _
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

FONT = "fonts/compass-math.woff2"
# A browser shows a one-letter variable by its italic form, which is a character of its own.
ITALICS = {
    **{chr(ord("A") + n): 0x1D434 + n for n in range(26)},
    **{chr(ord("a") + n): 0x1D44E + n for n in range(26) if chr(ord("a") + n) != "h"},
    "h": 0x210E,
    **{chr(0x391 + n): 0x1D6E2 + n for n in range(25)},
    **{chr(0x3B1 + n): 0x1D6FC + n for n in range(25)},
    **dict(zip("∂ϵϑϰϕϱϖ", range(0x1D715, 0x1D71C), strict=True)),
    "ı": 0x1D6A4,
    "ȷ": 0x1D6A5,
}
ROOT = 0x221A  # drawn by an element, so it stands in no text

_convert = LatexToMathML(fancy_error=False)
_logger = logging.getLogger(__name__)


def mathml(tex: str, *, display: bool) -> str:
    """One formula as a MathML element.

    Rows (`\\\\`) outside any environment are aligned at `&`, as Sphinx's other renderers do it; so are formulas
    with an empty line between them. Environments that would number their rows do not.

    Raises
    ------
    math_core.LatexError
        When the formula holds something unknown.
    """
    if display:
        parts = [part.strip() for part in re.split(r"\n\s*\n", tex) if part.strip()]
        tex = r" \\ ".join(parts)
        if re.search(r"\\\\|(?<!\\)&", _outside_environments(tex)):
            tex = rf"\begin{{aligned}}{tex}\end{{aligned}}"
    tex = re.sub(r"\\(begin|end)\{(align|gather|equation|multline)\}", r"\\\1{\2*}", tex.strip())
    element = _convert.convert_with_local_state(tex, displaystyle=display)
    # A raised prime is drawn raised already: as a superscript it would be raised, and made small, twice.
    return re.sub(
        r"<msup>(<m[in][^>]*>[^<]*</m[in]>)<mo>([′″‴]+)</mo></msup>",
        r'<mrow>\1<mo lspace="0" rspace="0">\2</mo></mrow>',
        element,
    )


def _outside_environments(tex: str) -> str:
    """The formula without its environments, from the inmost outwards."""
    inmost = re.compile(r"\\begin\{(\w+\*?)\}(?:(?!\\begin\{).)*?\\end\{\1\}", re.DOTALL)
    while True:
        tex, found = inmost.subn("", tex)
        if not found:
            return tex


def _element(translator, node: nodes.Element, *, display: bool) -> str:
    try:
        return mathml(node.astext(), display=display)
    except LatexError as error:
        _logger.warning("a formula cannot be converted: %s in %r", error, node.astext(), location=node)
        return f"<code>{escape(node.astext())}</code>"


def visit_inline(translator, node: nodes.math) -> None:
    translator.body.append(translator.starttag(node, "span", "", CLASS="math notranslate nohighlight"))
    translator.body.append(_element(translator, node, display=False) + "</span>")
    raise nodes.SkipNode


def visit_display(translator, node: nodes.math_block) -> None:
    translator.body.append(translator.starttag(node, "div", CLASS="math notranslate nohighlight"))
    if node.get("number"):  # for the reference (eq) to a labelled formula
        number = get_node_equation_number(translator, node)
        translator.body.append(f'<span class="eqno">({number})')
        translator.add_permalink_ref(node, _("Link to this equation"))
        translator.body.append("</span>")
    translator.body.append(_element(translator, node, display=True) + "</div>\n")
    raise nodes.SkipNode


def characters(pages: Iterable[str]) -> set[int]:
    """The code points that the pages' formulas show: as they stand, and in italics where a browser sets them so."""
    shown: set[int] = set()
    for page in pages:
        for formula in BeautifulSoup(page, "html.parser").find_all("math"):
            text = formula.get_text()
            shown |= {ord(character) for character in text}
            shown |= {ITALICS[character] for character in text if character in ITALICS}
            shown |= {ROOT} if formula.find(("msqrt", "mroot")) else set()
    return shown


def keep_characters(font_file: Path, codes: Iterable[int]) -> None:
    """Cut a font down to some of its characters, in place, with what they grow into when stretched."""
    options = subset.Options(flavor="woff2", layout_features=["*"], notdef_outline=True)
    with subset.load_font(str(font_file), options) as font:
        cutter = subset.Subsetter(options)
        cutter.populate(unicodes=codes)
        cutter.subset(font)
        subset.save_font(font, str(font_file), options)


def cut_font(app, exception) -> None:
    """Leave in the built site's mathematics font what its formulas show."""
    if exception or app.builder.name != "html":
        return
    site = Path(app.outdir)
    pages = (
        page.read_text(encoding="utf8")
        for page in site.rglob("*.html")
        if "_static" not in page.relative_to(site).parts
    )
    keep_characters(site / "_static" / FONT, characters(pages))


def setup(app) -> dict:
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_display, None))
    app.connect("build-finished", cut_font)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
