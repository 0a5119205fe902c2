"""`skdn` in the test's own process, where fixtures reach it."""

from click.testing import CliRunner, Result
from skdn_cli.main import skdn


def invoke(*words: object) -> Result:
    """What one command gave; an error it would tell the user in a line is raised."""
    return CliRunner().invoke(skdn, [str(word) for word in words], catch_exceptions=False)


def succeed(*words: object) -> str:
    """The standard output of one command, which must succeed."""
    result = invoke(*words)
    assert result.exit_code == 0, result.output
    return result.stdout
