"""`token-broker installs`: installs, as a running broker knows them."""

from collections.abc import Iterator
from typing import Annotated, Final

import typer

from broker.cli import completion
from broker.cli.channel import DEADLINE_SECONDS, Callee, calls_a_broker
from broker.cli.install_card import LIST_HEADER, STATE_PREFIX, card, list_row
from broker.cli.printing import AsJson, InstallId, Table, as_json_text
from tokenbroker.v1 import installs_pb2, installs_pb2_grpc

PAGE_SIZE: Final = 200

installs = typer.Typer(help="Installs, as a running broker knows them.", no_args_is_help=True)


@installs.command("list")
@calls_a_broker
def list_installs(
    callee: Callee,
    company: Annotated[str, typer.Option(help="Only installs of this company.")] = "",
    state: Annotated[
        str,
        typer.Option(autocompletion=completion.states, help="Only installs in this state, such as ACTIVE."),
    ] = "",
    *,
    failing: Annotated[
        bool,
        typer.Option(
            "--failing", help="Only installs whose last attempt failed, or that need re-authorization."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List installs, a line each."""
    request = installs_pb2.ListInstallsRequest(
        plugin_id=callee.plugin_id,
        company_id=company,
        state=_state_number(state),
        page_size=PAGE_SIZE,
        failing=failing,
    )
    table, shown = Table(*LIST_HEADER), 0
    with callee.channel() as channel:
        for page in _pages(installs_pb2_grpc.InstallsStub(channel), request):
            shown += len(page)
            for line in (
                map(as_json_text, page) if as_json else table.lines([list_row(each) for each in page])
            ):
                typer.echo(line)
    if not shown and not as_json:
        typer.echo("no installs", err=True)


@installs.command("get")
@calls_a_broker
def get_install(callee: Callee, install_id: InstallId, *, as_json: AsJson = False) -> None:
    """Show all that is known of one install, and its last attempts. Never a token."""
    request = installs_pb2.GetInstallRequest(plugin_id=callee.plugin_id, install_id=install_id)
    with callee.channel() as channel:
        stub = installs_pb2_grpc.InstallsStub(channel)
        _show(stub.GetInstall(request, timeout=DEADLINE_SECONDS).install, as_json=as_json)


@installs.command("refresh")
@calls_a_broker
def refresh_install(callee: Callee, install_id: InstallId, *, as_json: AsJson = False) -> None:
    """Fetch a new token pair now, due or not, and show the install."""
    request = installs_pb2.RefreshInstallRequest(plugin_id=callee.plugin_id, install_id=install_id)
    with callee.channel() as channel:
        stub = installs_pb2_grpc.InstallsStub(channel)
        _show(stub.RefreshInstall(request, timeout=DEADLINE_SECONDS).install, as_json=as_json)


@installs.command("delete")
@calls_a_broker
def delete_install(callee: Callee, install_id: InstallId, *, as_json: AsJson = False) -> None:
    """Destroy an install's tokens, leave a tombstone, and show it."""
    request = installs_pb2.DeleteInstallRequest(plugin_id=callee.plugin_id, install_id=install_id)
    with callee.channel() as channel:
        stub = installs_pb2_grpc.InstallsStub(channel)
        _show(stub.DeleteInstall(request, timeout=DEADLINE_SECONDS).install, as_json=as_json)


def _pages(
    stub: "installs_pb2_grpc.InstallsStub", request: installs_pb2.ListInstallsRequest
) -> Iterator[list[installs_pb2.Install]]:
    """The installs, page by page; none is empty."""
    while True:
        page = stub.ListInstalls(request, timeout=DEADLINE_SECONDS)
        if page.installs:
            yield list(page.installs)
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def _show(install: installs_pb2.Install, *, as_json: bool) -> None:
    typer.echo(as_json_text(install, indent=2) if as_json else "\n".join(card(install)))


def _state_number(state: str) -> "installs_pb2.InstallState.ValueType":
    if not state:
        return installs_pb2.INSTALL_STATE_UNSPECIFIED
    try:
        return installs_pb2.InstallState.Value(STATE_PREFIX + state.upper())
    except ValueError:
        known = [name.removeprefix(STATE_PREFIX) for name in installs_pb2.InstallState.keys()[1:]]
        raise typer.BadParameter(f"must be one of {', '.join(known)}", param_hint="--state") from None
