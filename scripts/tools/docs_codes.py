"""The table of error codes, read from the source: every `code=` of an error, and what the error says."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from blnkctl.cli.exits import EXIT_CODES
from blnkctl.domain import errors

SOURCE = Path(__file__).resolve().parents[2] / "src" / "blnkctl"
BLOCK = re.compile(r"(?<=<!-- codes -->\n).*?(?=^<!-- end of codes -->$)", re.DOTALL | re.MULTILINE)
_NOT_BY_CLASS = {"interrupted": "129, 130, 143", "command_not_executable": "126", "command_not_found": "127"}
_NEVER_SHOWN = "error"


@dataclass(frozen=True)
class Code:
    """One place where an error gets its code: the class, and what it says ("" where that is made elsewhere)."""

    name: str
    kind: str
    message: str


def with_true_codes(text: str) -> str:
    """Return a page whose table of codes is the source's."""
    return BLOCK.sub(lambda _: code_table(), text) if BLOCK.search(text) else text


def code_table() -> str:
    """Return the table: code, exit code, what it says."""
    found: dict[str, list[Code]] = defaultdict(list)
    for path in sorted(SOURCE.rglob("*.py")):
        for code in Reader(ast.parse(path.read_text("utf-8"))).codes():
            found[code.name].append(code)
    found.pop(_NEVER_SHOWN)
    rows = [f"| `{name}` | {exits(name, codes)} | {says(codes)} |" for name, codes in sorted(found.items())]
    return "\n".join(["", "| code | exit | says |", "|---|---|---|", *rows, "", ""])


def exits(name: str, codes: list[Code]) -> str:
    """Return the exit codes of the classes that carry a code."""
    kinds = {getattr(errors, code.kind) for code in codes if code.kind}
    numbers = {next((EXIT_CODES[base] for base in kind.__mro__ if base in EXIT_CODES), 1) for kind in kinds}
    return _NOT_BY_CLASS.get(name) or ", ".join(map(str, sorted(numbers)))


def says(codes: list[Code]) -> str:
    """Return the first message of a code; else what its class says of itself."""
    messages = [code.message for code in codes if re.search(r"\w", code.message)]
    kinds = [str(getattr(errors, code.kind).__doc__) for code in codes if code.kind]
    words = re.sub(r"…+", "…", " ".join((messages + kinds)[0].split()))
    return re.sub(r"([<*|])", r"\\\1", words)


class Reader:
    """Reads one module for the codes that it gives to errors."""

    def __init__(self, module: ast.Module) -> None:
        self._module = module
        self._constants = dict(_texts_bound(module))
        self._functions = {node.name: node for node in ast.walk(module) if isinstance(node, ast.FunctionDef)}

    def codes(self) -> Iterator[Code]:
        """Yield every code."""
        for statement in self._module.body:
            if isinstance(statement, ast.ClassDef):
                yield from self._of_class(statement)
        for function in self._functions.values():
            yield from self._of_default(function)
            for call in _calls(function):
                yield from self._of_call(call, function)

    def _of_class(self, node: ast.ClassDef) -> Iterator[Code]:
        """An error class with a code of its own; its `super().__init__` may hold the words."""
        words = [self._spoken(call.args[0], node) for call in _calls(node) if _name(call) == "__init__" and call.args]
        for name, value in _texts_bound(node):
            if name == "code":
                yield Code(value, node.name, "".join(words[:1]))

    def _of_default(self, function: ast.FunctionDef) -> Iterator[Code]:
        """A function that makes errors, and the code that it gives unless told otherwise."""
        names = [argument.arg for argument in function.args.args]
        defaults = dict(zip(reversed(names), reversed(function.args.defaults), strict=False))
        for value in self._texts(defaults.get("code")):
            yield Code(value, _returned(function), self._words_of(function))

    def _of_call(self, call: ast.Call, within: ast.FunctionDef) -> Iterator[Code]:
        """A call of an error class, or of such a function."""
        maker = self._functions.get(_name(call))
        given = {keyword.arg or "": keyword.value for keyword in call.keywords}
        if maker is None:
            kind, message = _name(call), self._spoken(call.args[0], within) if call.args else ""
        else:
            given |= dict(zip((argument.arg for argument in maker.args.args), call.args, strict=False))
            kind, message = _returned(maker), self._words_of(maker)
        for value in self._texts(given.get("code")):
            yield Code(value, kind if hasattr(errors, kind) else "", message)

    def _words_of(self, function: ast.FunctionDef) -> str:
        made = [call for call in _calls(function) if hasattr(errors, _name(call)) and call.args]
        return self._spoken(made[0].args[0], function) if made else ""

    def _texts(self, node: ast.expr | None) -> Iterator[str]:
        """Yield the texts that an expression can be."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.Name) and node.id in self._constants:
            yield self._constants[node.id]
        elif isinstance(node, ast.IfExp):
            yield from self._texts(node.body)
            yield from self._texts(node.orelse)

    def _spoken(self, node: ast.expr, within: ast.AST) -> str:
        """Return a message as the source has it, with an ellipsis for what is filled in."""
        if isinstance(node, ast.Name):
            bound = [value for value in _values_of(node.id, within) if value.lineno < node.lineno]
            return "" if not bound else self._spoken(bound[-1], within)
        if isinstance(node, ast.Constant):
            return str(node.value)
        if isinstance(node, ast.JoinedStr):
            return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        return ""


def _texts_bound(node: ast.Module | ast.ClassDef) -> Iterator[tuple[str, str]]:
    """Yield the names that a body binds to a text."""
    for statement in node.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
            target, value = statement.targets[0], statement.value.value
            if isinstance(target, ast.Name) and isinstance(value, str):
                yield target.id, value


def _calls(node: ast.AST) -> list[ast.Call]:
    return [inner for inner in ast.walk(node) if isinstance(inner, ast.Call)]


def _name(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")


def _values_of(name: str, within: ast.AST) -> list[ast.expr]:
    """Return what a name is bound to, in the order of the lines."""
    bindings = [node for node in ast.walk(within) if isinstance(node, ast.Assign)]
    values = [node.value for node in bindings if isinstance(node.targets[0], ast.Name) and node.targets[0].id == name]
    return sorted(values, key=lambda value: value.lineno)


def _returned(function: ast.FunctionDef) -> str:
    """Return the error class that a function's annotation names first."""
    words = re.findall(r"\w+", ast.unparse(function.returns)) if function.returns is not None else []
    return next((word for word in words if hasattr(errors, word)), "")
