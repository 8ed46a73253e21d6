"""Reads heads from binary glTF 2.0 files (.glb, .vrm): triangles, colours, textures and morph targets by name.

Of a rigged body the part that its head bone carries is taken; VRM 0 and 1 name that bone and their expressions.
Compressed geometry (Draco, meshopt) and textures (KTX2) are not read.
"""

from __future__ import annotations

import json
import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from facet.tracker.arkit import NAMES
from facet.tracker.errors import RenderError

LARGEST_BYTES, MOST_VERTICES, MOST_NODES, DEEPEST = 1 << 28, 1_000_000, 10_000, 64
JSON_CHUNK, BINARY_CHUNK = 0x4E4F534A, 0x004E4942
KINDS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
TRIANGLES = 4
TEXTURE_PX, MOST_TEXTURES = 1024, 24
READ = {
    "KHR_texture_transform",
    "KHR_materials_unlit",
    "VRM",
    "VRMC_vrm",
    "VRMC_materials_mtoon",
    "KHR_mesh_quantization",
}
# ARKit's names as programs write them, and the presets of VRM 1 and VRM 0 by the names of VRM 1
ARKIT = {re.sub("left$", "_l", re.sub("right$", "_r", name.lower())): name for name in NAMES}
ARKIT |= {name.lower(): name for name in NAMES}
PRESETS = ("aa", "ih", "ou", "ee", "oh", "blinkLeft", "blinkRight", "lookUp", "lookDown", "lookLeft", "lookRight")
VRM0 = {"a": "aa", "i": "ih", "u": "ou", "e": "ee", "o": "oh", "blink_l": "blinkLeft", "blink_r": "blinkRight"}
VRM0 |= {name.lower(): name for name in PRESETS if name.startswith("look")}
EYE_NAMES = {
    "Left": re.compile(r"(.*[_:])?(left_?eye|eye_?l(eft)?)"),
    "Right": re.compile(r"(.*[_:])?(right_?eye|eye_?r(ight)?)"),
}
HEAD_NAME = re.compile(r"(.*[_:])?head")


@dataclass(frozen=True, slots=True, eq=False)
class HeadMesh:
    """A head as the file has it, in its own units and axes: y up, x to the subject's left or right."""

    vertices: np.ndarray  # (N, 3) float32, at rest
    triangles: np.ndarray  # (F, 3) int32
    colours: np.ndarray  # (N, 3) float32, BGR, [0, 1]
    uv: np.ndarray  # (N, 2) float32, origin top left
    texture: np.ndarray  # (F,) int32 index into `textures`, -1 for none
    textures: np.ndarray  # (T, S, S, 4) uint8, BGRA
    morphs: dict[str, tuple[np.ndarray, np.ndarray]]  # name -> vertices (M,) int32, offsets (M, 3) float32
    eyes: dict[str, tuple[np.ndarray, np.ndarray]]  # side -> vertices that turn with that eye, its middle (3,)


def read_head(path: Path) -> HeadMesh:
    """Read the head of a file.

    Raises
    ------
    RenderError
        Where the file is missing, damaged, of another kind, compressed, or has no morph targets that are known.
    """
    remedy = "give a .glb or .vrm with ARKit's blendshapes"
    try:
        if not path.is_file():
            raise RenderError(f"{path}: expected a file, found none; {remedy}")
        if path.stat().st_size > LARGEST_BYTES:
            raise RenderError(f"{path}: expected at most {LARGEST_BYTES >> 20} MB, found more; {remedy}")
        return _Reader(path.read_bytes()).head()
    except OSError as error:
        raise RenderError(f"{path}: cannot be read ({error.strerror or error})") from error
    except _Foreign as error:
        raise RenderError(f"{path}: {error}; {remedy}") from error
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, struct.error, cv2.error, RecursionError,
            OverflowError, MemoryError) as error:  # fmt: skip
        raise RenderError(f"{path}: expected binary glTF, found a damaged file ({error}); {remedy}") from error


class _Foreign(Exception):
    """The file is whole, but not of the kind that is read."""


class _Reader:
    """One file."""

    def __init__(self, data: bytes):
        if len(data) < 20 or data[:4] != b"glTF":
            raise _Foreign("expected binary glTF, found another kind of file")
        version, size = struct.unpack_from("<II", data, 4)
        if version != 2:
            raise _Foreign(f"expected glTF 2, found version {version}")
        if size > len(data):
            raise ValueError(f"{size} bytes are promised, {len(data)} are there")
        place = 12
        chunks: dict[int, bytes] = {}
        while place + 8 <= size:
            length, kind = struct.unpack_from("<II", data, place)
            if place + 8 + length > len(data):
                raise ValueError("a chunk ends beyond the file")
            chunks.setdefault(kind, data[place + 8 : place + 8 + length])
            place += 8 + length
        self._gltf = json.loads(chunks[JSON_CHUNK])
        self._binary = chunks.get(BINARY_CHUNK, b"")
        needed = set(self._gltf.get("extensionsRequired", ())) - READ
        if needed:
            raise _Foreign(f"expected plain geometry and textures, found {', '.join(sorted(map(str, needed)))}")
        self._nodes = self._gltf.get("nodes", [])
        if len(self._nodes) > MOST_NODES:
            raise ValueError("too many nodes")
        self._parent = {child: k for k, node in enumerate(self._nodes) for child in node.get("children", ())}
        self._world = [self._world_of(k) for k in range(len(self._nodes))]
        extensions = self._gltf.get("extensions", {})
        self._vrm0, self._vrm1 = extensions.get("VRM"), extensions.get("VRMC_vrm")

    def head(self) -> HeadMesh:
        bones = self._bones()
        in_head = self._below(bones.get("head"))
        eye_nodes = {side: self._below(bones.get(f"{side.lower()}Eye")) for side in ("Left", "Right")}
        parts, targets, count = [], {}, 0  # (node's mesh, primitive) -> first vertex
        for k, node in enumerate(self._nodes):
            if "mesh" not in node:
                continue
            for number, primitive in enumerate(self._gltf["meshes"][node["mesh"]]["primitives"]):
                if primitive.get("mode", TRIANGLES) != TRIANGLES:
                    continue
                part = self._part(k, node, primitive, in_head, eye_nodes)
                targets[k, node["mesh"], number] = count, primitive, self._rest_turn(k, node)
                parts.append({**part, "start": count})
                count += len(part["vertices"])
                if count > MOST_VERTICES:
                    raise _Foreign(f"expected at most {MOST_VERTICES} vertices, found more")
        if not parts:
            raise _Foreign("expected a mesh of triangles, found none")
        joined = {
            key: np.concatenate([part[key] for part in parts]) for key in ("vertices", "colours", "uv", "belongs")
        }
        triangles = np.concatenate([part["triangles"] + part["start"] for part in parts])
        texture = np.concatenate([np.full(len(part["triangles"]), part["texture"], np.int32) for part in parts])
        kept = joined["belongs"][triangles].all(axis=1)
        triangles, texture = triangles[kept], texture[kept]
        if not len(triangles):
            raise _Foreign("expected a head, found no triangle that the head bone carries")
        if not np.isfinite(joined["vertices"]).all() or triangles.min() < 0 or triangles.max() >= count:
            raise ValueError("vertices that are no numbers, or triangles without vertices")
        morphs = self._morphs(targets)
        if not morphs:
            raise _Foreign("expected morph targets by ARKit's names or VRM's expressions, found none")
        used, place = np.unique(triangles, return_inverse=True)
        new = np.full(count, -1, np.int32)
        new[used] = np.arange(len(used))
        eyes = {}
        for side in eye_nodes:
            at = new[np.concatenate([part["start"] + part[f"eye{side}"] for part in parts]).astype(int)]
            at = at[at >= 0]
            if len(at):
                bone = bones[f"{side.lower()}Eye"]
                eyes[side] = at, self._world[bone][:3, 3].astype(np.float32)
        return HeadMesh(
            vertices=joined["vertices"][used],
            triangles=place.reshape(-1, 3).astype(np.int32),
            colours=joined["colours"][used],
            uv=joined["uv"][used],
            texture=texture,
            textures=self._textures(),
            morphs={
                name: (new[at][new[at] >= 0], by[new[at] >= 0])
                for name, (at, by) in morphs.items()
                if (new[at] >= 0).any()
            },
            eyes=eyes,
        )

    def _world_of(self, k: int) -> np.ndarray:
        """The matrix (4, 4) from a node to the scene."""
        matrix = np.eye(4)
        for _ in range(DEEPEST):
            matrix = _local(self._nodes[k]) @ matrix
            if k not in self._parent:
                return matrix
            k = self._parent[k]
        raise ValueError("nodes lie too deep, or in a ring")

    def _bones(self) -> dict[str, int]:
        """Nodes of head, leftEye and rightEye: as VRM says, else by their names."""
        if self._vrm1:
            return {name: bone["node"] for name, bone in self._vrm1["humanoid"]["humanBones"].items()}
        if self._vrm0:
            return {bone["bone"]: bone["node"] for bone in self._vrm0["humanoid"]["humanBones"]}
        joints = {joint for skin in self._gltf.get("skins", ()) for joint in skin["joints"]}
        found: dict[str, int] = {}
        for k, node in enumerate(self._nodes):
            name = str(node.get("name", "")).lower()
            if k in joints and HEAD_NAME.fullmatch(name):
                found.setdefault("head", k)
            for side, pattern in EYE_NAMES.items():
                if pattern.fullmatch(name):
                    found.setdefault(f"{side.lower()}Eye", k)
        return found

    def _below(self, top: int | None) -> set[int]:
        """A node and all below it; empty without one."""
        found, waiting = set(), [] if top is None else [top]
        while waiting:
            k = waiting.pop()
            if k not in found:
                found.add(k)
                waiting += self._nodes[k].get("children", ())
        return found

    def _rest_turn(self, k: int, node: dict) -> np.ndarray:
        """What turns and scales offsets of a node's mesh at rest, (3, 3)."""
        return np.eye(3) if "skin" in node else self._world[k][:3, :3]

    def _part(self, k: int, node: dict, primitive: dict, in_head: set, eye_nodes: dict) -> dict:
        """One primitive, placed in the scene."""
        attributes = primitive["attributes"]
        vertices = self._numbers(attributes["POSITION"], 3).astype(np.float64)
        count = len(vertices)
        if "indices" in primitive:
            triangles = self._numbers(primitive["indices"], 1, integers=True).reshape(-1)
        else:
            triangles = np.arange(count)
        triangles = triangles[: len(triangles) // 3 * 3].reshape(-1, 3).astype(np.int64)
        if triangles.size and (triangles.min() < 0 or triangles.max() >= count):
            raise ValueError("a triangle without its vertices")
        belongs = np.ones(count, bool)
        of_eye = {side: np.zeros(count, bool) for side in eye_nodes}
        if "skin" in node and "JOINTS_0" in attributes:
            skin = self._gltf["skins"][node["skin"]]
            joints = np.asarray(skin["joints"], int)
            back = np.tile(np.eye(4), (len(joints), 1, 1))
            if "inverseBindMatrices" in skin:
                back = (
                    self._numbers(skin["inverseBindMatrices"], 16).reshape(-1, 4, 4).transpose(0, 2, 1)[: len(joints)]
                )
            matrices = np.array([self._world[joint] for joint in joints]) @ back
            index = self._numbers(attributes["JOINTS_0"], 4, integers=True)
            weight = self._numbers(attributes["WEIGHTS_0"], 4).astype(np.float64)
            moved = np.einsum("njab,nb->nja", matrices[index], np.column_stack([vertices, np.ones(count)]))
            total = np.maximum(weight.sum(axis=1, keepdims=True), 1e-9)
            vertices = (moved[..., :3] * (weight / total)[..., None]).sum(axis=1)

            def carried(nodes: set) -> np.ndarray:
                return (weight * np.isin(joints, list(nodes))[index]).sum(axis=1) > 0.5 * total[:, 0]

            if in_head:
                belongs = carried(in_head)
            of_eye = {side: carried(nodes) if nodes else of_eye[side] for side, nodes in eye_nodes.items()}
        else:
            world = self._world[k]
            vertices = vertices @ world[:3, :3].T + world[:3, 3]
            if in_head and k not in in_head:
                belongs[:] = False
            of_eye = {side: np.full(count, k in nodes) for side, nodes in eye_nodes.items()}
        material = self._gltf.get("materials", [])[primitive["material"]] if "material" in primitive else {}
        shading = material.get("pbrMetallicRoughness", {})
        colours = np.tile(np.float64(shading.get("baseColorFactor", (1, 1, 1, 1))[:3]), (count, 1))
        if "COLOR_0" in attributes:
            colours = colours * self._numbers(attributes["COLOR_0"], None)[:, :3]
        colours = np.clip(colours, 0, 1)
        srgb = np.where(colours <= 0.0031308, 12.92 * colours, 1.055 * colours ** (1 / 2.4) - 0.055)
        texture, uv = -1, np.zeros((count, 2), np.float32)
        found = shading.get("baseColorTexture")
        coordinates = f"TEXCOORD_{found.get('texCoord', 0)}" if found else ""
        if coordinates in attributes:
            texture = int(self._gltf["textures"][found["index"]]["source"])
            uv = self._numbers(attributes[coordinates], 2).astype(np.float32)
            change = found.get("extensions", {}).get("KHR_texture_transform", {})
            uv = uv * np.float32(change.get("scale", (1, 1))) + np.float32(change.get("offset", (0, 0)))
        eyes = {f"eye{side}": np.flatnonzero(of_eye[side]) for side in of_eye}
        return {
            "vertices": vertices.astype(np.float32),
            "triangles": triangles,
            "belongs": belongs,
            "colours": srgb[:, ::-1].astype(np.float32),
            "uv": uv,
            "texture": texture,
            **eyes,
        }

    def _morphs(self, targets: dict) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Offsets by ARKit's names; where there are few, by VRM 1's presets."""
        by_name: dict[str, list[tuple]] = {}  # name -> (node, mesh, number, target, weight)
        for node, mesh, number in targets:
            described = self._gltf["meshes"][mesh]
            primitive = described["primitives"][number]
            names = described.get("extras", {}).get("targetNames") or primitive.get("extras", {}).get("targetNames", ())
            for index, name in enumerate(names[: len(primitive.get("targets", ()))]):
                known = ARKIT.get(str(name).rsplit(".", 1)[-1].lower())
                if known:
                    by_name.setdefault(known, []).append((node, mesh, number, index, 1.0))
        expressions = self._expressions(targets)
        arkit = by_name or {name: binds for name, binds in expressions.items() if name in NAMES}
        chosen = arkit if len(arkit) >= 8 else {name: binds for name, binds in expressions.items() if name in PRESETS}
        found = {}
        for name, binds in (chosen or arkit).items():
            at, by = [], []
            for node, mesh, number, index, weight in binds:
                start, primitive, turn = targets[node, mesh, number]
                offsets = self._numbers(primitive["targets"][index]["POSITION"], 3) @ turn.T * weight
                moving = np.flatnonzero(np.abs(offsets).max(axis=1) > 0)
                at.append(start + moving)
                by.append(offsets[moving])
            at, by = np.concatenate(at), np.concatenate(by).astype(np.float32)
            if len(at) and np.isfinite(by).all():
                found[name] = at, by
        return found

    def _expressions(self, targets: dict) -> dict[str, list[tuple]]:
        """Expressions of a VRM by the names of VRM 1, or of ARKit, as lists of (node, mesh, number, target, weight)."""
        found: dict[str, list[tuple]] = {}

        def bind(name: str, wanted, index: int, weight: float) -> None:
            name = ARKIT.get(name.lower(), name)
            binds = found.setdefault(name, [])
            for node, mesh, number in targets:
                primitive = self._gltf["meshes"][mesh]["primitives"][number]
                if wanted(node, mesh) and 0 <= index < len(primitive.get("targets", ())):
                    binds.append((node, mesh, number, index, weight))

        if self._vrm1:
            expressions = self._vrm1.get("expressions", {})
            for name, entry in {**expressions.get("custom", {}), **expressions.get("preset", {})}.items():
                for one in entry.get("morphTargetBinds", ()):
                    bind(name, lambda node, mesh, one=one: node == one["node"], one["index"], float(one["weight"]))
        for group in self._vrm0.get("blendShapeMaster", {}).get("blendShapeGroups", ()) if self._vrm0 else ():
            name = VRM0.get(str(group.get("presetName", "")).lower(), str(group.get("name", "")))
            for one in group.get("binds", ()):
                bind(name, lambda node, mesh, one=one: mesh == one["mesh"], one["index"], float(one["weight"]) / 100)
        return {name: binds for name, binds in found.items() if binds}

    def _textures(self) -> np.ndarray:
        """All images at one size, (T, S, S, 4) uint8 BGRA; those that no mesh uses or that are too many are white."""
        used = {
            self._gltf["textures"][found["index"]]["source"]
            for material in self._gltf.get("materials", ())
            if (found := material.get("pbrMetallicRoughness", {}).get("baseColorTexture"))
        }
        images = self._gltf.get("images", [])
        if not used:
            return np.zeros((1, 1, 1, 4), np.uint8)
        if len(used) > MOST_TEXTURES:
            raise _Foreign(f"expected at most {MOST_TEXTURES} textures, found {len(used)}")
        side = TEXTURE_PX if len(used) <= 8 else TEXTURE_PX // 2
        found = np.full((max(used) + 1, side, side, 4), 255, np.uint8)
        for k in used:
            if "bufferView" not in images[k]:
                raise _Foreign("expected textures within the file, found one beside it")
            start, length, _ = self._view(images[k]["bufferView"])
            image = cv2.imdecode(np.frombuffer(self._binary, np.uint8, length, start), cv2.IMREAD_UNCHANGED)
            if image is None or image.dtype not in (np.uint8, np.uint16):
                raise _Foreign("expected textures as PNG or JPEG, found others")
            if image.dtype == np.uint16:
                image = (image // 256).astype(np.uint8)
            if image.ndim == 2:
                image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
            shrink = cv2.INTER_AREA if max(image.shape[:2]) > side else cv2.INTER_LINEAR
            image = cv2.resize(image, (side, side), interpolation=shrink)
            found[k, ..., : image.shape[2]] = image
        return found

    def _view(self, index: int) -> tuple[int, int, int]:
        """Where a part of the data begins, how long it is, and from one element to the next, 0 where they touch."""
        view = self._gltf["bufferViews"][index]
        if view.get("buffer", 0) != 0 or "uri" in self._gltf["buffers"][0]:
            raise _Foreign("expected all data within the file, found some beside it")
        start, length = int(view.get("byteOffset", 0)), int(view["byteLength"])
        if start < 0 or length < 0 or start + length > len(self._binary):
            raise ValueError("data beyond the end")
        return start, length, int(view.get("byteStride", 0))

    def _numbers(self, index: int, width: int | None, integers: bool = False) -> np.ndarray:
        """An accessor, (n, width); normalised integers as numbers of [0, 1] or [-1, 1]."""
        accessor = self._gltf["accessors"][index]
        count, found = int(accessor["count"]), WIDTHS[accessor["type"]]
        if not 0 <= count * found <= 8 * MOST_VERTICES or (width is not None and found != width):
            raise ValueError(f"expected {width} numbers each, found {found}; {count} of them")
        kind = np.dtype(KINDS[accessor["componentType"]])
        values = np.zeros((count, found), kind)
        if "bufferView" in accessor:
            values = self._array(accessor["bufferView"], int(accessor.get("byteOffset", 0)), count, found, kind)
        if "sparse" in accessor:
            sparse = accessor["sparse"]
            few, places = int(sparse["count"]), sparse["indices"]
            index_kind = np.dtype(KINDS[places["componentType"]])
            at = self._array(places["bufferView"], int(places.get("byteOffset", 0)), few, 1, index_kind)[:, 0]
            new = sparse["values"]
            values = values.copy()
            values[at] = self._array(new["bufferView"], int(new.get("byteOffset", 0)), few, found, kind)
        if integers:
            return values.astype(np.int64)
        if accessor.get("normalized") and kind.kind in "iu":
            return np.maximum(values / np.iinfo(kind).max, -1.0)
        return values.astype(np.float64)

    def _array(self, view: int, offset: int, count: int, width: int, kind: np.dtype) -> np.ndarray:
        start, length, stride = self._view(view)
        stride = stride or width * kind.itemsize
        if offset < 0 or stride < width * kind.itemsize or count < 0:
            raise ValueError("elements that overlap")
        if count and offset + (count - 1) * stride + width * kind.itemsize > length:
            raise ValueError("an accessor beyond its data")
        return np.ndarray((count, width), kind, self._binary, start + offset, (stride, kind.itemsize))


def _local(node: dict) -> np.ndarray:
    """The matrix (4, 4) of a node in its parent."""
    if "matrix" in node:
        return np.array(node["matrix"], np.float64).reshape(4, 4).T
    x, y, z, w = map(float, node.get("rotation", (0, 0, 0, 1)))
    length = math.sqrt(x * x + y * y + z * z + w * w) or 1.0
    x, y, z, w = x / length, y / length, z / length, w / length
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]) * np.array(node.get("scale", (1, 1, 1)), np.float64)  # fmt: skip
    matrix[:3, 3] = node.get("translation", (0, 0, 0))
    return matrix
