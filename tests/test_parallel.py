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
import tempfile

import numpy as np
import pytest

from conftest import ENVIRONMENT, MODELS, ROOT, Script, content, python, some_text, without_times

pytest.importorskip("mpi4py")
pytest.importorskip("fcntl")
MPIRUN = shutil.which("mpirun", path=os.path.dirname(sys.executable)) or shutil.which("mpirun")
pytestmark = pytest.mark.skipif(not MPIRUN, reason="needs mpirun")

TRAIN = str(ROOT / "parallel" / "train.py")
HANGS = 600                         # seconds after which a job hangs: none needs more than a few
OPEN_MPI = {                        # for versions 4 and 5; other kinds of MPI do not look at these
    "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",       # in a container
    "OMPI_MCA_rmaps_base_oversubscribe": "1", "OMPI_MCA_mpi_yield_when_idle": "1",  # few cores
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMPI_MCA_hwloc_base_binding_policy": "none", "PRTE_MCA_hwloc_default_binding_policy": "none",
    "OMPI_MCA_btl": "^ofi"}         # to look for a network that is not there takes a second a job

# Runs in each worker, with a hook (Python, run behind share_work) and a list of flags for each run.
DRIVER = """
import fcntl, hashlib, os, sys
hook, more, *flags = sys.argv[1:]
rank = int(os.environ.get("OMPI_COMM_WORLD_RANK", os.environ.get("PMI_RANK")))
alive, pipe = open("alive", "a"), os.pipe()
fcntl.flock(alive, fcntl.LOCK_SH)       # until this process has ended, in whatever way
os.close(pipe[0])                       # now nobody reads what is written to pipe[1]
sys.path.insert(0, os.path.dirname(flags[0]))
import train as parallel
hit = lambda number, process=os.getpid(): os.kill(process, number)      # this worker alone
def on(name, count, action, owner=None):
    "Do something at the start of the count-th call of a function, or of each."
    owner, calls = owner or script, [0]
    function = getattr(owner, name)
    def wrapped(*args, **kwargs):
        calls[0] += 1
        if calls[0] == count or count is None:
            action()
        return function(*args, **kwargs)
    setattr(owner, name, wrapped)
def note(name, text=""):
    with open(f"{name}.{rank}", "a") as file: print(text, file=file)
def share_work(loaded, *mpi, share_work=parallel.share_work):
    global script
    share_work(loaded, *mpi)
    script, iterate = loaded, loaded.iterate
    def noted(args, run, text):
        bpc = iterate(args, run, text)
        numbers = [x.tobytes() for x in (*run.params.values(), *run.mem.values())]
        note("digests", hashlib.sha256(b"".join(numbers)).hexdigest())
        return bpc
    script.iterate = noted
    on("score", None, lambda: note("scores"))
    exec(hook, globals())
parallel.share_work = share_work
on("replace", None, lambda: note("saves"), os)
for words in eval(more):
    sys.argv = flags + words.split()
    print("===", flush=True)
    status = parallel.main()
    parallel.connect()[0].Barrier()     # the next run may load what worker 0 has saved
sys.exit(status)
"""


@dataclasses.dataclass
class Job(Script):
    """Workers in a folder: how to run them, and what the driver has noted there."""
    workers: int = 2

    def mpirun(self, flags="", hook="", status=0, more=("",)):
        """Run to the end; no worker may outlive mpirun. status None: anything but 0."""
        command = ["sh", "-c", 'MPIRUN_PID=$$ exec "$0" "$@"', MPIRUN, "-n", str(self.workers),
                   sys.executable, "-c", DRIVER, hook, repr(more), TRAIN, str(self.path),
                   *self.small, *flags.split()]
        # A killed mpirun leaves its session in TMPDIR, and a later one with its PID fails on it.
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as sessions:
            done = subprocess.run(
                command, env={**ENVIRONMENT, **OPEN_MPI, "TMPDIR": sessions}, text=True,
                cwd=self.folder, timeout=HANGS, capture_output=True)
        assert (self.folder / "alive").exists(), done       # or mpirun has started no worker
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


@pytest.fixture
def job(rnn):
    """Two workers of the RNN: what they share with the other models is the same to the byte."""
    return Job("rnn", rnn.folder)


CASES = {       # checkpoint: flags of a run of one process, and of one of all workers
    "clip.npz": "--iters 10 --clip 1e-3 --check_interval 5 --val 0.2 --sample_length 30",
    "zero.npz": "--iters 80 --seqlength 1 --val 0 --reset o --lr 0.01",
    "40.npz": "--iters 40 --lr 0.02 --dropout 0.5"}
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
    more += [f"{FIRST} --save part-many.npz", THEN.format("part.npz", "part.npz"),
             "--iters 0 --sample_length 40 --load many.clip.npz", "--help"]
    more = [f"--fp64 {words}" for words in more] + ["--iters 3 --hidden 150"]
    job.many = job.mpirun(flags, more=more).stdout.split("===\n")[-len(more):]
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
    """All that they save and print: one log, one sample, one --help. Streams jump in this text."""
    for name, one, many in zip(CASES, session.alone, session.many):
        saved = assert_close(session, f"many.{name}", f"one.{name}")
        assert len(set(saved["position"])) > 2
        one, many = without_times(one), without_times(many).replace("many.", "one.")
        assert many.replace(f"{session.workers} workers share the streams\n", "") == one != many
    assert session.iterations() == 10 + 80 + 40 + 20 + 20 + 3
    for name in "many-one.npz", "part.npz":     # 20 iterations of one process, 20 of many
        assert_close(session, name, "one.40.npz")
    logs = [re.sub(r"\t\S+\t(\S+\t\S+)\t\S+\n", r" \1 ", (session.folder / name).read_text())
            for name in ("one.tsv", "many.tsv")]
    assert logs[0] == logs[1]
    sample = session.run("--iters 0 --sample_length 40 --load many.clip.npz --data text.txt")
    assert sample.stdout == session.many[-3]
    assert session.many[-2].count("usage: ") == 1 and "--timelimit SECONDS " in session.many[-2]


LAUNCHERS = "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_SIZE", "SLURM_STEP_NUM_TASKS"
FAKE = "import sys; COMM_WORLD = MPI = sys.modules['mpi4py']; size, rank, Abort = {}, 0, sys.exit"
REFUSED = {     # mpi4py.py, script, what is said
    "not installed": ("raise ImportError('No module named mpi4py')", "rnn", "pip install"),
    "no library": ("raise RuntimeError('cannot load\\nlibmpi.so: no file')", "rnn", "pip install"),
    "another": (FAKE.format(1), "rnn", "pip install"),
    "no mpirun": ("", "rnn", "start it by mpirun"),
    "no script": (FAKE.format(2), "gone", "there is no script 'gone-numpy.py'")}


@pytest.mark.parametrize("code, script, message", REFUSED.values(), ids=REFUSED)
def test_refused(code, script, message, job, tmp_path_factory):
    """One line a worker, and no runs that overwrite each other's files."""
    folder, before = tmp_path_factory.mktemp("without"), content(job.folder)
    (folder / "mpi4py.py").write_text(code)
    script = job.path if script == "rnn" else f"{script}-numpy.py"
    for env in [{name: "2"} for name in LAUNCHERS] if code else [{}]:
        done = python(job.folder, TRAIN, script, "--save", "a.npz", status=2, timeout=HANGS,
                      says="parallel/train.py: ", env={"PYTHONPATH": str(folder), **env})
        assert message in done.stderr
    assert content(job.folder) == before


at_7 = "on('iterate', 7, lambda: {})".format
LATE = "setattr(script.time, 'perf_counter', lambda: 1e9)"
NAN = "setattr(script, 'cross_entropy', lambda y, _: (y[0] * float('nan'), y))"
HEAD, FULL = "os.dup2(pipe[1], 1)", "exec('raise OSError(28, \"full\")')"
ENDS = {        # in which workers, what happens there; status, iterations done and saved, message
    "no text": ("1", "sys.argv += ['--data=gone.txt']", 2, 0, 0, "worker 1: rnn-numpy.py: cannot "),
    "another text": ("1", "sys.argv += ['--data=other.txt']", 2, 0, 0, "have different text"),
    "too many": ("01", "sys.argv += ['--batchsize=1']", 2, 0, 0, "2 workers cannot share 1 stream"),
    "no folder": ("01", "sys.argv += ['--save=no/a.npz']", 2, 0, 0, "rnn-numpy.py: cannot save no"),
    "taken": ("01", "sys.argv += ['--save=text.txt']", 2, 0, 0, "rnn-numpy.py: cannot save text.t"),
    "no memory": ("1", at_7("exec('raise MemoryError')"), 1, 6, 5, "worker 1: rnn-numpy.py: there"),
    "mistake": ("1", at_7("exec('raise KeyError(7)')"), 1, 6, 5, "KeyError: 7"),
    "mistake in 0": ("0", at_7("exec('raise KeyError(7)')"), 1, 6, 5, "KeyError: 7"),
    "killed": ("0", at_7("hit(9)"), None, 6, 5, ""),
    "signal twice": ("1", at_7("(hit(2), hit(2))"), None, 6, 5, ""),
    "reading": ("1", "on('prepare', 1, lambda: hit(15))", 143, 0, 0, ""),
    "signal": ("1", at_7("hit(15)"), 143, 7, 7, ""),
    "signals": ("01", at_7("hit(2)"), 130, 7, 7, ""),
    "agreeing": ("0", "on('agree', 7, lambda: hit(15))", 143, 8, 8, ""),
    "scoring": ("0", "on('score', 1, lambda: hit(15))", 143, 6, 6, ""),
    "sampling": ("0", "on('sample', 1, lambda: hit(15))", 143, 6, 6, ""),
    "saving": ("0", "on('save', 2, lambda: hit(2))", 130, 6, 6, ""),
    "time is over": ("1", at_7(LATE), 0, 7, 7, ""),
    "not finite": ("1", at_7(NAN), 1, 6, 6, "rnn-numpy.py: loss, gradient or weights are not"),
    "not finite at once": ("1", NAN, 1, 0, 0, "rnn-numpy.py: loss, gradient or weights are not"),
    "| head": ("0", at_7(HEAD), 141, 8, 8, ""),
    "| head at the end": ("0", at_7(f"({HEAD}, {LATE})"), 141, 7, 7, ""),
    "| head and a signal": ("0", at_7(f"({HEAD}, hit(2))"), 130, 7, 7, ""),
    "output": ("0", at_7("os.dup2(os.open('/dev/full', 1), 1)"), 1, 8, 8, "the output: No space"),
    "log": ("0", at_7("os.rename('logs', 'gone')"), 1, 8, 8, "rnn-numpy.py: cannot write logs/"),
    "a save": ("0", f"on('replace', 2, lambda: {FULL}, os); " + at_7("hit(2)"), 130, 7, 7, "full"),
    "disk": ("0", at_7(f"(on('replace', None, lambda: {FULL}, os), hit(2))"), 1, 7, 5, "full")}


@pytest.mark.parametrize("where, how, status, done, last, message", ENDS.values(), ids=ENDS)
def test_all_workers_end(where, how, status, done, last, message, job):
    """After the same iteration, whomever a signal reaches, and whose clock it is. Worker 0 saves
    what the last one left, unless one failed alone, and says what happened."""
    (job.folder / "other.txt").write_text(some_text()[::-1], newline="\n")      # same characters
    (job.folder / "logs").mkdir()
    before = content(job.folder)
    ran = job.mpirun(f"--timelimit {10 * HANGS} --val 0.7 --sample_length 20 --print_interval 1 "
                     "--check_interval 5 --save a.npz --fname logs/a.tsv",
                     f"if str(rank) in '{where}': {how}", status)
    said = [line for line in ran.stderr.splitlines() if "numpy.py: " in line or "Error: " in line]
    assert all(message in line for line in said) and bool(said) == bool(message), ran.stderr
    assert job.iterations() == done and before.items() <= content(job.folder).items()
    assert last == (job.loaded().iter if (job.folder / "a.npz").exists() else 0)
    saved, scored = job.notes("saves"), job.notes("scores")
    assert len(saved[0]) <= 3 and len(scored[0]) <= 1 + (not status) and not saved[1] + scored[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_mpirun(number, job):
    """SIGUSR1 it only passes on. After the others Open MPI 5 sends SIGTERM and, a quarter of a
    second later, SIGKILL: what is whole then is the last checkpoint or the one before it."""
    job.mpirun(f"--check_interval 50 --val 0 --save a.npz --timelimit {10 * HANGS}",
               "if rank == 1: on('forward', 57, lambda: "
               f"hit({number}, int(os.environ['MPIRUN_PID'])))", None)
    last = job.loaded().iter
    assert number != signal.SIGUSR1 and last % 50 == 0 or last == job.iterations()
