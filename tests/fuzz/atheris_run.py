"""One target under atheris, in a process of its own: `python -m tests.fuzz.atheris_run TARGET [libFuzzer's options]`."""

import sys

import atheris

# Guided by what they reach in the code that reads: ours, and PyJWT's. Imported here for the first time.
with atheris.instrument_imports(include=["broker", "jwt", "json", "email"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Fuzz until the time is up or something is found."""
    target = TARGETS[sys.argv.pop(1)]

    def try_one(data: bytes) -> None:
        assert target.try_one(data) in target.ends

    atheris.Setup(sys.argv, try_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
