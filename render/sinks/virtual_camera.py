"""The rendered picture as a camera that other programs can open, by pyvirtualcam, where that is installed."""

from __future__ import annotations

import cv2
import numpy as np

from facet.tracker.errors import ConfigError, SinkError

LIVE_FPS = 30.0  # reported to the programs where the source does not know


class VirtualCamera:
    """Shows pictures to the programs that opened the camera; a context manager.

    Parameters
    ----------
    size_wh : of all pictures, px
    fps : reported to the programs; None where it is not known

    Raises
    ------
    ConfigError
        Where pyvirtualcam is missing.
    SinkError
        Where the machine has no such camera.
    """

    def __init__(self, size_wh: tuple[int, int], fps: float | None):
        try:
            import pyvirtualcam
        except ImportError as error:
            raise ConfigError("--virtual-camera needs pyvirtualcam; pip install pyvirtualcam") from error
        self._size_wh = size_wh
        try:
            self._camera = pyvirtualcam.Camera(*size_wh, fps or LIVE_FPS, fmt=pyvirtualcam.PixelFormat.BGR)
        except (RuntimeError, OSError) as error:
            reason = " ".join(str(error).split())
            raise SinkError(
                f"--virtual-camera: found none ({reason}); Linux: modprobe v4l2loopback, Windows and macOS: install OBS"
            ) from error

    @property
    def name(self) -> str:
        """What other programs call it."""
        return self._camera.device

    def show(self, picture: np.ndarray) -> None:
        """The next picture, (H, W, 3) uint8, BGR."""
        if picture.shape[1::-1] != self._size_wh:
            picture = cv2.resize(picture, self._size_wh, interpolation=cv2.INTER_AREA)
        try:
            self._camera.send(np.ascontiguousarray(picture))
        except (RuntimeError, OSError) as error:
            raise SinkError(f"--virtual-camera: {self.name} takes no more pictures ({error})") from error

    def __enter__(self) -> VirtualCamera:
        return self

    def __exit__(self, *_) -> None:
        self._camera.close()
