"""What may be asked of ``/_simulator``: the shapes of its JSON, checked so that a mistake names its field."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from starlette.requests import Request

from broker.sandbox.simulated_envoy.ledger import Stage
from broker.sandbox.simulated_envoy.webhooks import RETRY_INTERVAL_SECONDS, loopback_url

MAX_ID_CHARACTERS = 256
MAX_AWAITED_SECONDS = 60.0

Asked = TypeVar("Asked", bound=BaseModel)


class ControlRequestError(Exception):
    """The request to ``/_simulator`` can't be served. Names the field, never its value."""

    def __init__(self, field: str, message: str, status: int = 400) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message
        self.status = status


def _id_as_text(value: object) -> object:
    """Ids are numbers in some of Envoy's documents and strings in others."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Identifier = Annotated[str, BeforeValidator(_id_as_text), Field(min_length=1, max_length=MAX_ID_CHARACTERS)]
LoopbackUrl = Annotated[str, AfterValidator(loopback_url)]


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class SendRequest(_Request):
    """``POST /_simulator/installs/{install_id}/webhook`` and ``…/uninstall``."""

    plugin_id: Identifier | None = None
    webhook_url: LoopbackUrl | None = None
    retries: bool = False
    """Send again until answered 2xx, as Envoy does. The answer to this request waits for the end."""
    retry_interval_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = RETRY_INTERVAL_SECONDS


class InstallRequest(SendRequest):
    """``POST /_simulator/installs``. Without ``webhook_url`` the webhook is built and signed, and not sent."""

    install_id: Identifier
    company_id: Identifier
    kind: Literal["route", "validation"] = "route"
    route: str | None = None
    config: dict[str, Any] | None = None
    params: dict[str, Any] | None = None
    payload: dict[str, Any] | None = None
    auth: None = None
    """Named as null: the webhook's ``auth`` is null, as of an app that asked for no scopes."""


class LedgerQuery(BaseModel):
    """``GET /_simulator/ledger``: wait until so many requests have come as far as ``until``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    install_id: str | None = None
    await_requests: Annotated[int, Field(ge=0)] = 0
    until: Stage = "arrived"
    timeout_seconds: Annotated[float, Field(ge=0, le=MAX_AWAITED_SECONDS)] = 10.0


async def read_body(request: Request, shape: type[Asked]) -> Asked:
    """The request's JSON in that shape; an empty body is an empty object.

    Raises:
        ControlRequestError: It is not JSON, or a field is unknown, missing or wrong.
    """
    try:
        return shape.model_validate_json(await request.body() or b"{}")
    except ValidationError as error:
        raise _named(error) from None


def read_query(request: Request, shape: type[Asked]) -> Asked:
    """The request's query parameters in that shape.

    Raises:
        ControlRequestError: A parameter is unknown or wrong.
    """
    try:
        return shape.model_validate(dict(request.query_params))
    except ValidationError as error:
        raise _named(error) from None


def _named(error: ValidationError) -> ControlRequestError:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return ControlRequestError(".".join(map(str, first["loc"])) or "body", first["msg"])
