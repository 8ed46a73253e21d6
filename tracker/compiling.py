"""numba's compiler, with a cache that may be damaged, read-only or absent: a kernel is then compiled again.

numba by itself raises in these cases, in the middle of an import or of the first frame.
"""

from __future__ import annotations

import hashlib
import os
import pickle

import numba
from numba.core.caching import (
    CompileResultCacheImpl,
    FunctionCache,
    IndexDataCacheFile,
    InTreeCacheLocator,
    UserProvidedCacheLocator,
    UserWideCacheLocator,
)
from numba.core.dispatcher import Dispatcher

DIGEST = hashlib.sha256().digest_size


class _UserFolder(UserWideCacheLocator):
    """The user's cache folder; without a home numba would make one named `~` in the working folder."""

    def ensure_cache_path(self):
        if not os.path.isabs(self.get_cache_path()):
            raise FileNotFoundError("no home")
        super().ensure_cache_path()


class _ReadOnly(InTreeCacheLocator):
    """Beside the module, as the installation left it: what is there is used, nothing is kept."""

    def ensure_cache_path(self):
        pass


class _Cache(CompileResultCacheImpl):
    _locator_classes = (UserProvidedCacheLocator, InTreeCacheLocator, _UserFolder, _ReadOnly)


class _CheckedFiles(IndexDataCacheFile):
    """Compiled code behind its SHA-256: damaged code would end the process, not raise."""

    def _save_data(self, name, data):
        data = self._dump(data)
        with self._open_for_write(self._data_path(name)) as file:
            file.write(hashlib.sha256(data).digest() + data)

    def _load_data(self, name):
        with open(self._data_path(name), "rb") as file:
            digest, data = file.read(DIGEST), file.read()
        if hashlib.sha256(data).digest() != digest:
            raise OSError(f"{name} is damaged")  # the caller takes it for a file that is gone
        return pickle.loads(data)


class _KernelCache(FunctionCache):
    """Finds nothing where reading fails, keeps nothing where writing fails."""

    _impl_class = _Cache
    _cache_file: IndexDataCacheFile

    def __init__(self, function):
        super().__init__(function)
        self._function, self._stamped = function, False

    def _stamp(self):
        """Compiled code is out of date when a file of a kernel that it calls has changed, too.

        Done at the first use: only then is all that it calls defined.
        """
        if not self._stamped:
            path, base = self._cache_file._cache_path, self._impl.filename_base
            self._cache_file = _CheckedFiles(path, base, _stamp_of(_files_of(self._function)))
            self._stamped = True

    def load_overload(self, sig, target_context):
        try:
            self._stamp()
            return super().load_overload(sig, target_context)
        except Exception:  # pickles raise whatever their garbage happens to say
            return None

    def save_overload(self, sig, data):
        for _ in range(2):
            try:
                self._stamp()
                super().save_overload(sig, data)
                return
            except Exception:
                try:
                    self.flush()  # a damaged index is begun anew
                except OSError:
                    return


def _files_of(function) -> set[str]:
    """The source files of a function and of all kernels that it calls."""
    files, waiting, seen = set(), [function], set()
    while waiting:
        function = waiting.pop()
        if function not in seen:
            seen.add(function)
            files.add(function.__code__.co_filename)
            named = (function.__globals__.get(name) for name in function.__code__.co_names)
            waiting += [kernel.py_func for kernel in named if isinstance(kernel, Dispatcher)]
    return files


def _stamp_of(files: set[str]) -> tuple:
    """Times and sizes of files."""
    found = [os.stat(file) for file in sorted(files)]
    return tuple((status.st_mtime, status.st_size) for status in found)


def njit(**options):
    """numba's `njit` with these options, cached.

    The cache lies in NUMBA_CACHE_DIR if that is set, else beside the module, else in the user's cache folder, whichever
    can be written first; where none can, kernels are read from beside the module, or compiled in every process.
    """

    def compiled(function):
        kernel = numba.njit(**options)(function)
        kernel._cache = _KernelCache(function)  # what kernel.enable_caching() does with numba's own
        return kernel

    return compiled
