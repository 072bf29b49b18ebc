"""The book's Sphinx extension for launch buttons: they are there only when it is known where the book's repository is.

`make book REPO=https://github.com/owner/name` says it, through two environment variables. Each chapter then links to
Binder, to Colab and to the repository, and how_to_use.md shows what it has to say about them. Without it, a page offers
the download of the notebook that was built, and nothing that could point to a place that does not exist. What Colab
opens is the notebook in the repository, so its first code cell must name the repository too (tools/colab.py).
"""

from __future__ import annotations

import os
import re

REPOSITORY, BRANCH = "COMPASS_REPOSITORY", "COMPASS_BRANCH"
TAG = "repository"  # of the `only` blocks that need one
PLACEHOLDER = "https://github.com/OWNER/NAME"
_ADDRESS = re.compile(r"https://github\.com/([A-Za-z0-9-]+)/([A-Za-z0-9._-]+?)(?:\.git)?/?")
_BRANCH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")


def repository(address: str) -> str:
    """The address of a repository on GitHub in its plain form.

    Raises
    ------
    ValueError
        When it is not one: Binder and Colab open notebooks by owner and name.
    """
    found = _ADDRESS.fullmatch(address.strip())
    if not found:
        raise ValueError(
            f"REPO={address}: not the address of a repository on GitHub, like https://github.com/owner/name"
        )
    return f"https://github.com/{found[1]}/{found[2]}"


def branch(name: str) -> str:
    """The name of a branch, a tag or a commit.

    Raises
    ------
    ValueError
        When no branch can have that name.
    """
    if not _BRANCH.fullmatch(name) or ".." in name:
        raise ValueError(f"BRANCH={name}: not a name that a branch can have")
    return name


def options(address: str, where: str) -> dict:
    """What the theme is told, so that it links to one repository."""
    return {
        "repository_url": repository(address),
        "repository_branch": branch(where),
        "path_to_docs": "",
        "use_repository_button": True,
        "use_issues_button": True,
        "launch_buttons": {
            "notebook_interface": "jupyterlab",
            "binderhub_url": "https://mybinder.org",
            "colab_url": "https://colab.research.google.com",
        },
    }


def offer(app, config) -> None:
    """Turn the buttons on when a repository was named."""
    if address := os.environ.get(REPOSITORY):
        chosen = options(address, os.environ.get(BRANCH) or "main")
        config.html_theme_options = {**config.html_theme_options, **chosen}
        app.tags.add(TAG)


def name_repository(app, docname: str, source: list[str]) -> None:
    """Put the real address where a page has the placeholder."""
    if PLACEHOLDER in source[0] and (address := os.environ.get(REPOSITORY)):
        source[0] = source[0].replace(PLACEHOLDER, repository(address))


def setup(app) -> dict:
    app.connect("config-inited", offer)
    app.connect("source-read", name_repository)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
