"""Records as the CSV of the app Live Link Face: its own order of columns and its timecodes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from facet.tracker.outputs.avatar import OneFace, head_angles_deg
from facet.tracker.outputs.livelink import NAMES, RATE, frame_number, livelink_values
from facet.tracker.outputs.record_log import TextTable
from facet.tracker.pose import rotation_from_angles

SWAPPED = ("Jaw", "Mouth")  # whose Right stands before Left here, unlike in the packets


class LiveLinkCsv(TextTable):
    """A row a frame with the first face; none where that is not seen."""

    line_end = "\n"

    def __init__(self, path: Path, blendshapes: tuple[str, ...] = ()):
        self.columns = ("Timecode", "BlendShapeCount", *csv_order())
        self._one = OneFace()
        super().__init__(path)

    def rows(self, record: dict) -> Iterator[dict]:
        by_id = {face["id"]: face for face in record["faces"]}
        face = by_id.get(self._one(by_id, record["time_s"]))
        if face:
            angles = (face["pose"][f"{name}_deg"] for name in ("yaw", "pitch", "roll"))
            values = livelink_values(face["blendshapes"], head_angles_deg(rotation_from_angles(*angles)))
            row = {name: f"{value:.10f}" for name, value in values.items()}
            yield row | {"Timecode": timecode(record["time_s"]), "BlendShapeCount": len(NAMES)}


def csv_order() -> tuple[str, ...]:
    """The 61 names in the order of the columns."""
    order = list(NAMES)
    for part in SWAPPED:
        at = order.index(f"{part}Left")
        order[at : at + 2] = order[at + 1], order[at]
    return tuple(order)


def timecode(time_s: float) -> str:
    """HH:MM:SS:FF.mmm: frames of 1/60 s, and thousandths of a frame."""
    number, part = frame_number(time_s)
    seconds, frames = divmod(number, RATE)
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes // 60 % 24:02d}:{minutes % 60:02d}:{seconds:02d}:{frames:02d}.{round(1000 * part):03d}"
