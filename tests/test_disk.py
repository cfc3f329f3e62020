"""The place where checkpoints and figures go: full, read-only, a folder, gone half-way through the run.

Each time the run ends with one line and status 1, the checkpoint before is as it was, and no temporary file stays. A file
system of a few KiB can only be mounted by root; without it, limits and /dev/full in test_failures.py say much the same.
tests/long.py does all this by the hundred.
"""
import contextlib
import os
import subprocess
import time

import pytest
from conftest import as_promised, posix
from test_failures import first_line

ENDLESS = "--iters 100000000 --timelimit 100000 --check_interval 1 --print_interval 1 --val 0.05"
pytestmark = posix


@contextlib.contextmanager
def mounted(folder, options):
    """A folder with a file system in memory; the test is skipped where that cannot be."""
    folder.mkdir()
    try:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], capture_output=True, encoding="utf-8")
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if done.returncode:
        pytest.skip(f"cannot mount: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def names(folder):
    return {path.name for path in folder.iterdir()}


@contextlib.contextmanager
def saving(script, flags, file):
    """A run that does little but save, from its first checkpoint on; what to call when it has to end, with what its line names."""
    with script.start(f"{ENDLESS} {flags}") as process:
        drain = first_line(process)
        while not (script.folder / file).exists():
            assert process.poll() is None
            time.sleep(0.001)

        def ends(named):
            process.wait(60)
            drain()
            done = as_promised(subprocess.CompletedProcess(process.args, process.returncode, "", process.stderr.read()), 1)
            assert named in done.stderr
        process.ends = ends
        yield process


def runs_into_a_full_disk(script, size):
    """Saves to a file system of this many bytes until it is full, or not; returns what happened."""
    with mounted(script.folder / "disk", f"size={size}") as disk:
        flags = "--iters 3 --check_interval 1 --val 0.05 --save disk/a.npz --fname disk/log.tsv".split()
        done = script.main("", *script.small, *flags, status=None)
        assert done.returncode in (0, 1) and (done.returncode == 0 or "cannot" in done.stderr and "disk/" in done.stderr)
        there = names(disk)
        assert there <= {"log.tsv", "a.npz", "a.best.npz"}
        for name in there - {"log.tsv"}:
            script.module.load(str(disk / name))
        return "full" if done.returncode else "large enough"


def runs_while_the_disk_becomes_read_only(script, seconds):
    with mounted(script.folder / "disk", "size=1m") as disk:
        with saving(script, "--save disk/a.npz", "disk/a.npz") as process:
            time.sleep(seconds)
            while subprocess.run(["mount", "-o", "remount,ro", disk], capture_output=True).returncode:
                assert process.poll() is None               # it is refused while a file is being written
            process.ends("disk/a")
        assert {"a.npz", "a.best.npz"} <= names(disk)
        before = {path: path.read_bytes() for path in disk.iterdir()}
        script.module.load(str(disk / "a.npz"))
        script.train("--load disk/a.npz --save disk/a.npz --iters 1", status=1)
        assert {path: path.read_bytes() for path in disk.iterdir()} == before


def runs_while_the_folder_goes(script, seconds, flag="--save"):
    (script.folder / "disk").mkdir()
    flags, file = ("--save disk/a.npz", "disk/a.npz") if flag == "--save" else ("--fname disk/a.npz --save a.npz", "a.npz")
    with saving(script, flags, file) as process:
        time.sleep(seconds)
        (script.folder / "disk").rename(script.folder / "elsewhere")
        process.ends("disk/a")
    saved = script.folder / ("elsewhere" if flag == "--save" else ".")
    script.module.load(str(saved / "a.npz"))
    # What was being written when the folder went is there under another name, and nobody can know of it.
    assert names(saved) <= {"a.npz", "a.best.npz"} | ({"a.npz.tmp", "a.best.npz.tmp"} if flag == "--save" else {"text.txt", "elsewhere"})
    assert not (script.folder / "disk").exists()


def runs_while_the_target_becomes_a_folder(script, seconds):
    with saving(script, "--save a.npz", "a.npz") as process:
        time.sleep(seconds)
        while True:
            with contextlib.suppress(FileExistsError, FileNotFoundError):
                (script.folder / "a.npz").unlink()
                (script.folder / "a.npz").mkdir()
                break
        process.ends("a.npz")
    assert names(script.folder) == {"text.txt", "a.npz", "a.best.npz"} and not any((script.folder / "a.npz").iterdir())
    script.module.load(str(script.folder / "a.best.npz"))


@pytest.mark.parametrize("kibibytes, expected", [(24, "full"), (500, "large enough")])
def test_full(script, kibibytes, expected):
    assert runs_into_a_full_disk(script, kibibytes * 1024) == expected


def test_read_only(script):
    runs_while_the_disk_becomes_read_only(script, 0.02)


@pytest.mark.parametrize("flag", ["--save", "--fname"])
def test_gone(script, flag):
    runs_while_the_folder_goes(script, 0.02, flag)


def test_a_folder(script):
    runs_while_the_target_becomes_a_folder(script, 0.02)


def test_a_read_only_folder_from_the_start(script):
    """For a normal user a permission is enough; root needs a mount."""
    if os.geteuid():
        (script.folder / "disk").mkdir(mode=0o555)
        script.train("--iters 1 --save disk/a.npz", status=1)
        return
    with mounted(script.folder / "disk", "size=1m,ro") as disk:
        for flag in ("--save", "--fname"):
            assert "disk/a.npz" in script.main("", *script.small, "--iters", 1, flag, "disk/a.npz", status=1).stderr
        assert names(disk) == set()
