"""A row's stored form: compared at once where it can be, and masked wherever it could be seen."""

import copy
import dataclasses
import hashlib
import pickle

import pytest

from blnkctl.domain.keys import StorageScheme
from blnkctl.domain.secret import Secret
from blnkctl.domain.stored_forms import stored_form

PLAIN = "A" * 42 + "s="
DIGEST = hashlib.sha256(PLAIN.encode()).hexdigest()
BCRYPT = "$2a$10$" + "a" * 53
FORMS = [PLAIN, DIGEST, BCRYPT, "of another shape"]


@pytest.mark.parametrize(
    ("text", "scheme"),
    list(
        zip(
            FORMS,
            (StorageScheme.PLAINTEXT, StorageScheme.SHA256, StorageScheme.BCRYPT, StorageScheme.UNKNOWN),
            strict=True,
        )
    ),
)
def test_a_form_is_told_by_its_shape(text: str, scheme: StorageScheme) -> None:
    assert stored_form(text).scheme is scheme


@pytest.mark.parametrize("text", [PLAIN, DIGEST])
def test_plain_text_and_sha256_match_their_secret_and_no_other(text: str) -> None:
    assert stored_form(text).matches_at_once(Secret(PLAIN))
    assert not stored_form(text).matches_at_once(Secret(PLAIN.lower()))
    assert not stored_form(text).matches_at_once(Secret(""))


def test_a_hash_is_not_the_secret_that_it_is_the_hash_of() -> None:
    assert not stored_form(DIGEST).matches_at_once(Secret(DIGEST))
    assert not stored_form(BCRYPT).matches_at_once(Secret(BCRYPT))


def test_a_form_of_no_known_shape_is_compared_as_it_stands() -> None:
    assert stored_form("of another shape").matches_at_once(Secret("of another shape"))


@pytest.mark.parametrize("text", FORMS)
def test_no_form_shows_what_it_holds_or_leaves_the_process(text: str) -> None:
    form = stored_form(text)

    assert text not in f"{form} {form!r} {[form]}"
    for leave in (pickle.dumps, copy.deepcopy, dataclasses.asdict, hash):
        with pytest.raises(TypeError):
            leave(form)
