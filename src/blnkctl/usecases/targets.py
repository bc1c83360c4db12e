"""Which server a command works on, and where that server's admin key is. URL and admin key are one unit."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from blnkctl.domain.contexts import (
    AdminKeySource,
    Configuration,
    Context,
    check_store_kind,
    check_transport,
)
from blnkctl.domain.errors import NotConfigured, NotFound, UsageError
from blnkctl.domain.grace import DEFAULT_GRACE
from blnkctl.domain.servers import ServerUrl, parse_server_url

ADMIN_KEY_VARIABLES = ("BLNKCTL_ADMIN_KEY", "BLNKCTL_ADMIN_KEY_FILE", "BLNKCTL_ADMIN_KEY_COMMAND")

FIRST_STEPS = (
    "To a first key: blnkctl context add NAME --url URL (no OS keyring here? blnkctl store init, then --store age);"
    " blnkctl keys create NAME --owner O --scope R:A."
    " Without a context: BLNKCTL_URL and BLNKCTL_ADMIN_KEY. To try it on a throwaway server: blnkctl sandbox -- bash"
)


@dataclass(frozen=True, slots=True)
class Target:
    """A server, its admin key's source and the defaults in force.

    `variable`: the admin key itself is in that variable. `admin_key_store`: where it was stored, whichever store is
    in force now for the keys (`store`).
    """

    url: ServerUrl
    admin_key: AdminKeySource
    variable: str | None = None
    context: str | None = None
    store: str | None = None
    admin_key_store: str | None = None
    owners: tuple[str, ...] = ()
    default_owner: str | None = None
    ca_file: str | None = None
    grace: timedelta = DEFAULT_GRACE
    is_protected: bool = False
    is_named_outright: bool = False
    notes: tuple[str, ...] = field(default=())

    def describe(self) -> str:
        """Say which server this is, for the line that every change begins with."""
        return str(self.url) if self.context is None else f"{self.context} ({self.url})"


def resolve_target(flag: str | None, environment: Mapping[str, str], configuration: Configuration) -> Target:
    """Decide on the target: `--context` beats the environment, which beats the current context.

    Raises:
        NotConfigured: there is no context, or `BLNKCTL_URL` has no admin key with it.
        NotFound: the context named does not exist.
        UsageError: two sources disagree (`ambiguous_target`).
    """
    given = {name: value for name, value in environment.items() if value}
    if flag is not None:
        return _from_context(_find(flag, configuration), given, outright=True)
    _refuse_ambiguity(given)
    if "BLNKCTL_URL" in given:
        return _from_environment(given)
    name = given.get("BLNKCTL_CONTEXT") or configuration.current
    if name is None:
        raise no_context(configuration)
    return _from_context(_find(name, configuration), given, outright=False)


def _refuse_ambiguity(given: Mapping[str, str]) -> None:
    if "BLNKCTL_URL" in given and "BLNKCTL_CONTEXT" in given:
        raise UsageError(
            "BLNKCTL_URL and BLNKCTL_CONTEXT are both set, and may name different servers.",
            code="ambiguous_target",
            hint="Unset one of them, or name the context with --context.",
        )
    sources = [name for name in ADMIN_KEY_VARIABLES if name in given]
    if len(sources) > 1:
        raise UsageError(
            f"The admin key has two sources: {' and '.join(sources)}.",
            code="ambiguous_target",
            hint="Unset one of them.",
        )


def _from_environment(given: Mapping[str, str]) -> Target:
    url = parse_server_url(given["BLNKCTL_URL"])
    if not any(name in given for name in ADMIN_KEY_VARIABLES):
        raise NotConfigured(
            "BLNKCTL_URL is set without an admin key; the key of a context is never sent to another URL.",
            code="no_admin_key",
            hint="Set BLNKCTL_ADMIN_KEY, BLNKCTL_ADMIN_KEY_FILE or BLNKCTL_ADMIN_KEY_COMMAND, or use --context.",
        )
    source, variable = environment_key(given)
    return Target(
        url=check_transport(url, allow_http=is_set(given, "BLNKCTL_ALLOW_HTTP")),
        admin_key=source,
        variable=variable,
        store=_store(given, None),
        default_owner=given.get("BLNKCTL_OWNER"),
        ca_file=given.get("BLNKCTL_CA_FILE"),
    )


def _from_context(context: Context, given: Mapping[str, str], *, outright: bool) -> Target:
    source, variable = context.admin_key, None
    ignored = [name for name in ("BLNKCTL_URL", *ADMIN_KEY_VARIABLES) if name in given]
    if not outright and any(name in given for name in ADMIN_KEY_VARIABLES):
        source, variable = environment_key(given)
    allow_http = context.allow_http or is_set(given, "BLNKCTL_ALLOW_HTTP")
    return Target(
        url=check_transport(context.url, allow_http=allow_http),
        admin_key=source,
        variable=variable,
        context=context.name,
        store=_store(given, context.store),
        admin_key_store=context.store,
        owners=context.owners,
        default_owner=given.get("BLNKCTL_OWNER"),
        ca_file=given.get("BLNKCTL_CA_FILE") or context.ca_file,
        grace=context.grace,
        is_protected=context.protected,
        is_named_outright=outright,
        notes=(f"--context {context.name} is used; {_and(ignored)} ignored.",) if outright and ignored else (),
    )


def _and(names: list[str]) -> str:
    verb = "is" if len(names) == 1 else "are"
    return f"{' and '.join(names)} {verb}"


def environment_key(given: Mapping[str, str]) -> tuple[AdminKeySource, str | None]:
    """Return where the environment says that the admin key is: a source, or the variable that holds it."""
    if "BLNKCTL_ADMIN_KEY" in given:
        return AdminKeySource(), "BLNKCTL_ADMIN_KEY"
    return AdminKeySource(given.get("BLNKCTL_ADMIN_KEY_COMMAND"), given.get("BLNKCTL_ADMIN_KEY_FILE")), None


def _store(given: Mapping[str, str], configured: str | None) -> str | None:
    name = given.get("BLNKCTL_STORE") or configured
    return None if name is None else check_store_kind(name)


def _find(name: str, configuration: Configuration) -> Context:
    context = configuration.find(name)
    if context is None:
        raise no_such_context(name, configuration)
    return context


def no_such_context(name: str, configuration: Configuration) -> NotFound:
    """Return the error for a context that is not configured, with those that are."""
    known = ", ".join(context.name for context in configuration.contexts)
    return NotFound(
        f"There is no context {name!r}.",
        code="no_such_context",
        hint=f"Known: {known}." if known else "Make one: blnkctl context add NAME --url URL",
        target=name,
    )


def no_context(configuration: Configuration) -> NotConfigured:
    """Return the error for a machine without a context in use, with the way to one."""
    hint = "Pick one: blnkctl context use NAME" if configuration.contexts else FIRST_STEPS
    return NotConfigured("No context is in use, so there is no server to talk to.", code="no_context", hint=hint)


def is_set(environment: Mapping[str, str], name: str) -> bool:
    """Tell whether a variable is switched on: set, and neither empty, 0 nor false."""
    return environment.get(name, "").lower() not in ("", "0", "false")
