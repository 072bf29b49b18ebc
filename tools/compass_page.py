"""The book's Sphinx extension: every page is whole without a network, and its figures follow the theme.

What it changes, and why:

- the theme's icon script (half of a page's weight) is left out: the same icons come as fonts, and of those fonts only
  the icons that some page shows are kept; the search index is loaded where it is searched, not on every page;
- a figure of a notebook is put *into* the page as inline SVG with the theme's colour variables, so that it is readable
  in light and dark, searchable, and scales with the column; its alternative text becomes its accessible name;
- `<compass-progress>` is filled with the book's exercises, so that it can list them;
- what the theme leaves unsaid to assistive technology is said: what scrolls can be reached by keyboard, each button,
  panel and arrow of the contents has a name, the sidebar is a landmark, and the bibliography has no roles that its
  parts contradict;
- a page has one viewport and no place for advertisements.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

from bs4 import BeautifulSoup, Comment, NavigableString, Tag

from lossutils.exercises.progress_file import Progress
from lossutils.exercises.registry import chapters
from lossutils.exercises.rendering import progress_html
from lossutils.plotting import PAGE_COLOURS
from tools.compass_math import keep_characters

# The colours of a figure, and the variable of book/assets/compass.css that each one becomes.
FIGURE_COLOURS = {value: f"--compass-{name}" for name, value in reversed(PAGE_COLOURS.items())}
UNUSED_SCRIPTS = ("fontawesome.js", "design-tabs.js")
PANELS = (  # what opens it, its id, its name
    (".primary-toggle", "pst-primary-sidebar-modal", "Contents of the book"),
    (".secondary-toggle", "pst-secondary-sidebar-modal", "Contents of this page"),
    (".search-button__button", "pst-search-dialog", "Search"),
)
SEARCH_SCRIPTS = ("searchtools.js", "language_data.js", "searchindex.js")  # the search page runs them


def theme_colours(svg: str) -> str:
    """Replace the figure style's fixed colours by the page's colour variables (the fixed one stays as fallback)."""
    pattern = re.compile("|".join(FIGURE_COLOURS), re.IGNORECASE)
    return pattern.sub(lambda match: f"var({FIGURE_COLOURS[match[0].lower()]}, {match[0].lower()})", svg)


def inline_figure(svg: str, *, alt: str, prefix: str) -> Tag:
    """One matplotlib SVG as an element for the page: themed, named, with ids that no other figure shares."""
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r'(xlink:href="#|url\(#)', rf"\1{prefix}-", svg)
    element = BeautifulSoup(theme_colours(svg), "html.parser").find("svg")
    for comment in element.find_all(string=lambda text: isinstance(text, Comment)):
        comment.extract()
    view_box = element.get("viewbox") or element.get("viewBox")
    for name in list(element.attrs):
        del element[name]
    width = float(view_box.split()[2])
    element.attrs.update(
        {
            "viewBox": view_box,
            "class": "compass-figure",
            "role": "img",
            "aria-label": alt,
            "style": f"max-width: {1.45 * width:.0f}px",
            "xmlns": "http://www.w3.org/2000/svg",
        }
    )
    return element


def all_exercises_open() -> str:
    """The progress view of a reader who has not begun; the page's script puts the reader's own record in its place."""
    listed = tuple((chapter, tuple(items)) for chapter, items in chapters())
    keys = [item.key for _, items in listed for item in items]
    return progress_html(Progress(listed, dict.fromkeys(keys, "open"), dict.fromkeys(keys, 0)))


def used_icons(texts: Iterable[str], style: str) -> set[int]:
    """The code points of the icon font that the pages' and scripts' classes or the theme's own rules ask for."""
    classes = {name for text in texts for name in re.findall(r"\bfa-[a-z0-9-]+", text)}
    codes = set()
    for selectors, code in re.findall(r'([^{}]+)\{[^{}]*content:"\\([0-9a-f]{3,4})"', style):
        icons = re.findall(r"\.(fa-[a-z0-9-]+):before", selectors)
        if not icons or classes & set(icons):  # a rule of the theme's own names no icon class
            codes.add(int(code, 16))
    return codes | {ord(icon) for icon in re.findall(r'--pst-icon-[\w-]+:"(.)"', style)}


def keep_together(formula: Tag) -> None:
    """Let no line end between a formula and the punctuation that touches it."""
    if "compass-together" in formula.parent.get("class", []):
        return
    before, after = formula.previous_sibling, formula.next_sibling
    opening = re.search(r"[(\[“‘]+$", before) if type(before) is NavigableString else None
    closing = re.match(r"[)\]”’,.;:!?%]+|[-–][^\s]*", after) if type(after) is NavigableString else None
    if not opening and not closing:
        return
    together = BeautifulSoup("", "html.parser").new_tag("span", attrs={"class": "compass-together"})
    formula.wrap(together)
    if opening:
        formula.insert_before(opening[0])
        before.replace_with(before[: opening.start()])
    if closing:
        formula.insert_after(closing[0])
        after.replace_with(after[closing.end() :])


def has_columns(text: str) -> bool:
    """Whether a printed text is set in columns: two lines or more with wide gaps inside."""
    return sum(bool(re.search(r"\S {2,}\S", line)) for line in text.splitlines()) >= 2


def name_controls(soup: BeautifulSoup) -> None:
    """Give the theme's buttons and panels the names that are read aloud."""
    for toggle in soup.select("li > details > summary"):  # the arrow that unfolds a part of the contents
        if not toggle.get_text(strip=True):
            link = toggle.find_parent("li").find("a")
            toggle["aria-label"] = f"Sections of {link.get_text(' ', strip=True)}"
    for button, panel, name in PANELS:
        if dialog := soup.find("dialog", id=panel):
            dialog["aria-label"] = name
        for opener in soup.select(button):
            opener["title"] = name
    for button in soup.select(".search-button-field"):  # its name is what it shows, without the keys
        button.attrs.pop("aria-label", None)
        button["aria-keyshortcuts"] = "Control+K"
    for keys in soup.select(".search-button__kbd-shortcut"):
        keys["aria-hidden"] = "true"
    for figure in soup.select("figure[role=group]"):  # it is a figure already, which groups
        del figure["role"]
    for icon in soup.select("i[class*=fa-], span[class*=fa-]"):
        icon["aria-hidden"] = "true"
    if sidebar := soup.find(id="pst-primary-sidebar"):
        sidebar.attrs.update({"role": "complementary", "aria-label": "Book"})


def finish_page(html: str, page: Path) -> str:
    """All that is done to one written page. Doing it twice changes nothing."""
    soup = BeautifulSoup(html, "html.parser")
    unused = UNUSED_SCRIPTS if page.name == "search.html" else (*UNUSED_SCRIPTS, *SEARCH_SCRIPTS)
    for script in soup.find_all("script", src=True):
        if any(name in script["src"] for name in unused):
            script.decompose()
    if soup.head:
        for repeated in soup.head.find_all("meta", attrs={"name": "viewport"})[1:]:
            repeated.decompose()
    if advertisement := soup.find(id="ethical-ad-placement"):
        advertisement.decompose()
    for number, image in enumerate(soup.select(".cell_output img[src$='.svg']")):
        source = page.parent / unquote(image["src"])
        figure = inline_figure(
            source.read_text(encoding="utf8"), alt=image.get("alt", ""), prefix=f"f{number}"
        )
        image.replace_with(figure)
    for formula in soup.select("span.math"):
        keep_together(formula)
    for printed in soup.select(".cell_output div.highlight > pre"):
        if has_columns(printed.get_text()) and "compass-columns" not in printed.parent["class"]:
            printed.parent["class"].append("compass-columns")
    for scroller in soup.select("div.highlight > pre, article table, div.math"):
        scroller["tabindex"] = "0"
    name_controls(soup)
    for entry in soup.select(".citation-list, [role=doc-biblioentry]"):
        entry.attrs.pop("role", None)
    for element in soup.find_all("compass-progress"):
        if not element.find("script"):
            element.replace_with(BeautifulSoup(all_exercises_open(), "html.parser"))
    return str(soup)


def finish_site(app, exception) -> None:
    """Finish each page after a successful HTML build."""
    if exception or app.builder.name != "html":
        return
    site = Path(app.outdir)
    pages = [page for page in sorted(site.rglob("*.html")) if "_static" not in page.relative_to(site).parts]
    for page in pages:
        page.write_text(finish_page(page.read_text(encoding="utf8"), page), encoding="utf8")
    style = (site / "_static" / "styles" / "pydata-sphinx-theme.css").read_text(encoding="utf8")
    scripts = site.glob("_static/scripts/*theme.js")  # they draw buttons too
    icons = used_icons((file.read_text(encoding="utf8") for file in (*pages, *scripts)), style)
    for font in (site / "_static" / "vendor" / "fontawesome" / "webfonts").glob(
        "*.woff2"
    ):  # the brands are one apart
        keep_characters(font, icons)


def setup(app) -> dict:
    app.connect("build-finished", finish_site)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
