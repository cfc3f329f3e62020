"""The place where checkpoints and figures go: taken, full, read-only, a folder, gone half-way. One
line; the checkpoint before is as it was, and no temporary file stays.

Only root can mount a file system of a few KiB, and make a device.
"""
import contextlib
import ctypes
import itertools
import os
import re
import signal
import stat
import subprocess
import sys
import time

import numpy as np
import pytest

from conftest import (ENVIRONMENT, assert_same, checked, content, device, names, posix,
                      some_text)

SAVING = "--check_interval 1 --val 0.05 --save"             # a run that does little but save


TAKEN = {
    "a text": lambda path: path.write_text("my work"),
    "another run's": lambda path: path.write_bytes((path.parent / "other.npz").read_bytes()),
    "a device": lambda path: device(path, 1, 3),            # /dev/null
    "a FIFO": lambda path: os.mkfifo(path),
    "a folder": lambda path: path.mkdir(),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to a text": lambda path: path.symlink_to("text.txt")}


@posix
@pytest.mark.parametrize("make", TAKEN.values(), ids=TAKEN)
def test_save_over_something_else(rnn, saved, make):
    """Refused at the start, with what to do, whether or not the run continues something."""
    rnn.train("--iters 2 --save other.npz --seed 2")
    make(rnn.folder / "b.npz")

    def but_atime():                                    # a run reads, and lists its folder
        found = os.lstat(rnn.folder / "b.npz")
        return *found[:7], found.st_mtime_ns
    before = but_atime()
    for loading in [], ["--load", "a.npz"]:
        error = rnn.train("--iters 1 --save b.npz --fname log.tsv", *loading, status=2).stderr
        assert "b.npz: " in error and "--save another name" in error
        assert but_atime() == before


@pytest.mark.parametrize("flag", ["--save", "--fname"])
@pytest.mark.parametrize("target", ["folder", "nowhere/file", "text.txt/file"])
def test_target_that_cannot_be_written(rnn, flag, target):
    """Noticed before the training; a read-only folder is in test_disk.py."""
    (rnn.folder / "folder").mkdir()
    assert target in rnn.train(f"--iters 1 {flag} {target}", status=2).stderr
    rnn.train(f"--iters 1 {flag} folder/file.npz")


@posix
@pytest.mark.parametrize("length", [243, 300])              # the longest name has 255 bytes
def test_name_that_is_too_long(rnn, length):
    """The temporary file's name is longer."""
    rnn.train("--iters 1 --save " + "é" * (length // 2) + "a" * (length % 2), status=2)


BEST = "--val 0.1 --check_interval 5 --save a.npz"


def test_a_best_is_never_lost(rnn):
    """One file holds both; a best of other characters needs a new name, and no other file is
    touched. To learn too fast makes every later check worse."""
    rnn.train(f"--iters 30 --print_interval 10 {BEST}")
    first = rnn.saved()
    (rnn.folder / "a.best.npz").write_text("another run's")
    rnn.train(f"--iters 20 --lr 5 --load a.npz {BEST}")
    now = rnn.saved()
    assert now["iter"] == 50 and now["best"] == first["best"] < 4
    assert_same({name: first[name] for name in first if name[:4] == "best"},
                {name: now[name] for name in now if name[:4] == "best"})
    out = rnn.run("--load a.npz --iters 0 --val 0.1 --data text.txt --sample_length 3").stdout
    assert f"iteration {now['best_iter']}" in out and f"held-out: {now['best']:.4f} BPC" in out
    for flags in "--val 0.2", "--val 0", "--data other.txt":
        (rnn.folder / "other.txt").write_text(some_text()[1:])
        error = rnn.train(f"--iters 2 --load a.npz {BEST} {flags}", status=2).stderr
        assert "--save another name" in error
    assert names(rnn.folder) == {"text.txt", "other.txt", "a.npz", "a.best.npz"}
    assert (rnn.folder / "a.best.npz").read_text() == "another run's"
    rnn.train(f"--iters 2 --load a.npz {BEST} --val 0.2 --save b.npz")
    assert rnn.saved("b.npz")["best_iter"] == 52


@pytest.mark.parametrize("last, said", [(2.009, False), (2.02, True)])
def test_the_last_line_names_a_best_that_was_clearly_better(rnn, monkeypatch, last, said):
    monkeypatch.setattr(rnn.module, "report", lambda *_, found=iter((2.0, last)): next(found))
    out = rnn.train("--iters 4 --check_interval 2").stdout
    assert ("best held-out BPC was 2.0000, after iteration 2" in out) == said


@pytest.mark.parametrize("target", ["text.txt", "prime.txt", "a.npz", "link.npz", "./b.npz"])
def test_log_over_another_file(rnn, saved, target):
    (rnn.folder / "prime.txt").write_text("an")
    os.link(saved, rnn.folder / "link.npz")
    for own in ["--save b.npz", "--save a.npz --lr 1"][:1 if target == "./b.npz" else 2]:
        flags = f"--load a.npz --iters 1 --prime @prime.txt {own} --fname {target}"
        assert "is not a log" in rnn.train(flags, status=2).stderr      # and saves no rate


@posix
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: device(path, 1, 3)],
                         ids=["a FIFO", "/dev/null"])
def test_log_that_is_no_file(rnn, make):
    make(rnn.folder / "log.tsv")
    assert "log.tsv" in rnn.train("--iters 1 --fname log.tsv --save b.npz", status=2).stderr


@posix
def test_links_stay_and_modes_too(rnn):
    """A link that leads to nothing yet is written through, too."""
    (rnn.folder / "folder").mkdir()
    link, target = rnn.folder / "a.npz", rnn.folder / "folder" / "b.npz"
    link.symlink_to("folder/b.npz")
    before = os.umask(0o027)
    try:
        rnn.train("--iters 1 --save a.npz")
        assert stat.S_IMODE(target.stat().st_mode) == 0o640
        target.chmod(0o604)
        rnn.train("--iters 1 --load a.npz --save folder/b.npz")
        rnn.train("--iters 1 --load folder/b.npz --save a.npz")
    finally:
        os.umask(before)
    assert stat.S_IMODE(target.stat().st_mode) == 0o604
    assert os.readlink(link) == "folder/b.npz" and rnn.loaded().iter == 3
    assert names(target.parent) == {"b.npz"}


def test_the_first_save_comes_before_the_first_iteration(rnn, monkeypatch):
    def iterate(args, run, text):
        seen.append(rnn.loaded("b.npz").iter)
        return real(args, run, text)
    real, seen = rnn.module.iterate, []
    monkeypatch.setattr(rnn.module, "iterate", iterate)
    rnn.train("--iters 3 --save b.npz --check_interval 2")
    assert seen == [0, 0, 2] and rnn.loaded("b.npz").iter == 3


def all_at_once(script, count):
    """So many runs start under one name: one gets it."""
    command = [sys.executable, "-W", "error", script.path, *script.small, "--iters", "20",
               "--save", "one.npz", "--print_interval", "1000", "--seed"]
    runs = [subprocess.Popen([*command, str(seed)], cwd=script.folder, env=ENVIRONMENT,
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8")
            for seed in range(count)]
    for run in runs:
        run.returncode, run.stderr = run.wait(300), run.communicate()[1]
        assert "one.npz" in checked(run, None).stderr or run.returncode == 0
    statuses = [run.returncode for run in runs]
    assert sorted(statuses) == [0] + [2] * (count - 1)
    assert script.loaded("one.npz").settings.seed == statuses.index(0)
    assert names(script.folder) == {"text.txt", "one.npz"}


def test_runs_that_start_at_once_under_one_name(rnn):
    all_at_once(rnn, 5)


@pytest.mark.parametrize("step", ["fsync", "replace", "chmod"])
@pytest.mark.parametrize("failing, kept, status", [
    ({2}, [0, 2, 3], 0), ({4}, [0, 1, 2, 3], 0), ({2, 3, 4}, [0, 3], 0),
    ({4, 5}, [0, 1, 2], 1), ({1}, [], 2)], ids=str)
def test_saves_that_fail(rnn, monkeypatch, step, failing, kept, status):
    """At the start, at the checks after iterations 1 and 2, and at the end, twice if need be."""
    def fails(*args):
        if next(calls) in failing:
            raise OSError(13, "Permission denied")
        real(*args)

    def save(run, path):
        error = real_save(run, path)
        if not error:
            seen.append(rnn.loaded().iter)
        return error
    real, real_save, calls, seen, slept = (
        getattr(os, step), rnn.module.save, itertools.count(1), [], [])
    monkeypatch.setattr(os, step, fails)
    monkeypatch.setattr(rnn.module, "save", save)
    monkeypatch.setattr(time, "sleep", slept.append)
    done = rnn.main([*rnn.small, *"--iters 3 --check_interval 1 --save a.npz".split()])
    assert done.returncode == status and seen == kept
    lines = done.stderr.splitlines()
    assert len(lines) == len(failing) and all("a.npz: Permission denied" in x for x in lines)
    assert slept == [1] * (4 in failing)
    assert ("saved a.npz" in done.stdout) == (status == 0)
    assert names(rnn.folder) == ({"a.npz", "text.txt"} if kept else {"text.txt"})


@posix
def test_the_last_save_is_tried_twice_though_no_message_can_be_shown(rnn, monkeypatch):
    fails, real = iter([False, True, False]), rnn.module.save
    monkeypatch.setattr(
        rnn.module, "save", lambda run, path: "locked" if next(fails) else real(run, path))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.chdir(rnn.folder)
    with open("/dev/full", "w") as stderr, contextlib.redirect_stderr(stderr):
        rnn.module.main([*rnn.small, *"--iters 3 --save a.npz".split()])
    assert rnn.saved()["iter"] == 3


def test_at_each_moment_of_saving_the_checkpoint_is_whole(rnn, saved):
    """What a kill would leave: after each instruction of save it is the old one or the new one."""
    module, before, seen = rnn.module, saved.read_bytes(), []
    run = rnn.loaded()
    run.iter += 1

    def trace(frame, event, arg):
        if frame.f_code is not module.save.__code__:
            return None
        frame.f_trace_opcodes = True
        seen.append(saved.read_bytes())
        return trace
    tracing = sys.gettrace()
    sys.settrace(trace)
    try:
        module.save(run, str(saved))
    finally:
        sys.settrace(tracing)
    after = saved.read_bytes()
    assert len(seen) > 50 and set(seen) == {before, after}
    assert seen.index(after) > len(seen) / 2 and rnn.loaded().iter == run.iter


def test_nothing_is_saved_that_load_would_refuse(rnn, saved):
    before, run = saved.read_bytes(), rnn.loaded()
    for group in run.params, run.mem, run.state:
        for name, value in group.items():
            group[name] = value * np.float32(np.nan)
            assert "finite" in rnn.module.save(run, str(saved))
            group[name] = value
    assert saved.read_bytes() == before and names(rnn.folder) == {"a.npz", "text.txt"}


@posix
def test_two_runs_that_save_to_one_path(rnn):
    """One whole checkpoint remains, and nothing else: neither writes into the other's file."""
    rnn.train(f"--iters 1 {SAVING} a.npz")
    start = f"{SAVING} a.npz --load a.npz --lr"
    with rnn.start(f"{start} 1e-5") as one, rnn.start(f"{start} 1e-6") as two:
        for _ in range(50):
            assert rnn.loaded().settings.lr in (0.05, 1e-5, 1e-6)
            time.sleep(0.01)
        for process in one, two:
            process.terminate()
            assert process.wait(60) == 143 and process.stderr.read() == ""
    assert rnn.loaded().settings.lr == 1e-6
    assert names(rnn.folder) == {"text.txt", "a.npz"}


@posix
def test_a_killed_run_leaves_its_last_check(rnn):
    with rnn.start(f"{SAVING} a.npz") as process:
        while (rnn.folder / "a.npz").stat().st_size == 0 or rnn.loaded().iter < 3:
            assert process.poll() is None
            time.sleep(0.001)
        process.kill()
        assert process.wait(60) == -9
    for left in rnn.folder.glob("*.tmp"):                   # it was killed while it wrote
        left.unlink()
    rnn.train("--iters 1 --load a.npz --save a.npz --val 0.05")


@contextlib.contextmanager
def shell(folder, do, undo):
    """One command before, one after; the test is skipped where that cannot be."""
    done = subprocess.run(do, shell=True, cwd=folder, capture_output=True, encoding="utf-8")
    if done.returncode:
        pytest.skip(f"{do}: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(undo, shell=True, cwd=folder, check=True)


@contextlib.contextmanager
def mounted(folder, options):
    """A folder with a file system in memory."""
    folder.mkdir()
    with shell(folder.parent, f"mount -t tmpfs -o {options} none {folder.name}",
               f"umount --lazy {folder.name}"):
        yield folder


@posix
@pytest.mark.parametrize("do, undo", [
    ("chattr +i a.npz", "chattr -i a.npz"), ("mount --bind a.npz a.npz", "umount a.npz"),
    ("chown 1 . a.npz && chmod 1777 .", "chown 0 . a.npz")], ids=["immutable", "mounted", "sticky"])
def test_a_file_that_cannot_be_replaced(rnn, saved, do, undo):
    """Noticed before the training. Root replaces all but without its right to do so (FOWNER)."""
    with shell(rnn.folder, do, undo):
        error = rnn.train("--load a.npz --save a.npz --iters 1 --lr 1", status=2,
                          preexec_fn=lambda: ctypes.CDLL(None).prctl(24, 3, 0, 0, 0)).stderr
    assert "cannot save" in error and "a.npz: " in error


def runs_into_a_full_disk(script, size):
    """Saves to a file system of this many bytes until it is full, or not; returns which."""
    with mounted(script.folder / "disk", f"size={size}") as disk:
        flags = f"{SAVING} disk/a.npz --iters 3 --fname disk/log.tsv"
        done = script.main([*script.small, *flags.split()])
        lines = done.stderr.splitlines()
        assert all(re.match(r"\w+-numpy\.py: cannot (save|write) \S+: No space", x) for x in lines)
        assert bool(lines) >= bool(done.returncode) and done.returncode in (0, 1, 2)
        assert names(disk) <= {"log.tsv", *["a.npz"] * (done.returncode < 2)}
        for path in disk.glob("*.npz"):
            script.module.load(str(path))
        return ["large enough", "full", "full at the start"][done.returncode or bool(lines)]


@contextlib.contextmanager
def run_that_saves(script, folder, seconds, back):
    """For so long after its first checkpoint; then the block of with takes the place away. The run
    says so, and goes on; it saves if the place comes back."""
    line = r"\S+-numpy\.py: cannot save [^\n]*a\.npz: [^\n]+\n"
    with script.start(f"{SAVING} {folder}/a.npz") as process:
        while not (script.folder / folder / "a.npz").exists():
            assert process.poll() is None
            time.sleep(0.001)
        time.sleep(seconds)
        yield process
        assert re.fullmatch(line, error := process.stderr.readline()), error
        if back:
            back()
        process.terminate()
        assert process.wait(60) == (143 if back else 1)
        assert re.fullmatch(rf"({line})*", error := process.stderr.read()), error
        if back:
            last = re.findall(r"iter (\d+),", process.said())[-1]
            assert script.loaded(f"{folder}/a.npz").iter == int(last)


def assert_whole(script, folder):
    """The checkpoint is there, and at most the one file more that was being written."""
    left = {name for name in names(folder) if name[-4:] == ".tmp"}
    assert len(left) <= 1 and names(folder) - left == {"a.npz"}
    script.module.load(str(folder / "a.npz"))


def runs_while_the_disk_becomes_read_only(script, seconds, comes_back):
    with mounted(script.folder / "disk", "size=1m") as disk:
        def remount(how):
            return subprocess.run(["mount", "-o", f"remount,{how}", disk], capture_output=True)
        back = (lambda: remount("rw")) if comes_back else None
        with run_that_saves(script, "disk", seconds, back) as process:
            for _ in range(10_000):                         # refused while a file is written
                if not remount("ro").returncode:
                    break
                assert process.poll() is None
            else:
                pytest.skip("this system remounts nothing")
        assert_whole(script, disk)
        if not comes_back:
            before = content(disk)
            script.train("--load disk/a.npz --save disk/a.npz --iters 1 --val 0.05", status=2)
            assert content(disk) == before


def runs_while_the_folder_goes(script, seconds, comes_back):
    disk, elsewhere = script.folder / "disk", script.folder / "elsewhere"
    disk.mkdir()
    back = (lambda: elsewhere.rename(disk)) if comes_back else None
    with run_that_saves(script, "disk", seconds, back):
        disk.rename(elsewhere)
    assert_whole(script, disk if comes_back else elsewhere)     # which nobody can know
    assert disk.exists() == comes_back


def runs_while_the_target_becomes_a_folder(script, seconds, comes_back):
    target = script.folder / "a.npz"
    with run_that_saves(script, ".", seconds, target.rmdir if comes_back else None):
        while not target.is_dir():
            with contextlib.suppress(FileExistsError, FileNotFoundError):
                target.unlink()
                target.mkdir()
    assert names(script.folder) == {"text.txt", "a.npz"} and comes_back == target.is_file()


TRIALS = (runs_while_the_disk_becomes_read_only, runs_while_the_folder_goes,
          runs_while_the_target_becomes_a_folder)


@posix
@pytest.mark.parametrize("comes_back", [False, True])
@pytest.mark.parametrize("trial", TRIALS, ids=[trial.__name__[11:] for trial in TRIALS])
def test_half_way(rnn, trial, comes_back):
    trial(rnn, 0.02, comes_back)


@posix
@pytest.mark.parametrize("kibibytes, expected", [
    (8, "full at the start"), (24, "full"), (500, "large enough")])
def test_full(rnn, kibibytes, expected):
    assert runs_into_a_full_disk(rnn, kibibytes * 1024) == expected


@posix
@pytest.mark.parametrize("flag", ["--save", "--fname"])
def test_a_read_only_folder_from_the_start(rnn, flag):
    """Noticed before the training. For a user a permission is enough; root needs a mount."""
    disk = rnn.folder / "disk"
    with mounted(disk, "size=1m,ro") if os.geteuid() == 0 else contextlib.nullcontext():
        disk.mkdir(mode=0o555, exist_ok=True)
        assert "disk/a" in rnn.train(f"--iters 1 {flag} disk/a.npz", status=2).stderr
        assert names(disk) == set()


@posix
def test_a_log_that_is_gone(script):
    (script.folder / "logs").mkdir()
    with script.start("--save a.npz --fname logs/log.tsv") as process:
        (script.folder / "logs").rename(script.folder / "gone")
        assert process.wait(60) == 1
        line = rf"{script.model}-numpy.py: cannot write logs/log.tsv: No such file or directory\n"
        assert re.fullmatch(line, process.stderr.read())
        last = re.findall(r"iter (\d+),", process.said())[-1]
    assert script.loaded().iter == int(last)


@posix
def test_output_and_saves_that_fail_together(rnn):
    """Two lines, one for each attempt, and nothing of the interpreter's own."""
    (rnn.folder / "disk").mkdir()
    with rnn.start("--save disk/a.npz", stdout=subprocess.PIPE) as process:
        while "iter" not in process.stdout.readline():
            pass
        (rnn.folder / "disk").rename(rnn.folder / "gone")
        process.stdout.close()
        assert process.wait(60) == 1
        lines = process.stderr.read().splitlines()
    assert len(lines) == 2 and all("cannot save" in line for line in lines)


def test_a_signal_and_a_full_disk_at_once(rnn, monkeypatch):
    """The signal gives the status."""
    def fails(*args, file=None, **options):
        if "iter 1," in args[0]:
            signal.raise_signal(signal.SIGINT)
            raise OSError(28, "No space left on device")
        print(*args, file=file, **options)
    monkeypatch.setattr(rnn.module, "print", fails, raising=False)
    done = rnn.main([*rnn.small, *"--iters 9 --save a.npz".split()])
    assert (done.returncode, done.stderr, rnn.loaded().iter) == (130, "", 1)
