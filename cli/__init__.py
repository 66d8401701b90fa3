"""The `cxrfeat` command."""

import sys


def main() -> None:
    """Entry point of the installed command; nothing else is imported before Ctrl-C is looked after."""
    try:
        from .main import main
    except KeyboardInterrupt:
        print("stopped.", file=sys.stderr)
        raise SystemExit(130) from None
    main()
