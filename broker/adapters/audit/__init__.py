"""The audit trail: chained and signed lines, in every sink before anything is handed out (docs/audit.md)."""

from broker.adapters.audit.keys import AuditKeys, PublicKey, generate_audit_key
from broker.adapters.audit.sinks import Durability, sink_at
from broker.adapters.audit.trail import AuditTrail
from broker.adapters.audit.verify import Finding, Weight, verify_trail

__all__ = [
    "AuditKeys",
    "AuditTrail",
    "Durability",
    "Finding",
    "PublicKey",
    "Weight",
    "generate_audit_key",
    "sink_at",
    "verify_trail",
]
