"""MediaPipe's points of videos, and of their mirror images, for the evaluation.

usage: python tools/mesh_videos.py VIDEO ... -o DIR

Writes NAME.npy and NAME_mirrored.npy for each video: (frames, 478, 3) float32, px of the frame or of the mirrored
frame, z larger is nearer; NaN where MediaPipe sees no face. Runs by itself, in an environment with mediapipe==0.10.21,
which wants an older numpy than facet does. ffmpeg and ffprobe must be installed.
"""

import argparse
import subprocess
from pathlib import Path

import numpy as np


def frames(path: Path):
    """The frames of a video, one by one, (H, W, 3) uint8 RGB."""
    probe = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries", "stream=width,height"]
    found = subprocess.run([*probe, "-of", "csv=p=0", str(path)], capture_output=True, check=True, text=True).stdout
    width, height = map(int, found.strip().split(",")[:2])
    decode = ["ffmpeg", "-v", "error", "-i", str(path), "-fps_mode", "passthrough", "-f", "rawvideo"]
    with subprocess.Popen([*decode, "-pix_fmt", "rgb24", "-"], stdout=subprocess.PIPE) as process:
        while len(data := process.stdout.read(3 * width * height)) == 3 * width * height:
            yield np.frombuffer(data, np.uint8).reshape(height, width, 3)


def main() -> None:
    import mediapipe

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    for path in args.videos:
        kinds = "", "_mirrored"
        settings = {"static_image_mode": False, "max_num_faces": 1, "refine_landmarks": True}
        meshes = [mediapipe.solutions.face_mesh.FaceMesh(**settings) for _ in kinds]
        found = [[], []]
        for frame in frames(path):
            size = np.float32([frame.shape[1], frame.shape[0], -frame.shape[1]])
            for mesh, image, points in zip(meshes, (frame, frame[:, ::-1]), found, strict=True):
                faces = mesh.process(np.ascontiguousarray(image)).multi_face_landmarks
                seen = [(p.x, p.y, p.z) for p in faces[0].landmark] if faces else np.full((478, 3), np.nan)
                points.append(np.float32(seen) * size)
        for kind, points in zip(kinds, found, strict=True):
            np.save(args.output / f"{path.stem}{kind}.npy", np.float32(points).reshape(-1, 478, 3))
        print(f"{path}: {len(found[0])} frames", flush=True)


if __name__ == "__main__":
    main()
