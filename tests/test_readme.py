"""README.md tells the truth: its commands parse, its files exist, and CI runs its own test command."""

import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest
from skdn_cli.main import COMMANDS, skdn

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL_LINES = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL)).splitlines()
SKDN_LINES = [line for line in SHELL_LINES if line.startswith("skdn ")]


def test_the_first_commands_are_five() -> None:
    (first,) = re.findall(r"## Five commands\s+```sh\n(.*?)```", README, re.DOTALL)
    assert len(first.splitlines()) == 5


@pytest.mark.parametrize("line", [*SKDN_LINES, "skdn demo"], ids=lambda line: line.split("#")[0].strip())
def test_commands_parse(line: str) -> None:
    """The verb exists, takes these options and arguments, and every choice is one of its choices."""
    verb, *arguments = shlex.split(line, comments=True)[1:]
    assert verb in COMMANDS
    context = click.Context(skdn)
    command = skdn.get_command(context, verb)
    assert command is not None
    with command.make_context(verb, arguments, parent=context) as made:
        assert made.args == []


def test_options_in_prose_exist() -> None:
    """Every `--option` outside the shell blocks belongs to some verb, or to skdn itself."""
    context = click.Context(skdn)
    known = {"--help"} | {name for option in skdn.params for name in option.opts}
    for verb in COMMANDS:
        command = skdn.get_command(context, verb)
        assert command is not None
        known |= {name for option in command.params for name in option.opts}
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    named = {option for span in re.findall(r"`([^`]+)`", prose) for option in re.findall(r"--[a-z-]+", span)}
    assert named
    assert named <= known


def test_files_exist() -> None:
    """Paths in code spans, and pictures and links that are not web addresses."""
    spans = re.findall(r"`([\w.-]+/[\w./-]*|LICENSE|[\w-]+\.(?:md|txt|toml))`", README)
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", README)
    missing = [path for path in spans + links if not (ROOT / path).exists()]
    assert spans
    assert not missing


def test_install_and_test_commands_use_what_is_there() -> None:
    installs = [line for line in SHELL_LINES if line.startswith("python3 -m venv .venv && ")]
    assert len(installs) == 2
    for line in installs:
        (extras,) = re.findall(r'"\.\[([a-z,]+)\]"', line)
        assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
        assert "-c constraints.txt" in line


def test_ci_finds_exactly_one_test_command() -> None:
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    (pattern,) = re.findall(r"grep -x '([^']+)' README\.md", script)
    matches = [line for line in README.splitlines() if re.fullmatch(pattern, line)]
    assert len(matches) == 1
    assert matches[0].endswith(".venv/bin/pytest")


def test_every_requirement_is_pinned() -> None:
    """constraints.txt names every direct dependency; plain onnxruntime is for untested platforms."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.split("==")[0] for line in lines if re.fullmatch(r"[\w.-]+==[\w.]+", line)}
    assert len(pinned) == len(lines) - 1  # the first line is a comment
    requirements = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    required = {re.match(r"[\w-]+", line)[0] for group in requirements for line in group}
    assert required - {"onnxruntime"} <= pinned
