"""The command `ups`."""

import os
import sys


def main() -> None:
    """Run the command line: exit code 0, 1 with one paragraph on stderr, or 2 for a command that does not exist."""
    from ups.errors import UpsError

    try:
        from ups.cli.app import app
    except ModuleNotFoundError as missing:
        print(
            f"ups: the command line needs {missing.name}, which the library alone does not bring. Install the pipeline "
            "(`make repro` in a clone does), or use the library: `import ups`.",
            file=sys.stderr,
        )
        sys.exit(1)

    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except UpsError as error:
        print(f"ups: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # whoever read the output is gone, as in `ups results | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or flushing at the end fails again
        sys.exit(1)
    except OSError as error:
        what = f"{error.strerror}: {error.filename}" if error.filename else str(error)
        print(f"ups: {what}. What was finished is kept: mend it and run the same command again.", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("ups: interrupted.", file=sys.stderr)
        sys.exit(130)
