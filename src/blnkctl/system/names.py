"""Names of any text as names of files."""

from urllib.parse import quote


def as_file_name(text: str) -> str:
    """Make a name one harmless path component that differs from others in more than letter case."""
    quoted = quote(text, safe="").replace(".", "%2E") if text.startswith(".") else quote(text, safe="")
    return "".join(
        f"%{ord(letter):02X}" if _is_bare_capital(quoted, at) else letter for at, letter in enumerate(quoted)
    )


def _is_bare_capital(quoted: str, at: int) -> bool:
    return quoted[at].isupper() and "%" not in quoted[max(0, at - 2) : at]
