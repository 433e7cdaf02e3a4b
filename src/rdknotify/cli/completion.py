"""``rdknotify completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from rdknotify.errors import ConfigError

__all__ = ["command"]


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print what makes a shell complete commands, options and their values.

    \b
    bash    eval "$(rdknotify completion bash)"     in ~/.bashrc
    zsh     eval "$(rdknotify completion zsh)"      in ~/.zshrc, after compinit
    fish    rdknotify completion fish > ~/.config/fish/completions/rdknotify.fish
    """
    from rdknotify.cli import commands

    kind = get_completion_class(shell)
    if kind is None:
        raise ConfigError(f"this release of click completes nothing for {shell}")
    click.echo(kind(commands, {}, "rdknotify", "_RDKNOTIFY_COMPLETE").source())
