"""How the simulated Envoy behaves: one answer for each thing that the real one leaves undocumented."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

DAY_SECONDS = 86_400
MAX_HUGE_MEBIBYTES = 1_024

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
LifetimeSeconds = Annotated[int, Field(ge=1)]


class Behaviour(BaseModel):
    """One way of answering token requests. The fields are independent; the defaults are the documented Envoy.

    A request passes these stations, in this order: latency, ``held: before_processing``, processing
    (refuse, or issue), ``held: after_processing``, the answer (cut, status, body).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    rotation: Literal["none", "grace", "strict", "family_revoked"] = "strict"
    """What becomes of a presented refresh token. none: it comes back in the answer and stays good;
    grace: spent, but good for ``grace_seconds`` more; strict: spent, refused from then on;
    family_revoked: as strict, and presenting it again kills every token that descends from the same mint."""
    grace_seconds: Seconds = 60
    mint_invalidates_earlier: bool = False
    """Whether a plugin_install grant revokes the install's earlier tokens."""
    refresh_extends_refresh_lifetime: bool = True
    """False: the next refresh token ends when the first one of its family would have ended."""
    access_token_lifetime_seconds: LifetimeSeconds = DAY_SECONDS
    refresh_token_lifetime_seconds: LifetimeSeconds = 30 * DAY_SECONDS

    refuse: Literal["none", "grant", "client"] = "none"
    """grant: answer invalid_grant; client: answer 401 invalid_client. Nothing is spent or issued."""
    refusal_status: Literal[400, 401] = 400
    """The status of invalid_grant. Older code of Envoy's own expects 401, RFC 6749 section 5.2 says 400."""

    latency_seconds: Seconds = 0
    """Waited before the request is processed."""
    held: Literal["none", "before_processing", "after_processing"] = "none"
    """Where the request waits for ``POST /_simulator/release``."""
    process_after_seconds: Seconds | None = None
    """Not null: the request is processed this long after it was answered. As there is no token to answer
    with, the answer is ``status``, or else a cut. ``held: before_processing`` then holds the processing."""

    cut: Literal["none", "before_processing", "after_processing", "mid_answer"] = "none"
    """Where the connection is dropped. Before or after processing: not one byte is answered."""
    status: Annotated[int, Field(ge=300, le=599)] | None = None
    """Answered in place of the documented answer; a 3xx points to the other documented address."""
    status_after_processing: bool = False
    """Whether tokens are spent and issued before ``status`` is answered."""
    retry_after_seconds: Annotated[int, Field(ge=0)] | None = None
    """The Retry-After header beside ``status``."""

    body: Literal["documented", "truncated", "huge", "not_json", "deeply_nested", "duplicate_keys"] = (
        "documented"
    )
    """The form of a 200's body; each says Content-Type: application/json."""
    huge_mebibytes: Annotated[int, Field(ge=1, le=MAX_HUGE_MEBIBYTES)] = 64
    overrides: dict[str, Any] = Field(default_factory=dict)
    """Merged over a 200's fields. ``NaN`` and ``Infinity`` are accepted, and answered as such."""
    omit: tuple[str, ...] = ()
    """Fields left out of a 200."""


class BehaviourChange(Behaviour):
    """What is asked by ``PUT /_simulator/behaviour``: the named fields apply, for good or for some requests."""

    remaining: Annotated[int, Field(ge=1)] | None = None
    """How many token requests this applies to. Null: until it is changed."""

    def named_fields(self) -> dict[str, Any]:
        """The fields of `Behaviour` that the request named."""
        return {name: getattr(self, name) for name in self.model_fields_set if name in Behaviour.model_fields}
