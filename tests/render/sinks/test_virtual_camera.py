"""The virtual camera, with a library that stands in for pyvirtualcam: no machine of the tests has such a device."""

import builtins
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from facet.render.sinks.virtual_camera import VirtualCamera
from facet.tracker.errors import ConfigError, SinkError


class Device:
    """What pyvirtualcam.Camera promises: fixed size, three channels, contiguous."""

    device = "/dev/video9"
    failing = False

    def __init__(self, width, height, fps, fmt):
        self.size, self.fps, self.fmt, self.pictures, self.closed = (width, height), fps, fmt, [], False
        Device.last = self

    def send(self, picture):
        if self.failing:
            raise RuntimeError("device gone")
        assert picture.shape == (self.size[1], self.size[0], 3) and picture.dtype == np.uint8
        assert picture.flags.c_contiguous
        self.pictures.append(picture.copy())

    def close(self):
        self.closed = True


@pytest.fixture
def library(monkeypatch):
    made = SimpleNamespace(Camera=Device, PixelFormat=SimpleNamespace(BGR="bgr"))
    monkeypatch.setitem(sys.modules, "pyvirtualcam", made)
    return made


def test_pictures_arrive_as_drawn(library):
    picture = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    with VirtualCamera((64, 48), 25.0) as camera:
        assert camera.name == "/dev/video9"
        camera.show(picture)
        camera.show(picture[:, ::-1])  # not contiguous
        camera.show(np.full((24, 32, 3), 7, np.uint8))  # a stream that changed its size
    assert (Device.last.fps, Device.last.fmt, Device.last.closed) == (25.0, "bgr", True)
    np.testing.assert_array_equal(Device.last.pictures[0], picture)
    np.testing.assert_array_equal(Device.last.pictures[1], picture[:, ::-1])
    assert (Device.last.pictures[2] == 7).all()


def test_a_source_that_knows_no_rate(library):
    with VirtualCamera((64, 48), 0.0):
        assert Device.last.fps == 30.0


def test_no_library(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "pyvirtualcam":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match="pip install pyvirtualcam"):
        VirtualCamera((64, 48), 30.0)


def test_no_device_and_one_that_goes(library, monkeypatch):
    def none(*_, **__):
        raise RuntimeError("'v4l2loopback' backend: No v4l2 loopback device found.\nDid you run modprobe?")

    with VirtualCamera((64, 48), 30.0) as camera:
        monkeypatch.setattr(Device, "failing", True)
        with pytest.raises(SinkError, match="video9"):
            camera.show(np.zeros((48, 64, 3), np.uint8))
    library.Camera = none
    with pytest.raises(SinkError, match="modprobe v4l2loopback") as error:
        VirtualCamera((64, 48), 30.0)
    assert "\n" not in str(error.value)
