"""The child that asks a keyring which may hang: one JSON request on standard input, one reply on standard output."""

import json
import sys
from contextlib import redirect_stdout
from importlib import import_module


def answer(request: dict[str, str]) -> dict[str, str | None]:
    """Do what is asked, with the backend that is named; whatever it raises becomes words."""
    try:
        module, _, name = request["backend"].rpartition(".")
        keyring = getattr(import_module(module), name)()
        service, username = request["service"], request["username"]
        secret = None
        if request["action"] == "get":
            secret = keyring.get_password(service, username)
        elif request["action"] == "set":
            keyring.set_password(service, username, request["secret"])
        else:
            keyring.delete_password(service, username)
    except Exception as error:  # noqa: BLE001 (backends raise anything: pywintypes.error, OSError, their own)
        return {"secret": None, "error": type(error).__name__, "words": str(error)}
    return {"secret": secret, "error": None}


if __name__ == "__main__":
    with redirect_stdout(sys.stderr):  # a backend that talks must not spoil the reply
        reply = answer(json.load(sys.stdin))
    json.dump(reply, sys.stdout)
