"""The page "How this book is verified" counts what is there: a made notebook, the real book, the suite itself."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tokenize
from collections import Counter
from pathlib import Path

import chapters as known
import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat import v4

from lossutils.exercises import all_exercises
from tools import book, compass_verified, refresh, suite

RUN = {"seconds": 12.5, "processor": "A processor", "cores": 1, "python": "3.11.7", "torch": "2.13.0"}
ELSEWHERE = {**RUN, "processor": "Another", "cores": 8}
HEAD = [
    "Chapter",
    "Code cells",
    "Compared",
    "May vary",
    "Assertions",
    "Figures",
    "Explorables",
    "Exercises",
    "Seconds",
]


def html(text: str):
    return v4.new_output("display_data", {"text/html": text, "text/plain": "<shown>"})


def printed(text: str):
    return v4.new_output("stream", text=text)


def code(source: str, *outputs, tags: tuple[str, ...] = (), name: str):
    return v4.new_code_cell(
        source, outputs=list(outputs), metadata={"tags": list(tags)} if tags else {}, id=name
    )


def small(run: dict | None = RUN):
    """A notebook in which every kind of cell occurs, and a hidden one with a bit of everything."""
    drawing = v4.new_output("display_data", {"image/svg+xml": "<svg/>", "text/plain": "<Figure>"})
    explorable = "<compass-explorable data-name='a'><p>text</p></compass-explorable>"
    everything = printed("1\n"), drawing, html(explorable)
    vary = ("nbval-ignore-output",)
    cells = [
        v4.new_markdown_cell("# 97. Small: is it counted?"),
        code("%pip install x\nassert True", *everything, tags=("remove-cell",), name="hidden"),
        code("import math", name="silent"),
        code("print(1)\nassert 1 < 2\nassert (\n    2\n    < 3\n)", printed("1\n"), name="prints"),
        code("draw()", drawing, name="draws"),
        code("draw()\nprint(2)", printed("2\n"), drawing, name="draws-and-prints"),
        code("show()", html(explorable + explorable), name="explores"),
        v4.new_markdown_cell("## Where $x$ varies\n\n```python\n# no heading\n```"),
        code("train()", printed("1.5\n"), tags=vary, name="trains"),
        code(
            "%time\nplot()\nfor x in range(2):\n    assert (\n        x\n        < 3\n    )",
            drawing,
            tags=vary,
            name="plots",
        ),
        v4.new_markdown_cell("## Later"),
        code("sample()", printed("words\n"), tags=vary, name="samples"),
        code("assert 'assert' != 'asserts'  # assert", name="claims"),
    ]
    notebook = v4.new_notebook(cells=cells)
    if run:
        notebook.metadata.compass = {"run": run}
    return notebook


REASONS = {"trains": "losses of a network", "plots": "a figure of a network", "samples": "words of a network"}


def counted(run: dict | None = RUN) -> compass_verified.Chapter:
    return compass_verified.chapter("97_small", small(run), REASONS, 3)


# Counting


def test_a_notebook_is_counted_as_its_reader_sees_it():
    assert compass_verified.rows([counted()])[0] == [
        "97. Small",
        "9",  # the hidden one is not there
        "3",  # prints, draws-and-prints, explores
        "3",
        "4",
        "3",
        "2",
        "3",
        "12.5",
    ]


def test_a_cell_that_may_vary_is_listed_with_its_section_its_reason_and_what_is_asserted_instead():
    trains, plots, samples = counted().varying
    loop = "assert (\n    x\n    < 3\n)"
    assert trains == compass_verified.Varying(
        "trains", "Where $x$ varies", "losses of a network", "plots", (loop,)
    )
    assert plots == compass_verified.Varying(
        "plots", "Where $x$ varies", "a figure of a network", "plots", (loop,)
    )
    assert (samples.section, samples.asserted_in) == ("Later", "claims")
    assert samples.assertions == ("assert 'assert' != 'asserts'",)


def test_a_notebook_without_stored_seconds_is_not_timed_and_neither_is_the_total():
    table = compass_verified.rows([counted(), counted(run=None)])
    assert [row[-1] for row in table] == ["12.5", "not timed", "not timed"]
    assert compass_verified.machines([counted(run=None)]) == []


def test_the_total_row_adds_up_the_columns():
    table = compass_verified.rows([counted(), counted()])
    assert table[-1] == ["All", "18", "6", "6", "8", "6", "4", "6", "25.0"]


def test_a_letter_says_which_of_several_machines_it_was():
    found = [counted(), counted(ELSEWHERE), counted()]
    assert [row[-1] for row in compass_verified.rows(found)] == ["12.5 (A)", "12.5 (B)", "12.5 (A)", "37.5"]
    assert compass_verified.machines(found) == [
        "A processor, 1 core, Python 3.11.7, PyTorch 2.13.0",
        "Another, 8 cores, Python 3.11.7, PyTorch 2.13.0",
    ]


def test_the_functions_of_a_test_module_are_counted_as_pytest_would_collect_them(tmp_path):
    source = '''\
"""A module: its first line.

And more."""

import pytest

@pytest.mark.parametrize("x", [1, 2])
def test_many_cases(x): ...

async def test_later(): ...

def helper():
    def test_inside(): ...

class TestGroup:
    def test_a_method(self): ...
    def helper(self): ...

class Helper:
    def test_of_no_test_class(self): ...
'''
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text(source, encoding="utf-8")
    (tmp_path / "tests" / "helper.py").write_text(source, encoding="utf-8")
    assert suite.modules(tmp_path) == [suite.Module("test_it", "A module: its first line.", 3)]


@pytest.mark.parametrize("name", ["test_prose", "test_token_mean"])
def test_the_suite_has_as_many_functions_as_pytest_collects(name):
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    done = subprocess.run(
        [*command, f"tests/{name}.py"], cwd=book.ROOT, env=environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    collected = {line.split("[")[0] for line in done.stdout.splitlines() if "::" in line}
    found = {module.name: module for module in suite.modules(book.ROOT)}
    assert found[name].functions == len(collected)


def test_every_test_module_says_what_it_is_about_in_one_whole_line():
    for module in suite.modules(book.ROOT):
        assert module.functions > 0, module.name
        assert module.about.endswith("."), module.name


# The real book, counted a second time by other means


def independent(path: Path) -> list[str]:
    """A row of the table, from the cells' tags, tokens and HTML."""
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    cells = [cell for cell in cells if "remove-cell" not in cell.metadata.get("tags", [])]
    found = Counter()
    for cell in cells:
        lines = [line for line in cell.source.splitlines() if line.lstrip()[:1] not in ("%", "!")]
        tokens = tokenize.generate_tokens(io.StringIO("\n".join(lines)).readline)
        found["assertions"] += sum(
            token.type == tokenize.NAME and token.string == "assert" for token in tokens
        )
        data = [output.get("data", {}) for output in cell.outputs]
        pictures = [any("image" in kind for kind in one) for one in data]
        found["figures"] += sum(pictures)
        found["explorables"] += sum(
            len(BeautifulSoup(one.get("text/html", ""), "html.parser").select("compass-explorable"))
            for one in data
        )
        if cell.id in known.ALL[path.stem].MAY_VARY:
            found["may vary"] += 1
        elif len(pictures) > sum(pictures):
            found["compared"] += 1
    exercises = sum(exercise.key.startswith(f"{int(path.stem[:2])}.") for exercise in all_exercises())
    names = ("compared", "may vary", "assertions", "figures", "explorables")
    seconds = notebook.metadata.get("compass", {}).get("run", {}).get("seconds")
    return [
        str(len(cells)),
        *(str(found[name]) for name in names),
        str(exercises),
        "not timed" if seconds is None else f"{seconds:.1f}",
    ]


def cell_texts(row) -> list[str]:
    """The words of a row as a reader sees them; a soft hyphen shows only where a line breaks."""
    texts = (cell.get_text().replace("\N{SOFT HYPHEN}", "") for cell in row.find_all(["th", "td"]))
    return [" ".join(text.split()) for text in texts]


@pytest.fixture(scope="module")
def page(site) -> BeautifulSoup:
    return BeautifulSoup((site / "book" / "verification.html").read_text(encoding="utf8"), "html.parser")


def test_the_page_shows_the_numbers_that_an_independent_count_finds(page):
    head, *body, total = [cell_texts(row) for row in page.select_one("table.compass-numbers").find_all("tr")]
    paths = compass_verified.notebooks(book.ROOT)
    assert head == HEAD
    assert len(body) == len(paths) == len(known.ALL)
    numbers = []
    for row, path in zip(body, paths, strict=True):
        numbers.append(independent(path))
        assert [row[0].split(".")[0], *(cell.split(" (")[0] for cell in row[1:])] == [
            str(int(path.stem[:2])),
            *numbers[-1],
        ]
    sums = [f"{sum(int(row[place]) for row in numbers):,}" for place in range(len(HEAD) - 2)]
    assert total[:-1] == ["All", *sums]


def test_the_page_lists_every_cell_that_may_vary_with_its_reason_and_an_assertion(page):
    listed = {}
    for item in page.select("details.compass-fold li"):
        if item.find("code"):
            listed[item.code.get_text()] = item.p.get_text()
            below = item.find("pre") or "The assertion is in the next cell" in item.p.get_text()
            assert below and (not item.find("pre") or "assert" in item.pre.get_text()), item.p
    reasons = {cell: reason for chapter in known.ALL.values() for cell, reason in chapter.MAY_VARY.items()}
    assert set(listed) == set(reasons)
    for cell, reason in reasons.items():
        assert reason.replace("'", "’") in listed[cell].replace("'", "’"), cell


def test_the_page_lists_every_test_module(page):
    table = page.select("table.compass-numbers")[-1]
    shown = {row.code.get_text(): cell_texts(row)[-1] for row in table.select("tbody tr")}
    assert shown == {module.name: str(module.functions) for module in suite.modules(book.ROOT)}
    total = sum(module.functions for module in suite.modules(book.ROOT))
    assert f"{total:,} test functions" in table.find_parent("details").summary.get_text()


# The directive, on a book of two chapters

CONFIG = """
project, copyright, author = "A book", "2026", "me"
extensions = ["myst_nb", "tools.compass_verified"]
nb_execution_mode = "off"
myst_enable_extensions = ["dollarmath"]
exclude_patterns = ["tests"]
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> BeautifulSoup:
    """A page with the three tables, of a book whose second chapter was never timed."""
    source = tmp_path_factory.mktemp("source")
    (source / "conf.py").write_text(CONFIG, encoding="utf-8")
    tables = "".join(f"```{{compass-verified}} {kind}\n```\n\n" for kind in ("notebooks", "varying", "tests"))
    contents = "```{toctree}\nbook/97_small\nbook/98_new\n```\n"
    (source / "index.md").write_text(f"# Verified\n\n{tables}{contents}", encoding="utf-8")
    (source / "book").mkdir()
    (source / "book" / "97_small.ipynb").write_bytes(refresh.to_bytes(refresh.normalise(small())))
    new = small(run=None)
    new.cells[0].source = "# 98. New"
    (source / "book" / "98_new.ipynb").write_bytes(refresh.to_bytes(refresh.normalise(new)))
    (source / "tests" / "chapters").mkdir(parents=True)
    reasons = f"WORD = 'of'\nMAY_VARY = {REASONS!r} | {{'plots': f'a figure {{WORD}} <two>'}}\n"
    (source / "tests" / "chapters" / "chapter97.py").write_text(reasons, encoding="utf-8")
    for name, functions in (("a", "def test_x(): ...\ndef test_y(): ...\n"), ("b", "def test_z(): ...\n")):
        module = f'"""All of `{name}`."""\n\n{functions}'
        (source / "tests" / f"test_{name}.py").write_text(module, encoding="utf-8")
    target = source.parent / f"{source.name}-built"
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(book.ROOT), *sys.path]),
        "PYTHONWARNINGS": "ignore",
    }
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", str(source), str(target)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return BeautifulSoup((target / "index.html").read_text(encoding="utf8"), "html.parser")


def test_the_table_names_its_rows_links_to_the_chapters_and_says_what_was_not_timed(made):
    table = made.select_one("table.compass-numbers")
    rows = [cell_texts(row) for row in table.find_all("tr")]
    assert rows == [
        HEAD,
        ["97. Small", "9", "3", "3", "4", "3", "2", "0", "12.5"],
        ["98. New", "9", "3", "3", "4", "3", "2", "0", "not timed"],
        ["All", "18", "6", "6", "8", "6", "4", "0", "not timed"],
    ]
    assert [row.th.name for row in table.select("tbody tr")] == ["th"] * 3
    assert [link["href"] for link in table.select("a")] == ["book/97_small.html", "book/98_new.html"]
    assert "A processor, 1 core, Python 3.11.7, PyTorch 2.13.0" in made.get_text()


def test_each_chapter_has_a_fold_of_its_cells_that_may_vary(made):
    small_one, new, _ = made.select("details.compass-fold")
    assert small_one.summary.get_text() == "97. Small: 3 cells"
    trains, plots, samples = [" ".join(item.get_text().split()) for item in small_one.select("li")]
    assert trains.startswith("trains (Where \\(x\\) varies): losses of a network.")
    assert trains.endswith("The assertion is in the next cell, plots.")
    assert plots == "plots (Where \\(x\\) varies): a figure of <two>. assert ( x < 3 )"
    assert samples.endswith("in the next cell, claims: assert 'assert' != 'asserts'")
    assert new.get_text().count("no reason is given") == 3


def test_the_modules_of_the_suite_are_listed_with_their_number_of_functions(made):
    fold = made.select("details.compass-fold")[-1]
    assert fold.summary.get_text() == "2 modules with 3 test functions"
    rows = [cell_texts(row) for row in fold.find_all("tr")]
    assert rows == [["Module", "Functions"], ["test_a All of a.", "2"], ["test_b All of b.", "1"]]


# What the built book depends on


def test_the_book_is_old_when_a_reason_or_the_number_of_tests_changes_and_not_when_a_test_is_rewritten(
    tmp_path,
):
    (tmp_path / "tests" / "chapters").mkdir(parents=True)
    reasons, module = tmp_path / "tests" / "chapters" / "chapter01.py", tmp_path / "tests" / "test_a.py"
    reasons.write_text("MAY_VARY = {}\n", encoding="utf-8")
    module.write_text('"""A."""\n\ndef test_a(): ...\n', encoding="utf-8")
    before = book.fingerprint(tmp_path)
    module.write_text('"""A."""\n\ndef test_a():\n    assert 1 < 2\n', encoding="utf-8")
    assert book.fingerprint(tmp_path) == before
    module.write_text('"""A."""\n\ndef test_a(): ...\ndef test_b(): ...\n', encoding="utf-8")
    more = book.fingerprint(tmp_path)
    module.write_text('"""B."""\n\ndef test_a(): ...\ndef test_b(): ...\n', encoding="utf-8")
    other = book.fingerprint(tmp_path)
    reasons.write_text("MAY_VARY = {'a': 'b'}\n", encoding="utf-8")
    assert len({before, more, other, book.fingerprint(tmp_path)}) == 4
