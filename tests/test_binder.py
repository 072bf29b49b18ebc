"""Binder: the image that it would build, and the chapters in an environment made by its lists and nothing else."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError

import chapters
import pytest
from fresh import ROOT, clean_environ, copy_of_the_tree, new_environment, pip_install, roomy_folder, run
from lab_server import serving

from tools import environment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="Binder's images are Linux; postBuild is a script for bash"),
]
VERSION = (ROOT / "binder/runtime.txt").read_text(encoding="ascii").strip().removeprefix("python-")


def test_binder_would_build_this_folder_from_the_files_in_binder(tmp_path):
    """Binder's own program reads the tree and prints the image that it would build; it needs no Docker for that."""
    tree = copy_of_the_tree(tmp_path / "tree")
    python = new_environment(tmp_path / "its own")
    pip_install(python, "jupyter-repo2docker", cwd=tmp_path)
    done = run([str(python), "-m", "repo2docker", "--no-build", "--debug", str(tree)], tmp_path)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert f"python={VERSION}" in said
    steps = (
        "COPY --chown=0:0 src/ ${REPO_DIR}/",  # before pip, which reads constraints.txt beside binder/
        r'pip install --no-cache-dir -r "binder/requirements.txt"',
        "RUN ./binder/postBuild",
    )
    found = [said.find(step) for step in steps]
    assert -1 not in found and found == sorted(found), said


@dataclass(frozen=True)
class Image:
    """What stands for Binder's image: the tree, and the interpreter of the environment that was made for it."""

    tree: Path
    python: Path

    def run(self, *command: str, timeout: float = 120) -> subprocess.CompletedProcess:
        """Run a module of the image's in the folder of the chapters."""
        return run([str(self.python), *command], self.tree / "book", timeout=timeout, **self.environ())

    def environ(self) -> dict[str, str]:
        path = os.pathsep.join([str(self.python.parent), clean_environ()["PATH"]])
        return {"PATH": path, "OMP_NUM_THREADS": "1"}


def python_of_the_image() -> str:
    """A complete Python of the version that Binder takes, if this machine has one; else the one that runs the tests."""
    found = shutil.which(f"python{VERSION}", path=clean_environ()["PATH"])
    if found and run([found, "-c", "import ensurepip, venv"], ROOT).returncode == 0:
        return found
    return sys._base_executable


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """The tree with its environment, made by the steps of Binder's image: requirements.txt, then postBuild."""
    with roomy_folder() as folder:
        tree = copy_of_the_tree(folder / "tree")
        python = new_environment(folder / "env", python_of_the_image())
        wanted = tree / "binder" / "requirements.txt"
        if not environment.reachable(f"{environment.CPU_INDEX}/torch/"):
            # pip would try it again and again for each package. PyTorch then comes from the usual index.
            text = wanted.read_text(encoding="utf-8")
            wanted.write_text(text.replace(f"--extra-index-url {environment.CPU_INDEX}\n", ""), "utf-8")
        pip_install(python, "-r", "binder/requirements.txt", cwd=tree)
        made = Image(tree, python)
        done = run(["./binder/postBuild"], tree, timeout=300, **made.environ())
        assert done.returncode == 0, done.stdout + done.stderr
        yield made


def test_the_packages_of_the_image_fit_together_and_the_library_is_linked(image):
    done = image.run("-m", "pip", "check")
    assert done.returncode == 0, done.stdout
    where = image.run("-c", "import lossutils; print(lossutils.__file__)")
    assert Path(where.stdout.strip()).is_relative_to(image.tree), where.stderr


IMPORTS = """
import ast, sys
import nbformat
from IPython.core.inputtransformer2 import TransformerManager
for name in sys.argv[1:]:
    for cell in nbformat.read(f"{name}.ipynb", as_version=4).cells:
        if cell.cell_type == "code" and "remove-cell" not in cell.metadata.get("tags", []):
            waiting = ast.parse(TransformerManager().transform_cell(cell.source)).body
            while waiting:
                part = waiting.pop()
                if isinstance(part, (ast.Import, ast.ImportFrom)):
                    print(name, ast.unparse(part), flush=True)
                    exec(ast.unparse(part))
                elif not isinstance(part, ast.Try):  # what it tries the book can do without
                    waiting += ast.iter_child_nodes(part)
"""


def test_the_image_has_what_the_chapters_import(image):
    done = image.run("-c", IMPORTS, *chapters.ALL)
    assert done.returncode == 0, "\n".join([*done.stdout.splitlines()[-1:], done.stderr])
    assert {line.split()[0] for line in done.stdout.splitlines()} == set(chapters.ALL)


@pytest.mark.parametrize("name", ["02_logits_to_loss"])
def test_a_chapter_runs_from_its_first_cell_to_its_last_in_the_image(name, image):
    target = image.tree.parent / "executed"
    command = ["-m", "nbconvert", "--to", "notebook", "--execute", f"{name}.ipynb", f"--output-dir={target}"]
    done = image.run(*command, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    cells = json.loads((target / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    counts = [cell["execution_count"] for cell in cells if cell["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1))


def test_a_loss_becomes_a_file_in_the_image(image):
    """Chapter 5's coder is a package that lossutils takes only when it codes."""
    program = "from lossutils.coding import compress, decompress; from lossutils.models import NGramModel"
    program += "\nmodel = NGramModel(4, 2).fit([0, 1, 2, 3] * 9)"
    program += "\nprint(decompress(model, compress(model, [0, 1, 2, 3, 0, 2])).tolist())"
    done = image.run("-c", program)
    assert done.stdout == "[0, 1, 2, 3, 0, 2]\n", done.stderr


def test_jupyterlab_of_the_image_has_the_pinned_version_and_serves_a_chapter(image, tmp_path):
    version = image.run("-m", "jupyterlab", "--version").stdout.strip()
    assert f"\njupyterlab=={version}\n" in (ROOT / "constraints.txt").read_text(encoding="utf-8")
    with serving(image.tree, tmp_path, image.python) as server:

        def get(path: str) -> str:
            with urllib.request.urlopen(f"{server.url}{path}?token={server.token}", timeout=60) as answer:
                return answer.read().decode("utf-8")

        page = get("lab/tree/book/01_surprise.ipynb")
        config = json.loads(re.search(r'id="jupyter-config-data"[^>]*>(.*?)</script>', page, re.DOTALL)[1])
        assert config["treePath"] == "book/01_surprise.ipynb"
        chapter = json.loads(get("api/contents/book/01_surprise.ipynb"))["content"]
        assert "Surprise" in "".join(chapter["cells"][0]["source"])
        assert "@jupyter-widgets/jupyterlab-manager" in [e["name"] for e in config["federated_extensions"]]
        with pytest.raises(HTTPError, match="404"):
            get("api/contents/book/00_no_such_chapter.ipynb")
