"""Every public name of the library is documented in the promised form and has its place on a reference page."""

import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import lossutils

REFERENCE = Path(__file__).parent.parent / "book" / "reference"
MODULES = sorted(
    module.name
    for module in pkgutil.iter_modules(lossutils.__path__)
    if not module.name.startswith("_")
    and module.name != "figures"  # the looks of chapters are nobody's interface
)


def public(module_name):
    module = importlib.import_module(f"lossutils.{module_name}")
    return [(name, getattr(module, name)) for name in module.__all__]


FUNCTIONS = [
    pytest.param(thing, id=f"{module}.{name}")
    for module in MODULES
    for name, thing in public(module)
    if inspect.isfunction(thing)
]


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_a_reference_page_that_is_in_the_contents(module):
    page = (REFERENCE / f"{module}.md").read_text(encoding="utf8")
    assert f".. automodule:: lossutils.{module}\n" in page
    contents = (REFERENCE.parent.parent / "_toc.yml").read_text(encoding="utf8")
    assert f"book/reference/{module}\n" in contents


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_says_what_it_is(module):
    undocumented = [
        name
        for name, thing in public(module)
        if (inspect.isclass(thing) or inspect.isfunction(thing)) and not inspect.getdoc(thing)
    ]
    assert undocumented == []


def described_parameters(docstring):
    """The names in a numpydoc Parameters section: what stands before the colon on its unindented lines."""
    lines = docstring.splitlines()
    start = next((n for n, line in enumerate(lines) if line == "Parameters"), None)
    if start is None:
        return set()
    found = set()
    for n in range(start + 2, len(lines)):
        if n + 1 < len(lines) and set(lines[n + 1]) == {"-"}:
            break
        if lines[n] and not lines[n].startswith(" "):
            found |= {name.strip(" *") for name in lines[n].split(" : ")[0].split(",")}
    return found


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_public_function_describes_each_of_its_parameters(function):
    described = described_parameters(inspect.getdoc(function))
    assert [name for name in inspect.signature(function).parameters if name not in described] == []


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_public_function_says_what_it_returns_and_gives_an_example(function):
    text = inspect.getdoc(function)
    returns_nothing = inspect.signature(function).return_annotation in (None, "None")
    assert returns_nothing or "Returns\n---" in text or "Yields\n---" in text
    assert (
        ">>> " in text or function.__module__ == "lossutils.plotting"
    )  # what draws is tested by its pictures


def test_what_the_package_offers_is_what_its_modules_offer():
    offered = {name for module in MODULES for name, _ in public(module)}
    assert set(lossutils.__all__) <= offered
    for name in lossutils.__all__:
        assert getattr(lossutils, name).__doc__
