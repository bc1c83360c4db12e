"""`blnkctl keys …`: a module a verb, imported when it is called."""

from typing import ClassVar

import typer

from blnkctl.cli.options import LazyGroup, application


class KeysGroup(LazyGroup):
    """The verbs, in the order of a key's life."""

    table: ClassVar = {
        "create": ("blnkctl.cli.keys_create", "Create a key; its secret goes straight into the store."),
        "list": ("blnkctl.cli.keys_list", "List keys."),
        "show": ("blnkctl.cli.keys_show", "Show keys."),
        "verify": ("blnkctl.cli.keys_verify", "Ask whether a stored secret authenticates."),
        "can": ("blnkctl.cli.keys_can", "Tell whether a key may do a request, and what would mend it."),
        "exec": ("blnkctl.cli.keys_exec", "Run a command with a key in its environment."),
        "deliver": ("blnkctl.cli.keys_deliver", "Hand stored secrets to where they are used."),
        "reveal": ("blnkctl.cli.keys_reveal", "Print a stored secret."),
        "import": ("blnkctl.cli.keys_import", "Adopt a secret that was made elsewhere."),
        "identify": ("blnkctl.cli.keys_identify", "Tell which key a text holds."),
        "rotate": ("blnkctl.cli.keys_rotate", "Replace keys by new ones that are proven before the old ones go."),
        "finish": ("blnkctl.cli.keys_finish", "Revoke the old keys of rotations that are due."),
        "revoke": ("blnkctl.cli.keys_revoke", "Revoke keys."),
        "forget": ("blnkctl.cli.keys_forget", "Delete the local copy of a revoked key's secret."),
    }


app: typer.Typer = application(
    "Create, list, show, verify, use and revoke API keys."
    "\n\n"
    "KEY is an id (api_key_…), a unique beginning of one, or OWNER/NAME.",
    """
    blnkctl keys create billing --owner acme --scope transactions:write
    blnkctl keys list
    blnkctl keys exec acme/billing -- ./run-billing
    """,
    cls=KeysGroup,
)


# Typer makes a group only of what has commands or a callback, and the commands are not here yet.
app.callback()(lambda: None)
