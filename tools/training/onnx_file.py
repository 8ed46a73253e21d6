"""Writing ONNX files that ONNX Runtime computes as PyTorch does."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch

from facet.tracker.files import new_file
from facet.tracker.runtime import open_session
from tools.training import TrainingError


def largest_differences(_, found, expected) -> list[float]:
    """The largest absolute difference of each output."""
    return [float(np.abs(a - b).max(initial=0)) for a, b in zip(found, expected, strict=True)]


def write_onnx(
    net: torch.nn.Module,
    path: Path,
    example: torch.Tensor,
    inputs: dict[str, dict[int, str]],
    outputs: dict[str, dict[int, str]],
    cases: list[tuple[np.ndarray, tuple[np.ndarray, ...]]],
    tolerances: tuple[float, ...],
    compare: Callable = largest_differences,
    folded: bool = True,
) -> tuple[float, ...]:
    """Write a network; the file appears only when it computes the same.

    Parameters
    ----------
    inputs, outputs : names, and names of their free dimensions
    cases : inputs and the outputs that PyTorch gives for them
    tolerances : by output
    compare : (input, found outputs, expected ones) -> their differences, by output
    folded : batch norms into the convolutions before them; otherwise weights keep their names and ONNX Runtime folds

    Returns
    -------
    The largest differences, by output.

    Raises
    ------
    TrainingError
        If the largest difference of an output is above its tolerance.
    """
    with new_file(path, ".onnx") as partial:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                net.cpu().eval(),
                (example,),
                str(partial),
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_axes=inputs | outputs,
                opset_version=17,
                training=torch.onnx.TrainingMode.EVAL if folded else torch.onnx.TrainingMode.PRESERVE,
                do_constant_folding=folded,
                dynamo=False,
            )
        onnx.checker.check_model(str(partial), full_check=True)
        session, worst = open_session(partial), np.zeros(len(outputs))
        for array, expected in cases:
            found = session.run(**{next(iter(inputs)): array})
            worst = np.maximum(worst, compare(array, found, expected))
        for name, difference, tolerance in zip(outputs, worst, tolerances, strict=True):
            if not difference <= tolerance:
                raise TrainingError(
                    f"{path}: expected ONNX Runtime to agree with PyTorch within {tolerance} on {name}, found "
                    f"{difference:.2g}; try another version of onnxruntime"
                )
    return tuple(worst.tolist())
