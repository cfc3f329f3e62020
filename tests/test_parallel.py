"""parallel/train.py: workers learn what one process learns, and they end together.

Skipped without mpi4py or mpirun. Most jobs run through a driver, which loads parallel/train.py and
the script in each worker, takes notes, and does what the test wants to happen: a signal, a fault,
another clock, at a certain call in a certain worker. So no test depends on how fast a machine is; a
job may take as long as it likes, up to the minutes that mean that it hangs.
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

from conftest import ENVIRONMENT, MODELS, ROOT, Script, arrays, content, names, posix, some_text

pytest.importorskip("mpi4py")
MPIRUN = shutil.which("mpirun", path=os.path.dirname(sys.executable)) or shutil.which("mpirun")
pytestmark = [posix, pytest.mark.skipif(not MPIRUN, reason="needs mpirun")]

TRAIN = ROOT / "parallel" / "train.py"
HANGS = 120                         # seconds after which a job hangs: none needs more than a few
OPEN_MPI = {                        # for versions 4 and 5; other kinds of MPI do not look at these
    "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",       # in a container
    "OMPI_MCA_rmaps_base_oversubscribe": "1",                       # more workers than cores
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMPI_MCA_hwloc_base_binding_policy": "none", "PRTE_MCA_hwloc_default_binding_policy": "none",
    "OMPI_MCA_mpi_yield_when_idle": "1",
    "OMPI_MCA_btl": "^ofi"}         # to look for a network that is not there takes a second a job

# Runs in each worker: driver, hook, train.py, script, flags. The hook is Python that may use all
# names from here.
DRIVER = """
import fcntl, hashlib, importlib.util, os, signal, sys, types
hook, sys.argv = sys.argv[1], sys.argv[2:]
rank = int(os.environ.get("OMPI_COMM_WORLD_RANK", os.environ.get("PMI_RANK")))
alive = open(f"alive.{rank}", "w")
fcntl.flock(alive, fcntl.LOCK_EX)       # until this process has ended, in whatever way
alive.write(str(os.getpid()))
alive.flush()
spec = importlib.util.spec_from_file_location("train", sys.argv[0])
parallel = importlib.util.module_from_spec(spec)
spec.loader.exec_module(parallel)
script, flags, three = parallel.load_script(sys.argv[1]), sys.argv, {}
parallel.load_script = lambda path: script

def on(name, count, action, owner=script):
    "Do something at the start of the count-th call of a function, or of each."
    function, calls = getattr(owner, name), [0]
    def wrapped(*args, **kwargs):
        calls[0] += 1
        if calls[0] == count or count is None:
            action()
        return function(*args, **kwargs)
    setattr(owner, name, wrapped)

def fail(error):
    raise error

def hit(number):
    "A signal to this process alone."
    os.kill(os.getpid(), number)

def note(name, *text):
    with open(f"{name}.{rank}", "a") as file:
        print(*text, file=file)

iterate, train = script.iterate, script.train
def noted(run, gradients):
    bpc = iterate(run, gradients)
    arrays = [*run.params.values(), *run.mem.values()]
    note("digests", hashlib.sha256(b"".join(x.tobytes() for x in arrays)).hexdigest())
    return bpc
def handed(run, stop, *functions):
    three.update(zip(("gradients", "save", "agree"), functions))
    train(run, stop, *(getattr(seams, name) for name in three))
seams = types.SimpleNamespace(**{name: lambda *args, name=name: three[name](*args)
                                 for name in ("gradients", "save", "agree")})
script.iterate, script.train = noted, handed
on("replace", None, lambda: note("saves"), os)

def run(more):
    "One run of several: the next one may load what this one saves."
    sys.argv = [*flags, *more.split()]
    print("=== " + more, flush=True)
    parallel.main()
    parallel.connect()[0].Barrier()

exec(hook)
sys.exit(parallel.main() if "run(" not in hook else 0)
"""


class Job:
    """Workers in a folder: how to start them, and what the driver has noted there."""

    def __init__(self, folder, model, workers=2, text=None):
        self.script, self.folder, self.workers = Script(model, folder), folder, workers
        (folder / "text.txt").write_text(text or some_text(), newline="\n")

    @contextlib.contextmanager
    def start(self, flags="", hook="", driver=True, env=()):
        """mpirun; flags that are said later win."""
        command = [MPIRUN, "-n", str(self.workers), sys.executable,
                   *(["-c", DRIVER, hook] if driver else []), str(TRAIN), str(self.script.path),
                   *self.script.small, *flags.split()]
        with subprocess.Popen(
                command, cwd=self.folder, env={**ENVIRONMENT, **OPEN_MPI, **dict(env)},
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                encoding="utf-8", start_new_session=True) as process:
            try:
                yield process
            finally:
                if process.poll() is None:  # a test fails: mpirun ends its workers if it is asked to
                    process.terminate()
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(10)
                    process.kill()

    def end(self, process):
        """Wait for the end; no worker may outlive mpirun."""
        process.out, process.err = process.communicate(timeout=HANGS)
        self.wait(lambda: not any(map(self.lives, range(self.workers))))
        return process

    def run(self, flags="", hook="", status=0, **options):
        """Run to the end. status: one or several; None: anything but 0."""
        with self.start(flags, hook, **options) as process:
            self.end(process)
        good = (process.returncode != 0 if status is None else
                process.returncode in np.atleast_1d(status))
        assert good, (process.returncode, process.out, process.err)
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

    def notes(self, name):
        """What each worker has noted under a name: a list of lines each."""
        paths = [self.folder / f"{name}.{rank}" for rank in range(self.workers)]
        return [path.read_text().splitlines() if path.exists() else [] for path in paths]

    def done(self):
        """How many iterations all have done: as many, and with the same parameters after each; the
        checkpoint is that of the last one, written once, and the script can load it."""
        digests, saves = self.notes("digests"), self.notes("saves")
        assert digests == digests[:1] * self.workers and list(map(len, saves)) == [1] + [0] * (
            self.workers - 1)
        assert self.saved() == len(digests[0])
        return self.saved()

    def saved(self):
        """The iteration of the checkpoint, which the script can load; no other files are left."""
        assert {path.name for path in self.folder.glob("a.*")} == {"a.npz"}
        self.script.run("--load a.npz --iters 0 --sample_length 3")
        return arrays(self.folder / "a.npz")["iter"]


@pytest.fixture
def job(tmp_path):
    """Two workers of the RNN: what they share with the other models is the same to the byte."""
    return Job(tmp_path, "rnn")


# What they learn ----------------------------------------------------------------------------------

CLIP = "--iters 10 --clip 1e-3 --check_interval 5 --val 0.2 --sample_length 30 --fname {}.tsv "
CASES = {       # FILE: flags of a run of one process, and of one of all workers
    "clip.npz": CLIP,
    "zero.npz": "--iters 90 --seqlength 1 --val 0 --reset o --init 1 --lr 0.01",
    "40.npz": "--iters 40 --lr 0.02 --clip 0.01"}


@pytest.fixture(params=[(model, n) for model in MODELS for n in (2, 3)], scope="module",
                ids=lambda param: f"{param[0]}-{param[1]}")
def session(request, tmp_path_factory):
    """Runs in double precision of one process, and the same of workers with unequal shares."""
    job = Job(tmp_path_factory.mktemp("session"), *request.param, some_text(300))
    flags = "--fp64 --batchsize 5 --print_interval 1 "

    def alone(more):
        return job.script.train(flags + more).stdout
    job.alone = {name: alone(f"{more.format('one')} --save one.{name}")
                 for name, more in CASES.items()}
    first, then = "--iters 20 --lr 0.02 --clip 0.01", "--iters 20 --load {} --save {}"
    alone(f"{first} --save alone.npz")
    runs = [f"{more.format('many')} --save many.{name}" for name, more in CASES.items()]
    runs += [f"{first} --save part.npz", then.format("alone.npz", "alone-many.npz"),
             "--iters 0 --sample_length 40 --load part.npz", "--help"]
    out = job.run(flags, f"for more in {runs}: run(more)\n"
                         "flags[2:] = ['--data', 'text.txt', '--iters', '3']\nrun('')").out
    job.out = dict(re.findall(r"=== (.*)\n((?:(?!=== ).*\n)*)", out))
    job.runs = dict(zip([*CASES, "part", "alone-many", "sample", "help"], job.out.values()))
    alone(then.format("part.npz", "many-alone.npz"))
    return job


def figures(stdout):
    """Progress without times, held-out figures, samples."""
    return re.sub(r"^0: \S+ s|\S+ char/s$", "", stdout, flags=re.M)


def assert_close(folder, one, two):
    """Two checkpoints are the same, all numbers that are computed to rounding."""
    a, b = arrays(folder / one), arrays(folder / two)
    assert a.keys() == b.keys()
    for name in a.keys() - {"seconds"}:
        if a[name].dtype.kind == "f":
            assert np.abs(a[name] - b[name]).max() <= 1e-9 * np.abs(b[name]).max(), name
        else:
            np.testing.assert_array_equal(a[name], b[name], name)
    return a


@pytest.mark.parametrize("name", CASES)
def test_workers_learn_what_one_process_learns(session, name):
    """All that they save and print: parameters, states, places, losses, held-out BPC, samples.

    Double precision, as Adagrad's first steps are signs of gradients. In this little text streams
    jump on the way, and in windows of one step cross the place where their state becomes zero.
    """
    saved = assert_close(session.folder, f"many.{name}", f"one.{name}")
    assert len(set(saved["position"])) > 2 and saved["jumps"].max() > 1
    heading, said, lines = session.runs[name].split("\n", 2)
    assert said == f"{session.workers} workers share the streams"
    assert figures(f"{heading}\n{lines}") == figures(session.alone[name])


def test_parameters_are_the_same_in_all_workers(session):
    """To the bit, after every iteration, as is the accumulator, in short messages and long ones."""
    digests = session.notes("digests")
    assert digests == digests[:1] * session.workers and len(digests[0]) == 10 + 90 + 40 + 20 + 20 + 3


@pytest.mark.parametrize("name", ["many-alone.npz", "alone-many.npz"])
def test_20_iterations_and_20_on_another_number_are_40(session, name):
    assert_close(session.folder, name, "one.40.npz")


def test_worker_0_speaks_for_all(session):
    """One log, one sample of a checkpoint, one text of --help."""
    logs = [[row.split("\t")[0:4:2] for row in (session.folder / name).read_text().splitlines()]
            for name in ("one.tsv", "many.tsv")]
    assert logs[0] == logs[1] and [row[0] for row in logs[0][1:]] == [str(n) for n in range(1, 11)]
    alone = session.script.run("--iters 0 --sample_length 40 --load part.npz").stdout
    assert session.runs["sample"] == alone and re.fullmatch(r"----\n(.|\n){40}\n----\n", alone)
    assert session.runs["help"].count("--timelimit FLOAT") == 2     # its usage, its line


# Workers that cannot work together ----------------------------------------------------------------

LAUNCHERS = "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_SIZE", "SLURM_STEP_NUM_TASKS"
WITHOUT = {
    "not installed": "raise ImportError('No module named mpi4py')",
    "no library": "raise RuntimeError('cannot load MPI library\\nlibmpi.so: cannot open')",
    "of another kind": "import types\nMPI = types.SimpleNamespace(COMM_WORLD=types.SimpleNamespace("
                       "rank=0, size=1), IN_PLACE=None, MAX=None)"}


@pytest.mark.parametrize("code", WITHOUT.values(), ids=WITHOUT)
def test_without_an_mpi_that_fits(code, job, tmp_path_factory):
    """One line a worker that says what to install, and no runs that overwrite each other's files."""
    folder = tmp_path_factory.mktemp("without")
    (folder / "mpi4py.py").write_text(code)
    before = content(job.folder)
    for name in LAUNCHERS:
        done = alone(job, "--iters 3 --save a.npz --fname a.tsv", PYTHONPATH=str(folder), **{name: "2"})
        assert done.returncode == 1 and not done.stdout
        assert re.fullmatch(r"parallel/train\.py: .*pip install -r parallel/requ.*\n", done.stderr)
    assert content(job.folder) == before


def alone(job, flags, **env):
    """A worker that no mpirun has started."""
    return subprocess.run([sys.executable, str(TRAIN), str(job.script.path), *flags.split()],
                          cwd=job.folder, env={**ENVIRONMENT, **env}, capture_output=True,
                          encoding="utf-8", timeout=HANGS)


def test_without_mpirun(job):
    done = alone(job, "--iters 3")
    assert done.returncode == 1 and not done.stdout
    assert re.fullmatch(r"parallel/train\.py: start it by mpirun .*\n", done.stderr)


# One that fails ends all --------------------------------------------------------------------------

BROKEN = "if rank == 1: on('forward', 7, lambda: {})"
FAULTS = {      # what happens: how, what the job says, its status, the iteration that stays saved
    "no text": ("if rank == 1: flags += ['--data', 'gone.txt']",
                "worker 1: train.py: cannot read gone.txt", 2, None),
    "another text": ("if rank == 1: flags += ['--data', 'other.txt']",
                     "different texts or checkpoints", 2, None),
    "no checkpoint": ("if rank == 1: flags += ['--load', 'gone.npz']",
                      "worker 1: train.py: gone.npz is not a usable checkpoint", 2, None),
    "too many workers": ("flags += ['--batchsize', '1']", "2 workers cannot share 1 streams", 2,
                         None),
    "no folder to save": ("flags += ['--save', 'gone/a.npz']", "cannot write gone/a.npz", 2, None),
    "no folder in worker 1": ("if rank == 1: flags += ['--save', 'gone/a.npz']",
                              "worker 1: train.py: cannot write gone/a.npz", 2, None),
    "loss": (BROKEN.format("setattr(script, 'cross_entropy', lambda y, _: (y[0] * float('nan'), y))"),
             "train.py: loss, gradient or weights are not finite in iteration 7", 1, 5),
    "gradient": (BROKEN.format("setattr(script, 'backward', lambda p, *_: "
                               "({name: 1e30 + 0 * x for name, x in p.items()}, {}))"),
                 "train.py: loss, gradient or weights are not finite in iteration 7", 1, 5),
    "memory": (BROKEN.format("fail(MemoryError())"), "worker 1: train.py: there is not enough mem", 2,
               5),
    "exception": (BROKEN.format("fail(ZeroDivisionError('a mistake'))"),
                  "ZeroDivisionError: a mistake", 1, 5),
    "exception in worker 0": (BROKEN.format("fail(ZeroDivisionError('a mistake'))").replace("1", "0"),
                              "ZeroDivisionError: a mistake", 1, 5),
    "killed": (BROKEN.format("hit(9)"), "", None, 5),
    "killed worker 0": (BROKEN.format("hit(9)").replace("1", "0"), "", None, 5),
    "full disk": ("if rank == 0: on('replace', 2, lambda: fail(OSError(28, 'It is full')), os)",
                  "train.py: cannot save a.npz: It is full", 1, 5)}


@pytest.mark.parametrize("how, message, status, saved", FAULTS.values(), ids=FAULTS)
def test_a_fault_in_one_worker_ends_all(how, message, status, saved, job):
    """Who waits for it would wait for ever. One line says what happened; the last checkpoint stays."""
    (job.folder / "other.txt").write_text(some_text()[::-1], newline="\n")     # same characters
    before = names(job.folder)
    done = job.run(f"--check_interval 5 --val 0 --save a.npz --timelimit {10 * HANGS}", how, status)
    assert done.err.count(message or "signal") >= 1
    assert len(re.findall(r"train\.py: ", done.err)) == message.count("train.py") or "diff" in message
    if saved:
        assert job.saved() == saved
    else:
        assert names(job.folder) - before <= {"alive.0", "alive.1"}


# Signals and the time limit -----------------------------------------------------------------------

MOMENTS = {     # when a signal reaches a worker, which then ends after at most so many iterations
    "training": ("on('forward', 7, lambda: hit({0}))", 7),
    "agreeing": ("on('agree', 7, lambda: hit({0}), seams)", 8),
    "scoring": ("on('score', 1, lambda: on('forward', 1, lambda: hit({0})))", 6),
    "sampling": ("on('report', 1, lambda: on('forward', 30, lambda: hit({0})))", 6)}


@pytest.mark.parametrize("number, ranks", [(15, (0,)), (15, (1,)), (2, (0, 1))])
@pytest.mark.parametrize("how, last", MOMENTS.values(), ids=MOMENTS)
def test_a_signal_stops_all_after_the_same_iteration(how, last, number, ranks, job):
    """Whoever it reaches: one worker, or all, as from srun. The run is saved once."""
    job.run(f"--timelimit {10 * HANGS} --val 0.7 --check_interval 5 --sample_length 20",
            f"flags += ['--save', 'a.npz'] if {last} > 6 else []\n"
            f"if rank in {ranks}: {how.format(number)}", 128 + number)
