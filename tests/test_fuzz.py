"""Damaged files, odd settings, signals at any time: the right status, one line, no traceback, no lost or left file.

The small form belongs to the tests, the long one to `make check-long`. A failure names its seed.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from dataclasses import fields, is_dataclass
from typing import get_type_hints

import numpy as np
import pytest

from facet.settings import AppConfig
from tests import fuzz
from tests.conftest import ROOT
from tests.program import APP, playable_frames, records

pytestmark = pytest.mark.skipif(not (ROOT / "weights" / "manifest.toml").exists(), reason="no weights are shipped yet")
long = pytest.mark.long


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return fuzz.samples(tmp_path_factory.mktemp("samples"))


@pytest.fixture(scope="module")
def worker():
    worker = fuzz.Worker()
    yield worker
    worker.close()


def contents(folder):
    """The files of a folder with their bytes."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def wrong(status, errors, folder, before) -> str:
    """What is wrong with a run; "" where nothing is."""
    lines = [line for line in errors.splitlines() if line.strip()]
    after = contents(folder)
    if status is None or "Traceback" in errors or status not in (0, 1, 2):
        return "it failed"
    if any(after.get(name) != data for name, data in before.items()):
        return "it changed an input"
    if left := [name for name in after if ".facet-" in name and name not in errors]:
        return f"it left {left}"
    if len([line for line in lines if not re.match(r"skipped: |app\.py: .*(ends early|first was read)", line)]) > 1:
        return "more than one line"
    if (status and not lines) or any(not line.startswith(("app.py: ", "skipped: ")) for line in lines):
        return "not one line of ours"
    if status == 2 and set(after) - set(before):
        return "a wrong option wrote a file"
    if status == 0 and "log.jsonl" in after:
        records(folder / "log.jsonl")
    for name in after.keys() - before.keys():
        if name.startswith("out.m") and playable_frames(folder / name) < 1:
            return f"{name} cannot be played"
    return ""


def run_all(seeds, options_of, worker, tmp_path):
    """Run each seed; fails with all that is wrong."""
    found = []
    for seed in seeds:
        folder = tmp_path / str(seed)
        folder.mkdir()
        options = options_of(seed, folder)
        before = contents(folder)
        status, errors = worker(options)
        if what := wrong(status, errors, folder, before):
            found.append(f"seed {seed}: {what}: {status} {errors[-600:]!r}; {options}")
    assert not found, "\n".join(found)


def settings_of(cls, prefix=""):
    """The names of all settings."""
    hints = get_type_hints(cls)
    for field in fields(cls):
        if is_dataclass(hints[field.name]):
            yield from settings_of(hints[field.name], f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}"


@pytest.mark.parametrize("seeds", [range(20), pytest.param(range(1000, 1300), marks=long)], ids=["small", "long"])
def test_damaged_files(seeds, made, worker, tmp_path):
    run_all(seeds, lambda seed, folder: fuzz.damaged_run(seed, made, folder), worker, tmp_path)


@pytest.mark.parametrize("seeds", [range(60), pytest.param(range(1000, 1500), marks=long)], ids=["small", "long"])
def test_odd_settings(seeds, made, worker, tmp_path):
    names, clip = list(settings_of(AppConfig)), made[0]
    run_all(seeds, lambda seed, folder: fuzz.odd_run(seed, names, clip, folder), worker, tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("seeds", [range(6), pytest.param(range(1000, 1060), marks=long)], ids=["small", "long"])
def test_signals_at_any_time(seeds, tmp_path):
    found = []
    for seed in seeds:
        rng, folder = np.random.default_rng(seed), tmp_path / str(seed)
        folder.mkdir()
        clip = folder / "clip.mp4"
        clip.write_bytes((ROOT / "samples" / "demo.mp4").read_bytes())
        before = contents(folder)
        out = folder / f"out{['.mp4', '.mkv', '.mov'][seed % 3]}"
        command = [*APP, "-f", clip, "-o", out, "--log", folder / "log.jsonl", "--quiet"]
        process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True, cwd=ROOT)
        number = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)[rng.integers(0, 3)]
        time.sleep(4.0 * rng.random())
        process.send_signal(number)
        _, errors = process.communicate(timeout=120)
        status = process.returncode
        if errors.endswith("KeyboardInterrupt\n") and not re.search(r'app\.py", line [1-9]', errors):
            errors = ""  # Python itself had not started
        if status not in (130, 0, -number, 1) or errors not in ("", "interrupted\n") or (status == 1 and errors):
            found.append(f"seed {seed}: {number!r}: {status} {errors!r}")
        after = contents(folder)
        if after.pop("clip.mp4") != before["clip.mp4"] or not set(after) <= {out.name, "log.jsonl"}:
            found.append(f"seed {seed}: {number!r}: left {list(after)}")
        if out.name in after and playable_frames(out) < 1:
            found.append(f"seed {seed}: {number!r}: {out.name} cannot be played")
    assert not found, "\n".join(found)
