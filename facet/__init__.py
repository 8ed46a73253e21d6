"""The one name under which facet is imported: `facet.tracker`, `facet.detect`, `facet.render`.

Installed, they lie in this folder; in a checkout beside it.
"""

from pathlib import Path

if not (Path(__file__).parent / "tracker").is_dir():
    __path__.append(str(Path(__file__).resolve().parent.parent))
