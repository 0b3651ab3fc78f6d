"""`mixpeek-batches completion`: completion of options and file names in a shell."""

from __future__ import annotations

import click


@click.command
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash:  eval "$(mixpeek-batches completion bash)"               in ~/.bashrc
    zsh:   eval "$(mixpeek-batches completion zsh)"                in ~/.zshrc, after compinit
    fish:  mixpeek-batches completion fish > ~/.config/fish/completions/mixpeek-batches.fish
    """  # noqa: D301 - \b is click's: it keeps the following lines as they are
    from click.shell_completion import get_completion_class  # noqa: PLC0415 - not needed otherwise

    complete = get_completion_class(shell)
    assert complete is not None
    root = context.find_root()
    print(complete(root.command, {}, "mixpeek-batches", "_MIXPEEK_BATCHES_COMPLETE").source())
