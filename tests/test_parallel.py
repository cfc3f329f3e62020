"""parallel/train.py: workers learn what one process learns, and they end together.

Skipped without mpi4py or mpirun. Jobs run through a driver, which loads parallel/train.py and the
script in each worker, takes notes, and does what the test wants to happen (a signal, a fault) at a
certain call in a certain worker. So no test depends on how fast a machine is.
"""
import dataclasses
import os
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from conftest import (ENVIRONMENT, MODELS, ROOT, Script, content, names, python,
                      some_text, without_times)

pytest.importorskip("mpi4py")
pytest.importorskip("fcntl")
MPIRUN = shutil.which("mpirun", path=os.path.dirname(sys.executable)) or shutil.which("mpirun")
pytestmark = pytest.mark.skipif(not MPIRUN, reason="needs mpirun")

TRAIN = str(ROOT / "parallel" / "train.py")
HANGS = 120                         # seconds after which a job hangs: none needs more than a few
OPEN_MPI = {                        # for versions 4 and 5; other kinds of MPI do not look at these
    "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",       # in a container
    "OMPI_MCA_rmaps_base_oversubscribe": "1", "OMPI_MCA_mpi_yield_when_idle": "1",  # few cores
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMPI_MCA_hwloc_base_binding_policy": "none", "PRTE_MCA_hwloc_default_binding_policy": "none",
    "OMPI_MCA_btl": "^ofi"}         # to look for a network that is not there takes a second a job

# Runs in each worker. Arguments: hook (Python that may use all these names), those of train.py.
DRIVER = """
import fcntl, hashlib, os, sys
hook, sys.argv = sys.argv[1], sys.argv[2:]
rank = int(os.environ.get("OMPI_COMM_WORLD_RANK", os.environ.get("PMI_RANK")))
alive = open("alive", "a")
fcntl.flock(alive, fcntl.LOCK_SH)       # until this process has ended, in whatever way
sys.path.insert(0, os.path.dirname(sys.argv[0]))
import train as parallel
script, flags, more = parallel.load_script(sys.argv[1]), sys.argv, [""]
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

hit = lambda number, process=os.getpid(): os.kill(process, number)      # this worker alone

def note(name, text=""):
    with open(f"{name}.{rank}", "a") as file:
        print(text, file=file)
def noted(run, gradients, iterate=script.iterate):
    bpc = iterate(run, gradients)
    numbers = [x.tobytes() for x in (*run.params.values(), *run.mem.values())]
    note("digests", hashlib.sha256(b"".join(numbers)).hexdigest())
    return bpc
def handed(run, stop, gradients, save, agree, train=script.train):
    train(run, stop, gradients, save, lambda wish: script.agreeing() or agree(wish))

script.iterate, script.train, script.agreeing = noted, handed, lambda: None
on("replace", None, lambda: note("saves"), os)
exec(hook)
for sys.argv in [[*flags, *words.split()] for words in more]:       # one run, or several
    print("===", flush=True)
    status = parallel.main()
    parallel.connect()[0].Barrier()     # the next run may load what worker 0 has saved
sys.exit(status)
"""


@dataclasses.dataclass
class Job(Script):
    """Workers in a folder: how to run them, and what the driver has noted there."""
    workers: int = 2

    def mpirun(self, flags="", hook="", status=0):
        """Run to the end; no worker may outlive mpirun. status None: anything but 0."""
        command = ["sh", "-c", 'MPIRUN_PID=$$ exec "$0" "$@"', MPIRUN, "-n", str(self.workers),
                   sys.executable, "-c", DRIVER, hook, TRAIN, str(self.path), *self.small]
        done = subprocess.run(command + flags.split(), env={**ENVIRONMENT, **OPEN_MPI}, text=True,
                              cwd=self.folder, timeout=HANGS, capture_output=True)
        python(self.folder, "-c", "import fcntl as f; f.flock(alive := open('alive'), f.LOCK_EX); "
               "alive.close()", timeout=HANGS)      # waits for all
        assert done.returncode == status or status is None and done.returncode, done
        return done

    def notes(self, name):
        """What each worker has noted under a name: a list of lines each."""
        paths = [self.folder / f"{name}.{rank}" for rank in range(self.workers)]
        return [path.read_text().splitlines() if path.exists() else [] for path in paths]

    def iterations(self):
        """How many all have done; parameters and accumulators were the same to the bit in all."""
        digests = self.notes("digests")
        assert digests == digests[:1] * self.workers
        return len(digests[0])

    def last(self):
        """The iteration of the checkpoint, which the script can load."""
        self.run("--load a.npz --iters 0 --sample_length 3")
        return self.loaded().iter


@pytest.fixture
def job(rnn):
    """Two workers of the RNN: what they share with the other models is the same to the byte."""
    return Job("rnn", rnn.folder)


CASES = {       # checkpoint: flags of a run of one process, and of one of all workers
    "clip.npz": "--iters 10 --clip 1e-3 --check_interval 5 --val 0.2 --sample_length 30",
    "zero.npz": "--iters 80 --seqlength 1 --val 0 --reset o --init 1 --lr 0.01",
    "40.npz": "--iters 40 --lr 0.02 --clip 0.01"}
FIRST, THEN = CASES["40.npz"].replace("40", "20"), "--iters 20 --load {} --save {}"


@pytest.fixture(scope="module", params=[(m, n) for m in MODELS for n in (2, 3)], ids=str)
def session(request, tmp_path_factory):
    """Runs of one process, and the same of workers with unequal shares; double precision, as
    Adagrad's first steps are signs of gradients. The last one sends long messages."""
    job = Job(request.param[0], tmp_path_factory.mktemp("session"), request.param[1])
    job.text.write_text(some_text(300), newline="\n")
    flags = "--batchsize 5 --print_interval 1 "

    def alone(more):
        return job.train(f"{flags} --fp64 {more}").stdout
    job.alone = [alone(f"{more} --fname one.tsv --save one.{name}") for name, more in CASES.items()]
    alone(f"{FIRST} --save part.npz")
    more = [f"{more} --fname many.tsv --save many.{name}" for name, more in CASES.items()]
    more += [f"{FIRST} --save part-many.npz", THEN.format("part.npz", "one-many.npz"),
             "--iters 0 --sample_length 40 --load many.clip.npz", "--help"]
    more = [f"--fp64 {words}" for words in more] + ["--iters 3 --hidden 150"]
    job.many = job.mpirun(flags, f"more = {more}").stdout.split("===\n")[-len(more):]
    alone(THEN.format("part-many.npz", "many-one.npz"))
    return job


def assert_close(session, a, b):
    """Two checkpoints are the same, what is computed to rounding."""
    a, b = session.saved(a), session.saved(b)
    assert a.keys() == b.keys()
    for name in a.keys() - {"seconds"}:
        assert np.array_equal(a[name], b[name]) or (
            np.abs(a[name] - b[name]).max() <= 1e-9 * np.abs(b[name]).max()), name
    return a


def test_workers_learn_what_one_process_learns(session):
    """All that they save and print: one log, one sample, one text of --help. In this little text
    streams jump, and in windows of one step they cross the place of zero state."""
    for name, one, many in zip(CASES, session.alone, session.many):
        saved = assert_close(session, f"many.{name}", f"one.{name}")
        assert len(set(saved["position"])) > 2 and saved["jumps"].max() > 1
        one, many = without_times(one), without_times(many)
        assert many.replace(f"{session.workers} workers share the streams\n", "") == one != many
    assert session.iterations() == 10 + 80 + 40 + 20 + 20 + 3
    for name in "many-one.npz", "one-many.npz":         # 20 iterations of one process, 20 of many
        assert_close(session, name, "one.40.npz")
    logs = [re.sub(r"\t\S+\t(\S+\t\S+)\t\S+\n", r" \1 ", (session.folder / name).read_text())
            for name in ("one.tsv", "many.tsv")]
    assert logs[0] == logs[1]
    sample = session.run("--iters 0 --sample_length 40 --load many.clip.npz --data text.txt")
    assert sample.stdout == session.many[-3]
    assert session.many[-2].count("usage: ") == 1 and "--timelimit FLOAT " in session.many[-2]


LAUNCHERS = "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_SIZE", "SLURM_STEP_NUM_TASKS"
WITHOUT = {     # mpi4py.py, and what is said
    "not installed": ("raise ImportError('No module named mpi4py')", "pip install"),
    "no library": ("raise RuntimeError('cannot load\\nlibmpi.so: no such file')", "pip install"),
    "another": ("from types import SimpleNamespace as N; MPI = N(COMM_WORLD=N(size=1))", "pip i"),
    "no mpirun": ("", "start it by mpirun")}


@pytest.mark.parametrize("code, message", WITHOUT.values(), ids=WITHOUT)
def test_without_an_mpi_that_fits(code, message, job, tmp_path_factory):
    """One line a worker, and no runs that overwrite each other's files."""
    folder, before = tmp_path_factory.mktemp("without"), content(job.folder)
    (folder / "mpi4py.py").write_text(code)
    for env in [{name: "2"} for name in LAUNCHERS] if code else [{}]:
        done = python(job.folder, TRAIN, job.path, "--save", "a.npz", status=1, timeout=HANGS,
                      says="parallel/train.py: ", env={"PYTHONPATH": str(folder), **env})
        assert message in done.stderr
    assert content(job.folder) == before


FAULTS = {      # where, what happens there (other flags, or an action), what is said, status
    "no text": (1, "--data gone.txt", "worker 1: train.py: cannot read gone.txt", 2),
    "another text": (1, "--data other.txt", "train.py: the workers have different texts", 2),
    "too many workers": (None, "--batchsize 1", "train.py: 2 workers cannot share 1 streams", 2),
    "no folder": (None, "--save gone/a.npz", "train.py: cannot write gone/a", 2),
    "loss": (1, "setattr(script, 'cross_entropy', lambda y, _: (y[0] * float('nan'), y))",
             "train.py: loss, gradient or weights are not finite in iteration 7", 1),
    "no memory": (1, "exec('raise MemoryError')", "worker 1: train.py: there is not enough", 2),
    "mistake": (1, "exec('raise KeyError(7)')", "KeyError: 7", 1),
    "mistake in 0": (0, "exec('raise KeyError(7)')", "KeyError: 7", 1),
    "killed": (0, "hit(9)", "", None),
    "signal twice": (1, "(hit(2), hit(2))", "", None),
    "full disk": (0, "on('replace', 1, lambda: exec('raise OSError(28, \"full\")'), os)",
                  "train.py: cannot save a.npz: full", 1)}


@pytest.mark.parametrize("where, how, message, status", FAULTS.values(), ids=FAULTS)
def test_a_fault_in_one_worker_ends_all(where, how, message, status, job):
    """The others would wait for ever. A line says what happened; what is saved stays whole."""
    (job.folder / "other.txt").write_text(some_text()[::-1], newline="\n")      # same characters
    before, flags = names(job.folder), how.startswith("--")
    how = f"flags += {how.split()}" if flags else f"on('forward', 7, lambda: {how})"
    done = job.mpirun(f"--check_interval 5 --val 0 --save a.npz --timelimit {10 * HANGS}",
                      f"if rank == {where} or {where} is None: {how}", status)
    said = [line for line in done.stderr.splitlines() if "train.py: " in line or "Error: " in line]
    assert all(message in line for line in said) and bool(said) == bool(message)
    left = set() if flags else {"a.npz", "digests.0", "digests.1", "saves.0"}
    assert names(job.folder) - before == left | {"alive"} and (flags or job.last() == 5)


LATE = "setattr(script.time, 'perf_counter', lambda: 1e9)"
STOPS = {       # what happens in which workers, status, iterations, files written
    "one": ("on('forward', 7, lambda: hit(15))", (1,), 143, 7, 1),
    "all, as by srun": ("on('forward', 7, lambda: hit(2))", (0, 1), 130, 7, 1),
    "agreeing": ("on('agreeing', 7, lambda: hit(15))", (0,), 143, 8, 1),
    "scoring": ("on('score', 1, lambda: on('forward', 1, lambda: hit(15)))", (1,), 143, 6, 3),
    "sampling": ("on('sample', 1, lambda: on('forward', 9, lambda: hit(15)))", (0,), 143, 6, 3),
    "saving": ("on('save', 1, lambda: hit(2))", (0,), 130, 6, 3),
    "time is over": (f"on('forward', 7, lambda: {LATE})", (1,), 0, 7, 1)}


@pytest.mark.parametrize("how, where, status, last, written", STOPS.values(), ids=STOPS)
def test_all_stop_after_the_same_iteration(how, where, status, last, written, job):
    """Whomever the signal reaches, and whose clock it is; worker 0 saves, once for that."""
    job.mpirun(f"--timelimit {10 * HANGS} --val 0.7 --sample_length 20 --save a.npz "
               f"--check_interval {5 * (written > 1)}", f"if rank in {where}: {how}", status)
    assert job.last() == job.iterations() == last
    assert list(map(len, job.notes("saves"))) == [written, 0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_mpirun(number, job):
    """SIGUSR1 it only passes on. After the others Open MPI 5 sends SIGTERM and, a quarter of a
    second later, SIGKILL: what is whole then is the last checkpoint or the one before it."""
    job.mpirun(f"--check_interval 50 --val 0 --save a.npz --timelimit {10 * HANGS}",
               "if rank == 1: on('forward', 57, lambda: "
               f"hit({number}, int(os.environ['MPIRUN_PID'])))", None)
    assert number != signal.SIGUSR1 and job.last() % 50 == 0 or job.last() == job.iterations()
