"""Output files: written under a temporary name beside the target, which they get when they are complete.

A temporary file is new (`O_EXCL`: it never opens a file or a symbolic link that exists), lies in the folder of its
target and is called `.facet-` + 12 random hex digits + `.partial` + the target's ending. A run that is killed leaves
it behind; it may be deleted.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from facet.tracker.errors import ConfigError, SinkError

NAME_BYTES = 255  # of the longest file name that common file systems take
NO_FILE_REMEDY = "name a new file, or one to replace"


def make_partial(target: Path | str, suffix: str | None = None) -> Path:
    """Make an empty temporary file for a target, with the permissions of any new file.

    Parameters
    ----------
    target : the final name; its folder exists
    suffix : ending of the temporary name; None takes the target's

    Returns
    -------
    Path
        Absolute. Whoever asked for it passes it to `publish` or `discard`.

    Raises
    ------
    SinkError
        Where the folder does not exist or cannot be written, or the target is no regular file.
    """
    target = Path(target)
    if target.exists() and not target.is_file():
        found = "a folder" if target.is_dir() else "a device or a pipe"
        raise SinkError(f"{target}: expected the name of a file, found {found}; {NO_FILE_REMEDY}")
    suffix = target.suffix if suffix is None else suffix
    folder = target.parent.absolute()
    try:
        while True:
            partial = folder / f".facet-{os.urandom(6).hex()}.partial{suffix}"
            with contextlib.suppress(FileExistsError):
                os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
                return partial
    except OSError as error:
        remedy = "choose another folder" if folder.is_dir() else "make the folder first"
        raise SinkError(f"{target}: cannot be written ({error.strerror or error}); {remedy}") from error


def publish(partial: Path, target: Path | str, replace: bool = True) -> None:
    """Give a complete file its final name.

    Parameters
    ----------
    partial : from `make_partial`
    target : the final name
    replace : whether a file of that name may be replaced

    Raises
    ------
    FileExistsError
        Without `replace`, where the target exists. The temporary file stays.
    SinkError
        Where the name cannot be given: the target is immutable, in use, or a folder. The temporary file stays and the
        message names it.
    """
    try:
        if not replace:  # take the name first: that fails where it is taken, and renaming would not
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        try:
            os.replace(partial, target)
        except OSError:
            if not replace:
                discard(target)
            raise
    except OSError as error:
        if not replace and isinstance(error, FileExistsError):
            raise
        raise SinkError(
            f"{target}: cannot be replaced ({error.strerror or error}); {partial} holds the complete file"
        ) from error


def discard(partial: Path | str) -> None:
    """Delete a temporary file; one that is gone already is no error."""
    with contextlib.suppress(OSError):
        os.unlink(partial)


@contextlib.contextmanager
def new_file(target: Path | str, suffix: str | None = None, replace: bool = True) -> Iterator[Path]:
    """A temporary file for the block to fill; it gets the target's name when the block ends without an exception.

    Raises
    ------
    SinkError
        Where the file cannot be made, written or renamed.
    FileExistsError
        Without `replace`, where the target exists at the end.
    """
    partial = make_partial(target, suffix)
    try:
        yield partial
    except OSError as error:
        discard(partial)
        raise SinkError(f"{target}: cannot be written ({error.strerror or error}); is the disk full?") from error
    except BaseException:
        discard(partial)
        raise
    try:
        publish(partial, target, replace)
    except FileExistsError:
        discard(partial)
        raise


def file_name(stem: str, ending: str) -> str:
    """`stem + ending`, the stem cut where the name would be longer than file systems take."""
    while len(os.fsencode(stem + ending)) > NAME_BYTES:
        stem = stem[:-1]
    return stem + ending


def numbered_ends() -> Iterator[str]:
    """Without end: "", "-2", "-3", ...: what is added to a name until it is free."""
    yield ""
    for number in itertools.count(2):
        yield f"-{number}"


def same_file(path: Path | str | int, other: Path | str | int) -> bool:
    """Whether two paths, or file descriptors, lead to one existing file."""
    try:
        return os.path.samefile(path, other)
    except (OSError, ValueError):
        return False


def check_targets(
    named: dict[str, Path], unnamed: Iterable[Path] = (), inputs: Iterable[Path | str | int] = ()
) -> None:
    """Refuse outputs that would replace an input, one another, or a file that the user did not name.

    Parameters
    ----------
    named : option -> file that the user named; it may exist
    unnamed : files in folders that the user named; they must not exist
    inputs : paths or file descriptors; those that are no files do not count

    Raises
    ------
    ConfigError
        For the first output that is refused.
    """
    read = {key: name for name in inputs if (key := _identity(name)) is not None}
    taken: dict = {}
    for option, target in named.items():
        key = _identity(target)
        if key is not None and key in read:
            raise ConfigError(f"{option} {target}: would replace the input {read[key]}; choose another name")
        for known in (key, os.path.abspath(target).lower()):
            if known is not None and (first := taken.setdefault(known, option)) != option:
                raise ConfigError(f"{option} {target}: is the file of {first}, too; choose another name")
    found = []
    for target in unnamed:
        if (key := _identity(target)) is not None and key in read:
            raise ConfigError(f"{target}: the output would replace the input {read[key]}; choose another folder")
        if os.path.lexists(target):
            found.append(target)
    if found:
        what = f"{found[0]} exists and is not replaced"
        if len(found) > 1:
            what = f"{found[0]} and {len(found) - 1} more outputs exist and are not replaced"
        raise ConfigError(f"{what}; name another folder, or delete the files first")


def _identity(path: Path | str | int) -> tuple[int, int] | None:
    """What all names of an existing file have in common; None for what is no file."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino
