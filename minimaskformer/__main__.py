"""`python -m minimaskformer`"""
import sys

from .commands.cli import main

sys.exit(main())
