"""``python -m rdknotify``, and the command ``rdknotify``."""

import signal


def run() -> None:
    """:func:`rdknotify.cli.main`, with Ctrl-C ending the process quietly also while modules are loaded, and at exit."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where it is ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from rdknotify.cli import main

    try:
        main()
    finally:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    run()
