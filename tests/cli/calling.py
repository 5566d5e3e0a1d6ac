"""How the tests call commands: in this process, or in one of their own where that is what matters."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from systolith.cli.main import main


def call(
    *args: object, cwd: Path | None = None, code: str | None = None, process: bool = False, **env: str
) -> subprocess.CompletedProcess[str]:
    """What `systolith ARGS` prints and its exit code; a process of its own with `process`, `code` or `env`."""
    if not (process or code or env):
        return _in_process([str(arg) for arg in args], cwd or Path.cwd())
    start = [sys.executable, "-c", code] if code else [sys.executable, "-m", "systolith"]
    return subprocess.run(
        [*start, *map(str, args)], capture_output=True, text=True, cwd=cwd, env={**os.environ, **env}, check=False
    )


def _in_process(args: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """The same from `main` on: torch is loaded once for all tests, not once a command."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    handler, argv = signal.getsignal(signal.SIGTERM), sys.argv
    try:
        sys.argv = ["systolith", *args]
        with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        sys.argv = argv
        signal.signal(signal.SIGTERM, handler)
    return subprocess.CompletedProcess(args, code, out.getvalue(), err.getvalue())


def refuse(result: subprocess.CompletedProcess[str], *parts: str) -> None:
    """Exit code 2, one line on stderr with these parts, nothing on stdout."""
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if line]
    assert len(lines) == 1, result.stderr
    for part in parts:
        assert part in lines[0]


def one_object(result: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert result.returncode == 0, result.stderr
    value = json.loads(result.stdout)
    assert isinstance(value, dict)
    return value


# Torch as if it were not installed.
NO_TORCH = (
    "import sys; sys.modules['torch'] = None\n"
    "import importlib.util as u; f = u.find_spec\n"
    "u.find_spec = lambda n, *a: None if n == 'torch' else f(n, *a)\n"
    "from systolith.cli.main import main; main()"
)
