"""How good the parts are: python -m tools.evaluate PART [options]; PART --help reports the options."""

from __future__ import annotations

import importlib
import sys

PARTS = (
    "landmarks", "delineated", "labels", "pose", "blendshapes", "blink", "brows", "range", "score", "jitter", "lag",
    "steady", "scenarios", "privacy", "detector", "acquisition", "asymmetry", "few",
    "appearance", "shape", "volume", "table",
)  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] not in PARTS:
        print(f"usage: python -m tools.evaluate {{{','.join(PARTS)}}} [options]", file=sys.stderr)
        return 2
    return importlib.import_module(f"tools.evaluation.{arguments[0]}").main(arguments[1:])


if __name__ == "__main__":
    sys.exit(main())
