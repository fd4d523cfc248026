"""What mypyc compiles wrongly without a word, or not at all, is in no module that is compiled.

Nothing here runs the program. Each form was seen with mypyc 2.4; others that it refuses it names itself, when it compiles
(make test COMPILED=1).
"""

import ast
import importlib.util
import pathlib

import pytest

HOME = pathlib.Path(__file__).parents[1]
# What a compiled class may inherit from besides another compiled one.
FOREIGN_BASES = {"Protocol", "NamedTuple", "IntEnum", "Exception", "ValueError", "dict"}


def sources():
    """As setup.py lists them; it builds nothing when it is imported."""
    spec = importlib.util.spec_from_file_location("tcp_proxy_setup", HOME / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.sources()


def classes(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]


def bases(one):
    return [ast.unparse(base).partition("[")[0].rpartition(".")[2] for base in one.bases]


def slices_with_calls(tree):
    """Of `bytes | memoryview`, the bounds are worked out twice: what was sent once goes out twice."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Slice) and any(isinstance(part, ast.Call | ast.NamedExpr) for part in ast.walk(node)):
            yield node.lower or node.upper or node.step, "a call in the bounds of a slice"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "slice":
            yield node, "a slice as a value: bytes refuse it"


def several_names(tree):
    for one in classes(tree):
        for node in one.body:
            if isinstance(node, ast.Assign) and (len(node.targets) > 1 or not isinstance(node.targets[0], ast.Name)):
                yield node, "several names in one assignment of a class"


def lambda_properties(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "property":
            yield node, "property() as a call: it is None"


def reused_errors(tree):
    """The name has the type of the first clause in all others: what is caught there is a TypeError."""
    for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]:
        kinds = {}
        for node in ast.walk(function):
            if isinstance(node, ast.ExceptHandler) and node.name:
                kind = kinds.setdefault(node.name, ast.unparse(node.type))
                if kind != ast.unparse(node.type):
                    yield node, f"`as {node.name}` of two exceptions in one function"


def keywords_of_c(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "_thread":
            yield node, "an attribute _thread: in C it is __thread, a keyword"


def deleted_attributes(tree):
    """Only of a class that lists it in __deletable__."""
    deletable = {"opposite", "owner"}  # of Pump; of PlainWay and Closing
    for node in ast.walk(tree):
        if isinstance(node, ast.Delete):
            for target in node.targets:
                if isinstance(target, ast.Attribute) and target.attr not in deletable:
                    yield node, f"del of the attribute {target.attr}"


def addresses(tree):
    """A local is released after its last use: the buffer whose address is in use is gone."""
    for node in ast.walk(tree):
        if {"ctypes", "array"} & imported(node):
            yield node, "ctypes, or an array"


def copies(tree):
    """A copy is made without a call of __init__, which a compiled class insists on."""
    for node in ast.walk(tree):
        if "copy" in imported(node):
            yield node, "the module copy"


def imported(node):
    if isinstance(node, ast.ImportFrom):
        return {node.module or ""}
    return {name.name for name in node.names} if isinstance(node, ast.Import) else set()


def final_tuples(tree):
    """A tuple of floats that is Final is not set at import; another is mistaken for what it holds. Of one value a static
    of C is made, which is what Final is good for: else each use looks it up in the module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign) and "Final" in ast.unparse(node.annotation):
            value = ast.unparse(node.value) if node.value is not None else ""
            if isinstance(node.value, ast.Tuple) or "tuple" in ast.unparse(node.annotation) + value:
                yield node, "a Final that is a tuple"


FORMS = (
    slices_with_calls, several_names, lambda_properties, reused_errors, keywords_of_c, deleted_attributes, addresses,
    copies, final_tuples,
)  # fmt: skip


def wrong_forms(tree):
    return [f"line {node.lineno}: {what}" for form in FORMS for node, what in form(tree)]


@pytest.mark.parametrize("path", sources())
def test_no_form_that_is_compiled_wrongly(path):
    assert wrong_forms(ast.parse((HOME / path).read_text())) == []


@pytest.mark.parametrize(
    "text",
    [
        "data = data[sock.send(data) :]",
        "data = data[: (n := 3)]",
        "data[slice(3)]",
        "class A:\n    a = b = 0",
        "class A:\n    a, b = 0, 0",
        "class A:\n    owner = property(lambda self: self.x)",
        "def f():\n try:\n  g()\n except OSError as error:\n  h(error)\n except ValueError as error:\n  h(error)",
        "self._thread = thread",
        "del self.app",
        "import ctypes",
        "import copy",
        "from array import array",
        "LIMITS: Final = (1.0, 2.0)",
        "LIMITS: Final = tuple(limits)",
        "LIMITS: Final[tuple[int, ...]] = made()",
    ],
)
def test_each_form_is_found(text):
    assert len(wrong_forms(ast.parse(text))) == 1


def test_compiled_classes_have_compiled_bases_and_heirs():
    """Python cannot inherit from a compiled class, nor a compiled one from one of Python's that has slots."""
    compiled = {path: classes(ast.parse((HOME / path).read_text())) for path in sources()}
    names = {one.name for found in compiled.values() for one in found}
    for path, found in compiled.items():
        for one in found:
            assert set(bases(one)) <= names | FOREIGN_BASES, f"{path}: {one.name}"
            assert len(set(bases(one)) - {"Protocol"}) <= 1 or "Protocol" in bases(one), f"{path}: {one.name} has two bases"
    for path in (HOME / "tcp_proxy" / "dataplane").rglob("*.py"):
        if str(path.relative_to(HOME)) not in compiled:
            for one in classes(ast.parse(path.read_text())):
                assert not set(bases(one)) & names, f"{path}: {one.name} inherits from a compiled class"


def test_no_compiled_class_makes_a_property_of_an_attribute():
    """The attribute of the base would be read, not the property."""
    found = [one for path in sources() for one in classes(ast.parse((HOME / path).read_text()))]
    attributes = {one.name: {target.id for node in one.body for target in targets(node)} for one in found}
    for one in found:
        properties = {
            node.name
            for node in one.body
            if isinstance(node, ast.FunctionDef) and any(ast.unparse(mark) == "property" for mark in node.decorator_list)
        }
        for base in bases(one):
            assert not properties & attributes.get(base, set()), f"{one.name}, of {base}"


def test_no_compiled_class_declares_an_attribute_of_its_base_again():
    """It has one place and is seen twice: the collector counts a reference too many, and keeps or takes what it must not."""
    found = [one for path in sources() for one in classes(ast.parse((HOME / path).read_text()))]
    assert twice_declared(found) == []


def test_an_attribute_that_is_declared_twice_is_found():
    text = "class A:\n x: int\nclass B(A): pass\nclass C(B):\n x = 1\nclass D(A):\n def __init__(self):\n  self.x: int = 1"
    assert twice_declared(classes(ast.parse(text))) == ["C.x, of A", "D.x, of A"]


def twice_declared(found):
    """Protocols have no places."""
    kept = {one.name: one for one in found if "Protocol" not in bases(one)}
    wrong = []
    for one in kept.values():
        mine, above = declared(one), [kept[base] for base in bases(one) if base in kept]
        while above:
            base = above.pop()
            wrong += [f"{one.name}.{name}, of {base.name}" for name in sorted(mine & declared(base))]
            above += [kept[base] for base in bases(base) if base in kept]
    return wrong


def declared(one):
    """In the class, or with a type where it is set first; those of the class itself have a place there."""
    names = {target.id for node in one.body if isinstance(node, ast.Assign) for target in targets(node)}
    for node in ast.walk(one):
        if isinstance(node, ast.AnnAssign) and "ClassVar" not in ast.unparse(node.annotation):
            if isinstance(node.target, ast.Attribute):
                names.add(node.target.attr)
            elif node in one.body:
                names.add(node.target.id)
    return names - {"__slots__", "__deletable__"}


def targets(node):
    if isinstance(node, ast.Assign):
        return [target for target in node.targets if isinstance(target, ast.Name)]
    if isinstance(node, ast.AnnAssign) and node.value is not None and isinstance(node.target, ast.Name):
        return [node.target]
    return []
