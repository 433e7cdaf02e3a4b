"""``python -m rdknotify``."""

from rdknotify.cli import main

main()
