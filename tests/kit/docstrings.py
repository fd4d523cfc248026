"""The docstring of a module, which a compiled one does not have: it is read from the source, which is always there."""

import ast
import pathlib


def docstring_of(module):
    """As written; "": it has none."""
    path = pathlib.Path(module.__file__)
    source = next(path.parent.glob(f"{path.name.partition('.')[0]}.py"))
    return ast.get_docstring(ast.parse(source.read_text())) or ""
