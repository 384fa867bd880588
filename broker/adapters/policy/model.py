"""The broker's words as Cedar's: a caller, an operation and a subject as a request and its entities."""

from importlib import resources
from typing import Any, Final

import cedarpy

from broker.domain.callers import Caller, Operation, Subject

SCHEMA: Final = cedarpy.Schema.from_str(
    resources.files(__package__).joinpath("schema.cedarschema").read_text(encoding="utf-8")
)
CALLER: Final = "Caller"
GROUP: Final = "Group"
APP: Final = "App"

# Judged before anything that a webhook says is believed: whatever install it names does not matter.
FOR_THE_APP: Final = frozenset({Operation.ACCEPT_ROUTE_WEBHOOK, Operation.VOUCH_FOR_WEBHOOK})

Uid = dict[str, str]
Entity = dict[str, Any]


def request_of(caller: Caller, operation: Operation, subject: Subject) -> dict[str, Uid]:
    """What Cedar is asked. As structures and not as text, so that no name can be mistaken for syntax."""
    return {
        "principal": _uid(CALLER, caller.name),
        "action": _uid("Action", operation),
        "resource": resource_of(operation, subject),
    }


def entities_of(
    caller: Caller, groups: frozenset[str], operation: Operation, subject: Subject
) -> list[Entity]:
    """The caller and the resource with what they belong to. The actions come with the schema."""
    who = {
        "uid": _uid(CALLER, caller.name),
        "attrs": {"name": caller.name, "known_by": str(caller.known_by)},
        "parents": [_uid(GROUP, group) for group in sorted(groups)],
    }
    return [who, _resource(operation, subject)]


def resource_of(operation: Operation, subject: Subject) -> Uid:
    """The install; or the app, where the operation is the app's or no install is named."""
    if operation in FOR_THE_APP or not subject.install_id:
        return _uid(APP, subject.plugin_id)
    return _uid("Install", install_name(subject.plugin_id, subject.install_id))


def install_name(plugin_id: str, install_id: str) -> str:
    """`4242/1000000`. A slash may stand in either id: in the first it is escaped, so that no two installs look alike."""
    return f"{plugin_id.replace('%', '%25').replace('/', '%2F')}/{install_id}"


def parse_install_name(name: str) -> tuple[str, str]:
    """The ids that `install_name` put together.

    Raises:
        ValueError: there are no two.
    """
    plugin_id, slash, install_id = name.partition("/")
    if not (plugin_id and slash and install_id):
        raise ValueError("must be PLUGIN/INSTALL, such as 4242/1000000")
    return plugin_id.replace("%2F", "/").replace("%25", "%"), install_id


def _resource(operation: Operation, subject: Subject) -> Entity:
    uid = resource_of(operation, subject)
    if uid["type"] == APP:
        return {"uid": uid, "attrs": {"plugin_id": subject.plugin_id}, "parents": []}
    attributes = {"plugin_id": subject.plugin_id, "install_id": subject.install_id}
    parents = [_uid(APP, subject.plugin_id)]
    if subject.company_id:
        attributes["company_id"] = subject.company_id
        parents.append(_uid("Company", subject.company_id))
    return {"uid": uid, "attrs": attributes, "parents": parents}


def _uid(kind: str, name: str) -> Uid:
    return {"type": kind, "id": name}
