#!/usr/bin/env python3
"""Data-parallel training: any of the three scripts on many processes, over MPI.

    pip install -r parallel/requirements.txt
    mpirun -n 4 python parallel/train.py lstm-numpy.py --hidden 512 --batchsize 256 --save my.npz

The workers share the streams of the batch. Each runs the script's own code on its share:

    1. forward and backward over its B / n streams;
    2. loss and gradients are summed over all workers (MPI's Allreduce). Both are sums over
       characters, so the total is that of the whole batch;
    3. Adagrad, with the same total, on the same parameters.

Equal parameters plus equal steps stay equal: no worker ever sends its parameters. What else could
drift apart is agreed upon: at the start that all have the same text and checkpoint, in each
iteration whether to stop. Clipping comes after the sum, so it sees the norm of the total. Random
numbers are drawn for the whole batch, and each worker takes its share of them.

A checkpoint is that of one process: worker 0 gathers the states and positions of all streams. It
continues alone, or on any number of workers. The scripts know nothing of all this: share_work
replaces functions of the loaded script. parallel/README.md: what this gains and costs.
"""
import argparse
import importlib.util
import io
import math
import os
import sys
import time
import traceback
import zlib

USAGE = "mpirun -n 4 python parallel/train.py lstm-numpy.py [flags of the script]"
ADVICE = "pip install -r parallel/requirements.txt, or build mpi4py with the MPI that starts it"


def refuse(message):
    """End with status 2 and one line."""
    print("parallel/train.py:", " ".join(message.split()), file=sys.stderr)
    sys.exit(2)


def connect():
    """The communicator of all workers, and MPI; one line if they cannot work together."""
    names = "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_SIZE", "SLURM_STEP_NUM_TASKS"
    launched = next((int(os.environ[name]) for name in names if name in os.environ), 0)
    if not launched:
        refuse(f"start it by {USAGE}")
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as e:        # there is no mpi4py, or no MPI for it
        refuse(f"{str(e)[:60]}: {ADVICE}")
    if MPI.COMM_WORLD.size != launched:             # mpi4py's MPI is not the launcher's
        refuse(f"{launched} processes, and each is alone: {ADVICE}")
    return MPI.COMM_WORLD, MPI


def load_script(path):
    """One of the three scripts as a module."""
    if not (path.endswith(".py") and os.path.isfile(path)):
        refuse(f"there is no script {path!r}: {USAGE}")
    spec = importlib.util.spec_from_file_location("script", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    if not hasattr(script, "claim"):
        refuse(f"{path} is none of the three scripts, or an earlier version")
    return script


def share_work(script, comm, MPI):
    """Replace functions of the script, so that its main trains this worker's share of the batch.

    An exception in one worker ends the job, since the others wait for it. Two kinds of failure do
    better, and all workers leave together, gather and save: one that all have (not finite, not
    saved), and output, which only worker 0 writes: that it fails is its wish to stop.
    """
    np, own = script.np, argparse.Namespace(**vars(script))         # own: what is replaced, too
    job = argparse.Namespace(training=False, output=None, mistake=None)     # exceptions, or None

    def share(B):
        """This worker's streams of the batch."""
        return slice(B * comm.rank // comm.size, B * (comm.rank + 1) // comm.size)

    def gradients(params, *window):
        """The script's gradients of the share; loss and gradients are summed over all workers."""
        nats, grads, state = own.gradients(params, *window)
        total = np.concatenate([*(d.ravel() for d in grads.values()), [nats]],
                               dtype=params["by"].dtype)
        comm.Allreduce(MPI.IN_PLACE, total)         # one message: its cost is mostly in its start
        ends = np.cumsum([d.size for d in grads.values()])
        parts = np.split(total[:-1], ends[:-1])
        grads = {name: part.reshape(grads[name].shape) for name, part in zip(grads, parts)}
        return float(total[-1]), grads, state

    def agree(wish):
        """(signal, time is over): if one worker wants to stop, all do, after the same iteration."""
        return comm.allreduce((wish[0], wish[1] or job.output is not None), MPI.MAX)

    def together(function, *args):
        """What worker 0 returns, or fails with, in all workers."""
        result = failure = None
        if comm.rank == 0:
            try:
                result = function(*args)
            except script.Failure as e:
                failure = str(e)
        result, failure = comm.bcast((result, failure))
        if failure:
            raise script.Failure(failure)
        return result

    def claim(args, path):
        """Worker 0 creates the file, and would remove it."""
        return together(own.claim, args, path) and comm.rank == 0

    def save(run, path):
        """The checkpoint of one process: worker 0 gathers the streams of all, and writes."""
        if job.mistake:
            raise job.mistake                       # the others are not here: nothing is gathered
        shares = comm.gather((run.state, run.position))

        def write():
            states, positions = zip(*shares)
            return own.save(argparse.Namespace(**{
                **vars(run), "position": np.concatenate(positions),
                "state": {name: np.concatenate([s[name] for s in states]) for name in run.state}}),
                path)
        return together(write)

    def introduce(args, run, text):
        """Before the training: are all workers equal? Each takes its share of the streams."""
        own.introduce(args, run, text)
        weights = b"".join(x.tobytes() for x in (*run.params.values(), *run.mem.values()))
        same = run.digest, run.vocab, run.iter, zlib.crc32(weights)
        if len(set(comm.allgather(same))) > 1:
            raise script.Failure("the workers have different texts or checkpoints")
        if comm.size > args.batchsize:
            raise script.Failure(f"{comm.size} workers cannot share {args.batchsize} streams")
        mine = share(args.batchsize)
        run.state = {name: value[mine] for name, value in run.state.items()}
        run.position = run.position[mine]
        if comm.rank > 0:
            args.fname = None
        script.say(f"{comm.size} workers share the streams")

    def train(args, run, text):
        """Train, and remember how that went wrong in this worker alone, if it did."""
        job.training = True
        try:
            own.train(args, run, text)
        except script.Failure:                      # all workers have it
            raise
        except BaseException as e:
            job.mistake = e
            raise
        finally:
            job.training = False
        if job.output:
            raise job.output

    def output(function):
        """A function that, during the training, only worker 0 calls, until it fails."""
        def wrapped(*args, **kwargs):
            if not job.training:
                return function(*args, **kwargs)
            if comm.rank == 0 and not job.output:
                try:
                    return function(*args, **kwargs)
                except (OSError, script.Failure) as e:
                    job.output = e
            return math.nan                         # there is no held-out BPC
        return wrapped

    vars(script).update(
        share=share, gradients=gradients, agree=agree, claim=claim, save=save, train=train,
        introduce=introduce, say=output(own.say), log=output(own.log), report=output(own.report))
    script.SIGNALS.append("SIGUSR1")                # mpirun passes it on without killing


def main():
    """Run the script's main in each worker; a worker that fails ends the job."""
    comm, MPI = connect()
    errors, status = sys.stderr, 1
    if comm.rank > 0:                               # what fails everywhere is said by worker 0
        sys.stdout, sys.stderr = open(os.devnull, "w"), io.StringIO()
    try:
        script = load_script(sys.argv[1] if len(sys.argv) > 1 else "")
        share_work(script, comm, MPI)
        status = script.main(sys.argv[2:])
    except SystemExit as e:                         # --help
        status = e.code
    except BaseException:                           # a mistake in the script ends all, too
        traceback.print_exc()
    if status in (1, 2, 141) or status and not script.stop.trained:
        if comm.rank > 0:
            time.sleep(1)                           # worker 0 ends the job before, if it fails too
            print(f"worker {comm.rank}: {sys.stderr.getvalue()}", file=errors, flush=True)
        comm.Abort(status)                          # the others would wait for ever
    return status


if __name__ == "__main__":
    sys.exit(main())
