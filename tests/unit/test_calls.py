"""Who may do what to which install (P6), and that it goes on record before it is done (P7)."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from broker.domain.callers import Caller, KnownBy, Operation, Subject
from broker.domain.errors import AuditUnavailable, InstallNotFound, InvalidField
from broker.domain.identifiers import InstallKey
from broker.domain.installs import InstallFilter
from broker.service.batch_get_tokens import Wanted
from broker.service.calls import BEGUN, DENIED, OK
from broker.service.token_cache import Entry
from tests.fakes.audit_log import FakeAuditLog
from tests.fakes.authorizer import FakeAuthorizer, Line
from tests.fakes.caller import UseCasesOfACaller
from tests.fakes.replica import Replica, World
from tests.fakes.samples import ACCESS_LIFE, KEY, OTHER_KEY

CHECKOUT = Caller("spiffe://test/checkout", KnownBy.CERTIFICATE)
NO_TIME = timedelta(0)


def line(operation: Operation, key: InstallKey = KEY) -> Line:
    """A line of a policy for the caller of these tests."""
    return CHECKOUT.name, operation, key.plugin_id, key.install_id


class Guarded:
    """A replica with a policy and a record, as one caller meets it."""

    def __init__(self, world: World, *lines: Line) -> None:
        self.authorizer, self.audit = FakeAuthorizer(*lines), FakeAuditLog()
        self.replica = Replica(world, authorizer=self.authorizer, audit=self.audit)
        self.caller = UseCasesOfACaller(self.replica.use_cases, CHECKOUT)

    @property
    def outcomes(self) -> list[str]:
        """What stands on record, in order."""
        return [record.outcome for record in self.audit.records]


DOORS: dict[str, Callable[[UseCasesOfACaller], Awaitable[object]]] = {
    "GetToken": lambda caller: caller.get_token("", KEY.install_id),
    "ReportRejectedToken": lambda caller: caller.report_rejected_token("", KEY.install_id, 1),
    "GetInstall": lambda caller: caller.installs.get("", KEY.install_id),
    "RefreshInstall": lambda caller: caller.installs.refresh("", KEY.install_id),
    "DeleteInstall": lambda caller: caller.installs.delete("", KEY.install_id),
}


@pytest.mark.parametrize("door", DOORS)
async def test_without_a_line_in_the_policy_nothing_is_given_and_nothing_done(
    world: World, door: str
) -> None:
    """Deny by default; and the refusal is the one of an install that does not exist, to the letter."""
    guarded = Guarded(world)
    with pytest.raises(InstallNotFound) as unknown:
        await DOORS[door](guarded.caller)
    await world.install()
    world.clock.advance(ACCESS_LIFE)
    with pytest.raises(InstallNotFound) as forbidden:
        await DOORS[door](guarded.caller)
    assert str(forbidden.value) == str(unknown.value)
    assert world.requests == []
    assert world.table.rows[KEY].install.generation == 1
    assert BEGUN not in guarded.outcomes
    assert OK not in guarded.outcomes


@pytest.mark.parametrize("door", DOORS)
async def test_line_gives_one_operation_and_no_other(world: World, door: str) -> None:
    """A service that may read tokens may not delete installs."""
    await world.install()
    others = [line(operation) for operation in Operation if operation != door]
    guarded = Guarded(world, *others)
    with pytest.raises(InstallNotFound):
        await DOORS[door](guarded.caller)
    guarded.authorizer.give(line(Operation(door)))
    await DOORS[door](guarded.caller)


async def test_line_gives_one_install_and_no_other(world: World) -> None:
    """P6: also from memory, where the other one's token lies ready."""
    await world.install(KEY)
    await world.install(OTHER_KEY)
    guarded = Guarded(world, line(Operation.GET_TOKEN, OTHER_KEY))
    await guarded.replica.use_cases.refresher.refresh(KEY, 1)
    assert (await guarded.caller.get_token("", OTHER_KEY.install_id)).holding.install.key == OTHER_KEY
    with pytest.raises(InstallNotFound):
        await guarded.caller.get_token("", KEY.install_id)


async def test_decision_is_asked_once_and_again_under_another_policy(world: World) -> None:
    """A call costs a look into a dictionary; and who loses a right loses it with the next call."""
    await world.install()
    guarded = Guarded(world, line(Operation.GET_TOKEN))
    for _ in range(5):
        await guarded.caller.get_token("", KEY.install_id)
    assert guarded.authorizer.asked == [line(Operation.GET_TOKEN)]
    guarded.authorizer.take(line(Operation.GET_TOKEN))
    with pytest.raises(InstallNotFound):
        await guarded.caller.get_token("", KEY.install_id)


async def test_token_is_on_record_before_it_leaves(world: World) -> None:
    """P7: who, what, which generation, by which policy; a fingerprint, and not the token."""
    await world.install()
    guarded = Guarded(world, line(Operation.GET_TOKEN))
    entry = await guarded.caller.get_token("", KEY.install_id)
    (record,) = guarded.audit.records
    assert (record.caller, record.operation, record.outcome) == (CHECKOUT, Operation.GET_TOKEN, OK)
    assert (record.subject.plugin_id, record.subject.install_id) == KEY
    assert (record.subject.company_id, record.generation) == (entry.holding.install.company_id, 1)
    assert record.policy_version == "policy-1"
    assert record.token_fingerprint
    token = entry.holding.access_token
    assert token is not None
    assert token.reveal() not in repr(record)


async def test_f43_without_the_record_no_token_leaves_and_nothing_is_done(world: World) -> None:
    """No audit, no token; nor a refresh or a deletion that nobody could ever trace."""
    await world.install()
    guarded = Guarded(world, *(line(operation) for operation in Operation))
    guarded.audit.refuses = True
    for door in ("GetToken", "ReportRejectedToken", "RefreshInstall", "DeleteInstall"):
        with pytest.raises(AuditUnavailable):
            await DOORS[door](guarded.caller)
    assert world.requests == []
    assert world.table.rows[KEY].install.generation == 1
    assert not world.table.rows[KEY].install.rejected
    guarded.audit.refuses = False
    assert isinstance(await guarded.caller.get_token("", KEY.install_id), Entry)


async def test_what_can_not_be_undone_is_on_record_before_and_after(world: World) -> None:
    """A broker that dies in between leaves a line that says what it was about to do."""
    await world.install()
    guarded = Guarded(world, line(Operation.DELETE_INSTALL))
    call = guarded.replica.use_cases.guard.begin(CHECKOUT, Operation.DELETE_INSTALL)
    await guarded.replica.use_cases.installs.delete(call, "", KEY.install_id)
    assert guarded.outcomes == [BEGUN]
    await call.end()
    assert guarded.outcomes == [BEGUN, OK]


async def test_refusal_is_on_record_as_what_it_was(world: World) -> None:
    """The caller can't tell denied from unknown; the auditor can."""
    guarded = Guarded(world)
    begin = guarded.replica.use_cases.guard.begin
    unknown = begin(CHECKOUT, Operation.GET_TOKEN)
    with pytest.raises(InstallNotFound) as caught:
        await guarded.replica.use_cases.get_token(unknown, "", KEY.install_id)
    await unknown.end(caught.value)
    await world.install()
    denied = begin(CHECKOUT, Operation.GET_TOKEN)
    with pytest.raises(InstallNotFound) as caught:
        await guarded.replica.use_cases.get_token(denied, "", KEY.install_id)
    await denied.end(caught.value)
    assert guarded.outcomes == ["INSTALL_NOT_FOUND", DENIED]


async def test_batch_is_judged_and_recorded_install_by_install(world: World) -> None:
    """One install that is not the caller's neither opens nor closes the others."""
    await world.install(KEY)
    await world.install(OTHER_KEY)
    guarded = Guarded(world, line(Operation.GET_TOKEN, OTHER_KEY))
    wanted = [Wanted("", each, NO_TIME) for each in (KEY.install_id, OTHER_KEY.install_id, "a\nb")]
    results = await guarded.caller.batch_get_tokens(wanted)
    assert [type(result) for result in results] == [InstallNotFound, Entry, InvalidField]
    assert sorted(guarded.outcomes) == sorted([DENIED, OK, "INVALID_FIELD"])
    assert len({record.request_id for record in guarded.audit.records}) == 1


async def test_f43_batch_without_the_record_hands_out_nothing(world: World) -> None:
    """Each result says so."""
    await world.install()
    guarded = Guarded(world, line(Operation.GET_TOKEN))
    guarded.audit.refuses = True
    (result,) = await guarded.caller.batch_get_tokens([Wanted("", KEY.install_id, NO_TIME)])
    assert isinstance(result, AuditUnavailable)


async def test_list_shows_only_what_the_caller_may_see(world: World) -> None:
    """A list is no way round the policy."""
    await world.install(KEY)
    await world.install(OTHER_KEY)
    guarded = Guarded(world, line(Operation.LIST_INSTALLS, OTHER_KEY))
    page = await guarded.caller.list_installs(InstallFilter(), 0, "")
    assert [install.key for install in page.installs] == [OTHER_KEY]


class NoCompany(FakeAuthorizer):
    """A policy that gives installs whose company is not known, and no company's."""

    def allows(self, caller: Caller, operation: Operation, subject: Subject) -> bool:
        """See Authorizer."""
        return super().allows(caller, operation, subject) and not subject.company_id


async def test_company_that_envoy_names_at_last_is_judged_before_the_token_leaves(world: World) -> None:
    """The first exchange may tell that the install is that of a company which the caller may not see."""
    guarded = Guarded(world)
    guarded.authorizer = NoCompany(line(Operation.GET_TOKEN))
    guarded.replica = Replica(world, authorizer=guarded.authorizer, audit=guarded.audit)
    await guarded.replica.store.enrol(KEY, "")
    with pytest.raises(InstallNotFound):
        await UseCasesOfACaller(guarded.replica.use_cases, CHECKOUT).get_token("", KEY.install_id)
    assert world.table.rows[KEY].install.company_id
    assert guarded.outcomes == []
