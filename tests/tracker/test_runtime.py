import dataclasses

import numpy as np
import pytest

from facet.tracker.errors import ConfigError, WeightsError
from facet.tracker.runtime import RuntimeConfig, available_providers, open_session
from tests.tracker.nets import constant_regressor


@pytest.fixture
def network(tmp_path):
    path = tmp_path / "net.onnx"
    constant_regressor(path, 4, np.array([[1.0, 2.0], [0.0, 10.0]]))
    return path


def test_a_network_runs(network):
    session = open_session(network)
    assert session.provider == "CPUExecutionProvider"
    assert session.inputs == {"crops": (None, 4, 4, 3)}
    assert session.outputs == {"params": (None, 2)}
    crops = np.stack([np.full((4, 4, 3), 3, np.uint8), np.full((4, 4, 3), 5, np.uint8)])
    (params,) = session.run(crops=crops)
    assert params.tolist() == [[3, 16], [5, 20]]


def test_a_bound_run_reads_and_writes_arrays_that_stay(network):
    crop, params = np.zeros((1, 4, 4, 3), np.uint8), np.zeros((1, 2), np.float32)
    run = open_session(network).bound({"crops": crop}, {"params": params})
    for level in (3, 5):
        crop[:] = level
        run()
        assert params.tolist() == [[level, 10 + 2 * level]]


def test_threads_and_spinning_are_as_set(network):
    options = open_session(network, RuntimeConfig(threads=2))._session.get_session_options()
    assert options.intra_op_num_threads == 2
    assert options.inter_op_num_threads == 1
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    options = open_session(network, RuntimeConfig(spinning=True))._session.get_session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "1"


def test_unknown_provider_names_those_that_are_here(network):
    with pytest.raises(ConfigError, match=r"CPUExecutionProvider.*MoonExecutionProvider"):
        open_session(network, RuntimeConfig(providers=("MoonExecutionProvider",)))


def test_first_provider_in_use_is_reported(network):
    assert open_session(network, RuntimeConfig(providers=tuple(available_providers()[-1:]))).provider


@pytest.mark.parametrize("values", [{"threads": 0}, {"threads": -2}, {"providers": ()}])
def test_bad_config(values):
    with pytest.raises(ValueError):
        dataclasses.replace(RuntimeConfig(), **values)


@pytest.mark.parametrize("content", [b"", b"not a network", b"\x08\x08garbage" * 50])
def test_damaged_network(tmp_path, content):
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"broken\.onnx") as caught:
        open_session(path)
    assert "\n" not in str(caught.value)


def test_missing_network(tmp_path):
    with pytest.raises(WeightsError, match=r"none\.onnx"):
        open_session(tmp_path / "none.onnx")


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ({"image": (None,)}, {}),
        ({"crops": (None, 5, 4, 3)}, {}),
        ({"crops": (None, 4, 4)}, {}),
        ({}, {"params": (None, 3)}),
        ({}, {"scores": (None,)}),
    ],
)
def test_other_inputs_and_outputs_than_required(network, inputs, outputs):
    with pytest.raises(WeightsError, match="expected"):
        open_session(network).require(inputs, outputs)


def test_free_dimensions_fit(network):
    open_session(network).require({"crops": (1, 4, None, 3)}, {"params": (None, 2)})
