"""What came of a language: a token and a reason, a failure, or no toolchain."""

import shutil
from enum import StrEnum
from typing import NamedTuple

from clients.stubs.sandbox_broker import SandboxBroker
from clients.stubs.smoke import UNKNOWN_REASON, Smoke, SmokeFailedError


class Verdict(StrEnum):
    """How a trial ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


class Trial(NamedTuple):
    """How it ended, and in words."""

    verdict: Verdict
    told: str


def try_recipe(smoke: Smoke, broker: SandboxBroker, *, in_ci: bool) -> Trial:
    """Follow the recipe, if its programs are there. In CI they have to be."""
    recipe = smoke.recipe
    if missing := [program for program in recipe.programs if shutil.which(program) is None]:
        needs = f"needs {', '.join(missing)}"
        if recipe.untested:
            return Trial(Verdict.SKIPPED, f"{needs}: {recipe.untested}")
        return Trial(Verdict.FAILED if in_ci else Verdict.SKIPPED, needs)
    try:
        smoke.build()
        token = smoke.read(broker)
        smoke.refuse(broker)
    except SmokeFailedError as error:
        return Trial(Verdict.FAILED, str(error))
    told = f"{token.token_type}, generation {token.generation}, {token.seconds_left:,} s left"
    return Trial(Verdict.PASSED, f"{told}; an unknown install: {UNKNOWN_REASON}")
