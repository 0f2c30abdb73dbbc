"""How Sphinx makes HTML of these pages and of the docstrings: `make docs`."""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import ganfleet

project = "ganfleet"
version = release = ganfleet.__version__
copyright = "the ganfleet authors, Apache-2.0"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"ganfleet {release}"
html_copy_source = False

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring, napoleon_numpy_docstring = True, False
# A class's "Attributes:" are told as such; otherwise each would be an entry of the index twice.
napoleon_use_ivar = True

HERE = Path(__file__).parent
LINK = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+[^)]+\.md)\)")


def name_pages_of_the_repository(app, page, source):
    """A page outside of docs/ is no page here: its name takes the place of a link to it."""

    def named(link):
        target = (HERE / page).parent.joinpath(link[2]).resolve()
        if target.is_relative_to(HERE):
            return link[0]
        return f"{link[1]}, `{target.relative_to(HERE.parent)}` in the repository"

    source[0] = LINK.sub(named, source[0])


def setup(app):
    app.connect("source-read", name_pages_of_the_repository)
