"""`python -m janelia_core`: the command `janelia-knn`, where its script is not on the path."""

import sys

from janelia_core.cli import main

if __name__ == "__main__":
    sys.exit(main())
