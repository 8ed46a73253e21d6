"""Exported skin without its light: the albedo that was drawn, clear of what is not skin, with the light beside it."""

import json
import struct
from dataclasses import replace

import cv2
import numpy as np
import pytest

from facet.render.cpu.renderer import CpuRenderer
from facet.render.geometry import geometry_of
from facet.render.lit import vertex_albedo
from facet.render.sinks.export import MeshExport, head_of
from facet.render.sinks.mesh_files import glb
from facet.tracker.lighting import FaceAppearance, lamp, load_skin, sampled
from facet.tracker.morphable import load_face_model
from facet.tracker.types import Frame
from facet.tracker.weights import ROOT
from tests.render.heads import place

MODEL = load_face_model(ROOT / "weights" / "face_model.npz")
GEOMETRY = geometry_of(MODEL)
SKIN = load_skin()
SIZE = 300
COEFFICIENTS = (0.8 * np.random.default_rng(0).normal(size=SKIN.count)).astype(np.float32)
LIGHT = lamp((-0.8, 0.4, 0.6), 0.7, 0.35)


def a_face(yaw_deg=0.0, light=LIGHT):
    """A lit face drawn over grey, and its track."""
    track = place(MODEL, yaw_deg, scale=1.1, at=(SIZE / 2, SIZE / 2))
    still = {"shape": np.zeros(MODEL.shape_count), "expression": np.zeros(MODEL.expression_count)}
    still = {name: values.astype(np.float32) for name, values in still.items()}
    track = replace(track, **still, appearance=FaceAppearance(LIGHT, COEFFICIENTS))
    solid = replace(GEOMETRY, opacity=np.ones(len(MODEL.mean), np.float32))
    image = CpuRenderer(solid, ("lit",)).draw(np.full((SIZE, SIZE, 3), 90, np.uint8), (track,))
    return image, replace(track, vertices=None, appearance=FaceAppearance(light, COEFFICIENTS if light else None))


def skin_colours(texture):
    """The texture's colours at the vertices of the face that lie in front, and what the skin model has there."""
    names = list(MODEL.region_names)
    front = (MODEL.region == names.index("face")) & (MODEL.mean[:, 2] > 40)
    return sampled(texture, MODEL.uv[front]), 255 * vertex_albedo(GEOMETRY, COEFFICIENTS)[front]


@pytest.mark.parametrize("yaw_deg", [0, 30, -60])
def test_the_texture_is_the_albedo_that_was_drawn_on_both_sides(yaw_deg):
    image, face = a_face(yaw_deg)
    found, true = skin_colours(head_of(image, face, GEOMETRY, albedo=True).texture)
    assert np.median(np.abs(found - true)) < 4
    assert np.percentile(np.abs(found - true), 95) < 20


def test_hair_before_the_skin_stays_out_with_a_mask_and_without():
    image, face = a_face()
    clean, _ = skin_colours(head_of(image, face, GEOMETRY, albedo=True).texture)
    cv2.rectangle(image, (SIZE // 2 + 15, 0), (SIZE - 1, SIZE // 2), (10, 12, 14), -1)
    mask = np.ones((SIZE, SIZE), np.float32)
    mask[: SIZE // 2, SIZE // 2 + 15 :] = 0
    for given in (None, mask):
        found, _ = skin_colours(head_of(image, face, GEOMETRY, albedo=True, mask=given).texture)
        assert (np.abs(found - clean).max(axis=1) > 60).mean() < 0.02


def test_the_glb_holds_a_lamp_and_all_numbers_in_the_heads_axes():
    image, face = a_face(40)
    head = head_of(image, face, GEOMETRY, albedo=True)
    data = glb(head, "head")
    scene = json.loads(data[20 : 20 + struct.unpack("<I", data[12:16])[0]])
    assert scene["extensionsUsed"] == ["KHR_lights_punctual"]
    (lamp_,) = scene["extensions"]["KHR_lights_punctual"]["lights"]
    assert lamp_["type"] == "directional" and lamp_["intensity"] > 0 and max(lamp_["color"]) <= 1
    node = next(n for n in scene["nodes"] if "extensions" in n)
    assert scene["nodes"].index(node) in scene["scenes"][0]["nodes"]
    x, y, z, w = node["rotation"]
    # the node's +z, turned by the quaternion, is where the light comes from; -z is where it shines
    toward = np.array([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)])
    expected = face.pose.rotation.T @ LIGHT.direction
    assert np.degrees(np.arccos(np.clip(toward @ expected, -1, 1))) < 15
    assert len(node["extras"]["sh"]) == 27


def test_a_face_whose_light_is_unknown_is_exported_as_the_image_has_it_and_reported(tmp_path):
    image, face = a_face(light=None)
    lines = []
    export = MeshExport(tmp_path, GEOMETRY, None, albedo=True, notify=lines.append)
    export.write(Frame(0, 0.0, image, source="a.jpg", first=True, still=True), (face,))
    assert export.heads == 1 and len(lines) == 1 and "a_1" in lines[0] and "light" in lines[0]
    plain = head_of(image, face, GEOMETRY)
    np.testing.assert_array_equal(head_of(image, face, GEOMETRY, albedo=True).texture, plain.texture)
    assert b"KHR_lights" not in (tmp_path / "a_1.glb").read_bytes()
