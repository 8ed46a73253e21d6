"""A window on an X server of our own: its picture, its keys, its close button.

Qt, inside OpenCV, now and then loses the first events of a window on a machine whose cores are all busy: one in ten
stayed black there until it was mapped again. No order of OpenCV's calls was found that avoids it; so tests map such a
window once more.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess

import numpy as np
import pytest


def screenshot(path) -> np.ndarray:
    """The X server's screen, (H, W, 3) uint8 BGR, from the file in XWD form that it keeps."""
    raw = path.read_bytes()
    header = np.frombuffer(raw[:100], ">u4")
    start, width, height, line, colours = (int(header[i]) for i in (0, 4, 5, 12, 19))
    rows = np.frombuffer(raw, np.uint8, line * height, start + 12 * colours).reshape(height, line)
    return rows[:, : 4 * width].reshape(height, width, 4)[..., :3]


def press(title: str, key: str) -> None:
    """Press a key in the window whose title matches; skip the test where nothing can."""
    if not shutil.which("xdotool"):
        pytest.skip("no xdotool")
    subprocess.run(["xdotool", "search", "--onlyvisible", "--name", title, "windowfocus"], check=True)
    subprocess.run(["xdotool", "key", key], check=True)


def show_again(title: str) -> None:
    """Hide the window whose title matches, if there is one, and show it."""
    if shutil.which("xdotool"):
        for words in (["--onlyvisible", "--name", title, "windowunmap"], ["--name", title, "windowmap"]):
            subprocess.run(["xdotool", "search", *words, "--sync"], stdout=subprocess.DEVNULL, check=False)


def ask_to_close(window: int) -> None:
    """Send a window the message of a window manager whose close button was clicked; xdotool has none that can."""
    x = ctypes.CDLL("libX11.so.6")
    x.XOpenDisplay.restype = x.XInternAtom.restype = ctypes.c_void_p
    display = ctypes.c_void_p(x.XOpenDisplay(None))
    protocols, delete = (x.XInternAtom(display, name, False) for name in (b"WM_PROTOCOLS", b"WM_DELETE_WINDOW"))
    # XClientMessageEvent: type 33, serial, sent, display, window, kind of message, bits a number, numbers
    event = (ctypes.c_long * 24)(33, 0, 1, display.value, window, protocols, 32, delete)
    assert x.XSendEvent(display, ctypes.c_ulong(window), False, ctypes.c_long(0), event)
    x.XCloseDisplay(display)
