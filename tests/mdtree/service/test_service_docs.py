"""The pages about the service say what is so, and its unit, its image and its proxy fit each other and the command."""

import json
import re
import shlex
import tomllib
from configparser import ConfigParser
from dataclasses import fields
from datetime import timedelta

import pytest
from doc_pages import ROOT, Block
from service_started import started
from test_docs import check_command

from landscape import Protocol
from mdtree.errors import InputError
from mdtree.service.settings import GIB, KIB, MIB, Limits, ServiceSettings
from mdtree.service.settings_file import read_settings_file
from mdtree.service.token_file import read_token_file

DOCS = ROOT / "docs"
DEPLOY = DOCS / "deploy"
PAGE = (DOCS / "service.md").read_text(encoding="utf-8")
DEPLOYING = (DOCS / "deploying.md").read_text(encoding="utf-8")
NOT_FOR_CLIENTS = {"/v1/zoo-map"}
"""What only the page asks for."""


@pytest.fixture(scope="module")
def settings():
    """The configuration of the page about deploying."""
    return read_settings_file(DEPLOY / "service.toml")


@pytest.fixture(scope="module")
def unit():
    """The unit of systemd, by section."""
    parser = ConfigParser(interpolation=None, delimiters="=", comment_prefixes="#")
    parser.optionxform = str
    parser.read(DEPLOY / "mdtree.service")
    return parser


def assert_is_a_command(words):
    assert words[1] == "serve"
    check_command(Block("deploying.md", 1, "console", ""), ["mdtree", *words[1:]])


def option(words, name):
    return words[words.index(name) + 1]


# --- what runs


def test_the_unit_starts_the_command(unit):
    words = shlex.split(unit["Service"]["ExecStart"])
    assert words[0] == "/opt/mdtree/bin/mdtree"
    assert_is_a_command(words)
    credential = unit["Service"]["LoadCredential"].split(":")[0]
    assert option(words, "--tokens") == f"${{CREDENTIALS_DIRECTORY}}/{credential}"
    assert option(words, "--data-dir") == "${STATE_DIRECTORY}"


def test_the_unit_leaves_the_end_to_the_server_and_gives_it_time(unit):
    words = shlex.split(unit["Service"]["ExecStart"])
    assert unit["Service"]["KillMode"] == "mixed"
    assert int(unit["Service"]["TimeoutStopSec"]) > float(option(words, "--grace")) + 10
    assert int(unit["Service"]["RestartPreventExitStatus"]) == InputError.exit_code


def test_the_image_starts_the_command_and_asks_whether_it_is_ready():
    text = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
    entry = json.loads(re.search(r"^ENTRYPOINT (.+)$", text, re.MULTILINE)[1])
    assert_is_a_command(entry)
    assert option(entry, "--data-dir") == re.search(r"^VOLUME (.+)$", text, re.MULTILINE)[1]
    port = re.search(r"^EXPOSE (\d+)$", text, re.MULTILINE)[1]
    assert option(entry, "--port") == port
    check = json.loads(re.search(r"^HEALTHCHECK .*?CMD (.+)$", text, re.MULTILINE)[1])
    compile(check[2], "HEALTHCHECK", "exec")
    assert f"http://127.0.0.1:{port}/ready" in check[2]
    run = re.search(r"podman run .*?\n    mdtree (.+?)\n```", DEPLOYING, re.DOTALL)
    words = ["mdtree", *entry[1:], *shlex.split(run[1])]
    assert_is_a_command(words)
    assert float(option(words, "--grace")) < int(re.search(r"--stop-timeout (\d+)", run[0])[1])


def test_the_proxy_hands_on_what_the_service_answers_to(settings):
    text = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
    name = re.search(r"server_name (\S+);", text)[1]
    assert (name,) == settings.service["allowed_hosts"]
    assert f"--allow-host {name}" in DEPLOYING
    assert "proxy_set_header Host $host;" in text
    assert "proxy_request_buffering off;" in text
    default = ServiceSettings(data_dir=ROOT)
    assert f"proxy_pass http://{default.host}:{default.port};" in text
    allowed = re.search(r"client_max_body_size (\d+)g;", text)[1]
    assert int(allowed) * GIB == settings.limits.file_bytes == Limits().file_bytes


def test_tokens_of_the_page_are_tokens(tmp_path):
    shown = re.search(r"```toml\n(# tokens.toml.*?)```", PAGE, re.DOTALL)[1]
    file = tmp_path / "tokens.toml"
    file.write_text(shown)
    file.chmod(0o600)
    tokens = tomllib.loads(shown)["tokens"]
    assert read_token_file(file).owner(tokens["alice"]) == "alice"
    assert sorted(read_token_file(file).owner_of.values()) == ["alice", "ci"]


# --- what the page says


def written(value):
    """A limit as the page writes it."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if value % unit == 0 and value:
            return f"{value // unit} {name}"
    return f"{value:,.0f}" if value >= 10_000 else f"{value:g}"


def test_every_limit_has_its_line_with_its_default():
    section = PAGE[PAGE.index("## Limits") : PAGE.index("`[service]` in the same file")]
    found = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:3]]
        names = re.findall(r"`(\w+)`", cells[0]) if len(cells) == 2 else []
        if len(names) == 1:
            found[names[0]] = cells[1]
        elif names:
            found.update(zip(names, cells[1].split(", "), strict=True))
    assert found == {one.name: written(one.default) for one in fields(Limits)}


def test_every_key_of_the_configuration_is_named(tmp_path):
    (tmp_path / "service.toml").write_text("[service]\nno_such_key = 1\n")
    with pytest.raises(InputError) as refused:
        read_settings_file(tmp_path / "service.toml")
    known = refused.value.expected.removeprefix("one of ").split(", ")
    said = PAGE[PAGE.index("`[service]` in the same file") :].split(". ")[0]
    assert sorted(re.findall(r"`(\w+)`", said)) == sorted(known)


def test_as_many_samples_are_looked_at():
    assert f"No more than {Protocol().samples:,} samples" in PAGE


def test_times_are_those_of_the_settings():
    default = ServiceSettings(data_dir=ROOT)
    assert default.retention == timedelta(days=30)
    assert "Ended jobs are deleted after 30 days" in PAGE
    assert default.unused_upload == timedelta(days=1)
    assert "uploads after a day" in PAGE


def test_addresses_and_metrics_of_the_page_are_those_of_a_service(tmp_path):
    with started(tmp_path) as service, service.client() as client:
        documented = client.get("/openapi.json").json()["paths"]
        metrics = client.get("/metrics").text
        assert client.get("/ready").json()["status"] == "ready"
    paths = {re.sub(r"\{\w+\}", "ID", path) for path in documented if path.startswith("/v1/")} - NOT_FOR_CLIENTS
    table = PAGE[PAGE.index("`POST /v1/files?name=NAME`") : PAGE.index('Errors are `{"error"')]
    for path in paths:
        stem = path.removesuffix("/result").removesuffix("/report")
        assert stem in table, path
    assert set(re.findall(r"/v1/[\w/-]+", table)) <= paths
    watching = PAGE[PAGE.index("## Watching it") :]
    said = {name: labels for name, labels in re.findall(r"`(mdtree_\w+)(?:\{([a-z,]+)\})?`", watching)}
    exposed = {}
    for name, labels in re.findall(r"^(mdtree_\w+?)(?:\{(.*)\})? ", metrics, re.MULTILINE):
        if not name.endswith("_created"):
            base = re.sub(r"_(bucket|sum|count)$", "", name)
            exposed.setdefault(base, set()).update(set(re.findall(r"(\w+)=", labels)) - {"le"})
    del exposed["mdtree_info"]
    del said["mdtree_refused_connections_total"]  # none was refused
    assert {name: set(filter(None, labels.split(","))) for name, labels in said.items()} == exposed
