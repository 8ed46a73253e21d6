"""Small videos whose frames carry their number, made with ffmpeg, and plain ways to look into a video."""

import re
import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np

BITS = 8
BLOCK_PX = 16
WIDTH, HEIGHT = BITS * BLOCK_PX, 64
CLICK_S = 1.0  # where the sound of a clip has its one click


def ffmpeg(*arguments, data: bytes | None = None) -> subprocess.CompletedProcess:
    """Run ffmpeg; raises where it fails."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, arguments)]
    return subprocess.run(command, input=data or b"", capture_output=True, check=True)


def numbered_image(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """(H, W, 3) uint8: the number as bits, black and white blocks in the upper half; blue at the bottom right."""
    image = np.full((height, width, 3), 64, np.uint8)
    for bit in range(BITS):
        image[:BLOCK_PX, bit * BLOCK_PX : (bit + 1) * BLOCK_PX] = 255 * (number >> bit & 1)
    image[height // 2 :, width // 2 :] = 200, 0, 0
    return image


def number_of(image: np.ndarray) -> int:
    """The number that the blocks encode."""
    middle = image[BLOCK_PX // 2, BLOCK_PX // 2 : BITS * BLOCK_PX : BLOCK_PX].mean(axis=1)
    return sum(1 << bit for bit in range(BITS) if middle[bit] > 128)


def make_clip(path: Path, count=30, fps: str = "30", *, filters: str = "null", sound: str = "", options=()) -> Path:
    """Write frames 0 to count - 1 as H.264, a key frame every 10; `sound` is a codec: 3 s of hum with one click."""
    data = b"".join(numbered_image(number).tobytes() for number in range(count))
    source = ["-f", "rawvideo", "-pix_fmt", "bgr24", "-s", f"{WIDTH}x{HEIGHT}", "-r", fps, "-i", "pipe:0"]
    hum = f"aevalsrc=0.05*sin(880*t)+0.9*between(t\\,{CLICK_S}\\,{CLICK_S + 0.005}):d=3:s=48000"
    tone = ["-f", "lavfi", "-i", hum, "-map", "0:v", "-map", "1:a", "-c:a", sound] if sound else []
    video = ["-vf", filters, "-fps_mode", "passthrough", "-c:v", "libx264", "-preset", "ultrafast", "-g", "10"]
    ffmpeg(*source, *tone, *video, "-pix_fmt", "yuv420p", *options, path, data=data)
    return path


def frame_times(path: Path) -> list[float]:
    """Times of the decoded video frames, s, as ffmpeg reports them."""
    exact = ["-fps_mode", "passthrough", "-enc_time_base", "1/90000"]
    text = ffmpeg("-i", path, "-map", "0:v", *exact, "-f", "framecrc", "-").stdout.decode()
    numerator, denominator = map(int, re.search(r"#tb 0: (\d+)/(\d+)", text).groups())
    return [int(line.split(",")[2]) * numerator / denominator for line in text.splitlines() if not line.startswith("#")]


def describe(path: Path) -> str:
    """What ffmpeg says of a file."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-i", str(path)]
    return subprocess.run(command, capture_output=True, text=True).stderr


def duration_s(path: Path) -> float:
    """Duration of the container."""
    hours, minutes, seconds = re.search(r"Duration: (\d+):(\d+):([\d.]+)", describe(path)).groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def click_s(path: Path) -> float:
    """When the click is heard, on the clock of the pictures."""
    from_zero = ["-af", "aresample=48000:async=1:first_pts=0"]
    samples = np.frombuffer(ffmpeg("-i", path, *from_zero, "-ac", "1", "-f", "f32le", "-").stdout, np.float32)
    return int(np.argmax(np.abs(samples) > 0.4)) / 48000
