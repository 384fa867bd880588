"""Keeps the policy in force that stands in its files, while a broker runs.

A change takes effect when it has stood still for one look, so that a file that is being written is not read by half.
What can't be used changes nothing: the policy in force stays, and the log and the readiness say so.
"""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Final

import structlog

from broker.adapters.policy.cedar import CedarAuthorizer
from broker.adapters.policy.policy import Policy
from broker.adapters.policy.reading import PolicyBroken, read_policy
from broker.ports import Clock

log = structlog.get_logger(__name__)

INTERVAL: Final = timedelta(seconds=1)

# Tells a file from what stood in its place before. Links are followed: Kubernetes swaps one.
_Stamp = tuple[object, ...]


class PolicyFile:
    """The policy in two files. Attributes: authorizer: decides by it."""

    def __init__(self, policy_file: Path, groups_file: Path | None = None, *, clock: Clock) -> None:
        """Reads them.

        Raises:
            PolicyBroken: there is no policy to begin with.
        """
        self._policy_file = policy_file
        self._groups_file = groups_file
        self._clock = clock
        self._seen = self._judged = self._stamp()
        policy = self._read()
        self.authorizer = CedarAuthorizer(policy)
        self._problem: str | None = None
        _tell(policy)

    @property
    def problem(self) -> str | None:
        """What is wrong with the files as they are now; None if the policy in force is theirs."""
        return self._problem

    async def watch(self) -> None:
        """Look for ever."""
        while True:
            await self._clock.sleep(INTERVAL)
            await self.look()

    async def look(self) -> None:
        """Take over what the files say by now, if they have changed and stand still."""
        stamp = await asyncio.to_thread(self._stamp)
        stands_still, self._seen = stamp == self._seen, stamp
        if not stands_still or stamp == self._judged:
            return
        try:
            policy = await asyncio.to_thread(self._read)
        except PolicyBroken as error:
            self._keep_old(str(error))
        except Exception:
            log.exception("policy.reading_failed")
            self._keep_old("it can't be read; the log says why")
        else:
            if await asyncio.to_thread(self._stamp) != stamp:
                return
            self._problem = None
            self.authorizer.adopt(policy)
            _tell(policy)
        self._judged = stamp

    def _keep_old(self, reason: str) -> None:
        self._problem = f"the policy file is broken; the old one is in force: {reason}"
        log.error("policy.broken", reason=reason, version_in_force=self.authorizer.version)

    def _read(self) -> Policy:
        return read_policy(self._policy_file, self._groups_file)

    def _stamp(self) -> _Stamp:
        return tuple(_stamp_of(path) for path in (self._policy_file, self._groups_file) if path is not None)


def _stamp_of(path: Path) -> _Stamp:
    try:
        status = path.stat()
    except OSError as error:
        return (error.errno,)
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _tell(policy: Policy) -> None:
    log.info(
        "policy.loaded", version=policy.version, policies=len(policy.rules), groups=len(policy.groups.members)
    )
