"""The settings of a service: options before the file before the defaults, and one line for each mistake."""

from dataclasses import fields
from datetime import timedelta
from pathlib import Path

import platformdirs
import pytest

from mdtree.errors import InputError
from mdtree.service.chosen_settings import chosen_settings
from mdtree.service.settings import GIB, Limits, ServiceSettings
from mdtree.service.settings_file import read_settings_file

TOKEN = "t" * 40

WHOLE = """
[service]
host = "0.0.0.0"
port = 9000
data_dir = "data"
workers = 3
tokens = "tokens.toml"
database = "postgresql://mdtree@localhost/mdtree"
device = "cuda:1"
allowed_hosts = ["mdtree.example.org", "localhost:9000"]
retention_days = 7
unused_upload_hours = 1.5
grace = 12

[networks]
our_net = "nets:make?width=16"

[data_sets]
our-data = "npz:data/train.npz"

[limits]
file_bytes = 4_000_000_000
header_seconds = 2.5
connections = 64
disk_floor_bytes = 0
"""


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "service.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def chosen(*, environment=None, **options):
    return chosen_settings(options, {} if environment is None else environment)


def test_without_a_word_it_is_for_oneself():
    settings, grace = chosen()
    assert settings == ServiceSettings(
        data_dir=Path(platformdirs.user_data_dir("mdtree", appauthor=False)) / "service",
        host="127.0.0.1",
        port=8080,
        workers=1,
        retention=timedelta(days=30),
    )
    assert not settings.tokens
    assert grace == 30


def test_a_file_says_everything(write, tmp_path):
    (tmp_path / "tokens.toml").write_text(f'[tokens]\nalice = "{TOKEN}"')
    (tmp_path / "tokens.toml").chmod(0o600)
    settings, grace = chosen(config=write(WHOLE))
    assert (settings.host, settings.port, settings.workers, settings.device) == ("0.0.0.0", 9000, 3, "cuda:1")
    assert settings.data_dir == tmp_path / "data", "paths lie beside the file"
    assert settings.tokens.owner(TOKEN) == "alice"
    assert settings.database == "postgresql://mdtree@localhost/mdtree"
    assert settings.allowed_hosts == ("mdtree.example.org", "localhost:9000")
    assert (settings.retention, settings.unused_upload) == (timedelta(days=7), timedelta(minutes=90))
    assert settings.registry.network("our_net") == "nets:make?width=16"
    assert settings.registry.data("our-data") == "npz:data/train.npz"
    assert settings.registry.directory == tmp_path
    assert settings.limits == Limits(file_bytes=4 * 10**9, header_seconds=2.5, connections=64, disk_floor_bytes=0)
    assert grace == 12


def test_options_come_before_the_file_and_what_is_not_given_does_not(write, tmp_path):
    config = write("[service]\nport = 9000\nworkers = 3\nallowed_hosts = ['a.example']\ngrace = 12")
    given = {"port": 0, "workers": None, "allowed_hosts": (), "data_dir": tmp_path, "grace": 0.0, "retention_days": 0.5}
    settings, grace = chosen(config=config, **given)
    assert (settings.port, settings.workers, settings.allowed_hosts) == (0, 3, ("a.example",))
    assert settings.data_dir == tmp_path
    assert settings.retention == timedelta(hours=12)
    assert grace == 0
    assert chosen(config=config, allowed_hosts=("b.example",))[0].allowed_hosts == ("b.example",)


def test_every_limit_can_be_set(write):
    for limit in fields(Limits):
        value = limit.default + 1
        assert getattr(read_settings_file(write(f"[limits]\n{limit.name} = {value}")).limits, limit.name) == value


def test_numbers_of_seconds_may_be_whole(write):
    limits = read_settings_file(write("[limits]\nheader_seconds = 3")).limits
    assert limits.header_seconds == 3.0
    assert limits.file_bytes == 2 * GIB


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("port = 1", r"unknown section or key 'port'; expected one of service"),
        ("[limit]", "did you mean limits"),
        ("service = 3", r"service is a int; expected a table \[service\]"),
        ("[service]\nworker = 3", r"\[service\]: unknown key 'worker'; .*did you mean workers"),
        ("[service]\nproxy = 3", r"unknown key 'proxy'"),
        ("[service]\nport = '8080'", "port = '8080'; expected a whole number"),
        ("[service]\nport = true", "port = True"),
        ("[service]\nport = 8080.5", "port = 8080.5"),
        ("[service]\nhost = ''", "host = ''; expected text"),
        ("[service]\nallowed_hosts = 'a'", "expected a list of names"),
        ("[service]\nallowed_hosts = [1]", "expected a list of names"),
        ("[service]\nretention_days = nan", "retention_days = nan; expected a number"),
        ("[service]\ndata_dir = 3", "data_dir = 3; expected a path"),
        ("[limits]\nfile_byte = 3", r"\[limits\]: unknown key 'file_byte'; .*did you mean file_bytes"),
        ("[limits]\nfile_bytes = 0", "file_bytes = 0; expected a number above 0"),
        ("[limits]\nfile_bytes = -1", "file_bytes = -1"),
        ("[limits]\nfile_bytes = 1.5", "expected a whole number"),
        ("[limits]\nheader_seconds = inf", "header_seconds = inf"),
        ("[limits]\nsiblings = '8'", "siblings = '8'"),
        ("[networks]\nnet = 3", "net = 3; expected text"),
        ("[networks]\nnet = ':x'", r"\[networks\]: net: the specification"),
        ("[networks]\nmlp = 'nets:make'", "mlp is built in; expected another name"),
        ("[networks]\n'a b' = 'nets:make'", "'a b' as a name"),
        ("[data_sets]\ndigits = 'npz:a.npz'", "digits is built in"),
        ("[data_sets]\n'../x' = 'npz:a.npz'", "as a name"),
        ("[service", "is no TOML"),
        ("x = '\udcff'", "is no TOML"),
        ("#" * 2**20 + "\n", "more than 1,048,576 bytes"),
    ],
    ids=lambda text: repr(text[:50]),
)
def test_a_mistake_in_the_file_is_one_line_with_its_place(write, tmp_path, text, message):
    path = write("")
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=message) as caught:
        read_settings_file(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("port = 65536", "port = 65536; expected 0 to 65535"),
        ("port = -1", "port = -1"),
        ("workers = 0", "workers = 0; expected 1 to 256"),
        ("device = 'cuda; rm'", "device = 'cuda; rm'"),
        ("retention_days = 0", "retention_days = 0; expected a time above 0"),
        ("retention_days = 1e9", "at most 36,500 days"),
        ("unused_upload_hours = -1", "unused_upload_hours = -1"),
        ("grace = -1", "grace = -1"),
        ("allowed_hosts = ['http://a']", "'http://a' is not the name of a host"),
        ("tokens = 'missing.toml'", "missing.toml cannot be read"),
        ("diagnoser = 'missing.json'", r"missing.json"),
    ],
)
def test_values_that_no_service_can_have_are_refused_at_the_start(write, text, message):
    with pytest.raises(InputError, match=message):
        chosen(config=write(f"[service]\n{text}"))


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(InputError, match=r"missing.toml cannot be read \(No such file or directory\)"):
        chosen(config=tmp_path / "missing.toml")


def test_a_token_of_the_environment(tmp_path):
    environment = {"MDTREE_TOKEN": TOKEN}
    assert chosen(environment=environment)[0].tokens.owner(TOKEN) == "default"
    assert environment == {}


def test_tokens_come_from_one_place(tmp_path):
    path = tmp_path / "tokens.toml"
    path.write_text(f'[tokens]\nalice = "{TOKEN}"')
    path.chmod(0o600)
    with pytest.raises(InputError, match="and in MDTREE_TOKEN; expected one of them"):
        chosen(tokens=path, environment={"MDTREE_TOKEN": TOKEN})
