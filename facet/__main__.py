"""The command `facet`, and `python -m facet`: the program app.py, wherever facet lies."""

import runpy
from pathlib import Path


def main() -> None:
    folder = Path(__file__).resolve().parent
    app = next(path for path in (folder / "app.py", folder.parent / "app.py") if path.exists())
    runpy.run_path(str(app), run_name="__main__")


if __name__ == "__main__":
    main()
