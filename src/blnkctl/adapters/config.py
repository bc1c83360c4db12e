"""The configuration file: TOML, read strictly, changed without touching what others wrote into it.

Checked with plain code: a validation library would cost every command more than all the rest of reading it.
"""

import tomllib
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from blnkctl.domain.contexts import DEFAULT_STORE, STORES, AdminKeySource, Configuration, Context, check_context_name
from blnkctl.domain.errors import Busy, NotConfigured, UsageError
from blnkctl.domain.grace import DEFAULT_GRACE, format_grace, parse_grace
from blnkctl.domain.servers import ServerUrl, parse_server_url
from blnkctl.system.files import check_is_nobody_elses, ensure_private_directory, write_atomically
from blnkctl.system.locks import LockBusy, locked

FILE_NAME = "config.toml"
_PATIENCE = 10.0
_KNOWN = frozenset({"url", "store", "owners", "admin_key", "ca_file", "allow_http", "protected", "grace"})


class ConfigurationFile:
    """Reads and writes `config.toml` in a directory."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE_NAME

    def load(self) -> Configuration:
        """Read the file; none is an empty configuration.

        Raises:
            NotConfigured: it cannot be read or parsed; it is left as it is.
        """
        return self._read(self._parse(self._content()))

    def parse(self, content: str, source: str) -> Configuration:
        """Read the content of another file.

        Raises:
            UsageError: it is no such configuration.
        """
        try:
            return self._read(self._parse(content))
        except NotConfigured as problem:
            what = problem.message.partition(": ")[2].removesuffix(". It was left as it is.")
            shown = "Standard input" if source == "-" else source
            raise UsageError(
                f"{shown} holds no contexts that can be used: {what}. Nothing was taken.",
                code="bad_input",
                hint="It takes what `blnkctl context export` prints.",
            ) from None

    def export(self, contexts: Iterable[Context]) -> str:
        """Return contexts as TOML."""
        import tomlkit

        tables = {
            context.name: {key: value for key, value in _as_table(context).items() if value is not None}
            for context in contexts
        }
        return tomlkit.dumps({"contexts": tables})

    def _parse(self, content: str) -> dict[str, Any]:
        try:
            return tomllib.loads(content)
        except tomllib.TOMLDecodeError as error:
            raise self._broken(str(error)) from None

    def save_context(self, context: Context, *, make_current: bool) -> None:
        """Add or replace a context, keeping comments and unknown keys of the file."""

        def change(document: Any) -> None:
            values = _as_table(context)
            contexts = document.setdefault("contexts", {})
            if context.name not in contexts:
                contexts[context.name] = {key: value for key, value in values.items() if value is not None}
            for key, value in values.items():
                _set(document["contexts"][context.name], key, value)
            if make_current:
                document["current"] = context.name

        self._change(change)

    def remove_context(self, name: str) -> None:
        """Remove a context; if it was current, none is."""

        def change(document: Any) -> None:
            document.get("contexts", {}).pop(name, None)
            if document.get("current") == name:
                document.pop("current")

        self._change(change)

    def rename_context(self, old: str, new: str) -> None:
        """Rename a context."""

        def change(document: Any) -> None:
            contexts = document["contexts"]
            contexts[new] = contexts.pop(old)
            if document.get("current") == old:
                document["current"] = new

        self._change(change)

    def switch_store(self, url: ServerUrl, source: str, goal: str) -> None:
        """Give every context of a server that uses one store another one."""
        for context in self.load().contexts:
            if context.url == url and (context.store or DEFAULT_STORE) == source:
                self.save_context(replace(context, store=goal), make_current=False)

    def use_context(self, name: str) -> None:
        """Make a context the current one."""

        def change(document: Any) -> None:
            document["current"] = name

        self._change(change)

    def _change(self, change: Callable[[Any], None]) -> None:
        """Change the file as it is now, so that of two changes at once neither is lost."""
        try:
            ensure_private_directory(self.path.parent)
            with locked(self.path.with_suffix(".lock"), wait=_PATIENCE, remove=True):
                write_atomically(self.path, self._changed(change).encode())
        except LockBusy:
            raise Busy("the configuration") from None
        except OSError as error:
            raise self._unusable("written", error) from None

    def _changed(self, change: Callable[[Any], None]) -> str:
        import tomlkit

        document = tomlkit.parse(self._content())
        change(document)
        content = tomlkit.dumps(document)
        self._read(self._parse(content))  # never leave a file that cannot be read again
        return content

    def _content(self) -> str:
        try:
            check_is_nobody_elses(self.path.parent)
            check_is_nobody_elses(self.path)
            return self.path.read_text("utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except (OSError, UnicodeDecodeError) as error:
            raise self._unusable("read", error) from None

    def _read(self, document: dict[str, Any]) -> Configuration:
        tables = document.get("contexts", {})
        if not isinstance(tables, dict):
            raise self._broken("'contexts' is no table")
        current = document.get("current")
        if current is not None and not isinstance(current, str):
            raise self._broken("'current' is no text")
        unknown = [key for key in document if key not in ("contexts", "current")]
        for name, table in tables.items():
            if isinstance(table, dict):
                unknown += [f"contexts.{name}.{key}" for key in table if key not in _KNOWN]
        contexts = tuple(self._read_context(name, table) for name, table in tables.items())
        return Configuration(contexts, current, tuple(unknown))

    def _read_context(self, name: str, table: Any) -> Context:
        where = f"contexts.{name}"
        if not isinstance(table, dict):
            raise self._broken(f"'{where}' is no table")
        try:
            url = parse_server_url(self._text(table, "url", where) or "")
            check_context_name(name)
        except UsageError as problem:
            raise self._broken(f"'{where}': {problem.message.rstrip('.')}") from None
        store = self._text(table, "store", where)
        if store is not None and store not in STORES:
            raise self._broken(f"'{where}.store' is {store!r}; this version has {', '.join(STORES)}")
        return Context(
            name=name,
            url=url,
            store=store,
            owners=self._texts(table, "owners", where),
            admin_key=self._admin_key(table.get("admin_key", {}), where),
            ca_file=self._text(table, "ca_file", where),
            allow_http=self._flag(table, "allow_http", where),
            protected=self._flag(table, "protected", where),
            grace=self._grace(table, where),
        )

    def _admin_key(self, table: Any, where: str) -> AdminKeySource:
        if not isinstance(table, dict) or not set(table) <= {"command", "file"} or len(table) > 1:
            raise self._broken(f"'{where}.admin_key' is neither {{command = …}} nor {{file = …}}")
        within = f"{where}.admin_key"
        return AdminKeySource(self._text(table, "command", within), self._text(table, "file", within))

    def _grace(self, table: dict[str, Any], where: str) -> timedelta:
        text = self._text(table, "grace", where)
        try:
            return DEFAULT_GRACE if text is None else parse_grace(text, flag=f"'{where}.grace'")
        except UsageError as problem:
            raise self._broken(problem.message.rstrip(".")) from None

    def _text(self, table: dict[str, Any], key: str, where: str) -> str | None:
        value = table.get(key)
        if value is not None and not isinstance(value, str):
            raise self._broken(f"'{where}.{key}' is no text")
        return value

    def _texts(self, table: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
        value = table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._broken(f"'{where}.{key}' is no list of texts")
        return tuple(value)

    def _flag(self, table: dict[str, Any], key: str, where: str) -> bool:
        value = table.get(key, False)
        if not isinstance(value, bool):
            raise self._broken(f"'{where}.{key}' is neither true nor false")
        return value

    def _broken(self, what: str) -> NotConfigured:
        return NotConfigured(
            f"The configuration {self.path} cannot be used: {what}. It was left as it is.",
            code="bad_configuration",
            hint="Mend it in an editor, or set BLNKCTL_URL and BLNKCTL_ADMIN_KEY to work without it.",
        )

    def _unusable(self, doing: str, error: Exception) -> NotConfigured:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return NotConfigured(
            f"The configuration {self.path} could not be {doing}: {reason}.",
            code="bad_configuration",
            hint="Mend that, or name another directory with BLNKCTL_CONFIG_DIR.",
        )


def _set(table: Any, key: str, value: object) -> None:
    """Set a key, or remove it; what says the same already keeps its layout and comments."""
    if value is None:
        table.pop(key, None)
    elif table.get(key) != value:
        table[key] = value


def _as_table(context: Context) -> dict[str, object]:
    source = context.admin_key
    where = {"command": source.command, "file": source.file}
    admin_key = {key: value for key, value in where.items() if value is not None}
    return {
        "url": str(context.url),
        "store": context.store,
        "owners": list(context.owners) or None,
        "admin_key": admin_key or None,
        "ca_file": context.ca_file,
        "allow_http": context.allow_http or None,
        "protected": context.protected or None,
        "grace": None if context.grace == DEFAULT_GRACE else format_grace(context.grace),
    }
