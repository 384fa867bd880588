"""The command line: `token-broker …`."""

import typer

from broker import __version__
from broker.cli import audit, doctor, installs, keys, operate, policy, sandbox, token

app = typer.Typer(
    name="token-broker",
    help="Keeps the OAuth tokens of Envoy (envoy.com) app installs, and hands out valid ones over gRPC.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(operate.serve)
app.command()(operate.migrate)
app.command()(doctor.doctor)
app.add_typer(keys.keys, name="keys")
app.add_typer(token.token, name="token")
app.add_typer(installs.installs, name="installs")
app.add_typer(policy.policy, name="policy")
app.add_typer(audit.audit, name="audit")
app.add_typer(sandbox.sandbox, name="sandbox")


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """The entry point of `token-broker`."""
    app()
