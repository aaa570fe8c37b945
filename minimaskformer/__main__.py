"""`python -m minimaskformer`"""
import sys

from .cli import main

sys.exit(main())
