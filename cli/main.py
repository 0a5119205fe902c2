"""`skdn`: the group that finds a verb's file when it is called, so that `--help` imports nothing heavy."""

from __future__ import annotations

import importlib
import sys

import click

COMMANDS = {
    "search": "Search for an architecture with superkernels.",
    "distil": "Read the searched structure and cut the fixed network.",
    "finetune": "Train the distilled network on.",
    "export": "Write a run's network as a small ONNX file, proven equal.",
    "denoise": "Denoise raw photographs.",
    "profile": "Time a model on the provider that really runs.",
    "providers": "Show what can run a model here, and what is missing.",
    "eval": "Measure PSNR and SSIM on pairs, photographs or test charts.",
    "show": "Describe a run or a model file.",
    "models": "List the models that ship with skdn.",
    "demo": "Search, export and denoise on embedded data, in four minutes.",
}
"""Verb -> one line of help. The verb's module is `skdn_cli.<verb>`, its command the attribute `command`."""


class LazyGroup(click.Group):
    """Imports a verb's module only when that verb is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"skdn_cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="skdn")
@click.option("--debug", is_flag=True, help="Show a traceback instead of one line when something fails.")
def skdn(debug: bool) -> None:
    """Search for a raw denoiser, then deploy it."""


def main() -> None:
    """Run `skdn`. Exit 0: done; 1: an error the user can act on, in one line; 2: usage; 130: interrupted."""
    from sk_deploy.errors import SkdnError

    debug = "--debug" in sys.argv[1:2]
    try:
        sys.exit(skdn(standalone_mode=False))
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.Abort:
        fail("interrupted", 130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except Exception as error:
        if debug:
            raise
        if isinstance(error, SkdnError):
            fail(str(error))
        if isinstance(error, ModuleNotFoundError):
            fail(f"this needs {error.name}: pip install 'skdn[search]'")
        message = " ".join(str(error).split())
        fail(f"{type(error).__name__}: {message}; `skdn --debug ...` shows where")


def fail(message: str, status: int = 1) -> None:
    """One line on stderr, and the exit status."""
    print(f"skdn: {message}", file=sys.stderr)
    sys.exit(status)
