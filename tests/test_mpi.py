"""Several workers under MPI: they learn what one process learns, stay the same to the bit, and end together whatever happens.

Skipped without mpi4py or mpirun. Most runs go through a driver, which loads the script by its path in each worker, takes
notes, and does what the test wants to happen: a signal, a fault, another clock, at a certain call in a certain worker. So
no test depends on how fast a machine is: a run may take as long as it likes, up to the minutes that mean that it hangs.
"""
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from conftest import ENVIRONMENT, MODELS, ROOT, SMALL, SMALL_MEMORY, Script, arrays, posix, some_text, unchanged
from test_resume import assert_same

pytest.importorskip("mpi4py")
MPIRUN = shutil.which("mpirun", path=os.path.dirname(sys.executable)) or shutil.which("mpirun")
pytestmark = [posix, pytest.mark.skipif(not MPIRUN, reason="needs mpirun")]

HANGS = 120                             # seconds after which a run hangs: none needs more than a few
COMMON = {**ENVIRONMENT,                # for Open MPI 4 and 5; other kinds do not look at these
          "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",                         # in a container
          "OMPI_MCA_rmaps_base_oversubscribe": "1", "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",  # more workers than cores
          "OMPI_MCA_hwloc_base_binding_policy": "none", "PRTE_MCA_hwloc_default_binding_policy": "none",
          "OMPI_MCA_mpi_yield_when_idle": "1",
          "OMPI_MCA_btl": "^ofi"}       # looking for a network that is not there takes a second a start

# Runs in each worker: driver, hook, script, flags. The hook is Python that may use all names from here.
DRIVER = """
import fcntl, hashlib, importlib.util, os, signal, sys
hook, sys.argv = sys.argv[1], sys.argv[2:]
rank = int(os.environ.get("OMPI_COMM_WORLD_RANK", os.environ.get("PMI_RANK")))
flags = sys.argv[1:]
alive = open(f"alive.{rank}", "w")
fcntl.flock(alive, fcntl.LOCK_EX)       # until this process has ended, in whatever way
alive.write(str(os.getpid()))
alive.flush()
spec = importlib.util.spec_from_file_location("script", sys.argv[0])
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)

def on(name, count, action, owner=script):
    "Do something at the start of the count-th call of a function, or of each."
    function, calls = getattr(owner, name), [0]
    def wrapped(*args, **kwargs):
        calls[0] += 1
        if calls[0] == count or count is None:
            action()
        return function(*args, **kwargs)
    setattr(owner, name, wrapped)

def spoil(name, count, change):
    "Change what a function returns, from its count-th call on."
    function, calls = getattr(script, name), [0]
    def wrapped(*args):
        calls[0] += 1
        return change(*function(*args)) if calls[0] >= count else function(*args)
    setattr(script, name, wrapped)

def fail(error):
    raise error

def hit(number):
    "A signal to this process alone."
    os.kill(os.getpid(), number)

def note(name, *text):
    with open(f"{name}.{rank}", "a") as file:
        print(*text, file=file)

adagrad = script.adagrad
def noted(p, d, mem, lr):
    adagrad(p, d, mem, lr)
    note("digests", hashlib.sha256(p.tobytes()).hexdigest(), hashlib.sha256(mem.tobytes()).hexdigest())
script.adagrad = noted
on("replace", None, lambda: note("saves"), os)

def run(more=""):
    "One run of several: the next one may load what the first worker saves at the end of this one."
    status = script.main([*flags, *more.split()])
    from mpi4py import MPI
    MPI.COMM_WORLD.Barrier()
    return status

exec(hook)
sys.exit(script.main(flags))
"""


class Job:
    """Workers in a folder: how to start them, and what the driver has noted there."""

    def __init__(self, folder, model, ranks=2):
        self.script, self.folder, self.ranks = Script(model, folder), folder, ranks
        if not (folder / "text.txt").exists():
            (folder / "text.txt").write_text(some_text(), newline="\n")

    @contextlib.contextmanager
    def start(self, flags="", hook="", driver=True, env=()):
        command = [MPIRUN, "-n", str(self.ranks), sys.executable, *(["-c", DRIVER, hook] if driver else []),
                   str(self.script.path), *self.script.small, *flags.split()]
        with subprocess.Popen(command, cwd=self.folder, env={**COMMON, **dict(env)}, stdin=subprocess.DEVNULL, encoding="utf-8",
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as process:
            try:
                yield process
            finally:
                if process.poll() is None:      # a test has failed: mpirun ends its workers if it is asked to
                    process.terminate()
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(10)
                    process.kill()

    def end(self, process):
        """Wait for the end; no worker may outlive mpirun."""
        process.out, process.err = process.communicate(timeout=HANGS)
        self.wait(lambda: not any(map(self.lives, range(self.ranks))))
        return process

    def run(self, flags="", hook="", status=0, **options):
        """Run to the end. status: one or several; None: anything but 0."""
        with self.start(flags, hook, **options) as process:
            self.end(process)
        good = process.returncode != 0 if status is None else process.returncode in np.atleast_1d(status)
        assert good, (process.returncode, process.err)
        assert "Traceback" not in process.err or "a mistake" in process.err, process.err
        return process

    def wait(self, condition):
        end = time.monotonic() + HANGS
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.01)

    def lives(self, rank):
        import fcntl
        try:
            with open(self.folder / f"alive.{rank}") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return False
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True

    def pid(self, rank):
        return int((self.folder / f"alive.{rank}").read_text())

    def notes(self, name):
        """What each worker has noted under a name: a list of lines each."""
        paths = [self.folder / f"{name}.{rank}" for rank in range(self.ranks)]
        return [path.read_text().splitlines() if path.exists() else [] for path in paths]

    def checkpoint(self, name="a.npz"):
        """A checkpoint, which the script can load."""
        self.script.run(f"--load {name} --iters 0 --sample_length 3")
        return arrays(self.folder / name)

    def ended_together(self, first, last):
        """All workers have done the same number of iterations and saved the last one; the parameters were always the same."""
        digests = self.notes("digests")
        assert digests == digests[:1] * self.ranks
        assert self.checkpoint()["iter"] == len(digests[0])
        assert first <= len(digests[0]) <= last
        return len(digests[0])


@pytest.fixture
def job(tmp_path):
    """Two workers of the LSTM: what they share with the other models is the same to the byte (test_shared.py)."""
    return Job(tmp_path, "lstm")


def figures(stdout):
    """Progress without times, held-out figures, samples."""
    return re.sub(r"^0: \S+ s|\S+ char/s$", "", stdout.split("\n", 1)[1], flags=re.M)


# What they learn ------------------------------------------------------------------------------------------------------

FOLLOW = "--fp64 --iters 10 --val 0.2 --print_interval 3 --check_interval 5 --sample_length 30 --fname a.tsv --save a.npz"


@pytest.mark.parametrize("model, ranks", [*((model, 2) for model in MODELS), ("lstm", 3)])
def test_workers_learn_what_one_process_learns(model, ranks, tmp_path):
    """n workers with 2 streams each, and one with 2 n: all that they print and save, to rounding, over ten iterations.

    Double precision, as Adagrad's first steps are signs of gradients. In this little text streams jump on the way.
    """
    for name in ("many", "one"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "text.txt").write_text(some_text(250), newline="\n")
    job = Job(tmp_path / "many", model, ranks)
    many = job.run(f"{FOLLOW} --batchsize 2")
    one = Script(model, tmp_path / "one").train(f"{FOLLOW} --batchsize {2 * ranks}")
    a, b = arrays(tmp_path / "many/a.npz"), arrays(tmp_path / "one/a.npz")
    assert a.keys() == b.keys() and b["jumps"].max() > 1 and len(set(b["position"])) > ranks
    assert (a["batchsize"], a["workers"], b["batchsize"], b["workers"]) == (2, ranks, 2 * ranks, 1)
    assert_same(a, b, but={name for name in a if a[name].dtype.kind == "f"} | {"batchsize", "workers"})
    for name in {name for name in a if a[name].dtype.kind == "f"} - {"seconds"}:
        assert np.abs(a[name] - b[name]).max() <= 1e-9 * np.abs(b[name]).max(), name
    assert figures(many.out) == figures(one.stdout) and many.out.count("held-out") == 2 and many.out.count("----\n") == 4
    rows = [[line.split("\t")[0::2] for line in (tmp_path / name / "a.tsv").read_text().splitlines() if line[0] != "#"] for name in ("many", "one")]
    assert [row[:1] for row in rows[0]] == [row[:1] for row in rows[1]] == [["3"], ["5"], ["6"], ["9"], ["10"]]
    assert (tmp_path / "many/a.tsv").read_text().count("#") == 1
    job.ended_together(10, 10)


@pytest.fixture(params=[(model, 2) for model in MODELS] + [("lstm", 3)], ids=lambda param: f"{param[0]}-{param[1]}", scope="module")
def session(request, tmp_path_factory):
    """In single precision: 40 iterations, 20, 20 more, and a few of a model whose gradients are summed in pieces."""
    model, ranks = request.param
    job = Job(tmp_path_factory.mktemp(model), model, ranks)
    (job.folder / "text.txt").write_text(some_text(300), newline="\n")
    flags = "--val 0.3 --check_interval 10 --print_interval 10 --sample_length 9 --lr 0.03"
    job.out = job.run(flags, f"""
run("--iters 40 --save whole.npz")
run("--iters 20 --save part.npz")
run("--iters 20 --load part.npz --save both.npz")
flags.extend("--iters 3 --hidden 150".split())
""").out
    return job


def test_parameters_stay_the_same_in_all_workers(session):
    """To the bit, after every iteration, as does the accumulator: short vectors and long ones."""
    digests = session.notes("digests")
    assert digests == digests[:1] * session.ranks
    assert len(digests[0]) == len(set(digests[0][:40] + digests[0][80:])) + 40 == 83


def test_20_and_20_iterations_are_40(session):
    whole, both = (session.checkpoint(name) for name in ("whole.npz", "both.npz"))
    assert_same(whole, both)
    assert_same(arrays(session.folder / "whole.best.npz"), arrays(session.folder / "both.best.npz"))
    assert whole["workers"] == session.ranks and whole["iter"] == 40 and whole["jumps"].max() > 2
    digests = session.notes("digests")[0]
    assert digests[:40] == digests[40:80]
    first, second, third, _ = map(figures, re.findall(rf"^{session.script.model}: .*\n(?:(?!{session.script.model}: ).*\n)+", session.out, flags=re.M))
    assert first == second + third and first.count("held-out") == 4


@pytest.mark.parametrize("before, after", [(2, 1), (1, 2), (3, 2)])
def test_another_number_of_workers(before, after, job):
    """Parameters, accumulator, iteration and average go on; streams start afresh, in other places, and the run says so."""
    def train(ranks, flags):
        job.ranks = ranks
        return job.script.train(flags).stdout if ranks == 1 else job.run(flags, driver=False).out
    train(before, "--iters 20 --save a.npz")
    out = train(after, "--iters 1 --lr 1e-30 --load a.npz --save b.npz")
    a, b = job.checkpoint(), job.checkpoint("b.npz")
    assert re.fullmatch(rf"a\.npz\D*{before}\D*{after}\D*afresh", out.splitlines()[0])
    params = list(job.script.module.param_shapes(10, 8))
    assert_same({name: a[name] for name in params}, {name: b[name] for name in params})
    for name in params:
        assert (b["adagrad_" + name] >= a["adagrad_" + name]).all() and b["adagrad_" + name].sum() < 3 * a["adagrad_" + name].sum()
    assert b["workers"] == after and b["iter"] == 21 and b["state_h"].shape == (8, 4 * after)
    assert (b["jumps"] == a["jumps"].max() + 1).all() and len(set(b["position"])) == 4 * after
    assert abs(b["smooth"] - a["smooth"]) < 0.01
    train(after, "--iters 2 --load b.npz --save b.npz")     # which is a checkpoint like any other
    assert job.checkpoint("b.npz")["iter"] == 23


def test_what_the_first_worker_says(job):
    """One line of progress for all, with the characters of all, in seconds of a clock that runs one an iteration."""
    out = job.run("--iters 4 --print_interval 2 --check_interval 4 --sample_length 5 --fname a.tsv", """
now = [0.0]
script.time.perf_counter = lambda: now[0]
iterate = script.iterate
def slow(*args):
    now[0] += 1
    return iterate(*args)
script.iterate = slow
""").out
    heading, *lines = out.splitlines()
    assert re.search(r"\b4 streams\b.*\b2 workers\b", heading)
    assert re.fullmatch(r"0: 2\.000 s, iter 2, \d\.\d{4} BPC, 80\.00 char/s\n0: 4\.000 s, iter 4, \d\.\d{4} BPC, 80\.00 char/s\n"
                        r"held-out: \d\.\d{4} BPC over 250 characters\n----\n(.|\n){5}\n----", "\n".join(lines))
    comment, *rows = (job.folder / "a.tsv").read_text().splitlines()
    assert comment[0] == "#" and [row.split("\t")[::4] for row in rows] == [["2", "80.00"], ["4", "80.00"]]


def test_only_a_sample(job):
    """--iters 0: one sample, from a checkpoint of as many workers or of another number."""
    job.script.train("--iters 3 --save one.npz")
    job.run("--iters 3 --save a.npz", driver=False)
    for name in ("one.npz", "a.npz"):
        alone = job.script.run(f"--load {name} --iters 0 --sample_length 40").stdout
        assert alone == job.run(f"--load {name} --iters 0 --sample_length 40", driver=False).out
        assert re.fullmatch(r"----\n(.|\n){40}\n----\n", alone)


# Without MPI ----------------------------------------------------------------------------------------------------------

LAUNCHERS = "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"
WITHOUT = {"not installed": "raise ImportError('No module named mpi4py')",
           "no library": "raise RuntimeError('cannot load MPI library\\nlibmpi.so: cannot open shared object file')",
           "of another kind": "import types\nMPI = types.SimpleNamespace(COMM_WORLD=types.SimpleNamespace(rank=0, size=1), IN_PLACE=None, MAX=None)"}


@pytest.mark.parametrize("code", WITHOUT.values(), ids=WITHOUT)
def test_processes_that_cannot_work_together(script, code, tmp_path_factory):
    """No mpi4py, no MPI behind it, or one that does not know the launcher: one line each that says what to install, and no
    n runs that overwrite each other's files."""
    folder = tmp_path_factory.mktemp("without")
    (folder / "mpi4py.py").write_text(code)
    path = {"PYTHONPATH": str(folder)}
    path = {"PYTHONPATH": str(folder)}
    for name in LAUNCHERS if code == WITHOUT["not installed"] else LAUNCHERS[:1]:
        error = script.train("--iters 3 --save a.npz --fname a.tsv", env={**path, name: "2"}, status=2).stderr
        assert "pip install mpi4py" in error and "2 processes" in error
    script.train("--iters 1", env={**path, LAUNCHERS[0]: "1"})      # alone, nothing of this is needed
    job = Job(script.folder, script.model)
    with unchanged(job.folder):
        assert "pip install mpi4py" in job.run("--iters 3 --save a.npz --fname a.tsv", env=path, driver=False, status=None).err


def test_alone_mpi_is_not_imported(script):
    code = "import runpy, sys; runpy.run_path(sys.argv[0], run_name='script')['main'](); assert 'mpi4py' not in sys.modules"
    command = [sys.executable, "-c", f"import sys; del sys.argv[0]; {code}", str(script.path), *script.small, "--iters", "1"]
    subprocess.run(command, cwd=script.folder, env=ENVIRONMENT, check=True, timeout=HANGS, stdout=subprocess.DEVNULL)


# When one of them ends ------------------------------------------------------------------------------------------------

SAVING = "--check_interval 5 --val 0 --save a.npz"
FAULTS = {      # what happens: how, what the run says, its status, and the iteration of the checkpoint that is left
    "no text": ("if rank == 1: flags += ['--data', 'gone.txt']", "no text at gone.txt", 2, None),
    "a text that is too short": ("if rank == 1: flags += ['--data', os.devnull]", os.devnull, 2, None),
    "no checkpoint": ("if rank == 1: flags += ['--load', 'gone.npz']", "no checkpoint at gone.npz", 2, None),
    "a loss that is not finite": ("if rank == 1: spoil('cross_entropy', 7, lambda nats, d: (nats * float('nan'), d))", "not finite in iteration 7", 1, 5),
    "a gradient that is not finite": ("if rank == 1: spoil('backward', 7, lambda g, s: (g.flat.fill(1e30), (g, s))[1])", "not finite in iteration 7", 1, 5),
    "no memory": ("if rank == 1: on('forward', 7, lambda: fail(MemoryError()))", "not enough memory", 2, 5),
    "a mistake": ("if rank == 1: on('forward', 7, lambda: fail(ZeroDivisionError('a mistake')))", "ZeroDivisionError: a mistake", None, 5),
    "a disk that is full": ("if rank == 0: on('replace', 2, lambda: fail(OSError(28, 'No space left on device')), os)", "No space left on device", 1, 5),
    "a log that cannot be written": ("if rank == 0: flags += ['--fname', '/dev/full']", "No space left on device", 1, None),
    "a reader that has gone": ("flags += ['--print_interval', '1']; r, w = os.pipe(); os.close(r)\nif rank == 0: on('forward', 7, lambda: os.dup2(w, 1))", "", 141, 5),
}


@pytest.mark.parametrize("how, message, status, saved", FAULTS.values(), ids=FAULTS)
def test_a_fault_in_one_worker_ends_all(how, message, status, saved, job):
    """Those that wait for it would wait for ever; with what the run says, a status that is not 0, and the last checkpoint."""
    if saved is None:
        before = {path.name for path in job.folder.iterdir()}
    error = job.run(f"{SAVING} --timelimit {10 * HANGS}", how, status).err
    assert message in error
    if saved is None:
        assert {path.name for path in job.folder.iterdir()} - before <= {"alive.0", "alive.1"}
    else:
        assert job.checkpoint()["iter"] == saved and not (job.folder / "a.npz.tmp").exists()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_worker_that_is_killed(rank, job):
    with job.start(f"{SAVING} --timelimit {10 * HANGS}") as process:
        job.wait((job.folder / "a.npz").exists)
        os.kill(job.pid(rank), signal.SIGKILL)
        job.end(process)
    assert process.returncode != 0
    assert job.checkpoint()["iter"] % 5 == 0 and {path.name for path in job.folder.glob("a.*")} <= {"a.npz", "a.npz.tmp"}


def test_workers_that_read_different_texts(job):
    """Of the same length and with the same characters: gradients could be summed, and nobody would know."""
    (job.folder / "other.txt").write_text(some_text()[::-1], newline="\n")
    with unchanged(job.folder):
        with contextlib.ExitStack() as stack:
            stack.callback(lambda: [path.unlink() for path in job.folder.glob("alive.*")])
            assert "text" in job.run("--iters 3 --save a.npz", "if rank == 1: flags += ['--data', 'other.txt']", status=2).err


@pytest.mark.parametrize("other", ["--iters 7", "--iters 5 --lr 0.2"], ids=["further", "different"])
def test_workers_that_load_different_checkpoints(other, job):
    """As when each machine has its own folder, and the file there is an old one."""
    job.run("--iters 5 --save a.npz", driver=False)
    job.run(f"{other} --save b.npz", driver=False)
    assert "checkpoint" in job.run("--iters 3 --load a.npz --save c.npz", "if rank == 1: flags += ['--load', 'b.npz']", status=2).err
    assert not (job.folder / "c.npz").exists()


# Signals and the time limit -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("ranks", [(0,), (1,), (0, 1)], ids=["first", "second", "both"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_after_the_same_iteration(ranks, number, job):
    """Whoever it reaches: one worker, or all, as from srun. The run is saved once, and a signal is its status."""
    out = job.run(f"--timelimit {10 * HANGS} --save a.npz --check_interval 1000 --print_interval 1 --sample_length 20",
                  f"if rank in {ranks}: on('forward', 7, lambda: hit({number}))", 128 + number).out
    done = job.ended_together(7, 8)         # it is agreed on with the gradients, of this iteration or the next one
    assert [len(saves) for saves in job.notes("saves")] == [1, 0]
    assert [line.split()[4] for line in out.splitlines()[1:]] == [f"{n}," for n in range(1, done + 1)]     # and no sample


MOMENTS = {"scoring": "on('score', 2, lambda: on('forward', 1, lambda: hit(15)))",
           "sampling": "on('sample', 2, lambda: on('forward', 2, lambda: hit(15)))",
           "saving": "on('save', 3, lambda: hit(15))",
           "reporting": "on('say', 4, lambda: hit(15), script.Workers)",
           "agreeing to end": "on('max', 1, lambda: hit(15), script.Workers)",
           "they have agreed": "on('max', 1, lambda: on('say', 1, lambda: hit(15), script.Workers), script.Workers)"}


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("how", MOMENTS.values(), ids=MOMENTS)
def test_a_signal_at_another_moment(how, rank, job):
    """To one worker, while they score, sample, save or print, or when they end anyway: nobody waits for one who has gone
    another way, and the last iteration is saved. In the end it may come too late to be the run's status."""
    process = job.run("--iters 20 --val 0.7 --check_interval 5 --print_interval 5 --sample_length 20 --save a.npz", f"""
if rank == {rank} or rank == 0 and "sample" in {how!r}:         # only the first one samples
    {how}
""", (0, 143))
    done = job.ended_together(5, 20)
    assert process.returncode == 143 or done == 20
    if "score" in how:                      # of half of the text would be too good a figure
        assert done <= 11 and process.out.count("held-out") == 1


def test_the_same_signal_again_ends_all_at_once(job):
    job.run(f"{SAVING} --timelimit {10 * HANGS}", "if rank == 1: on('forward', 7, lambda: (hit(2), hit(2)))", None)
    assert job.checkpoint()["iter"] == 5 and all(7 <= len(lines) + 1 <= 8 for lines in job.notes("digests"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_mpirun(number, job):
    """Open MPI 5 passes it on as SIGTERM, and kills a quarter of a second later whether or not the run has been saved. So
    the test is what cannot depend on that: all end, and a checkpoint is whole, the new one or the one before it."""
    with job.start(f"{SAVING} --timelimit {10 * HANGS} --print_interval 1") as process:
        job.wait((job.folder / "a.npz").exists)
        process.send_signal(number)
        job.end(process)
    assert process.returncode != 0 and "Traceback" not in process.err
    digests, saved = job.notes("digests"), job.checkpoint()["iter"]
    assert saved % 5 == 0 or [len(lines) for lines in digests] == [saved] * 2
    assert {path.name for path in job.folder.glob("a.*")} <= {"a.npz", "a.npz.tmp"}


def test_sigusr1_to_mpirun_saves_and_ends(job):
    """This one Open MPI passes on without killing anybody: the way to stop a run whose iterations are long."""
    with job.start(f"{SAVING} --timelimit {10 * HANGS} --print_interval 1") as process:
        job.wait((job.folder / "a.npz").exists)
        process.send_signal(signal.SIGUSR1)
        job.end(process)
    assert process.returncode == 128 + signal.SIGUSR1
    assert [len(lines) for lines in job.notes("digests")] == [job.checkpoint()["iter"]] * 2


@pytest.mark.parametrize("rank", [0, 1])
def test_time_limit_is_agreed_on(rank, job):
    """When one worker's clock has reached it, all stop after the same iteration."""
    hook = f"""
late, clock = [0], script.time.perf_counter
script.time.perf_counter = lambda: clock() + late[0]
if rank == {rank}: on("forward", 7, lambda: late.__setitem__(0, {100 * HANGS}))
"""
    job.run(f"--timelimit {10 * HANGS} --save a.npz --check_interval 1000", hook)
    job.ended_together(7, 8)
    assert [len(saves) for saves in job.notes("saves")] == [1 + 1, 0]       # a.npz and a.best.npz
