"""Meshes as files: Wavefront OBJ, PLY, binary glTF and, of closed ones, STL."""

from __future__ import annotations

import contextlib
import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from facet.tracker.files import new_file
from facet.tracker.lighting import Light

FLOAT, UINT32, UINT8 = 5126, 5125, 5121  # glTF's component types
VERTICES, INDICES = 34962, 34963  # and what a buffer is for
MM_PER_M = 1000.0
TIME, TRANSLATION, ROTATION, WEIGHTS = slice(0, 1), slice(1, 4), slice(4, 8), slice(8, None)  # columns of a key
KEYS_AT_ONCE = 4096
LIGHTS, GAMMA = "KHR_lights_punctual", 2.2


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A face to be written; model space: millimetres, y up, z to where it looks."""

    neutral: np.ndarray  # (N, 3) float32, without expression
    neutral_normals: np.ndarray  # (N, 3) float32
    vertices: np.ndarray  # (N, 3) float32, with it
    normals: np.ndarray  # (N, 3) float32, of `vertices`
    colours: np.ndarray  # (N, 3) uint8, BGR
    triangles: np.ndarray  # (F, 3) int32, counter-clockwise from outside
    textured: np.ndarray  # (F,) bool, which have a place on the texture
    uv: np.ndarray  # (N, 2) float32, origin bottom left; (0, 2) without texture
    texture: np.ndarray | None  # (S, S, 3) uint8, BGR
    blendshapes: dict[str, tuple[float, np.ndarray, np.ndarray]] = field(default_factory=dict)
    # ARKit's name -> weight, vertices (M,) ascending, offsets (M, 3) float32, mm
    light: Light | None = None  # on the head, model axes; the colours are then those under white light


def ply(head: Head) -> bytes:
    """A PLY file, binary, with normals and colours at the vertices."""
    kinds = [(name, "<f4") for name in ("x", "y", "z", "nx", "ny", "nz")]
    kinds += [(name, "u1") for name in ("red", "green", "blue")]
    rows = np.empty(len(head.vertices), kinds)
    for names, values in ((kinds[:3], head.vertices), (kinds[3:6], head.normals), (kinds[6:], head.colours[:, ::-1])):
        for (name, _), column in zip(names, values.T, strict=True):
            rows[name] = column
    faces = np.empty(len(head.triangles), [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, head.triangles
    words = {"<f4": "float", "u1": "uchar"}
    header = [
        *("ply", "format binary_little_endian 1.0", "comment millimetres, y up", f"element vertex {len(rows)}"),
        *(f"property {words[kind]} {name}" for name, kind in kinds),
        *(f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header"),
    ]
    return ("\n".join(header) + "\n").encode() + rows.tobytes() + faces.tobytes()


def stl(head: Head) -> bytes:
    """An STL file, binary, in millimetres: for printing, without colours. z is up, as slicers have it."""
    corners = head.vertices[head.triangles][:, :, [0, 2, 1]] * np.array([1, -1, 1], np.float32)
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    rows = np.zeros(len(corners), [("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("unused", "<u2")])
    rows["normal"] = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
    rows["corners"] = corners
    return b"facet, millimetres".ljust(80) + struct.pack("<I", len(rows)) + rows.tobytes()


def obj(head: Head, materials: str) -> bytes:
    """An OBJ file that uses the material file of this name; colours at the vertices, as most programs read them."""
    lines = ["# millimetres, y up", f"mtllib {materials}"]
    colours = head.colours[:, ::-1] / 255.0
    lines += _rows("v", np.column_stack([head.vertices, colours]))
    lines += _rows("vt", head.uv)
    lines += _rows("vn", head.normals)
    for material, of in (("skin", head.textured), ("inside", ~head.textured)):
        if of.any():
            lines.append(f"usemtl {material}")
            form = "{0}/{0}/{0}" if material == "skin" else "{0}//{0}"
            lines += ["f " + " ".join(form.format(i + 1) for i in corners) for corners in head.triangles[of].tolist()]
    return ("\n".join(lines) + "\n").encode()


def _rows(kind: str, values: np.ndarray) -> list[str]:
    return [f"{kind} {' '.join(f'{value:.4f}' for value in row)}" for row in values.tolist()]


def mtl(texture_name: str | None) -> bytes:
    """The materials of an OBJ file."""
    plain = "Ka 0 0 0\nKd 1 1 1\nKs 0 0 0\nillum 1\n"
    picture = f"map_Kd {texture_name}\n" if texture_name else ""
    return f"newmtl skin\n{plain}{picture}\nnewmtl inside\n{plain}".encode()


def glb(head: Head, name: str) -> bytes:
    """A binary glTF 2.0 file, in metres: the neutral face with blendshapes as morph targets, set as they were seen."""
    file, scene = _scene(head, name)
    start, data = file.binary(scene)
    return start + data


def write_animated_glb(path: Path, head: Head, name: str, keys: np.ndarray) -> None:
    """Write a binary glTF 2.0 file in which a head moves, turns and changes its expression.

    Parameters
    ----------
    path : an existing file
    head : with as many blendshapes as the keys have weights
    name : of the head's node
    keys : (K, 8 + blendshapes) float32, K >= 1: time in s, ascending; translation in m; rotation as a unit
        quaternion x, y, z, w; weights. It may be mapped from a file: a part of it is read at a time
    """
    file, scene = _scene(head, name)
    count, weights = len(keys), keys.shape[1] - WEIGHTS.start
    bounds = {"min": [float(keys[0, 0])], "max": [float(keys[-1, 0])]}
    times = file.reserve(count, "SCALAR", 1, **bounds)
    parts = [TIME, TRANSLATION, ROTATION]
    outputs = {"translation": file.reserve(count, "VEC3", 3), "rotation": file.reserve(count, "VEC4", 4)}
    if weights:
        parts.append(WEIGHTS)
        outputs["weights"] = file.reserve(count * weights, "SCALAR", 1)
    scene["animations"] = [
        {
            "name": name,
            "samplers": [{"input": times, "output": output} for output in outputs.values()],
            "channels": [{"sampler": k, "target": {"node": 0, "path": kind}} for k, kind in enumerate(outputs)],
        }
    ]
    start, data = file.binary(scene)
    with open(path, "wb") as target:
        target.write(start)
        target.write(data)
        for columns in parts:
            for first in range(0, count, KEYS_AT_ONCE):
                target.write(np.ascontiguousarray(keys[first : first + KEYS_AT_ONCE, columns], "<f4").tobytes())


def _scene(head: Head, name: str) -> tuple[_Buffers, dict]:
    """The buffers of a still head, and the JSON beside them."""
    file = _Buffers()
    base, normals = head.vertices, head.normals
    if head.blendshapes:
        base, normals = head.neutral, head.neutral_normals
    attributes = {
        "POSITION": file.vectors(base / MM_PER_M, bounds=True),
        "NORMAL": file.vectors(normals),
    }
    colour = np.column_stack([_linear(head.colours[:, ::-1]), np.full(len(base), 255, np.uint8)])
    targets = [{"POSITION": file.sparse(len(base), at, by / MM_PER_M)} for _, at, by in head.blendshapes.values()]
    primitives = []
    for material, of in ((0, head.textured), (1, ~head.textured)):
        if not of.any():
            continue
        more = {}
        if material == 0:
            flipped = np.column_stack([head.uv[:, 0], 1 - head.uv[:, 1]])
            more["TEXCOORD_0"] = file.add(flipped.astype("<f4"), FLOAT, "VEC2", VERTICES)
        else:
            more["COLOR_0"] = file.add(colour, UINT8, "VEC4", VERTICES, normalized=True)
        indices = file.add(head.triangles[of].astype("<u4").ravel(), UINT32, "SCALAR", INDICES)
        primitive = {"attributes": attributes | more, "indices": indices, "material": material}
        primitives.append(primitive | ({"targets": targets} if targets else {}))
    rough = {"metallicFactor": 0.0, "roughnessFactor": 0.8}
    mesh: dict[str, Any] = {"name": name, "primitives": primitives}
    if targets:
        mesh |= {
            "weights": [round(float(weight), 4) for weight, _, _ in head.blendshapes.values()],
            "extras": {"targetNames": list(head.blendshapes)},
        }
    materials: list[dict[str, Any]] = [
        {"name": "skin", "pbrMetallicRoughness": dict(rough)},
        {"name": "inside", "pbrMetallicRoughness": rough},
    ]
    scene: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "facet"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": name}],
        "meshes": [mesh],
        "materials": materials,
    }
    if head.texture is not None:
        view = file.view(cv2.imencode(".png", head.texture)[1].tobytes())
        materials[0]["pbrMetallicRoughness"]["baseColorTexture"] = {"index": 0}
        scene |= {"images": [{"bufferView": view, "mimeType": "image/png"}], "textures": [{"source": 0}]}
    if head.light is not None:
        _add_light(scene, head.light)
    return file, scene


def _add_light(scene: dict, light: Light) -> None:
    """The main direction as a lamp that programs read; all 27 numbers, which none does, beside it.

    A lamp of glTF shines along its node's -z, in lux: a white surface that faces pi lux is white. What comes from all
    other sides has no place there.
    """
    x, y, z = light.direction
    # the shortest turn of +z to where the light comes from
    turn = np.array([-y, x, 0.0, 1 + z]) if z > -0.9999 else np.array([1.0, 0, 0, 0])
    turn /= np.linalg.norm(turn)
    colour = np.clip(light.tint / light.tint.max(), 0, 1) ** GAMMA
    lux = float(np.pi * max(light.intensity, 0.0) ** GAMMA)
    lamp = {"type": "directional", "name": "main light", "color": colour.round(4).tolist(), "intensity": round(lux, 4)}
    scene["extensionsUsed"] = [LIGHTS]
    scene["extensions"] = {LIGHTS: {"lights": [lamp]}}
    node = {"name": "main light", "rotation": turn.round(6).tolist(), "extensions": {LIGHTS: {"light": 0}}}
    numbers = light.harmonics.ravel().astype(float).round(5).tolist()
    scene["nodes"].append(node | {"extras": {"sh": numbers}})
    scene["scenes"][0]["nodes"].append(len(scene["nodes"]) - 1)


def _linear(srgb: np.ndarray) -> np.ndarray:
    """Colours at vertices are linear in glTF; uint8 in, uint8 out."""
    value = srgb / 255.0
    value = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return np.rint(255 * value).astype(np.uint8)


class _Buffers:
    """The numbers of a glTF file: one buffer, its views, and the accessors that read them."""

    def __init__(self):
        self._data, self._views, self._accessors = bytearray(), [], []
        self._reserved = 0  # bytes that follow the data

    def view(self, data: bytes, target: int | None = None) -> int:
        self._data += b"\0" * (-len(self._data) % 4)
        view = {"buffer": 0, "byteOffset": len(self._data), "byteLength": len(data)}
        self._views.append(view | ({"target": target} if target else {}))
        self._data += data
        return len(self._views) - 1

    def add(self, values: np.ndarray, component: int, kind: str, target: int, **more) -> int:
        view = self.view(np.ascontiguousarray(values).tobytes(), target)
        accessor = {"bufferView": view, "componentType": component, "count": len(values), "type": kind}
        self._accessors.append(accessor | more)
        return len(self._accessors) - 1

    def vectors(self, values: np.ndarray, bounds: bool = False) -> int:
        values = values.astype("<f4")
        more = {"min": values.min(axis=0).tolist(), "max": values.max(axis=0).tolist()} if bounds else {}
        return self.add(values, FLOAT, "VEC3", VERTICES, **more)

    def sparse(self, count: int, at: np.ndarray, values: np.ndarray) -> int:
        """`count` vectors, 0 but at some places."""
        values = values.astype("<f4")
        whole = np.vstack([values, np.zeros((1, 3), "<f4")]) if len(values) < count else values
        accessor = {"componentType": FLOAT, "count": count, "type": "VEC3"}
        accessor |= {"min": whole.min(axis=0).tolist(), "max": whole.max(axis=0).tolist()}
        if len(values):
            accessor["sparse"] = {
                "count": len(values),
                "indices": {"bufferView": self.view(at.astype("<u4").tobytes()), "componentType": UINT32},
                "values": {"bufferView": self.view(values.tobytes())},
            }
        self._accessors.append(accessor)
        return len(self._accessors) - 1

    def reserve(self, count: int, kind: str, width: int, **more) -> int:
        """An accessor of `count` float vectors that the caller writes after all data, in order; no `add` may follow."""
        self._data += b"\0" * (-len(self._data) % 4)
        size = 4 * width * count
        self._views.append({"buffer": 0, "byteOffset": len(self._data) + self._reserved, "byteLength": size})
        self._reserved += size
        accessor = {"bufferView": len(self._views) - 1, "componentType": FLOAT, "count": count, "type": kind}
        self._accessors.append(accessor | more)
        return len(self._accessors) - 1

    def binary(self, scene: dict) -> tuple[bytes, bytes]:
        """The file in two parts: up to the data, and the data; what was reserved comes after them."""
        self._data += b"\0" * (-len(self._data) % 4)
        size = len(self._data) + self._reserved
        parts = {"bufferViews": self._views, "accessors": self._accessors}
        parts["buffers"] = [{"byteLength": size}]
        text = json.dumps(scene | parts, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        chunks = struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", size, 0x004E4942)
        return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks) + size) + chunks, bytes(self._data)


BUST = "_bust"  # in the names of whole heads


def file_names(stem: str) -> dict[str, str]:
    """The files of a head by their kind."""
    return {kind: f"{stem}.{kind}" for kind in ("obj", "mtl", "png", "ply", "glb")}


def bust_names(stem: str) -> dict[str, str]:
    """The files of the closed mesh of a head by their kind."""
    return {kind: f"{stem}{BUST}.{kind}" for kind in ("obj", "mtl", "ply", "glb", "stl")}


def write_head(head: Head, folder: Path, stem: str, closed: bool = False) -> None:
    """Write a head as .obj (with .mtl and .png), .ply and .glb, a closed one as .stl, too.

    They get their names when all are complete.

    Raises
    ------
    SinkError
        Where a file cannot be written.
    FileExistsError
        Where one exists.
    """
    names = file_names(stem)
    files = {
        names["ply"]: ply(head),
        names["glb"]: glb(head, stem),
        names["mtl"]: mtl(names["png"] if head.texture is not None else None),
        names["obj"]: obj(head, names["mtl"]),
    }
    if closed:
        files[f"{stem}.stl"] = stl(head)
    if head.texture is not None:
        files[names["png"]] = cv2.imencode(".png", head.texture)[1].tobytes()
    with contextlib.ExitStack() as targets:
        for name, data in files.items():
            targets.enter_context(new_file(folder / name, replace=False)).write_bytes(data)
