"""Renders LaTeX as MathML while the site is built.

Browsers draw MathML by themselves, so a page needs no script, no font and no network.
A formula that cannot be rendered is a warning, and so an error of the build.
"""

from math_core import LatexError, LatexToMathML
from sphinx.util import logging

logger = logging.getLogger(__name__)
CONVERTER = LatexToMathML(fancy_error=False)


def visit_inline(translator, node) -> None:
    """Write a formula of a line."""
    mathml = _mathml(node, is_block=False)
    translator.body.append(f'<span class="math">{mathml}</span>')
    _skip()


def visit_block(translator, node) -> None:
    """Write a formula that stands by itself."""
    mathml = _mathml(node, is_block=True)
    translator.body.append(f'<div class="math">{mathml}</div>\n')
    _skip()


def _mathml(node, is_block: bool) -> str:
    latex = node.astext().strip()
    try:
        return CONVERTER.convert_with_local_state(latex, displaystyle=is_block)
    except LatexError as error:
        logger.warning('formula %r: %s', latex, error, location=node)
        return ''


def _skip() -> None:
    from docutils import nodes

    raise nodes.SkipNode


def setup(app) -> dict:
    """Register the renderer."""
    app.add_html_math_renderer(
        'mathml',
        inline_renderers=(visit_inline, None),
        block_renderers=(visit_block, None),
    )
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
