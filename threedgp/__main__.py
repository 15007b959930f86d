"""``python -m threedgp``."""

from threedgp.cli import main

main()
