"""Sinks as they are typed and remembered, and what may be filled into them."""

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blnkctl.domain.errors import UsageError
from blnkctl.domain.sinks import FilledSink, SinkValues, parse_sink

KEY_ID = "api_key_0b1c5f9e-3f0f-4a53-9d58-2e1f6a1e8d11"
DIRECTORY, HOME = PurePosixPath("/srv/dir"), PurePosixPath("/home/ann")
BILLING = SinkValues("acme", "billing", KEY_ID, "prod")


def values(**given: str) -> SinkValues:
    """Return the values of a key, some of them odd."""
    return SinkValues(**({"owner": "acme", "name": "billing", "id": KEY_ID, "context": "prod"} | given))


def parts(text: str, given: SinkValues = BILLING) -> tuple[str, ...]:
    """Return what a sink is filled to."""
    return parse_sink(text).filled(given).parts


def refusal(text: str, given: SinkValues = BILLING) -> UsageError:
    """Return why a sink is refused."""
    with pytest.raises(UsageError) as refused:
        parse_sink(text).filled(given)
    return refused.value


# --- env files --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "remembered"),
    [
        ("env-file:.env", "env-file:.env#BLNK_API_KEY"),
        ("env-file:./a//b/./.env#KEY", "env-file:a/b/.env#KEY"),
        ("env-file:/srv/c#/x.env", "env-file:/srv/c#/x.env#BLNK_API_KEY"),
        ("env-file:/srv/a#b#KEY", "env-file:/srv/a#b#KEY"),
        ("env-file:/srv/{owner}/{name}.env#{name}_KEY", "env-file:/srv/{owner}/{name}.env#{name}_KEY"),
    ],
)
def test_an_env_file_is_remembered_with_its_variable(text: str, remembered: str) -> None:
    address = parse_sink(text)

    assert str(address) == remembered
    assert parse_sink(remembered) == address


@pytest.mark.parametrize(
    ("text", "anchored"),
    [
        ("env-file:.env", "env-file:/srv/dir/.env#BLNK_API_KEY"),
        ("env-file:../.env#K", "env-file:/srv/dir/../.env#K"),
        ("env-file:~/.env", "env-file:/home/ann/.env#BLNK_API_KEY"),
        ("env-file:/srv/.env", "env-file:/srv/.env#BLNK_API_KEY"),
        ("command:./deploy.sh 'a b' {name}", "command:/srv/dir/deploy.sh 'a b' '{name}'"),
        ("command:~/bin/deploy", "command:/home/ann/bin/deploy"),
        ("command:vault kv put a/{name} key=-", "command:vault kv put a/{name} key=-"),
        ("command:/bin/cat  x", "command:/bin/cat  x"),
    ],
)
def test_a_remembered_sink_means_the_same_in_every_directory(text: str, anchored: str) -> None:
    address = parse_sink(text).anchored(DIRECTORY, HOME)

    assert str(address) == anchored
    assert parse_sink(anchored).anchored(PurePosixPath("/elsewhere"), PurePosixPath("/nobody")) == address


def test_braces_of_the_directory_stand_for_themselves() -> None:
    address = parse_sink("env-file:{name}.env").anchored(PurePosixPath("/srv/{x}"), HOME)

    assert parse_sink(str(address)).filled(BILLING).parts == ("/srv/{x}/billing.env", "BLNK_API_KEY")


def test_each_placeholder_is_filled_in() -> None:
    filled = parse_sink("env-file:/{context}/{owner}/{name}-{id}.env#K_{name}").filled(BILLING)

    assert filled == FilledSink("env-file", (f"/prod/acme/billing-{KEY_ID}.env", "K_billing"))


@pytest.mark.parametrize(
    "value", ["", ".", "..", "a/b", "/etc", "../x", "a\nb", "a\x00b", "a\x1b[2J", "a\u202eb", "\ud800"]
)
@pytest.mark.parametrize("placeholder", ["owner", "name", "id", "context"])
def test_a_value_that_could_leave_its_directory_is_refused(placeholder: str, value: str) -> None:
    told = refusal(f"env-file:/srv/x{{{placeholder}}}/.env", values(**{placeholder: value}))

    assert told.code == "unsafe_in_path"
    assert told.message.isprintable()


@pytest.mark.parametrize(
    "value", ["Billing service", "größe", "a.b", "...", "-rf", "~root", "$(id)", "a#b", "{name}"]
)
def test_any_other_value_is_one_name_of_a_file(value: str) -> None:
    assert parts("env-file:/srv/{name}/.env", values(name=value))[0] == f"/srv/{value}/.env"


@pytest.mark.parametrize("value", ["a-b", "a b", "a=b", "", "ä", "a\nb"])
def test_a_value_that_no_variable_may_be_called_is_refused(value: str) -> None:
    assert refusal("env-file:.env#{name}", values(name=value)).code == "bad_variable"
    assert refusal("env-file:.env#{name}", values(name="9lives")).code == "bad_variable"


# --- commands ---------------------------------------------------------------------------------


def test_a_command_is_split_as_a_shell_would_and_filled_afterwards() -> None:
    text = r"""command: vault kv put "secret/{owner}/a b" 'k=-' x\ y --name={name} "" """

    assert parts(text) == ("vault", "kv", "put", "secret/acme/a b", "k=-", "x y", "--name=billing", "")


def test_doubled_braces_are_braces() -> None:
    text = """command:kubectl get -o '{{{{.data}}}}' {{{name}}} awk '{{print}}'"""

    assert parts(text) == ("kubectl", "get", "-o", "{{.data}}", "{billing}", "awk", "{print}")


@pytest.mark.parametrize(
    "value",
    ["", "a b", "a;b", "$(id)", "`id`", "a|b", "a&b", "a>b", "'", '"', "a\\b", "*", "?", "[a]", "~", "!x", "#x",
     "(x)", "{name}", "a\nb", "\x1b", ".", "..", "a/b", "/etc/passwd", "\u202e", "<x", "^x"],
)  # fmt: skip
def test_a_value_that_means_something_to_a_shell_or_as_a_path_is_refused(value: str) -> None:
    told = refusal("command:sh -c 'echo x{name}'", values(name=value))

    assert told.code == "unsafe_in_command"
    assert "{id}" in str(told.hint)


@pytest.mark.parametrize("value", ["-rf", "--output=x", "@file", "+x", "=x", ".hidden", "%x", ":x", ",x"])
def test_a_value_that_begins_a_word_cannot_be_an_option(value: str) -> None:
    assert refusal("command:tool {name}", values(name=value)).code == "unsafe_in_command"
    assert parts("command:tool --name={name}", values(name=value))[1] == f"--name={value}"


@pytest.mark.parametrize("value", ["billing", "größe", "a.b", "ann@example.com", "a:b,c%d+e=f", "_x", "7"])
def test_other_values_are_part_of_one_word(value: str) -> None:
    assert parts("command:tool {name} x/{name}", values(name=value)) == ("tool", value, f"x/{value}")


@given(value=st.text(min_size=1, max_size=20))
def test_a_value_never_adds_a_word_even_for_a_shell_below(value: str) -> None:
    import shlex

    try:
        filled = parts("command:ssh host put {name} --as=x{name}", values(name=value))
    except UsageError:
        return
    assert len(filled) == 5
    assert shlex.split(" ".join(filled), comments=True) == list(filled)
    assert not filled[3].startswith("-")


# --- what is no sink --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["", ".env", "file:.env", "ENV-FILE:.env", "env-file", "env-file:", "env-file:#KEY", "env-file:.env#1KEY",
     "env-file:.env#MY-VAR", "env-file:.env#", "env-file:dir/", "env-file:/.",
     "env-file:..", "env-file:dir/#K", "env-file:~bob/.env", "env-file:~",
     "env-file:a\nb", "env-file:a\x00", "env-file:{nme}.env", "env-file:{}.env", "env-file:{.env", "env-file:}.env",
     "env-file:.env#{nme}", "env-file:{OWNER}.env", "command:", "command:  ", "command:''", "command:a 'b",
     "command:a\x00b", "command:a \u202eb", "command:{name} x", "command:x{name}", "command:a { name }",
     "command:a {nme}", "command:awk '{print}'", "vault:secret/x#y"],
)  # fmt: skip
def test_what_is_no_sink_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_sink(text)

    assert refused.value.code == "bad_sink"
    assert refused.value.message.endswith("nothing was sent.")
    assert refused.value.message.isprintable()
    assert "{owner}" in str(refused.value.hint) or "env-file:PATH[#VAR]" in str(refused.value.hint)


@given(text=st.text(max_size=60) | st.text("{}ownerameidcx#/~. '\"\\-", max_size=30))
def test_whatever_is_taken_is_remembered_as_the_same(text: str) -> None:
    for kind in ("env-file:", "command:"):
        try:
            address = parse_sink(kind + text)
        except UsageError:
            continue
        assert parse_sink(str(address)) == address
        anchored = address.anchored(DIRECTORY, HOME)
        assert parse_sink(str(anchored)) == anchored
