"""The face detector: an image in, boxes out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np

from facet.detect.postprocess import best_boxes, decode
from facet.detect.priors import make_priors
from facet.tracker.errors import WeightsError
from facet.tracker.runtime import RuntimeConfig, Session, open_session
from facet.tracker.types import Box
from facet.tracker.weights import WeightsEntry

# no more detail comes of enlarging, and time goes with its square
MAX_ENLARGEMENT = 2.0
# of hopeless pictures, a million pixels long and one high
MAX_INPUT_PX = 8192
# an input of more pixels is seen in tiles of this side at least, so that memory does not grow with the image
MAX_UNTILED_PX = 4_000_000
TILE_PX = 1024
LARGE_BYTES = 1 << 27
# tiles share more than the height of the largest face that the overview need not find
TILE_OVERLAP = 1.2
TILE_EDGE_PX = 4  # of the input; a box so near to an edge inside the image is of a face that another tile shows whole
# of the overview against the input; with less, all faces fit into what the network learnt
MIN_OVERVIEW_SHRINKAGE = 1.75
# from one overview to the next: the network learnt faces of a range of sizes that is larger
OVERVIEW_STEP = 4.0
# of min_face_px: the network was not asked for faces lower than this and guesses
LOWEST_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class DetectorConfig:
    """What counts as a face."""

    weights: Annotated[str, "file of the detector network"] = "weights/detector.onnx"
    min_score: Annotated[float, "a detection with a lower score is dropped, 0 to 1"] = 0.3
    # the image is resized, at most to twice its size, until such a face is the smallest that the network can detect
    min_face_px: Annotated[float, "smallest face to detect, px; time grows with 1 / min_face_px^2"] = 40.0

    def __post_init__(self):
        if not 0 <= self.min_score <= 1:
            raise ValueError(f"min_score must be in [0, 1], got {self.min_score}")
        if not self.min_face_px > 0:
            raise ValueError(f"min_face_px must be positive, got {self.min_face_px}")


@dataclass(frozen=True, slots=True)
class _Limits:
    """What the manifest says of a detector."""

    head_format: str  # "faceboxes": offsets from priors; "boxes": the graph ends in boxes
    smallest_face_px: float  # that the network finds, in px of its input
    # small pictures are not shrunk below this, longer side: it costs next to nothing
    min_input_px: int
    max_width_px: int
    max_height_px: int
    nms_iou: float
    # faces larger than those the network learnt: a large input is looked at once more, shrunk to this, longer side
    overview_px: int  # 0: it is not
    overview_face_px: float  # lower faces of the overview do not count, they were seen before
    candidates: int = 5000
    limit: int = 750


class FaceBoxes:
    """Finds the faces in an image.

    Attributes
    ----------
    provider : the ONNX Runtime execution provider in use
    """

    def __init__(self, session: Session, limits: _Limits, config: DetectorConfig):
        self._session = session
        self._limits = limits
        self._config = config
        self.provider = session.provider

    @classmethod
    def open(
        cls,
        entry: WeightsEntry,
        config: DetectorConfig = DetectorConfig(),
        runtime: RuntimeConfig = RuntimeConfig(),
    ) -> FaceBoxes:
        """Load the detector of a manifest entry.

        Raises
        ------
        WeightsError
            If the entry lacks a value, names an unknown format, or the network has other inputs or outputs.
        ConfigError
            If the execution provider is not to be had.
        """
        limits = _Limits(
            head_format=entry.get("format", str),
            smallest_face_px=entry.get("smallest_face_px", float),
            min_input_px=entry.get("min_input_px", int, 0),
            max_width_px=entry.get("max_width_px", int, MAX_INPUT_PX),
            max_height_px=entry.get("max_height_px", int, MAX_INPUT_PX),
            nms_iou=entry.get("nms_iou", float),
            overview_px=entry.get("overview_px", int, 0),
            overview_face_px=entry.get("overview_face_px", float, 0.0),
        )
        outputs = {
            "faceboxes": {"offsets": (None, None, 4), "scores": (None, None)},
            "boxes": {"boxes": (None, 4), "scores": (None,)},
        }
        if limits.head_format not in outputs:
            raise WeightsError(
                f"{entry.path}: expected format faceboxes or boxes in its manifest entry, found {limits.head_format}"
            )
        session = open_session(entry.path, runtime, keep_memory=False)
        session.require(inputs={"image": (None, None, None, 3)}, outputs=outputs[limits.head_format])
        return cls(session, limits, config)

    def __call__(self, image: np.ndarray) -> tuple[Box, ...]:
        """Find faces.

        Parameters
        ----------
        image : (H, W, 3) uint8, BGR

        Returns
        -------
        boxes in image px, best first, not clipped to the image; () where there is no face

        Convention
        ----------
        Priors and offsets are measured from the corner of the picture, so boxes need no half pixel to be ours.
        """
        height, width = image.shape[:2]
        if height == 0 or width == 0:
            return ()
        limits = self._limits
        scale = self.input_scale(width, height)
        if limits.head_format == "faceboxes":
            boxes, scores = self._from_priors(image, scale)
            # 3DDFA_V2 divides by the scale that was asked for, not by the one that whole pixels allow
            to_image, edge_px = 1 / scale, 1.0
        else:
            boxes, scores = self._from_tiles(image, scale)
            for overview in self._overviews(scale, max(width, height)):
                large, sure = self._from_graph(image, overview)
                seen = (large[:, 3] - large[:, 1]) * overview >= limits.overview_face_px
                boxes, scores = np.concatenate([boxes, large[seen]]), np.concatenate([scores, sure[seen]])
            asked = boxes[:, 3] - boxes[:, 1] >= LOWEST_SHARE * self._config.min_face_px
            boxes, scores = boxes[asked], scores[asked]
            to_image, edge_px = 1.0, 0.0
        boxes, scores = best_boxes(boxes, scores, limits.nms_iou, edge_px, limits.candidates, limits.limit)
        return tuple(
            Box(x0, y0, x1, y1, score)
            for (x0, y0, x1, y1), score in zip((boxes * to_image).tolist(), scores.tolist(), strict=True)
        )

    def _from_priors(self, image: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (n, 4) in px of the input and scores (n,) of a network that answers with offsets."""
        resized = _resized(image, scale, self._limits.head_format)
        offsets, scores = self._session.run(image=resized[None])
        return decode(offsets[0], scores[0], make_priors(*resized.shape[:2]), self._config.min_score)

    def _from_tiles(self, image: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
        """As `_from_graph`, for an input of any size: faces lower than the overlap of the tiles are all seen whole."""
        height, width = image.shape[:2]
        overview = next(self._overviews(scale, max(height, width)), None)
        if height * width * scale**2 <= MAX_UNTILED_PX or overview is None:
            return self._from_graph(image, scale)
        largest_px = TILE_OVERLAP * self._limits.overview_face_px / overview
        side_px = int(max(TILE_PX / scale, 2 * largest_px))
        found = [(np.empty((0, 4), np.float32), np.empty(0, np.float32))]
        for y0, y1 in _spans(height, side_px, int(largest_px)):
            for x0, x1 in _spans(width, side_px, int(largest_px)):
                boxes, scores = self._from_graph(image[y0:y1, x0:x1], scale)
                boxes = boxes + np.array([x0, y0, x0, y0], np.float32)
                edge_px = TILE_EDGE_PX / scale
                low = np.array([x0 + edge_px if x0 else -np.inf, y0 + edge_px if y0 else -np.inf])
                high = np.array(
                    [x1 - edge_px if x1 < width else np.inf, y1 - edge_px if y1 < height else np.inf]
                )
                whole = (boxes[:, :2] >= low).all(axis=1) & (boxes[:, 2:] <= high).all(axis=1)
                found.append((boxes[whole], scores[whole]))
        return np.concatenate([boxes for boxes, _ in found]), np.concatenate([scores for _, scores in found])

    def _from_graph(self, image: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (n, 4) in px of the image and scores (n,) of a network that answers with boxes."""
        resized = _resized(image, scale, self._limits.head_format)
        boxes, scores = self._session.run(image=resized[None])
        good = scores > self._config.min_score
        back = np.array([image.shape[1] / resized.shape[1], image.shape[0] / resized.shape[0]] * 2, np.float32)
        return boxes[good] * back, scores[good]

    def _overviews(self, scale: float, longer_px: int) -> Iterator[float]:
        """Scales at which faces are looked for that are larger in the input than those the network learnt."""
        smallest = self._limits.overview_px / longer_px
        while 0 < smallest < scale / MIN_OVERVIEW_SHRINKAGE:
            scale = max(scale / OVERVIEW_STEP, smallest)
            yield scale

    def input_scale(self, width: int, height: int) -> float:
        """Side of the network's input / side of the image, before rounding to whole pixels."""
        limits = self._limits
        scale = min(MAX_ENLARGEMENT, limits.smallest_face_px / self._config.min_face_px)
        if max(width, height) * scale < limits.min_input_px:
            scale = max(scale, min(1.0, limits.min_input_px / max(width, height)))
        # one after the other, as 3DDFA_V2 does
        if height * scale > limits.max_height_px:
            scale = limits.max_height_px / height
        if width * scale > limits.max_width_px:
            scale *= limits.max_width_px / (width * scale)
        return scale


def _spans(length: int, side: int, overlap: int) -> list[tuple[int, int]]:
    """Spans of `side` that cover a length, each with `overlap` or more of the next."""
    if length <= side:
        return [(0, length)]
    count = -(-(length - overlap) // (side - overlap))
    starts = [round(k * (length - side) / (count - 1)) for k in range(count)]
    return [(start, start + side) for start in starts]


def _resized(image: np.ndarray, scale: float, head_format: str) -> np.ndarray:
    """The network's input picture; at least one pixel each way."""
    height, width = image.shape[:2]
    size_wh = max(1, int(scale * width)), max(1, int(scale * height))
    if size_wh == (width, height):
        return image
    if image.size > LARGE_BYTES:  # without a copy of half the size
        return cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA)
    if head_format != "faceboxes":
        # halving is an average of four pixels; INTER_AREA takes ten times as long for any other factor
        while image.shape[1] >= 2 * size_wh[0] and image.shape[0] >= 2 * size_wh[1]:
            image = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_LINEAR)
    return cv2.resize(image, size_wh, interpolation=cv2.INTER_LINEAR)
