import numpy as np
import pytest

from facet.detect.priors import make_priors
from tests import reference


@pytest.mark.parametrize(
    ("height", "width", "count"), [(720, 1080, 16680), (256, 320, 1706), (1, 1, 23), (33, 1, 44), (600, 5, 414)]
)
def test_priors_are_the_plain_ones(height, width, count):
    priors = make_priors(height, width)
    assert priors.shape == (count, 4) and priors.dtype == np.float32
    normalised = priors / np.array([width, height, width, height])
    assert normalised == pytest.approx(reference.priors(height, width), rel=1e-6)


def test_priors_are_made_once_a_size_and_cannot_be_changed():
    assert make_priors(96, 128) is make_priors(96, 128)
    with pytest.raises(ValueError):
        make_priors(96, 128)[0, 0] = 1
