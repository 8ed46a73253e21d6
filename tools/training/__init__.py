from facet.tracker.errors import FaceTrackError


class TrainingError(FaceTrackError):
    """Training data, a checkpoint or a network that is missing or not of the expected form."""
