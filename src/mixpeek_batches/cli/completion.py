"""`mixpeek-batches completion`: what a shell needs to complete options and files."""

from __future__ import annotations

import click


@click.command
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the shell completion of this command.

    \b
    bash:  eval "$(mixpeek-batches completion bash)"               in ~/.bashrc
    zsh:   eval "$(mixpeek-batches completion zsh)"                in ~/.zshrc, after compinit
    fish:  mixpeek-batches completion fish > ~/.config/fish/completions/mixpeek-batches.fish
    """  # noqa: D301 - \b is click's, which leaves the lines after it as they are
    from click.shell_completion import get_completion_class  # noqa: PLC0415 - not needed otherwise

    made = get_completion_class(shell)
    assert made is not None
    root = context.find_root()
    print(made(root.command, {}, "mixpeek-batches", "_MIXPEEK_BATCHES_COMPLETE").source())
