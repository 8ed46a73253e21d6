"""Small heads to draw: an egg with a nose, flat squares, and the tracks that place them in a picture."""

from types import SimpleNamespace

import numpy as np

from facet.tracker.types import FaceTrack, Pose, Roi, TrackState


def rotation(yaw_deg=0.0, pitch_deg=0.0, roll_deg=0.0) -> np.ndarray:
    """R = Rz(roll) Ry(-yaw) Rx(pitch), y up, z to the viewer."""
    y, p, r = np.radians([-yaw_deg, pitch_deg, roll_deg])
    rz = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    ry = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    rx = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    return rz @ ry @ rx


def egg(rows: int = 40, columns: int = 60) -> SimpleNamespace:
    """A closed head of 150 x 220 x 190 mm with a nose; 68 landmarks somewhere on its front."""
    theta, phi = np.meshgrid(np.linspace(0, np.pi, rows), np.arange(columns) * 2 * np.pi / columns, indexing="ij")
    unit = np.stack([np.sin(theta) * np.sin(phi), np.cos(theta), np.sin(theta) * np.cos(phi)], axis=-1).reshape(-1, 3)
    mean = unit * (75, 110, 95)
    mean[:, 2] += 25 * np.exp(-(mean[:, 0] ** 2 + (mean[:, 1] + 10) ** 2) / 300) * (mean[:, 2] > 0)
    triangles = []
    for i in range(rows - 1):
        for j in range(columns):
            a, b = i * columns + j, i * columns + (j + 1) % columns
            triangles += [(a, a + columns, b), (b, a + columns, b + columns)]
    triangles = np.array(triangles, np.int32)
    triangles[triangles < columns] = 0  # one vertex at each pole closes the surface
    triangles[triangles >= (rows - 1) * columns] = (rows - 1) * columns
    corners = mean[triangles]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    front = np.flatnonzero(mean[:, 2] > 40)
    return SimpleNamespace(
        mean=mean.astype(np.float32),
        triangles=triangles[area > 1e-3],
        landmark_vertices=front[np.linspace(0, len(front) - 1, 68).astype(int)],
        uv=np.stack([phi.ravel() / (2 * np.pi), 1 - theta.ravel() / np.pi], axis=1).astype(np.float32),
    )


def square(side_mm: float = 100.0, parts: int = 1) -> SimpleNamespace:
    """A flat square that faces the viewer, of 2 * parts^2 triangles."""
    line = (np.arange(parts + 1) / parts - 0.5) * side_mm
    x, y = np.meshgrid(line, line)
    mean = np.stack([x, y, np.zeros_like(x)], axis=-1).reshape(-1, 3).astype(np.float32)
    triangles = []
    for i in range(parts):
        for j in range(parts):
            a, c = i * (parts + 1) + j, (i + 1) * (parts + 1) + j
            triangles += [(a, a + 1, c + 1), (a, c + 1, c)]
    return SimpleNamespace(mean=mean, triangles=np.array(triangles, np.int32), landmark_vertices=np.zeros(68, np.int32))


def place(
    model, yaw_deg=0.0, pitch_deg=0.0, roll_deg=0.0, scale=1.0, at=(100.0, 100.0), z_px=0.0, mesh=None
) -> FaceTrack:
    """A track that shows `mesh` (N, 3) mm, else the model's mean, in this pose."""
    turn = rotation(yaw_deg, pitch_deg, roll_deg)
    camera = np.zeros((3, 4), np.float32)
    camera[:, :3] = scale * np.diag([1, -1, 1]) @ turn
    camera[:, 3] = *at, z_px
    vertices = (model.mean if mesh is None else mesh) @ camera[:, :3].T + camera[:, 3]
    return FaceTrack(
        id=1,
        state=TrackState.TRACKED,
        score=1.0,
        detected=False,
        roi=Roi(0, 0, 1),
        model_to_image=camera,
        shape=np.zeros(0, np.float32),
        expression=np.zeros(0, np.float32),
        pose=Pose(turn.astype(np.float32), scale, camera[:, 3], yaw_deg, pitch_deg, roll_deg),
        landmarks=vertices[model.landmark_vertices].astype(np.float32),
        vertices=vertices.astype(np.float32),
    )


def noise(width: int, height: int, seed: int = 0) -> np.ndarray:
    """A picture of large coloured blots."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
