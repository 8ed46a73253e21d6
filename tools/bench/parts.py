"""Parts of the tracker, measured alone, one thread each; the imported networks in turn with ours."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from facet.assembly import build_tracker
from facet.detect import open_detector
from facet.render.cpu.renderer import CpuRenderer
from facet.render.geometry import geometry_of
from facet.render.renderer import FACE_PX, SIZE_WH, open_renderer
from facet.render.sample import sample_face
from facet.settings import AppConfig
from facet.tracker.config import load_config
from facet.tracker.crop import cut_batch, roi_from_box, roi_from_landmarks
from facet.tracker.errors import RenderError
from facet.tracker.loop import FaceTracker
from facet.tracker.morphable import load_face_model, project
from facet.tracker.pose import model_to_image
from facet.tracker.regressor import Regressor
from facet.tracker.runtime import onnxruntime
from facet.tracker.sources import open_source
from facet.tracker.stages import Stages
from facet.tracker.types import FaceTrack, Frame
from facet.tracker.weights import find_entry
from tools.bench.common import BLOCK, UPSTREAM_CONFIG, default_config, has_upstream, times_ms

FRAMES = 6
FACES = (1, 2, 4, 8)
TILE_WH = (320, 360)
FACE_IN_TILE_PX = 190.0
# 3DDFA_V2's dense model: 38,365 vertices by 40 shape and 10 expression coefficients. Its file is for academic use and
# not imported; numbers of the same size take the same time.
UPSTREAM_VERTICES, UPSTREAM_COEFFICIENTS = 38_365, 50


def read_frames(clip: Path, count: int = FRAMES) -> list[Frame]:
    with open_source(str(clip)) as source:
        return list(itertools.islice(source, count))


def there_and_back(frames: list[Frame]) -> itertools.cycle:
    """The frames for ever, without a cut where they repeat."""
    return itertools.cycle(frames + frames[-2:0:-1])


class Steps:
    """Tracks endless frames, one a call; `detected` reports of each whether the detector ran."""

    def __init__(self, tracker: FaceTracker, frames: list[Frame]):
        self.tracker = tracker
        self.faces: tuple[FaceTrack, ...] = ()
        self.detected: list[bool] = []
        self._images = there_and_back(frames)

    def __call__(self) -> None:
        index = len(self.detected)
        self.faces = self.tracker.step(Frame(index, index / 30, next(self._images).image, first=index == 0))
        self.detected.append(self.tracker.detected)

    def without_detection(self, taken_ms: np.ndarray) -> np.ndarray:
        """The times of the last calls, those left out that are not of tracking alone."""
        return taken_ms[~np.array(self.detected[-len(taken_ms) :])]


def steps_on(frames: list[Frame], config: AppConfig) -> Steps:
    steps = Steps(build_tracker(config, Stages(), live=False), frames)
    for _ in range(10):
        steps()
    return steps


def upstream_step(frames: list[Frame]) -> Callable[[], np.ndarray]:
    """3DDFA_V2's network and model in our loop: crop by the last landmarks, network, 68 points. No score, no filter."""
    config = load_config(AppConfig, UPSTREAM_CONFIG)
    network = Regressor.open(find_entry(config.regressor.weights, "regressor"), config.runtime)
    model = load_face_model(network.face_model_file)
    images, spec = there_and_back(frames), network.crop_spec
    box = open_detector(config.detector, config.runtime)(frames[0].image)[0]
    last = None

    def step() -> np.ndarray:
        nonlocal last
        roi = roi_from_box(box, spec) if last is None else roi_from_landmarks(last[0], spec, 0.0, last[1])
        crops = cut_batch(next(images).image, [roi], network.size, spec.style)
        (face,) = network(crops)
        last = model.landmarks(model_to_image(face.camera, roi, network.size), face.shape, face.expression), roi
        return last[0]

    return step


def upstream_program(frames: list[Frame]) -> Callable[[], np.ndarray]:
    """3DDFA_V2's own way through a tracked face: numpy throughout, crops padded, z counted from its least.

    Sources: 3DDFA_V2, utils/functions.py (`parse_roi_box_from_landmark`, `crop_img`), TDDFA_ONNX.py and
    utils/tddfa_util.py. The step returns (3, 68) image px, its pixels counted from their centres.
    """
    entry = find_entry(load_config(AppConfig, UPSTREAM_CONFIG).regressor.weights, "regressor")
    network = float_session(entry.path)
    model = load_face_model(entry.path.parent / entry.get("face_model", str))
    coefficients = np.ones(len(model.sparse.basis), np.float32)
    mean = np.r_[entry.get("pose_mean", list), 0 * coefficients].astype(np.float32)
    deviation = np.r_[entry.get("pose_std", list), coefficients].astype(np.float32)
    base = 1000 * model.sparse.mean[:68].reshape(-1, 1)  # mm to micrometres
    shapes, expressions = np.split(1000 * model.sparse.basis.T.copy(), [model.shape_count], axis=1)
    images, size = there_and_back(frames), entry.get("size_px", int)
    points = upstream_step(frames)()[:, :2].T - 0.5

    def step() -> np.ndarray:
        nonlocal points
        low, high = points[:2].min(axis=1), points[:2].max(axis=1)
        side = np.sqrt(2) * (high - low).max()
        x0, y0 = (low + high) / 2 - side / 2
        crop = cv2.resize(padded_crop(next(images).image, (x0, y0, x0 + side, y0 + side)), (size, size))
        crop = (crop.astype(np.float32).transpose(2, 0, 1)[np.newaxis] - 127.5) / 128.0
        params = network.run(None, {network.get_inputs()[0].name: crop})[0].flatten() * deviation + mean
        camera = params[:12].reshape(3, 4)
        shape, expression = np.split(params[12:].reshape(-1, 1), [model.shape_count])
        face = (base + shapes @ shape + expressions @ expression).reshape(3, -1, order="F")
        points = camera[:, :3] @ face + camera[:, 3:]
        points[0] -= 1
        points[2] -= 1
        points[1] = size - points[1]
        points *= side / size
        points[0] += x0
        points[1] += y0
        points[2] -= points[2].min()
        return points

    return step


def padded_crop(image: np.ndarray, edges: tuple[float, ...]) -> np.ndarray:
    """The part of a picture between edges, x0, y0, x1, y1 px, black where it leaves the picture."""
    x0, y0, x1, y1 = (round(float(edge)) for edge in edges)
    height, width = image.shape[:2]
    crop = np.zeros((y1 - y0, x1 - x0, 3), np.uint8)
    left, top, right, bottom = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
    crop[top - y0 : bottom - y0, left - x0 : right - x0] = image[top:bottom, left:right]
    return crop


def float_session(path: Path) -> onnxruntime.InferenceSession:
    """An imported network of 3DDFA_V2 as its program runs it: (1, 3, size, size) float32, normalised outside of it."""
    import onnx  # where networks are imported, it is there

    network = onnx.shape_inference.infer_shapes(onnx.load(path))
    start = next(node for node in network.graph.node if node.op_type == "Conv").input[0]
    inner = onnx.utils.Extractor(network).extract_model([start], [output.name for output in network.graph.output])
    inner.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(inner.SerializeToString(), options, providers=["CPUExecutionProvider"])


def tracked_face(clip: Path, runs: int) -> dict:
    """One tracked face, one frame: crop to 68 landmarks, score, blendshapes; p50 and p99.

    `upstream` is 3DDFA_V2's own way, without score and filter, `upstream_here` its network and model in our own loop.
    """
    frames = read_frames(clip)
    steps = steps_on(frames, load_config(AppConfig, default_config()))
    functions = {"ours": steps}
    if has_upstream():
        functions |= {"upstream": upstream_program(frames), "upstream_here": upstream_step(frames)}
    # after another network's turn it takes five frames until each is as fast as it is on its own
    taken = times_ms(functions, runs, warm=20, block=2 * BLOCK)
    taken["ours"] = steps.without_detection(taken["ours"])
    result = {f"{name}_p50_ms": float(np.median(values)) for name, values in taken.items()}
    result["ours_p99_ms"] = float(np.percentile(taken["ours"], 99))
    return result


def faces_scaling(clip: Path, runs: int) -> dict:
    """A frame with 1, 2, 4 and 8 faces: p50 of a frame without a detection, and how many faces were followed."""
    frames = read_frames(clip, 12)
    detect = open_detector(load_config(AppConfig, default_config()).detector)
    box = detect(frames[0].image)[0]
    steps = {}
    for count in FACES:
        config = load_config(AppConfig, default_config(), [f"tracker.max_faces={count}"])
        steps[str(count)] = steps_on([repeated(frame, box, count) for frame in frames], config)
    taken = times_ms(steps, runs)
    return {
        "p50_ms": {name: float(np.median(steps[name].without_detection(values))) for name, values in taken.items()},
        "followed": {name: len(step.faces) for name, step in steps.items()},
    }


def repeated(frame: Frame, box, count: int) -> Frame:
    """A 720p picture with the face `count` times, 4 in a row."""
    scale = FACE_IN_TILE_PX / ((box.x_max - box.x_min + box.y_max - box.y_min) / 2)
    centre = np.array([box.x_min + box.x_max, box.y_min + box.y_max]) / 2
    shift = np.array(TILE_WH) / 2 - scale * centre
    matrix = np.column_stack([np.eye(2) * scale, shift])
    flags = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    tile = cv2.warpAffine(frame.image, matrix, TILE_WH, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    picture = np.full((720, 1280, 3), 90, np.uint8)
    for i in range(count):
        y, x = i // 4 * TILE_WH[1], i % 4 * TILE_WH[0]
        picture[y : y + TILE_WH[1], x : x + TILE_WH[0]] = tile
    return Frame(frame.index, frame.time_s, picture)


def dense_vertices(runs: int) -> dict:
    """All vertices of one face in image px, the shape settled."""
    model = load_face_model(find_entry("weights/face_model.npz", "face_model").path)
    random = np.random.default_rng(0)
    shape = random.normal(size=model.shape_count).astype(np.float32)
    expression = (0.5 * random.random(model.expression_count)).astype(np.float32)
    neutral, camera = model.bake(shape), np.eye(3, 4, dtype=np.float32)
    basis = random.normal(size=(3 * UPSTREAM_VERTICES, UPSTREAM_COEFFICIENTS)).astype(np.float32)
    mean, x = basis[:, :1].copy(), basis[0, :, None].copy()

    def ours():
        return project(model.vertices(shape, expression, neutral), camera)

    def upstream():
        return camera[:, :3] @ (mean + basis @ x).reshape(3, -1, order="F") + camera[:, 3:]

    taken = times_ms({"ours": ours, "upstream": upstream}, runs)
    return {f"{name}_p50_ms": float(np.median(values)) for name, values in taken.items()} | {
        "vertices": len(model.mean), "upstream_vertices": UPSTREAM_VERTICES,
    }  # fmt: skip


def drawing(runs: int) -> dict:
    """The mesh of a face of 300 px in a 720p picture: on the CPU, and by the GL that is here."""
    model = load_face_model(find_entry("weights/face_model.npz", "face_model").path)
    geometry = geometry_of(model)
    image = np.zeros((SIZE_WH[1], SIZE_WH[0], 3), np.uint8)
    track = sample_face(geometry, SIZE_WH, FACE_PX)
    renderers = {"cpu": CpuRenderer(geometry, ("mesh",))}
    try:
        renderers["gl"] = open_renderer("gl", model, ("mesh",))
    except RenderError:
        pass
    taken = times_ms({name: partial(r.draw, image, (track,)) for name, r in renderers.items()}, runs)
    result = {f"{name}_p50_ms": float(np.median(values)) for name, values in taken.items()}
    if "gl" in renderers:
        result["gl"] = renderers["gl"].name
    for renderer in renderers.values():
        renderer.close()
    return result


def detector(clip: Path, runs: int) -> dict:
    """One detection in a 720p frame, default settings; upstream's as its authors run it."""
    image = cv2.resize(read_frames(clip, 1)[0].image, SIZE_WH)
    configs = {"ours": load_config(AppConfig, default_config())}
    if has_upstream():
        configs["upstream"] = load_config(AppConfig, UPSTREAM_CONFIG)
    taken = times_ms({name: partial(open_detector(c.detector, c.runtime), image) for name, c in configs.items()}, runs)
    return {f"{name}_p50_ms": float(np.median(values)) for name, values in taken.items()}
