"""`python forking.py TARGET yes|no`: forks, once the client has (yes) or has not (no) made a call; both say what they get."""

import os
import sys

from tokenbroker.client import Client, Credentials


def ask(client: Client) -> str:
    """The generation, or why there is none."""
    try:
        return str(client.token(f"install-of-{os.getpid()}").generation)
    except RuntimeError as error:
        return type(error).__name__


def main() -> None:
    """The child says first."""
    target, calls_before = sys.argv[1:]
    client = Client(target, credentials=Credentials.insecure(), timeout=5, watch=True)
    if calls_before == "yes":
        client.token("1000000")
    child = os.fork()
    if not child:
        os.write(sys.stdout.fileno(), f"{ask(client)}\n".encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.write(sys.stdout.fileno(), f"{ask(client)}\n".encode())
    client.close()


if __name__ == "__main__":
    main()
