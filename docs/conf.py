"""Sphinx configuration of the user guide: `make docs` builds it into site/.

The source folder is the root of the repository, so that a page may link to whatever
stands there, and links are right on a code host and in the site alike.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / 'docs' / 'extensions'), str(ROOT)]

from mmdet_imbalance.version import __version__  # noqa: E402

project = 'mmdet-imbalance'
author = 'The mmdet-imbalance authors'
copyright = author
release = __version__

root_doc = 'docs/index'
include_patterns = [
    'docs/**.md',
    'configs/*/README.md',
    'CONTRIBUTING.md',
    'CHANGELOG.md',
]
# Not looked into at all: a walk through an environment takes longer than the build.
exclude_patterns = ['.*', '*.egg-info', 'build', 'data', 'dist', 'site', 'work_dirs']
exclude_patterns += ['benchmarks', 'mmdet_imbalance', 'requirements', 'tests', 'tools']

extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx_copybutton',
    'sphinx_design',
    'docstrings',
    'mathml',
    'generated_parts',
]
myst_enable_extensions = ['colon_fence', 'dollarmath']
# Anchors for headings of three levels, made as code hosts make them.
myst_heading_anchors = 3
# What stands in code is no link; a name in code of a docstring may be one.
default_role = 'literal'

add_module_names = False
autodoc_typehints = 'signature'
autodoc_typehints_format = 'short'
autodoc_member_order = 'bysource'
autoclass_content = 'class'
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

html_theme = 'furo'
html_title = f'mmdet-imbalance {release}'
html_static_path = ['static']
html_css_files = ['style.css']
html_math_renderer = 'mathml'
html_copy_source = False
html_show_sourcelink = False
copybutton_exclude = '.linenos, .gp, .go'
