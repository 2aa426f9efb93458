"""Which files of `ups/` a module really runs: the closure of its imports, read from the source without running it.

DVC does not follow imports, so the stages' code dependencies in `dvc.yaml` are this closure. Imports inside functions
count, those under `if TYPE_CHECKING:` do not. A package's `__init__.py` counts if it holds more than a docstring, and
only with what it imports when it is loaded: a lazy `__getattr__` in it costs nothing until someone uses it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from ups.errors import UpsError

PACKAGE = "ups"


def closure(module: str, root: Path = Path(".")) -> list[str]:
    """Return the files under `ups/` that importing and running `module` may execute, as sorted relative paths.

    Raises:
        UpsError: if the module does not exist, or imports a module of the package that does not exist.
    """
    found: dict[str, Path] = {}
    waiting = [(module, "the pipeline")]
    while waiting:
        name, importer = waiting.pop()
        for part in _with_parents(name):
            if part in found:
                continue
            path = _file(part, root)
            if path is None and part != name:
                continue  # a folder without __init__.py runs nothing
            if path is None:
                raise UpsError(f"{importer} imports {part}, but there is no such module under {root.absolute()}.")
            found[part] = path
            waiting.extend((imported, path.as_posix()) for imported in direct_imports(part, root))
    return sorted(path.relative_to(root).as_posix() for path in found.values() if _has_code(path))


def direct_imports(module: str, root: Path = Path(".")) -> list[str]:
    """Return the modules of the package that a module imports itself."""
    path = _file(module, root)
    if path is None:
        raise UpsError(f"There is no module {module} under {root}.")
    return list(_direct_imports(module, path, root, *_version(path)))


@cache
def _direct_imports(module: str, path: Path, root: Path, *version: int) -> tuple[str, ...]:
    is_package = path.name == "__init__.py"
    modules: dict[str, None] = {}
    for statement in _imports(_parse(path), into_functions=not is_package):
        for name in _named(statement, module, is_package, root):
            if name == PACKAGE or name.startswith(f"{PACKAGE}."):
                modules[name] = None
    return tuple(modules)


def foreign_imports(path: Path) -> set[str]:
    """Return the top-level names of everything a file imports, anywhere in it."""
    tops: set[str] = set()
    for statement in _imports(_parse(path), into_functions=True):
        if isinstance(statement, ast.Import):
            tops |= {alias.name.split(".")[0] for alias in statement.names}
        elif statement.module and not statement.level:
            tops.add(statement.module.split(".")[0])
    return tops


def _named(statement: ast.Import | ast.ImportFrom, module: str, is_package: bool, root: Path) -> Iterator[str]:
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
        return
    source = statement.module or ""
    if statement.level:
        package = module.split(".") if is_package else module.split(".")[:-1]
        package = package[: len(package) - statement.level + 1]
        source = ".".join([*package, *([source] if source else [])])
    yield source
    for alias in statement.names:
        if _file(f"{source}.{alias.name}", root) is not None:
            yield f"{source}.{alias.name}"


def _imports(node: ast.AST, into_functions: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the import statements in the blocks of a statement; expressions, the bulk of a tree, hold none."""
    is_unread = isinstance(node, ast.If) and _is_type_checking(node.test)
    for block in ("body", "orelse", "handlers", "finalbody", "cases"):
        if block == "body" and is_unread:
            continue
        for child in getattr(node, block, ()):
            if isinstance(child, ast.Import | ast.ImportFrom):
                yield child
            elif into_functions or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from _imports(child, into_functions)


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _with_parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[: count + 1]) for count in range(len(parts))]


def _file(module: str, root: Path) -> Path | None:
    if not module.startswith(PACKAGE):
        return None
    path = root.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def _has_code(path: Path) -> bool:
    body = _parse(path).body
    return any(not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in body)


def _parse(path: Path) -> ast.Module:
    return _parse_version(path, *_version(path))


def _version(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size


@cache
def _parse_version(path: Path, *version: int) -> ast.Module:
    try:
        return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    except SyntaxError as error:
        raise UpsError(f"{path}, line {error.lineno}: {error.msg}. Mend it and run again.") from None
