"""Track many videos: python -m tools.batch FILES... -o DIR [--jobs N] [--ray ADDRESS] [--no-video] [-- OPTIONS]

Each file is tracked by an app.py of its own, with OPTIONS, into DIR/NAME.mp4 and DIR/NAME.jsonl, so the results are
app.py's. As many run at once as there are cores, or as a Ray cluster has (`pip install ray`; files and project must lie
at the same place on every machine of it). A file whose NAME.jsonl exists is skipped, so that the same command goes on
after an interruption. No file in DIR is replaced: where NAME.mp4 exists without a log, or is an input, the exit status
is 2, before anything is written. A file that fails does not stop the rest; the exit status then is 1.
"""

from __future__ import annotations

import argparse
import glob
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from facet.tracker.address import redacted
from facet.tracker.errors import ConfigError, SinkError
from facet.tracker.files import check_targets, file_name, publish
from facet.tracker.weights import ROOT

Job = tuple[str, str, bool, tuple[str, ...]]  # file, output folder, whether a video is written, options of app.py
Result = tuple[str, bool, str]  # file, whether it is done, a line about it


def log_of(file: str, folder: str) -> Path:
    """The log of a file; it gets its name last, so where it is, all is done."""
    return Path(folder) / file_name(Path(redacted(file)).stem, ".jsonl")


def report(line: str, failed: bool = False) -> None:
    """Print a line, on stderr where something failed, as app.py prints it."""
    from app import write_line  # takes half a second

    write_line(f"tools.batch: {line}" if failed else line, sys.stderr if failed else sys.stdout)


class Parser(argparse.ArgumentParser):
    """Reports a wrong option in one line, without the list of all options."""

    def error(self, message: str):
        report(message, failed=True)
        sys.exit(2)


CANCEL_S = 10.0  # how long an interrupted run on Ray waits for its tasks to tidy up


class Processes:
    """Runs of app.py that can be ended together."""

    def __init__(self):
        self._running: set[subprocess.Popen] = set()
        self._lock = threading.Lock()
        self._ended = False

    def run(self, command: Sequence[str]) -> tuple[int, str]:
        """Exit status and stderr; 130 where `end` came first."""
        with self._lock:
            if self._ended:
                return 130, ""
            # a session of its own: Ctrl-C reaches it through `end` alone, once
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                start_new_session=True,
            )  # fmt: skip
            self._running.add(process)
        try:
            _, errors = process.communicate()
        except BaseException:  # Ray interrupts a task that is cancelled
            process.terminate()
            process.wait()
            raise
        finally:
            with self._lock:
                self._running.discard(process)
        return process.returncode, errors

    def end(self) -> None:
        """Interrupt what runs and start nothing more."""
        with self._lock:
            self._ended = True
            for process in self._running:
                process.terminate()


def track_file(job: Job, run: Callable[[Sequence[str]], tuple[int, str]] | None = None) -> Result:
    """Track one file; what it writes gets its place when it is whole."""
    file, folder, with_video, options = job
    log = log_of(file, folder)
    run = run or Processes().run
    try:
        scratch = Path(tempfile.mkdtemp(prefix=".facet-", suffix=".partial", dir=folder))
    except OSError as error:
        return file, False, f"{folder}: {error.strerror or error}"
    kept = False
    try:
        written = [scratch / log.name]
        command = [sys.executable, str(ROOT / "app.py"), "-f", file, "--log", str(written[0]), "--quiet"]
        if with_video:
            written.insert(0, scratch / f"{log.stem}.mp4")
            command += ["-o", str(written[0])]
        status, errors = run([*command, "--no-window", *options])
        if status:
            kept = status == 1 and any(scratch.glob(".facet-*"))  # what app.py could not give its name, and named
            lines = [line for line in errors.splitlines() if line.strip()]
            return file, False, lines[-1] if lines else f"app.py ended with status {status}"
        kept = True
        for path in written:
            publish(path, log.parent / path.name, replace=False)
        kept = False
    except SinkError as error:
        return file, False, str(error)
    except FileExistsError:
        return file, False, f"{log.parent / path.name}: exists, and is not replaced; {path} holds the complete file"
    finally:
        if not kept:
            shutil.rmtree(scratch, ignore_errors=True)
    return file, True, str(log)


def run_here(jobs: Sequence[Job], workers: int) -> Iterator[Result]:
    """Results as they come, from processes on this machine."""
    processes = Processes()
    with ThreadPoolExecutor(workers) as pool:
        waiting = [pool.submit(track_file, job, processes.run) for job in jobs]
        try:
            for done in as_completed(waiting):
                yield done.result()
        finally:
            for future in waiting:
                future.cancel()
            processes.end()


def run_on_ray(jobs: Sequence[Job], address: str) -> Iterator[Result]:
    """Results as they come, from a Ray cluster."""
    import ray

    ray.init(address=address, log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}})
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # Ray has put its own in place, which aborts
    try:
        remote = ray.remote(num_cpus=1)(track_file)
        waiting = {remote.remote(job): job[0] for job in jobs}
        try:
            while waiting:
                (done, *_), _ = ray.wait(list(waiting), num_returns=1)
                file = waiting.pop(done)
                try:
                    yield ray.get(done)
                except ray.exceptions.RayError as error:  # a machine that went away
                    yield file, False, str(error).strip().splitlines()[-1]
        finally:
            for task in waiting:
                ray.cancel(task)
            if waiting:
                ray.wait(list(waiting), num_returns=len(waiting), timeout=CANCEL_S)
    finally:
        ray.shutdown()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def expanded(names: Sequence[str]) -> list[str]:
    """The files that names and patterns stand for, each once; a name that exists, or a URL, is no pattern.

    Raises
    ------
    ConfigError
        Where a pattern matches no file.
    """
    files: list[str] = []
    for name in names:
        if os.path.lexists(name) or "://" in name or not glob.has_magic(name):
            files.append(name)
            continue
        found = sorted(filter(os.path.isfile, glob.glob(name, recursive=True)))
        if not found:
            raise ConfigError(f"{name}: expected a pattern that matches files, found none; check the folder")
        files += found
    return list(dict.fromkeys(files))


def files_to_track(files: Sequence[str], folder: str, with_video: bool, options: Sequence[str]) -> list[str]:
    """The files that have no log yet.

    Raises
    ------
    ConfigError
        Where an output would replace an input, an existing file or another output, or an option names an output too.
    """
    from facet.options import parse_args  # takes half a second

    given = parse_args(["-f", "-", *options])
    if given.file != "-" or given.output or given.log:
        raise ConfigError("options after --: -f, -o and --log are given by tools.batch; leave them out")
    if given.profile and len(files) > 1:
        raise ConfigError(f"options after --: each file would replace --profile {given.profile}; give no PATH")
    owners: dict[str, str] = {}
    for file in files:
        log = log_of(file, folder)
        first = owners.setdefault(str(log).lower(), file)  # file systems may take A.jsonl and a.jsonl for one
        if first != file:
            both = f"{redacted(first)} and {redacted(file)}"
            raise ConfigError(f"{both} would both write {log}; give them folders of their own")
    logs = {file: log_of(file, folder) for file in files}
    pending = [file for file in files if not logs[file].exists()]
    targets = [logs[file] for file in pending]
    if with_video:
        targets += [log.with_suffix(".mp4") for log in targets]
    check_targets({}, targets, [*files, *([given.config] if given.config else [])])
    return pending


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    split = argv.index("--") if "--" in argv else len(argv)
    parser = Parser(prog="python -m tools.batch", description="Track many videos on all cores.")
    parser.add_argument("files", nargs="+", metavar="FILES", help="videos or patterns; after --: options of app.py")
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="NAME.mp4 and NAME.jsonl of each go here")
    parser.add_argument("--jobs", type=int, default=cores(), metavar="N", help="at once (default: one a core)")
    parser.add_argument("--ray", metavar="ADDRESS", help='of a Ray cluster, "auto", or "local" for one of its own')
    parser.add_argument("--no-video", action="store_true", help="write logs only")
    args = parser.parse_args(argv[:split])
    if args.jobs < 1:
        parser.error(f"--jobs must be at least 1, got {args.jobs}")
    options = tuple(argv[split + 1 :])
    try:
        files = expanded(args.files)
        pending = files_to_track(files, args.output, not args.no_video, options)
    except ConfigError as error:
        report(str(error), failed=True)
        return 2
    try:
        os.makedirs(args.output, exist_ok=True)
    except OSError as error:
        reason = f"expected a folder, which cannot be made ({error.strerror}); name another"
        report(f"-o {args.output}: {reason}", failed=True)
        return 1
    folder = str(Path(args.output).resolve())
    if skipped := len(files) - len(pending):
        report(f"{skipped} done already")
    if args.ray:
        pending = [str(Path(file).resolve()) for file in pending]  # the machines there have other working folders
    jobs = [(file, folder, not args.no_video, options) for file in pending]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
    failed = 0
    try:
        results = run_on_ray(jobs, args.ray) if args.ray else run_here(jobs, args.jobs)
        for number, (file, done, line) in enumerate(results, start=1):
            failed += not done
            report(f"{number}/{len(jobs)} {'done' if done else 'FAILED'} {redacted(file)}: {line}")
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        report("--ray needs Ray, which is not installed: pip install ray", failed=True)
        return 1
    except ConnectionError as error:
        reason = (str(error).strip().splitlines() or ["no answer"])[0]
        report(f"--ray {args.ray}: expected a Ray cluster there, found none: {reason}", failed=True)
        return 1
    except KeyboardInterrupt:
        report("interrupted; the same command goes on from here", failed=True)
        return 130
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
