"""Builds adapters, each at the moment a command first needs it. The one module that knows them all."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from blnkctl.domain.errors import NotConfigured
from blnkctl.domain.secret import Secret, secret_from_text
from blnkctl.usecases.targets import Target, environment_key, resolve_target

if TYPE_CHECKING:
    from datetime import datetime

    from blnkctl.adapters.age.identities import Identities
    from blnkctl.adapters.age.layout import Layout
    from blnkctl.adapters.age.maintenance import StoreKeys
    from blnkctl.adapters.age.store import AgeStore
    from blnkctl.adapters.bcrypt_forms import BcryptForms
    from blnkctl.adapters.blnk.server import BlnkServer
    from blnkctl.adapters.config import ConfigurationFile
    from blnkctl.adapters.keyrings.items import Keyring
    from blnkctl.adapters.keyrings.store import OsStore
    from blnkctl.adapters.locks import LockDirectory
    from blnkctl.adapters.plans import CheckedPlan
    from blnkctl.adapters.sinks.env_values import EnvValue
    from blnkctl.adapters.sinks.factory import SinkFactory
    from blnkctl.adapters.state import StateFile
    from blnkctl.domain.contexts import AdminKeySource, Configuration
    from blnkctl.domain.entries import StoreStatus
    from blnkctl.domain.keys import ApiKey
    from blnkctl.domain.plans import PlanHeader
    from blnkctl.domain.servers import ServerUrl
    from blnkctl.domain.sinks import SinkAddress
    from blnkctl.ports import Clock, SecretStore
    from blnkctl.system.signals import Interrupts, Unhurried
    from blnkctl.usecases.sink_store import SinkStore

_APPLICATION = "blnkctl"


@dataclass(frozen=True)
class Settings:
    """What flags and environment say.

    `ask_secret` returns None where nobody can be asked; `on_slow` is None where nobody watches.
    """

    environment: Mapping[str, str]
    context: str | None
    timeout: timedelta
    ask_secret: Callable[[str], Secret | None]
    trace: Callable[[str], None] | None
    on_slow: Callable[[str], None] | None
    is_attended: Callable[[], bool]
    notify: Callable[[str], None]
    clock: "Clock"
    signals: "Interrupts"


class LazyStores(Mapping[str, "SecretStore"]):
    """Stores by name, each built when it is first asked for."""

    def __init__(self, builders: Mapping[str, "Callable[[], SecretStore]"]) -> None:
        self._builders = builders

    def __getitem__(self, kind: str) -> "SecretStore":
        return self._builders[kind]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._builders)

    def __len__(self) -> int:
        return len(self._builders)


class Wiring:
    """Lazy factories; each adapter is made once."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.clock = settings.clock
        self.signals = settings.signals

    def close(self) -> None:
        """Close what was opened."""
        for name in ("server", "journal", "index", "_keyring"):
            adapter = self.__dict__.get(name)
            if adapter is not None:
                adapter.close()

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment's variables."""
        return self.settings.environment

    @cached_property
    def actor(self) -> str:
        """Who is at work: `BLNKCTL_ACTOR`, else user@host."""
        actor = self.environment.get("BLNKCTL_ACTOR") or f"{_user()}@{os.uname().nodename}"
        return actor.encode("utf-8", "replace").decode()

    @cached_property
    def configuration_file(self) -> "ConfigurationFile":
        """The configuration file."""
        from blnkctl.adapters.config import ConfigurationFile

        return ConfigurationFile(self._directory("BLNKCTL_CONFIG_DIR", "user_config_dir"))

    @cached_property
    def configuration(self) -> "Configuration":
        """The configuration; not read at all where the environment names the server."""
        return self.configuration_file.load()

    @cached_property
    def target(self) -> Target:
        """The server that the command works on."""
        from blnkctl.domain.contexts import Configuration

        is_by_environment = self.settings.context is None and self.environment.get("BLNKCTL_URL")
        configuration = Configuration() if is_by_environment else self.configuration
        return resolve_target(self.settings.context, self.environment, configuration)

    @cached_property
    def server(self) -> "BlnkServer":
        """The target's API."""
        return self.server_of(self.target)

    def server_of(self, target: Target) -> "BlnkServer":
        """Return the API of any known target; unlike the one in use, whoever asks for it closes it."""
        return self.connect(target.url, target.ca_file, lambda: self.admin_key_of(target))

    def admin_key_of(self, target: Target) -> Secret:
        """Fetch the admin key of any known target, once.

        Raises:
            NotConfigured: it is not there.
        """
        if target not in self._admin_keys:
            self._admin_keys[target] = self._admin_key(target)
        return self._admin_keys[target]

    @cached_property
    def _admin_keys(self) -> dict[Target, Secret]:
        return {}

    def connect(self, url: "ServerUrl", ca_file: str | None, admin_key: Callable[[], Secret]) -> "BlnkServer":
        """Return the API of a server that is no target yet."""
        from blnkctl.adapters.blnk.server import BlnkServer
        from blnkctl.adapters.blnk.transport import Connection, Transport

        connection = Connection(
            url,
            self.settings.timeout.total_seconds(),
            None if ca_file is None else Path(ca_file).expanduser(),
            self.settings.trace,
            self.settings.on_slow,
        )
        return BlnkServer(url, Transport(connection, self.clock), admin_key, self.clock)

    def _admin_key(self, target: Target) -> Secret:
        if target.variable is not None:
            return secret_from_text(self.environment[target.variable], target.variable)
        return self.read_admin_key(target.admin_key, target.url, target.admin_key_store, target.context)

    def admin_key_of_environment(self, url: "ServerUrl") -> Secret:
        """Fetch the admin key that the environment names, for a context that is no target yet."""
        source, variable = environment_key({name: value for name, value in self.environment.items() if value})
        if variable is not None:
            return secret_from_text(self.environment[variable], variable)
        return self.read_admin_key(source, url, None, None)

    def read_admin_key(
        self, source: "AdminKeySource", url: "ServerUrl", store: str | None, context: str | None
    ) -> Secret:
        """Fetch an admin key from where it is kept.

        Raises:
            NotConfigured: it is not there.
        """
        from blnkctl.adapters.admin_keys import read_key_file, run_key_command
        from blnkctl.domain.contexts import check_keeps_admin_key
        from blnkctl.domain.entries import ADMIN, EntryName

        if source.file is not None:
            return read_key_file(Path(source.file).expanduser())
        if source.command is not None:
            return run_key_command(source.command, self.environment)
        check_keeps_admin_key(store, context)
        keeper, entry = self.open_store(store), EntryName(url, ADMIN)
        secret = keeper.get(entry)
        if secret is None:
            keeper.holds(entry)  # another keyring than the one that it was put into says so
            raise NotConfigured(
                f"The store holds no admin key of {url}.",
                code="no_admin_key",
                hint=f"Store it again: blnkctl context set {context or 'NAME'} --admin-key-stdin",
            )
        return secret

    @cached_property
    def store(self) -> "SecretStore":
        """The target's store."""
        return self.open_store(self.target.store)

    def open_store(self, kind: str | None) -> "SecretStore":
        """Return a store by its name; None is the default one."""
        from blnkctl.domain.contexts import DEFAULT_STORE

        return self.stores[kind or DEFAULT_STORE]

    @cached_property
    def stores(self) -> "Mapping[str, SecretStore]":
        """Every store that this version has, by name, each built when it is asked for."""
        return LazyStores(
            {"os": lambda: self.os_store, "age": lambda: self.age_store, "none": lambda: self.sink_store}
        )

    def store_statuses(self) -> "list[StoreStatus]":
        """Describe each store without asking anybody for anything."""
        return [self.os_store.status(), self.age_keys.status(is_timed=True)]

    @cached_property
    def os_store(self) -> "OsStore":
        """The OS keyring; it is not reached before it is used."""
        from blnkctl.adapters.keyrings.store import OsStore

        return OsStore(
            self.state_directory / "escrow", lambda: self._keyring, self._known_usernames, self.clock.sleep
        )

    @cached_property
    def _keyring(self) -> "Keyring":
        from blnkctl.adapters.keyrings.choice import open_keyring
        from blnkctl.adapters.keyrings.items import Person

        person = Person(self.settings.is_attended, self.settings.notify)
        return open_keyring(self.environment, person)

    def _known_usernames(self, server: "ServerUrl") -> list[str]:
        """Return what the index believes a keyring to hold that cannot list its items."""
        from blnkctl.domain.entries import ADMIN

        stored = [key.id for key in self.journal.known_keys(server) if key.store == "os" and key.is_stored]
        return [ADMIN, *stored]

    @cached_property
    def age_store(self) -> "AgeStore":
        """The age store."""
        from blnkctl.adapters.age.store import AgeStore

        return AgeStore(self._age_layout, self._age_identities)

    @cached_property
    def sink_store(self) -> "SinkStore":
        """The store `none`: the sinks of keys take its place."""
        from blnkctl.usecases.deliver import DeliverSecret
        from blnkctl.usecases.sink_store import SinkStore

        target = self.target
        delivery = DeliverSecret(target.url, self.sinks, self.journal, self.clock, target.context)
        return SinkStore(delivery, self.journal, lambda: self.server, lambda: self.bcrypt_forms)

    @cached_property
    def age_keys(self) -> "StoreKeys":
        """The age store's identity and recipients."""
        from blnkctl.adapters.age.maintenance import StoreKeys

        return StoreKeys(self._age_layout, self._age_identities)

    @cached_property
    def _age_layout(self) -> "Layout":
        from blnkctl.adapters.age.layout import Layout

        given = self.environment.get("BLNKCTL_STORE_DIR")
        return Layout(_absolute(given) if given else self._directory("", "user_data_dir") / "store")

    @cached_property
    def _age_identities(self) -> "Identities":
        from blnkctl.adapters.age.identities import Identities, IdentitySources

        given = self.environment.get("BLNKCTL_AGE_IDENTITY_FILE")
        runtime = self.environment.get("XDG_RUNTIME_DIR")
        sources = IdentitySources(
            layout=self._age_layout,
            given_file=_absolute(given) if given else None,
            runtime_directory=_absolute(runtime) if runtime else None,
            ask_passphrase=self.ask_passphrase,
            now=self.clock.now,
        )
        return Identities(sources)

    def ask_passphrase(self) -> Secret | None:
        """Return the store's passphrase from the environment or a person, or None."""
        return self.given_passphrase() or self._typed_passphrase

    def given_passphrase(self) -> Secret | None:
        """Return the store's passphrase from the environment, or None.

        Raises:
            UnusableSecret: it is none that could be typed.
        """
        given = self.environment.get("BLNKCTL_STORE_PASSPHRASE")
        return secret_from_text(given, "BLNKCTL_STORE_PASSPHRASE") if given else None

    @cached_property
    def _typed_passphrase(self) -> Secret | None:
        return self.settings.ask_secret("Passphrase of the age store: ")

    @cached_property
    def state_directory(self) -> Path:
        """Where the journal and the locks are."""
        return self._directory("BLNKCTL_STATE_DIR", "user_state_dir")

    @cached_property
    def journal(self) -> "StateFile":
        """The journal and the index."""
        from blnkctl.adapters.state import StateFile

        return StateFile(self.state_directory, self.clock.now)

    @cached_property
    def index(self) -> "StateFile":
        """The index alone, looked into without making a file or waiting for anybody."""
        from blnkctl.adapters.state import StateFile

        return StateFile(self.state_directory, self.clock.now, is_only_looked_into=True)

    def read_env_value(self, path: Path, name: str) -> "EnvValue":
        """Return a variable's value in an env file."""
        from blnkctl.adapters.sinks.env_values import read_env_value

        return read_env_value(path, name)

    @cached_property
    def sinks(self) -> "SinkFactory":
        """Every kind of sink; what a command of one prints is told as it is."""
        from blnkctl.adapters.sinks.factory import SinkFactory

        return SinkFactory(self.environment, lambda: self.locks, self.settings.notify)

    def sink_address(self, text: str) -> "SinkAddress":
        """Return a typed sink as what means the same in every directory; a remembered one is that already.

        Raises:
            UsageError: it is no sink.
        """
        from blnkctl.domain.sinks import parse_sink

        return parse_sink(text).anchored(Path.cwd(), Path(self.environment.get("HOME") or Path.home()))

    def new_plan_path(self, now: "datetime") -> Path:
        """Return where a plan is written that nobody named a file for."""
        from blnkctl.adapters.plans import new_plan_path

        return new_plan_path(self.state_directory / "plans", now)

    @property
    def unhurried(self) -> "Unhurried":
        """Signals for threads: whoever started them holds signals back for all."""
        from blnkctl.system.signals import Unhurried

        return Unhurried()

    def read_plan(self, path: Path) -> "CheckedPlan":
        """Return a plan that was checked whole."""
        from blnkctl.adapters.plans import read_plan

        return read_plan(path)

    def write_plan(self, path: Path, header: "PlanHeader", items: "Iterable[Mapping[str, object]]") -> str:
        """Write a plan, and return its digest."""
        from blnkctl.adapters.plans import write_plan

        return write_plan(path, header, items)

    def plan_document(self, header: "PlanHeader", items: "Iterable[Mapping[str, object]]") -> dict[str, object]:
        """Return a plan as one JSON object."""
        from blnkctl.adapters.plans import plan_document

        return plan_document(header, items)

    def read_export(self, lines: "Iterable[str]") -> "Iterator[ApiKey]":
        """Return the keys of an export."""
        from blnkctl.adapters.exports import read_export

        return read_export(lines)

    @cached_property
    def bcrypt_forms(self) -> "BcryptForms":
        """Comparisons with bcrypt hashes."""
        from blnkctl.adapters.bcrypt_forms import BcryptForms

        return BcryptForms()

    @cached_property
    def locks(self) -> "LockDirectory":
        """The locks between processes."""
        from blnkctl.adapters.locks import LockDirectory

        return LockDirectory(self.state_directory / "locks")

    def _directory(self, variable: str, kind: str) -> Path:
        given = self.environment.get(variable)
        if given:
            return _absolute(given)
        import platformdirs

        return Path(getattr(platformdirs, kind)(_APPLICATION))


def make_bare_store(directory: Path) -> None:
    """Make an age store that opens without a passphrase, for a throwaway server."""
    from blnkctl.adapters.age.identities import Identities, IdentitySources
    from blnkctl.adapters.age.layout import Layout
    from blnkctl.adapters.age.maintenance import StoreKeys
    from blnkctl.system.clock import SystemClock

    layout = Layout(directory)
    sources = IdentitySources(layout, None, None, lambda: None, SystemClock().now)
    StoreKeys(layout, Identities(sources)).initialise((), None, own_identity=True)


def _absolute(text: str) -> Path:
    return Path(text).expanduser().absolute()


def _user() -> str:
    from getpass import getuser

    try:
        return getuser()
    except (OSError, KeyError):
        return f"uid{os.getuid()}"
