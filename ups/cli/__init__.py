"""The command `ups`."""

import sys


def main() -> None:
    """Run the command line: exit code 0, 1 with one paragraph on stderr, or 2 for a command that does not exist."""
    from ups.cli.app import app
    from ups.errors import UpsError

    try:
        app()
    except UpsError as error:
        print(f"ups: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("ups: interrupted.", file=sys.stderr)
        sys.exit(130)
