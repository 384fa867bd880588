"""The command line: `token-broker …`."""

import typer

from broker import __version__
from broker.cli import client, operate, sandbox

app = typer.Typer(
    name="token-broker",
    help="Keeps the OAuth tokens of Envoy (envoy.com) app installs, and hands out valid ones over gRPC.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command()(operate.serve)
app.command()(operate.migrate)
app.add_typer(operate.keys, name="keys")
app.add_typer(client.token, name="token")
app.add_typer(client.installs, name="installs")
app.add_typer(sandbox.sandbox, name="sandbox")


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """The entry point of `token-broker`."""
    app()
