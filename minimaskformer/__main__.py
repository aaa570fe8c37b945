"""`python -m minimaskformer`"""
import sys

if __name__ == "__main__":
    try:
        from .commands.cli import main
        sys.exit(main())
    except KeyboardInterrupt:  # before or after the command itself
        print("stopped", file=sys.stderr)
        sys.exit(130)
