"""The `systolith` command. Nothing heavy is imported here: `--help` must not wait for torch."""

from __future__ import annotations

import json
import os
import signal
import sys

import typer

from systolith.cli import (
    check,
    convert,
    cosim,
    evaluate,
    explore,
    export,
    grade,
    import_model,
    info,
    layout,
    lower,
    mutate,
    project,
    run,
    simulate,
    synth,
    train,
    vectors,
    verify,
    view,
)
from systolith.cli.command import Grouped
from systolith.version import __version__

app = typer.Typer(
    name="systolith",
    help="From a trained low-bit CNN to hardware that provably computes it, every step checked for equality.",
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


COMMANDS = (
    run.run,
    vectors.vectors,
    check.check,
    grade.grade,
    convert.convert,
    simulate.simulate,
    explore.explore,
    cosim.cosim,
    mutate.mutate,
    synth.synth,
    view.view,
    info.info,
    evaluate.evaluate,
    import_model.import_model,
    lower.lower,
    export.export,
    verify.verify,
    train.train,
)
for command in COMMANDS:
    # `import` is no name for a function.
    app.command(command.__name__.removesuffix("_model"), cls=Grouped)(command)
app.add_typer(layout.app, name="layout")
app.add_typer(project.app, name="project")


def main() -> None:
    """Run the command; exit codes: 0 all well, 1 a difference, 2 bad input (one sentence), 3 a fault of this program.

    With `--json` the sentence is also a JSON object on stdout. SYSTOLITH_TRACEBACK=1 shows where a fault came from.
    """
    # torch's threads spin while they wait for one another: on a machine with other work, ten times as long as the work.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # Whoever ends us politely gets what Ctrl-C gives: nothing half-written, no simulator left running.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except BrokenPipeError:
        # The reader of our output went away (`| head`): nothing more to say.
        sys.stderr.close()
        sys.exit(1)
    except (KeyboardInterrupt, typer.Abort) as stop:
        if str(stop):  # of a training, which has saved where it is
            _say(str(stop))
        sys.exit(130)
    except Exception as error:
        if os.environ.get("SYSTOLITH_TRACEBACK"):
            raise
        sentence, code = _explain(error)
        _say(sentence)
        sys.exit(code)


def _say(sentence: str) -> None:
    """Why it ended, on stderr, and with --json as an object on stdout."""
    print(f"systolith: {sentence}", file=sys.stderr)
    if "--json" in sys.argv and os.environ.get("RANK", "0") == "0":  # under torchrun one process speaks
        print(json.dumps({"error": sentence}))


def _explain(error: Exception) -> tuple[str, int]:
    """One sentence and the exit code."""
    from systolith.formats import BadInput  # brings NumPy: not for --help

    if isinstance(error, BadInput):
        text, code = str(error), 2
    elif hasattr(error, "format_message"):  # a usage error of click's, which newer typers carry inside themselves
        text, code = error.format_message(), 2
    elif isinstance(error, MemoryError):
        text, code = f"not enough memory ({error})", 2
    elif isinstance(error, OSError):
        text, code = f"{error.filename or 'a file'}: {error.strerror or error}", 2
    else:
        text, code = f"a fault of this program, {type(error).__name__}: {error} (SYSTOLITH_TRACEBACK=1 shows where)", 3
    return " ".join(text.split()), code
