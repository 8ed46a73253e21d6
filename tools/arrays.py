"""Reading other people's pickles without running what is in them."""

from __future__ import annotations

import pickle
from pathlib import Path

# what a pickled numpy array asks for, in numpy 1 and 2, and in pickles that Python 2 can read
ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class ImportFailure(Exception):
    """A foreign file that is missing or not what it should be; one line."""


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only numpy arrays are let in")
        return super().find_class(module, name)


def load_arrays(path: Path):
    """Read a pickle that holds nothing but numpy arrays in plain containers.

    Raises
    ------
    ImportFailure
        If it cannot be read, holds anything else, or is damaged.
    """
    try:
        with Path(path).open("rb") as file:
            return _ArrayUnpickler(file).load()
    except OSError as error:
        raise ImportFailure(f"{path}: cannot be read ({error.strerror}); name an existing file") from error
    except Exception as error:  # damaged pickles raise whatever their garbage happens to say
        raise ImportFailure(f"{path}: expected a pickle of numpy arrays, found another: {error}") from error
