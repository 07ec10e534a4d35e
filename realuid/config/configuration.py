"""A configuration: the bindings of gin files and of the command line, checked and in a fixed order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from realuid.config.assembly import assemble
from realuid.config.code import check_statements, check_text, named, refuse_code
from realuid.config.errors import ConfigError, blaming
from realuid.config.files import find_all, shown
from realuid.config.language import (
    COMMAND_LINE,
    Binding,
    Import,
    Reference,
    read_binding,
    read_file,
    read_flat,
    replaced,
    written,
)
from realuid.config.registry import REQUIRED, find, register_components, register_plugin
from realuid.config.spelling import check_spelling
from realuid.config.table import Table, bound, canonical, default, settled
from realuid.config.usage import check_root_scopes, root_scopes, unused, used


@dataclass(frozen=True)
class Config:
    """What `root` is assembled from. It has passed every check that can be made without building."""

    name: str
    root: str
    imports: tuple[str, ...]
    statements: tuple[Binding, ...]
    whole: bool = True
    """Whether the files assemble a run, of which `root` may be a part."""

    @classmethod
    def from_text(
        cls,
        text: str,
        name: str = "config",
        root: str = "Trainer",
        *,
        files: Sequence[str | Path] = (),
        bindings: Iterable[str] = (),
        allowed: Collection[str] = (),
    ) -> Config:
        """The configuration written as `text`, which a checkpoint or a run folder holds and which may come from
        anywhere: it wires components of this package, and names no other code than the user does.

        Args:
            text: as `Config.text` has it, without includes.
            name: of the configuration, for messages.
            root: what is assembled.
            files: the user's gin files, read after the text.
            bindings: the user's command line, read last.
            allowed: modules and `package.module:Name`s that the text may use, beside what files and bindings name.

        Raises:
            ConfigError: as `load` does, and for code that is not allowed; none of it was run.
        """
        register_components()
        check_text(name, text)
        stored = list(read_flat(text, name))
        check_statements(name, stored)
        own = [*_read(files), *map(read_binding, bindings)]
        try:
            return _checked(name, root, [*stored, *own], allowed={*allowed, *named(own)})
        except RecursionError:
            raise ConfigError(f"{name}: its components refer to each other too deep") from None

    @property
    def named(self) -> set[str]:
        """What a stored configuration may name where this one is the user's: imported modules, and every text."""
        return {*self.imports, *named(self.statements)}

    @property
    def table(self) -> dict[str, Binding]:
        """The statements by their keys."""
        return {statement.key: statement for statement in self.statements}

    @property
    def bindings(self) -> dict[str, str]:
        """`scope/Name.argument` to the value's text, macros left out."""
        return {statement.key: repr(statement.value) for statement in self.statements if statement.component}

    @property
    def provenance(self) -> dict[str, str]:
        """Where each binding and each macro was written: `file:line` or `--bind`."""
        return {statement.key: statement.origin for statement in self.statements}

    @property
    def text(self) -> str:
        """The whole configuration as one gin file, without includes; `from_text` reads it back to the same text."""
        groups = [[f"import {module}" for module in self.imports]]
        for _, statements in groupby(self.statements, key=lambda statement: statement.component):
            groups.append([str(statement) for statement in statements])
        return "\n\n".join("\n".join(group) for group in groups if group) + "\n"

    def rooted(self, scope: str) -> Config | None:
        """The assembly of its own that is bound in `scope`, as a configuration that stands alone; None if none is.

        `teacher/Trainer.images = 9` there reads `Trainer.images = 9`, and wins over what is bound in no scope.
        """
        if scope not in root_scopes(self.table, self.root):
            return None
        outer: dict[str, Binding] = {}
        inner: dict[str, Binding] = {}
        for statement in self.statements:
            stripped = _without_scope(statement, scope)
            (outer if stripped.scope == statement.scope else inner)[stripped.key] = stripped
        table = {**outer, **inner}
        effective = used(table, self.root)
        statements = sorted((s for key, s in table.items() if key in effective), key=_order)
        return Config(f"{self.name}_{scope}", self.root, self.imports, tuple(statements))

    def digest(self) -> str:
        """A short hash of what changes the result: not of spelling, defaults, macros' names or `free_on_resume`."""
        table, lines = self.table, [self.root]
        for binding in _results(self):
            value = _value(binding, table)
            if value != _value(binding, {key: other for key, other in table.items() if key != binding.key}):
                lines.append(f"{binding.key} = {value}")
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def load(files: Sequence[str | Path], bindings: Iterable[str] = (), root: str = "Trainer") -> Config:
    """Reads gin files in order, then command-line bindings; later statements win.

    A file is looked up as given, then among the project's recipes. A statement that was of use until a later one
    replaced what used it is dropped: `--bind "Distillation.loss = @Other()"` may leave the old loss's numbers behind.

    Raises ConfigError for whatever is wrong with the statements, without building anything: files and includes that are
    missing, syntax, unknown or ambiguous names, values of the wrong type, missing arguments, circles, and statements
    that nothing uses.
    """
    if not files:
        raise ConfigError("no gin file is given")
    statements = (*_read(files), *map(read_binding, bindings))
    _import_components(statements)
    return _checked(Path(files[0]).stem, root, statements)


def code_in(file: str | Path) -> set[str]:
    """What a gin file names, as `Config.named`, without checking more than its syntax."""
    return named(_read([file]))


def _read(files: Iterable[str | Path]) -> Iterator[Import | Binding]:
    for path in find_all(map(str, files)):
        yield from read_file(path)


def load_part(file: str | Path, bindings: Iterable[str] = (), *, root: str) -> Config:
    """Reads what a gin file says of one component, `root`: a file that describes nothing else, or a whole recipe.

    What the files that it includes say of other things is left out. A statement of the file itself or of the command
    line that nothing uses is an error, as in `load`.

    Raises ConfigError as `load` does.
    """
    (path,) = find_all([str(file)])
    statements = [*read_file(path), *map(read_binding, bindings)]
    _import_components(statements)
    if any(isinstance(statement, Binding) and statement.component == "Trainer" for statement in statements):
        config = _checked(path.stem, "Trainer", statements)
        table = config.table
        return replace(config, root=root, statements=tuple(table[key] for key in table if key in used(table, root)))
    own = (f"{shown(path)}:", COMMAND_LINE)
    return replace(
        _checked(path.stem, root, statements, lambda binding: not binding.origin.startswith(own)), whole=False
    )


def _import_components(statements: Sequence[Import | Binding]) -> None:
    """Components take seconds to import. Misspelt names are refused before, unless a plug-in may bring them."""
    bindings = [statement for statement in statements if isinstance(statement, Binding)]
    if len(bindings) == len(statements):
        check_spelling(bindings)
    register_components()


def _checked(
    name: str,
    root: str,
    statements: Iterable[Import | Binding],
    dispensable: Callable[[Binding], bool] = lambda binding: False,
    allowed: Collection[str] | None = None,
) -> Config:
    imports: dict[str, Import] = {}
    bindings: list[Binding] = []
    for statement in statements:
        if isinstance(statement, Import):
            imports.setdefault(statement.module, statement)
        else:
            bindings.append(statement)
    if allowed is not None:
        refuse_code(name, imports, {binding.key: binding for binding in bindings}, allowed)
    for statement in imports.values():
        _import(statement)
    with blaming(name):
        root = find(root).name
    table, orphans = _folded([known for binding in bindings if (known := canonical(binding))], root)
    if allowed is not None:
        refuse_code(name, imports, table, allowed)  # again: the imported components may have arguments that name code
    for binding in table.values():
        if binding.component:
            settled(binding, table)
    table = {key: binding for key, binding in table.items() if key not in orphans}
    check_root_scopes(table, root)
    for scope in ("", *root_scopes(table, root)):
        assemble(table, root, name, scope)
    effective = used(table, root)
    table = {key: binding for key, binding in table.items() if key in effective or not dispensable(binding)}
    if idle := table.keys() - effective:
        raise unused(next(binding for key, binding in table.items() if key in idle), table, root)
    return Config(name, root, tuple(sorted(imports)), tuple(sorted(table.values(), key=_order)))


def _import(statement: Import) -> None:
    try:
        register_plugin(statement.module)
    except ImportError as error:
        remedy = "install it, or put its folder on PYTHONPATH"
        raise ConfigError(f"{statement.origin}: import {statement.module}: {error}; {remedy}") from error
    except TypeError as error:
        raise ConfigError(f"{statement.origin}: import {statement.module}: {error}") from error


def _folded(bindings: Sequence[Binding], root: str) -> tuple[dict[str, Binding], set[str]]:
    """The bindings that hold in the end, and the keys of those that served only what a later binding replaced."""
    table: dict[str, Binding] = {}
    position: dict[str, int] = {}
    replacements: list[tuple[int, Table]] = []
    for number, binding in enumerate(bindings):
        if binding.key in table:
            replacements.append((number, dict(table)))
        table[binding.key], position[binding.key] = binding, number
    orphans: set[str] = set()
    for number, before in replacements:
        orphans |= {key for key in used({**table, **before}, root) if position.get(key, number) < number}
    return table, orphans - used(table, root)


def _without_scope(statement: Binding, scope: str) -> Binding:
    """The statement as it reads from inside `scope`, references included."""

    def inside(name: str) -> str:
        return name[len(scope) :].lstrip("/") if name == scope or name.startswith(f"{scope}/") else name

    def stripped(leaf: Any) -> Any:
        return Reference(inside(leaf.scope), leaf.name, leaf.called) if isinstance(leaf, Reference) else leaf

    return replace(statement, scope=inside(statement.scope), value=replaced(statement.value, stripped))


def _order(binding: Binding) -> tuple[str, ...]:
    return (binding.component.casefold(), binding.component, binding.scope, binding.argument)


def differences(old: Config, new: Config) -> list[str]:
    """`Name.argument: old -> new` for everything that changes the result.

    Arguments that their class lists in `free_on_resume` do not count, nor do components that serve only those. Neither
    do spelling, macros' names, or a binding equal to the default.
    """
    old_table, new_table = old.table, new.table
    lines = []
    for binding in sorted({b.key: b for b in (*_results(old), *_results(new))}.values(), key=_order):
        before, after = _value(binding, old_table), _value(binding, new_table)
        if before != after:
            lines.append(f"{binding.key}: {before} -> {after}")
    return lines


def _results(config: Config) -> list[Binding]:
    """The bindings that change the result: not of free arguments, nor of components that only free ones refer to."""
    table = {
        statement.key: statement
        for statement in config.statements
        if not (statement.component and find(statement.component).parameters[statement.argument].free)
    }
    effective = used(table, config.root)
    return [binding for key, binding in table.items() if key in effective and binding.component]


def _value(place: Binding, table: Table) -> str:
    """The value that the argument which `place` binds has there under the bindings of `table`."""
    if binding := bound(table, place.scope, place.component).get(place.argument):
        return written(settled(binding, table))
    parameter = find(place.component).parameters[place.argument]
    return "unbound" if parameter.default is REQUIRED else written(default(parameter))
