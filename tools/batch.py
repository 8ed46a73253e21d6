"""Track many videos: python -m tools.batch FILES... -o DIR [--jobs N] [--ray ADDRESS] [--no-video] [-- OPTIONS]

Each file is tracked by an app.py of its own, with OPTIONS, into DIR/NAME.mp4 and DIR/NAME.jsonl, so the results are
app.py's. As many run at once as there are cores, or as a Ray cluster has (`pip install ray`; files and project must lie
at the same place on every machine of it). What DIR holds already is skipped, so that the same command goes on after an
interruption. A file that fails does not stop the rest; the exit status then is 1.
"""

from __future__ import annotations

import argparse
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

from tracker.address import redacted
from tracker.weights import ROOT

Job = tuple[str, str, bool, tuple[str, ...]]  # file, output folder, whether a video is written, options of app.py
Result = tuple[str, bool, str]  # file, whether it is done, a line about it


def log_of(file: str, folder: str) -> Path:
    """The log of a file; it gets its name last, so where it is, all is done."""
    return Path(folder) / f"{Path(redacted(file)).stem}.jsonl"


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
        with tempfile.TemporaryDirectory(prefix=f".{log.stem}.partial-", dir=folder) as scratch:
            written = [Path(scratch) / log.name]
            command = [sys.executable, str(ROOT / "app.py"), "-f", file, "--log", str(written[0]), "--quiet"]
            if with_video:
                written.insert(0, Path(scratch) / f"{log.stem}.mp4")
                command += ["-o", str(written[0])]
            status, errors = run([*command, "--no-window", *options])
            if status:
                lines = [line for line in errors.splitlines() if line.strip()]
                return file, False, lines[-1] if lines else f"app.py ended with status {status}"
            for path in written:
                shutil.move(path, log.parent / path.name)
    except OSError as error:
        return file, False, f"{folder}: {error.strerror or error}"
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


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    split = argv.index("--") if "--" in argv else len(argv)
    parser = argparse.ArgumentParser(prog="python -m tools.batch", description="Track many videos on all cores.")
    parser.add_argument("files", nargs="+", metavar="FILES", help="videos; after -- come options of app.py")
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="NAME.mp4 and NAME.jsonl of each go here")
    parser.add_argument("--jobs", type=int, default=cores(), metavar="N", help="at once (default: one a core)")
    parser.add_argument("--ray", metavar="ADDRESS", help='of a Ray cluster, "auto", or "local" for one of its own')
    parser.add_argument("--no-video", action="store_true", help="write logs only")
    args = parser.parse_args(argv[:split])
    if args.jobs < 1:
        parser.error(f"--jobs must be at least 1, got {args.jobs}")
    owners: dict[Path, str] = {}
    for file in args.files:
        log = log_of(file, args.output)
        if log in owners:
            both = f"{redacted(owners[log])} and {redacted(file)}"
            parser.error(f"{both} would both write {log}; give them folders of their own")
        owners[log] = file
    try:
        os.makedirs(args.output, exist_ok=True)
    except OSError as error:
        parser.error(f"-o {args.output}: cannot be made ({error.strerror})")
    folder = str(Path(args.output).resolve())
    pending = [file for log, file in owners.items() if not log.exists()]
    if skipped := len(args.files) - len(pending):
        print(f"{skipped} done already")
    if args.ray:
        pending = [str(Path(file).resolve()) for file in pending]  # the machines there have other working folders
    jobs = [(file, folder, not args.no_video, tuple(argv[split + 1 :])) for file in pending]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
    failed = 0
    try:
        results = run_on_ray(jobs, args.ray) if args.ray else run_here(jobs, args.jobs)
        for number, (file, done, line) in enumerate(results, start=1):
            failed += not done
            print(f"{number}/{len(jobs)} {'done' if done else 'FAILED'} {redacted(file)}: {line}", flush=True)
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        print("tools.batch: --ray needs Ray, which is not installed: pip install ray", file=sys.stderr)
        return 1
    except ConnectionError as error:
        reason = (str(error).strip().splitlines() or ["no answer"])[0]
        print(f"tools.batch: --ray {args.ray}: expected a Ray cluster there, found none: {reason}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
