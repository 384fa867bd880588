"""Steps of Envoy: what happens to an install there, and requests to an API in its place."""

from clients.conformance.expectations import UnmetError, compare_response
from clients.conformance.stage import CLIENT, Stage
from clients.conformance.table import Step
from clients.conformance.world import company_of


async def refresh(stage: Stage, step: Step) -> None:
    """The broker has a new generation."""
    await stage.world.refresh(stage.ids[step["refresh"]])


async def uninstall(stage: Stage, step: Step) -> None:
    """The company removes the app."""
    await stage.world.uninstall(stage.ids[step["uninstall"]])


async def install(stage: Stage, step: Step) -> None:
    """The company installs the app (again)."""
    await stage.world.install(stage.ids[step["install"]])


async def envoy(stage: Stage, step: Step) -> None:
    """Envoy `refuses` an install, is `broken` for it, has `revoked` its tokens, or `heals`."""
    acts = {
        "refuses": stage.world.refuse,
        "broken": stage.world.break_envoy,
        "revoked": stage.world.kill_token,
        "heals": stage.world.heal_envoy,
    }
    await acts[step["envoy"]](stage.ids[step["of"]])


async def api(stage: Stage, step: Step) -> None:
    """What the API in Envoy's place answers next."""
    stage.world.api.seen.clear()
    stage.world.elsewhere.seen.clear()
    stage.world.api.answers = list(step["api"])


async def request(stage: Stage, step: Step) -> None:
    """A request by the HTTP adapter; to the API, `elsewhere`, or `envoy` itself. `as`: nobody waits for it yet."""
    origins = {"api": stage.world.api.origin, "elsewhere": stage.world.elsewhere.origin}
    origins["envoy"] = stage.world.envoy_origin
    install = stage.ids[step["request"]]
    to: str = step.get("to", "api")
    origin: str = step.get("origin", to)
    path = step.get("path", "/anything").replace("COMPANY", company_of(install))
    pending = stage.adapter.send(
        "request",
        client=CLIENT,
        install=install,
        method=step.get("method", "GET"),
        url=origins[to] + path,
        origin=origins[origin],
        body=step.get("body"),
        replayable=step.get("replayable"),
    )
    if "as" in step:
        stage.pending.setdefault(step["as"], []).append(pending)
    else:
        compare_response(step["expect"], await stage.answer(pending))


async def api_saw(stage: Stage, step: Step) -> None:
    """The requests that came there: whether each had a token, and its body."""
    place = stage.world.elsewhere if step.get("at") == "elsewhere" else stage.world.api
    seen = [{"token": bool(each["token"]), "body": each["body"]} for each in place.seen]
    expected = [{"token": True, "body": "", **each} for each in step["api_saw"]]
    if seen != expected:
        raise UnmetError(f"saw {seen}")
    tokens = [each["token"] for each in place.seen if each["token"]]
    if step.get("different_tokens") and len(set(tokens)) != len(tokens):
        raise UnmetError("the same token came twice")
