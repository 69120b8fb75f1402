"""Write docs/reference and the list of decisions anew: `python -m docsite`, from the top of the checkout."""

from __future__ import annotations

import sys

from docsite import reference

if __name__ == "__main__":
    for path in reference.write():
        print(path.relative_to(reference.ROOT), file=sys.stderr)
