"""`blnkctl keys forget`."""

import typer

from blnkctl.cli.formats import Record, key_record
from blnkctl.cli.options import application, command
from blnkctl.cli.output import Result, Table
from blnkctl.cli.run import Run
from blnkctl.cli.selection import Keys, OwnerHint, key_reader, key_words
from blnkctl.domain.names import escape_unsafe
from blnkctl.usecases.forget import ForgetSecrets, Forgotten
from blnkctl.usecases.listing import the_one

app = application("Delete the local copy of a revoked key's secret.", "blnkctl keys forget KEY")


@command(
    app,
    "forget",
    """
    blnkctl keys forget api_key_3caf24
    blnkctl keys list --status revoked -o ids | blnkctl keys forget - --yes
    """,
)
def forget(ctx: typer.Context, keys: Keys = None, owner: OwnerHint = None) -> int:
    """Delete the local copy of a revoked or expired key's secret. The key stays listed.

    A key that is not revoked is refused: the copy here may be the only one. `store prune` does this for all of them.

    Exit codes: 0, also where none was held, 2 a key is live, 5 the store failed, 7 no such key, 11 not confirmed.
    """
    run = Run.of(ctx)
    words = key_words(keys)
    target, wiring = run.change_target(), run.wiring
    reader = key_reader(run, owner)
    viewpoint = reader.viewpoint()
    found = [the_one(word, reader.find(word, viewpoint)) for word in words]
    views = list({view.key.id: view for view in found}.values())
    forgetting = ForgetSecrets(target.url, wiring.stores, wiring.store, wiring.journal, wiring.locks, wiring.clock)
    forgetting.check(views)
    what = escape_unsafe(views[0].full_name) if len(views) == 1 else f"these {len(views)} keys"
    run.confirmer().approve(f"Delete the secret of {what} from this machine?")
    done = [forgetting.run(view) for view in views]
    return run.finish(Result([_record(item) for item in done], table=Table(("key", "id", "result"), _cells)))


def _record(item: Forgotten) -> Record:
    return {"key": key_record(item.view), "result": "forgotten" if item.was_held else "not_held"}


def _cells(record: Record) -> list[str]:
    key = record["key"]
    assert isinstance(key, dict)
    result = str(record["result"]).replace("_", " ")
    return [escape_unsafe(f"{key['owner']}/{key['name']}"), str(key["id"]), result]
