"""`python -m docs.site FOLDER`: writes what zensical builds the site from into FOLDER, which is made anew."""

import argparse
import sys
from pathlib import Path

from docs.generate import DocumentError
from docs.site.staging import stage


def main() -> int:
    """Write the pages; 1 if a document can't be shown."""
    parser = argparse.ArgumentParser(prog="python -m docs.site", description=__doc__)
    parser.add_argument("folder", type=Path)
    try:
        stage(parser.parse_args().folder)
    except DocumentError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
