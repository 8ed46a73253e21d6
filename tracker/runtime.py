"""ONNX Runtime sessions that behave: no telemetry, few threads, none that spin, the asked provider or an error.

ONNX Runtime's packages send usage events to their vendor, and write a device ID and a database of events below the
user's cache folder, from the moment the library is loaded. Importing this module switches that off for the whole
process, whoever else uses ONNX Runtime in it. Nothing else may import onnxruntime by itself:
`from facet.tracker.runtime import onnxruntime`. A program that has imported it earlier sets ORT_DISABLE_TELEMETRY=1
itself before that.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np

from facet.tracker.errors import ConfigError, WeightsError

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read once, when the library loads
import onnxruntime

onnxruntime.disable_telemetry_events()  # for builds that do not know the variable; by itself it stops too little
onnxruntime.set_default_logger_severity(3)  # its warnings are about graphs, not about anything a user can change
MOST_THREADS = 256


@dataclass(frozen=True, slots=True)
class RuntimeConfig:
    """How networks are run."""

    threads: Annotated[int, "threads of one run of one network"] = 1
    providers: Annotated[tuple[str, ...], "ONNX Runtime's execution providers, best first"] = ("CPUExecutionProvider",)
    spinning: Annotated[bool, "whether idle threads keep a core busy to wake sooner"] = False

    def __post_init__(self):
        if not 1 <= self.threads <= MOST_THREADS:
            raise ValueError(f"threads must be in [1, {MOST_THREADS}], got {self.threads}")
        if not self.providers:
            raise ValueError(f"providers must name at least one of {', '.join(available_providers())}")


def available_providers() -> list[str]:
    """The execution providers of this installation of ONNX Runtime, best first."""
    return onnxruntime.get_available_providers()


class Session:
    """A loaded network.

    Attributes
    ----------
    path : its file
    provider : the execution provider in use
    inputs, outputs : names to shapes; a free dimension is None
    """

    def __init__(self, session: onnxruntime.InferenceSession, path: Path):
        self._session = session
        self.path = path
        self.provider: str = session.get_providers()[0]
        self.inputs = {i.name: _shape(i.shape) for i in session.get_inputs()}
        self.outputs = {o.name: _shape(o.shape) for o in session.get_outputs()}
        self._output_names = list(self.outputs)

    def run(self, **inputs: np.ndarray) -> list[np.ndarray]:
        """Run the network on named inputs; returns its outputs in order."""
        return self._session.run(self._output_names, inputs)

    def bound(self, inputs: dict[str, np.ndarray], outputs: dict[str, np.ndarray]) -> Callable[[], None]:
        """A run on arrays that stay: it reads the inputs and fills the outputs, with fewer steps around it than `run`.

        The caller keeps the arrays alive.
        """
        binding = self._session.io_binding()
        for name, array in inputs.items():
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        for name, array in outputs.items():
            binding.bind_ortvalue_output(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        return partial(self._session.run_with_iobinding, binding)

    def require(self, inputs: dict[str, tuple], outputs: dict[str, tuple]) -> None:
        """Raise WeightsError unless the network has these inputs and outputs; None stands for any length."""
        for what, expected, found in (("input", inputs, self.inputs), ("output", outputs, self.outputs)):
            for name, shape in expected.items():
                if name not in found:
                    raise WeightsError(
                        f"{self.path}: expected an {what} {name}, found {', '.join(found)}; "
                        "the file and its manifest do not belong together"
                    )
                if not _fits(found[name], shape):
                    raise WeightsError(
                        f"{self.path}: expected {what} {name} of shape {shape}, found {found[name]}; "
                        "the file and its manifest do not belong together"
                    )


def open_session(path: Path | str, config: RuntimeConfig = RuntimeConfig(), keep_memory: bool = True) -> Session:
    """Load a network.

    Parameters
    ----------
    keep_memory : whether what a run needs is kept for the next one; for a network that runs often

    Raises
    ------
    ConfigError
        If a provider is unknown to this installation, or none of the asked ones can run the network.
    WeightsError
        If the file cannot be read as a network.
    """
    path = Path(path)
    available = available_providers()
    for provider in config.providers:
        if provider not in available:
            raise ConfigError(
                f"runtime.providers: expected some of {', '.join(available)}, found {provider}; "
                "choose one of these or install the onnxruntime package that has it"
            )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = config.threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if config.spinning else "0")
    options.enable_cpu_mem_arena = keep_memory
    options.log_severity_level = 3
    if not path.is_file():
        raise WeightsError(f"{path}: expected a network, found no file; name an existing one")
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=list(config.providers))
    except Exception as error:  # ONNX Runtime has no common base for what it raises
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"{path}: expected an ONNX network, found: {reason}; replace the file") from error
    session.disable_fallback()
    if session.get_providers()[0] != config.providers[0]:
        raise ConfigError(
            f"runtime.providers: expected {config.providers[0]} to work here, found it does not start; "
            "set runtime.providers to CPUExecutionProvider"
        )
    return Session(session, path)


def _shape(dimensions: list) -> tuple:
    return tuple(d if isinstance(d, int) else None for d in dimensions)


def _fits(found: tuple, expected: tuple) -> bool:
    """Whether shapes agree; a free dimension agrees with any."""
    return len(found) == len(expected) and all(
        f is None or e is None or f == e for f, e in zip(found, expected, strict=True)
    )
