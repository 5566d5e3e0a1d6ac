"""The `systolith` command. Nothing heavy is imported here: `--help` must not wait for torch."""

from __future__ import annotations

import json
import sys

import typer

from systolith import __version__
from systolith.cli import evaluate, info, run, train, vectors

app = typer.Typer(
    name="systolith",
    help="From a trained low-bit CNN to golden vectors for a systolic array, every step checked for equality.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"systolith {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    pass


app.command("run")(run.run)
app.command("vectors")(vectors.vectors)
app.command("info")(info.info)
app.command("evaluate")(evaluate.evaluate)
app.command("train")(train.train)


def main() -> None:
    """Run the command; bad input becomes one sentence on stderr (with `--json` also on stdout) and exit code 2."""
    try:
        app()
    except BrokenPipeError:
        # The reader of our output went away (`| head`): nothing more to say.
        sys.stderr.close()
        sys.exit(1)
    except Exception as error:
        from systolith.formats import BadInput  # brings NumPy: not for --help

        if not isinstance(error, BadInput):
            raise
        sentence = " ".join(str(error).split())
        print(f"systolith: {sentence}", file=sys.stderr)
        if "--json" in sys.argv:
            print(json.dumps({"error": sentence}))
        sys.exit(2)
