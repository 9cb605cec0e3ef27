"""How Sphinx builds these pages: ``make docs``."""

from pallets_sphinx_themes import get_version

project = "Flask-Redis-Queue"
copyright = "Flask-Redis-Queue contributors"
author = "Flask-Redis-Queue contributors"
release, version = get_version("Flask-Redis-Queue")

extensions = ["sphinx.ext.autodoc", "myst_parser", "pallets_sphinx_themes"]
exclude_patterns = ["_build"]
nitpicky = True
# No network at build time, so nothing outside of this package is linked.
nitpick_ignore_regex = [
    (r"py:.*", r"(flask|marshmallow|blinker|redis|datetime|logging|os|collections|types)\..*"),
    (
        r"py:.*",
        r"(Flask|Schema|ModuleType|NamedSignal|Callable|Iterable|Iterator|Mapping|Sequence)",
    ),
    # Names of types, which autodoc writes as they stand in the code.
    (
        r"py:.*",
        r"(.*\.)?(Contracts|Duration|HandlerFunction|MakePool|SchemaClass|Delivery|CurrentMessage)",
    ),
]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"

html_theme = "flask"
html_title = f"{project} {version}"
html_show_sourcelink = False
html_sidebars = {"**": ["localtoc.html", "relations.html", "searchbox.html"]}
html_static_path: list[str] = []
