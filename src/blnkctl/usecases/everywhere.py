"""Every server that this machine knows of, as targets: the one in use first, then each context."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from blnkctl.domain.contexts import Configuration
from blnkctl.domain.errors import BlnkctlError
from blnkctl.usecases.targets import ADMIN_KEY_VARIABLES, Target, no_context, resolve_target

_OF_THE_ONE_IN_USE = ("BLNKCTL_URL", "BLNKCTL_CA_FILE", "BLNKCTL_ALLOW_HTTP", "BLNKCTL_OWNER", *ADMIN_KEY_VARIABLES)


@dataclass(slots=True)
class KnownTargets:
    """The targets, and why a context is none, by its name (None: the configuration as a whole)."""

    targets: list[Target] = field(default_factory=list)
    problems: list[tuple[str | None, BlnkctlError]] = field(default_factory=list)


def known_targets(
    flag: str | None, environment: Mapping[str, str], load: Callable[[], Configuration]
) -> KnownTargets:
    """Return every target; with `--context` that one alone.

    Raises:
        NotConfigured: there is none. NotFound: the one named is none. UsageError: two sources name the one in use.
    """
    is_by_environment = flag is None and bool(environment.get("BLNKCTL_URL"))
    known = KnownTargets()
    try:
        configuration = load()
    except BlnkctlError as problem:
        if not is_by_environment:
            raise
        known.problems.append((None, problem))
        configuration = Configuration()
    if is_by_environment or flag is not None:
        known.targets.append(resolve_target(flag, environment, configuration))
    if flag is None:
        _add_contexts(known, environment, configuration)
    if not known.targets and not known.problems:
        raise no_context(configuration)
    return known


def _add_contexts(known: KnownTargets, environment: Mapping[str, str], configuration: Configuration) -> None:
    """Add every context. The environment's key, authority and permissions are for the one in use alone."""
    in_use = None if environment.get("BLNKCTL_URL") else environment.get("BLNKCTL_CONTEXT") or configuration.current
    bare = {name: value for name, value in environment.items() if name not in _OF_THE_ONE_IN_USE}
    names = sorted(context.name for context in configuration.contexts)
    if in_use is not None:
        names = [in_use, *(name for name in names if name != in_use)]
    for name in names:
        try:
            is_in_use = name == in_use
            known.targets.append(
                resolve_target(None if is_in_use else name, environment if is_in_use else bare, configuration)
            )
        except BlnkctlError as problem:
            if problem.code in ("ambiguous_target", "no_such_context"):
                raise
            known.problems.append((name, problem))
