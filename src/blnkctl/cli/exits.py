"""The exit codes of the contract, and which one counts when there were several outcomes."""

from collections.abc import Sequence

from blnkctl.domain import errors

EXIT_CODES: dict[type[errors.BlnkctlError], int] = {
    errors.BlnkctlError: 1,
    errors.ServerTrouble: 1,
    errors.UsageError: 2,
    errors.NotConfigured: 3,
    errors.Refused: 4,
    errors.StoreUnavailable: 5,
    errors.OutcomeUnknown: 6,
    errors.NotFound: 7,
    errors.Incomplete: 8,
    errors.Unreachable: 9,
    errors.GateTripped: 10,
    errors.Declined: 11,
    errors.Unsupported: 12,
}
BUG = 1
INCOMPLETE = 8
_STRONGEST = (6, INCOMPLETE)


def exit_code(error: errors.BlnkctlError) -> int:
    """Return the exit code of one error: that of the nearest class of the tree."""
    return next(EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES)


def combined_code(problems: Sequence[errors.BlnkctlError]) -> int:
    """Return the exit code of several: 6 beats 8 beats the rest, of which the first counts."""
    codes = [exit_code(problem) for problem in problems]
    for strongest in _STRONGEST:
        if strongest in codes:
            return strongest
    return codes[0] if codes else 0
