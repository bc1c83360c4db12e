"""One run of a command: its flags, its terminal, its output, and the lazy factories behind it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from blnkctl.cli.exits import combined_code
from blnkctl.cli.flags import Flags, check_format
from blnkctl.cli.output import Output, Result
from blnkctl.cli.terminal import Confirmer, Terminal
from blnkctl.system.signals import Interrupts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import typer

    from blnkctl.usecases.targets import Target
    from blnkctl.wiring import Wiring


class Run:
    """What a command function works with; the root context's object."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self.arguments = tuple(arguments)
        self.environment = environment
        self.flags = Flags()
        self.terminal = Terminal(environment, self.flags.manners)
        self.signals = Interrupts(lambda: self.terminal.note("Finishing the step in flight; once more aborts it."))
        self.command = ""
        self.is_gone_on_with = False  # by the same command, if it is interrupted

    @classmethod
    def of(cls, ctx: typer.Context) -> Run:
        """Return the run of a command's context."""
        run = ctx.find_root().obj
        assert isinstance(run, cls)
        run.command = ctx.command_path.partition(" ")[2]
        run.output  # noqa: B018 (a format that does not exist is met before anything is done)
        return run

    @cached_property
    def wiring(self) -> Wiring:
        """The factories, once the flags are known; a help text needs none."""
        from blnkctl.system.clock import SystemClock
        from blnkctl.wiring import Settings, Wiring

        settings = Settings(
            environment=self.environment,
            context=self.flags.context,
            timeout=self.flags.timeout,
            ask_secret=self.terminal.ask_secret,
            trace=self.terminal.trace if self.flags.manners.verbose else None,
            on_slow=self.terminal.say_waiting if self.terminal.is_watched else None,
            is_attended=lambda: self.terminal.is_attended,
            notify=self.terminal.tell,
            clock=SystemClock(),
            signals=self.signals,
        )
        return Wiring(settings)

    def close(self) -> None:
        """Close what was opened."""
        if "wiring" in self.__dict__:
            self.wiring.close()

    @property
    def chosen_format(self) -> str | None:
        """The format asked for by flag, else by the environment."""
        given = self.environment.get("BLNKCTL_OUTPUT")
        return self.flags.output or (check_format(given, "BLNKCTL_OUTPUT") if given else None)

    @cached_property
    def output(self) -> Output:
        """The writer of the result."""
        return Output(self.terminal, self.command, self.chosen_format)

    @cached_property
    def target(self) -> Target:
        """The server in use; what was passed over to choose it is told."""
        target = self.wiring.target
        for note in target.notes:
            self.terminal.note(note)
        self.warn_of_unknown_settings()
        return target

    def warn_of_unknown_settings(self) -> None:
        """Tell of keys in the configuration, where it was read, that this version does not know."""
        configuration = self.wiring.__dict__.get("configuration")
        if configuration is not None and configuration.unknown:
            names = ", ".join(configuration.unknown)
            self.terminal.warn(f"Unknown in {self.wiring.configuration_file.path}, and ignored: {names}")

    def change_target(self) -> Target:
        """Return the server in use, naming it: every change begins with this line."""
        self.terminal.note(f"Target: {self.target.describe()}")
        return self.target

    def confirmer(self) -> Confirmer:
        """Return who approves, for the target in use."""
        target = self.target
        return Confirmer(self.terminal, target.context if target.is_protected else None, target.is_named_outright)

    def done(self) -> int:
        """End a command whose result is its effect."""
        self.output.write_done()
        return 0

    def finish(self, result: Result) -> int:
        """Write the result, tell what went wrong, and return the exit code."""
        self.output.write(result)
        for error in result.errors:
            self.terminal.fail(error)
        return combined_code(result.errors)
