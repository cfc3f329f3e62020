"""The place where checkpoints and figures go: full, read-only, a folder, gone half-way. One line
and status 1; the checkpoint before is as it was, and no temporary file stays.

Only root can mount a file system of a few KiB; test_failures.py has what needs none.
"""
import contextlib
import os
import re
import subprocess
import time

import pytest

from conftest import content, names, posix

SAVING = "--check_interval 1 --val 0.05 --save"             # a run that does little but save
pytestmark = posix


@contextlib.contextmanager
def mounted(folder, options):
    """A folder with a file system in memory; the test is skipped where that cannot be."""
    folder.mkdir()
    try:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder],
                              capture_output=True, encoding="utf-8")
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if done.returncode:
        pytest.skip(f"cannot mount: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def runs_into_a_full_disk(script, size):
    """Saves to a file system of this many bytes until it is full, or not; returns which."""
    with mounted(script.folder / "disk", f"size={size}") as disk:
        done = script.train(f"{SAVING} disk/a.npz --iters 3 --fname disk/log.tsv", status=None)
        assert done.returncode in (0, 1) and (done.returncode == 0 or "cannot" in done.stderr)
        assert names(disk) <= {"log.tsv", "a.npz", "a.best.npz"}
        for path in disk.glob("*.npz"):
            script.module.load(str(path))
        return "full" if done.returncode else "large enough"


@contextlib.contextmanager
def run_that_saves(script, folder, seconds):
    """For so long after its first checkpoint; then the block of with has to end the run."""
    with script.start(f"{SAVING} {folder}/a.npz") as process:
        while not (script.folder / folder / "a.npz").exists():
            time.sleep(0.001)
        time.sleep(seconds)
        yield process
        line = rf"\S+-numpy\.py: cannot [^\n]*{folder}/a[^\n]+\n"
        assert process.wait(60) == 1
        assert re.fullmatch(line, error := process.stderr.read()), error


def assert_whole(script, folder):
    """Both checkpoints are there, and at most the one file more that was being written."""
    left = {name for name in names(folder) if name[-4:] == ".tmp"}
    assert len(left) <= 1 and names(folder) - left == {"a.npz", "a.best.npz"}
    script.module.load(str(folder / "a.npz"))


def runs_while_the_disk_becomes_read_only(script, seconds):
    with mounted(script.folder / "disk", "size=1m") as disk:
        with run_that_saves(script, "disk", seconds) as process:
            while subprocess.run(["mount", "-o", "remount,ro", disk],
                                 capture_output=True).returncode:
                assert process.poll() is None               # refused while a file is written
        assert_whole(script, disk)
        before = content(disk)
        script.train("--load disk/a.npz --save disk/a.npz --iters 1", status=2)
        assert content(disk) == before


def runs_while_the_folder_goes(script, seconds):
    (script.folder / "disk").mkdir()
    with run_that_saves(script, "disk", seconds):
        (script.folder / "disk").rename(script.folder / "elsewhere")
    assert_whole(script, script.folder / "elsewhere")       # under another name: nobody can know it
    assert not (script.folder / "disk").exists()


def runs_while_the_target_becomes_a_folder(script, seconds):
    target = script.folder / "a.npz"
    with run_that_saves(script, ".", seconds):
        while not target.is_dir():
            with contextlib.suppress(FileExistsError, FileNotFoundError):
                target.unlink()
                target.mkdir()
    assert names(script.folder) == {"text.txt", "a.npz", "a.best.npz"} and not names(target)
    script.loaded("a.best.npz")


TRIALS = (runs_while_the_disk_becomes_read_only, runs_while_the_folder_goes,
          runs_while_the_target_becomes_a_folder)


@pytest.mark.parametrize("trial", TRIALS, ids=[trial.__name__[11:] for trial in TRIALS])
def test_half_way(rnn, trial):
    trial(rnn, 0.02)


@pytest.mark.parametrize("kibibytes, expected", [(24, "full"), (500, "large enough")])
def test_full(rnn, kibibytes, expected):
    assert runs_into_a_full_disk(rnn, kibibytes * 1024) == expected


@pytest.mark.parametrize("flag", ["--save", "--fname"])
def test_a_read_only_folder_from_the_start(rnn, flag):
    """Noticed before the training. For a user a permission is enough; root needs a mount."""
    disk = rnn.folder / "disk"
    with mounted(disk, "size=1m,ro") if os.geteuid() == 0 else contextlib.nullcontext():
        disk.mkdir(mode=0o555, exist_ok=True)
        assert "disk/a" in rnn.train(f"--iters 1 {flag} disk/a.npz", status=2).stderr
        assert names(disk) == set()
