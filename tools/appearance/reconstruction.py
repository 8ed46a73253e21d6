"""From a photograph to shape, expression, pose, skin and light of the faces in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from facet.tracker.aligner import Aligner, Alignment
from facet.tracker.lighting import BANDS, FaceAppearance, Light, LightEstimator, SkinModel, load_skin
from facet.tracker.loop import FaceTracker
from facet.tracker.morphable import MorphableModel
from facet.tracker.pose import pose_from_camera
from facet.tracker.types import FaceTrack
from facet.tracker.weights import find_entry
from tools.appearance.fit import Fit, Fitter, mask_of, points_of
from tools.appearance.photometric import POINTS, Photometric

SHAPE_PRECISION = 4.0  # of the network's shape, which the points and the colours correct
ROUNDS, STEPS = 3, 3  # of light and shape in turn


@dataclass(frozen=True, slots=True, eq=False)
class Reconstruction:
    """One face of a photograph."""

    image: np.ndarray  # (H, W, 3) uint8, BGR
    face: FaceTrack  # with the fitted camera, shape, expression, landmarks, and with light and skin
    mask: np.ndarray  # (H, W) float32, probability that a pixel shows the face
    landmarks: np.ndarray  # (68, 2) float32, the aligner's


class Reconstructor:
    """Fits faces that a tracker has found."""

    def __init__(self, model: MorphableModel, skin: SkinModel | None = None):
        self.model = model
        self.skin = skin or load_skin()
        self.aligner = Aligner.open(find_entry("weights/aligner.onnx", "aligner"))
        self.fitter = Fitter(model)
        self.estimator = LightEstimator(model, self.skin, POINTS)

    def find(self, tracker: FaceTracker, image: np.ndarray) -> tuple[FaceTrack, ...]:
        """The faces of a photograph."""
        return tracker.track(image)

    def __call__(
        self, images: Sequence[np.ndarray], faces: Sequence[FaceTrack], colours: bool = True
    ) -> list[Reconstruction]:
        """Fit photographs of one person, with one shape and one skin.

        Parameters
        ----------
        images : (H, W, 3) uint8, BGR
        faces : what the tracker found of the person in each
        colours : whether colours count, too; without, points alone place the mesh
        """
        known, starts, terms, aligned = [], [], [], []
        for image, face in zip(images, faces, strict=True):
            alignment = self.aligner(image, [face.landmarks], [face.pose.roll_deg])[0]
            aligned.append(alignment)
            known.append(points_of(alignment))
            starts.append(self.fitter.start(face.model_to_image, face.shape, face.expression))
            terms.append(Photometric(self.estimator, image, mask_of(alignment, image.shape[:2])))
        centre = np.mean([face.shape for face in faces], axis=0).astype(np.float64)
        # several estimates of one network err alike: they count little more than one
        precision = SHAPE_PRECISION * (1 + 0.5 * np.log(len(faces)))
        fits = self.fitter(known, starts, centre, precision)
        for _ in range(ROUNDS if colours else 0):
            self._share(terms, fits)
            if all(term.light is None for term in terms):
                break
            fits = self.fitter(known, fits, centre, precision, terms, STEPS)
        self._share(terms, fits)
        return [
            self._result(image, face, fit, term, alignment)
            for image, face, fit, term, alignment in zip(images, faces, fits, terms, aligned, strict=True)
        ]

    def _share(self, terms: Sequence[Photometric], fits: Sequence[Fit]) -> None:
        """Estimate the light of each photograph, and the skin that they have in common."""
        usable = [term for term, fit in zip(terms, fits, strict=True) if term.update(fit)]
        if len(usable) < 2:
            return
        skin = np.mean([term.skin for term in usable], axis=0).astype(np.float32)
        for term, fit in zip(terms, fits, strict=True):
            if term.light is not None:
                term.skin = skin
                term.light = self.estimator.light_under(*term.observe(fit), skin)

    def _result(self, image, face: FaceTrack, fit: Fit, term: Photometric, alignment: Alignment) -> Reconstruction:
        camera = fit.camera.astype(np.float32)
        shape, expression = fit.shape.astype(np.float32), fit.expression.astype(np.float32)
        light = None if term.light is None else Light(term.light.reshape(3, BANDS))
        found = replace(
            face,
            model_to_image=camera,
            shape=shape,
            expression=expression,
            pose=pose_from_camera(camera),
            landmarks=self.model.landmarks(camera, shape, expression),
            appearance=FaceAppearance(light, term.skin),
            vertices=self.model.vertices(shape, expression) @ camera[:, :3].T + camera[:, 3],
        )
        return Reconstruction(image, found, term.mask, alignment.landmarks[:, :2])

