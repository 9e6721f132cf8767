"""Who may use a service: files and variables that hold tokens, and what is never said about them."""

import logging
import os
from hashlib import sha256

import pytest

from mdtree.errors import InputError
from mdtree.service.settings import ServiceSettings
from mdtree.service.token_file import HOW_TO_MAKE_ONE, LONGEST, SHORTEST, read_token_file, take_token
from mdtree.service.tokens import Tokens

ALICE, BOB = "alice-" + "a" * 30, "bob-" + "b" * 30


def digest(token):
    return sha256(token.encode()).hexdigest()


@pytest.fixture
def write(tmp_path):
    def write(text, mode=0o600):
        path = tmp_path / "tokens.toml"
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        return path

    return write


def test_tokens_stand_in_the_file_as_they_are_or_as_digests(write):
    tokens = read_token_file(write(f'[tokens]\nalice = "{ALICE}"\nbob = "sha256:{digest(BOB).upper()}"\n'))
    assert tokens.owner(ALICE) == "alice"
    assert tokens.owner(BOB) == "bob"


@pytest.mark.parametrize(
    "wrong",
    ["", ALICE[:-1], ALICE + "x", ALICE.upper(), f" {ALICE}", digest(ALICE), f"sha256:{digest(ALICE)}", "é", "\udcff"],
)
def test_nothing_else_is_a_token_not_even_its_digest(write, wrong):
    assert read_token_file(write(f'[tokens]\nalice = "{ALICE}"')).owner(wrong) is None


def test_no_tokens_know_nobody():
    assert not Tokens()
    assert Tokens().owner("") is None


def test_tokens_are_not_kept_and_not_shown(write, tmp_path):
    settings = ServiceSettings(data_dir=tmp_path, tokens=read_token_file(write(f'[tokens]\nalice = "{ALICE}"')))
    assert ALICE not in str(vars(settings.tokens))
    assert digest(ALICE) not in repr(settings)


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o601, 0o620, 0o644, 0o666, 0o777])
def test_a_file_that_others_may_read_or_change_is_refused(write, mode):
    with pytest.raises(InputError, match=rf"mode {mode:04o}.*chmod 600"):
        read_token_file(write(f'[tokens]\nalice = "{ALICE}"', mode))


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o440, 0o640])
def test_a_group_may_read_it_as_service_managers_arrange(write, mode):
    assert read_token_file(write(f'[tokens]\nalice = "{ALICE}"', mode)).owner(ALICE) == "alice"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "something else"),
        ("[tokens]", "no token.*secrets.token_urlsafe"),
        (f'alice = "{ALICE}"', "something else"),
        (f'[tokens]\nalice = "{ALICE}"\n[limits]\n', "something else"),
        (f'[token]\nalice = "{ALICE}"', "something else"),
        ("tokens = 3", "something else"),
        (f'[tokens]\nalice = "{ALICE}', "no TOML"),
        ('[tokens]\nalice = "short"', f"has 5 characters; expected {SHORTEST} to {LONGEST}"),
        (f'[tokens]\nalice = "{"a" * (LONGEST + 1)}"', f"has {LONGEST + 1} characters"),
        (f'[tokens]\nalice = "{ALICE} {ALICE}"', "blanks"),
        (f'[tokens]\nalice = "{ALICE}é"', "beyond ASCII"),
        (f'[tokens]\nalice = "sha256:{digest(ALICE)[:-1]}"', "no digest"),
        ("[tokens]\nalice = 7", "is a int; expected text"),
        (f'[tokens]\n"al ice" = "{ALICE}"', "'al ice' as an owner"),
        (f'[tokens]\n"" = "{ALICE}"', "as an owner"),
        (f'[tokens]\n"../x" = "{ALICE}"', "as an owner"),
        (f'[tokens]\nalice = "{ALICE}"\nbob = "{ALICE}"', "the token of bob is that of alice"),
        (f'[tokens]\nalice = "{ALICE}"\nbob = "sha256:{digest(ALICE)}"', "that of alice"),
        ("#" * 2**20 + "\n[tokens]", "more than 1,048,576 bytes"),
    ],
    ids=lambda text: repr(text[:40]),
)
def test_a_file_that_cannot_be_right_is_refused_in_one_line_without_its_tokens(write, text, message):
    with pytest.raises(InputError, match=message) as caught:
        read_token_file(write(text))
    said = str(caught.value)
    assert "tokens.toml" in said
    assert "\n" not in said
    assert ALICE not in said
    assert caught.value.__context__ is None or caught.value.__suppress_context__, "what TOML says quotes the line"


def test_a_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_token_file(tmp_path / "missing.toml")
    with pytest.raises(InputError, match="Is a directory"):
        read_token_file(tmp_path)
    with pytest.raises(InputError, match="is no file"):
        read_token_file(type(tmp_path)(os.devnull))


def test_a_token_of_the_environment_is_taken_out_of_it():
    environment = {"MDTREE_TOKEN": ALICE, "HOME": "/"}
    assert take_token(environment).owner(ALICE) == "default"
    assert environment == {"HOME": "/"}
    assert not take_token(environment)


@pytest.mark.parametrize("token", ["", "short", f"{ALICE}\n"])
def test_a_variable_that_holds_none_is_refused_and_not_quoted(token):
    with pytest.raises(InputError, match="MDTREE_TOKEN") as caught:
        take_token({"MDTREE_TOKEN": token})
    assert ALICE not in str(caught.value)


def test_how_to_make_one_makes_one(write):
    import shlex
    import subprocess
    import sys

    words = shlex.split(HOW_TO_MAKE_ONE)
    made = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True, check=True).stdout.strip()
    assert read_token_file(write(f'[tokens]\nalice = "{made}"')).owner(made) == "alice"


def test_nothing_is_logged_about_them(write, caplog):
    with caplog.at_level(logging.DEBUG):
        tokens = read_token_file(write(f'[tokens]\nalice = "{ALICE}"'))
        tokens.owner(ALICE)
        tokens.owner(BOB)
    assert not caplog.records
