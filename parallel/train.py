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
iteration whether to stop. Clipping comes after the sum, so it sees the norm of the total.

A checkpoint is that of one process: state and places in the text of all streams, gathered by worker
0. It continues alone, or on any number of workers. Random numbers have the stream's number in their
key, so the streams, too, are those of one process. The scripts know nothing of all this: main and
train take the three functions below as arguments. parallel/README.md: what this gains and costs.
"""
import importlib.util
import io
import os
import signal
import sys
import time
import traceback
import types
import zlib

ADVICE = "pip install -r parallel/requirements.txt, or build mpi4py with the MPI that starts it"


def load_script(path):
    """One of the three scripts as a module."""
    spec = importlib.util.spec_from_file_location("script", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)                 # before mpi4py: it sets BLAS threads
    return script


def connect():
    """The communicator of all workers, and MPI; one line if they cannot work together."""
    names = "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_SIZE", "SLURM_STEP_NUM_TASKS"
    launched = next((int(os.environ[name]) for name in names if name in os.environ), 0)
    if not launched:
        sys.exit("parallel/train.py: start it by mpirun -n 4 python parallel/train.py SCRIPT ...")
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as e:        # there is no mpi4py, or no MPI for it
        sys.exit(f"parallel/train.py: {' '.join(str(e).split())[:60]}: {ADVICE}")
    if MPI.COMM_WORLD.size != launched:             # mpi4py's MPI is not the launcher's
        sys.exit(f"parallel/train.py: {launched} processes, and each is alone: {ADVICE}")
    return MPI.COMM_WORLD, MPI


def sharing_train(script, comm, MPI):
    """A train function for script.main: the script's own, on this worker's share of the streams."""
    np = script.np

    def gradients(params, inputs, targets, state, reset):
        """The script's gradients of the share; loss and gradients are summed over all workers."""
        nats, grads, state = script.gradients(params, inputs, targets, state, reset)
        dtype = state["h"].dtype
        total = np.concatenate([*(d.ravel() for d in grads.values()), [nats]], dtype=dtype)
        comm.Allreduce(MPI.IN_PLACE, total)         # one message: its cost is mostly in its start
        ends = np.cumsum([d.size for d in grads.values()])
        parts = np.split(total[:-1], ends[:-1])
        grads = {name: part.reshape(grads[name].shape) for name, part in zip(grads, parts)}
        return float(total[-1]), grads, state

    def save(run, paths):
        """The checkpoint of one process: worker 0 gathers the streams of all, and writes."""
        shares = comm.gather((run.state, run.position, run.jumps))
        if comm.rank == 0:
            states, positions, jumps = zip(*shares)
            whole = types.SimpleNamespace(**{
                **vars(run), "position": np.concatenate(positions), "jumps": np.concatenate(jumps),
                "state": {name: np.concatenate([s[name] for s in states]) for name in run.state}})
            script.save(whole, paths)

    def agree(wish):
        """(signal, time is over): if one worker wants to stop, all do, after the same iteration."""
        return comm.allreduce(wish, MPI.MAX)

    def train(run, stop):
        same = run.digest, run.iter, zlib.crc32(b"".join(p.tobytes() for p in run.params.values()))
        if len(set(comm.allgather(same))) > 1:
            raise script.Failure("the workers have different texts or checkpoints")
        if comm.size > run.batchsize:
            raise script.Failure(f"{comm.size} workers cannot share {run.batchsize} streams")
        share = slice(*(run.batchsize * k // comm.size for k in (comm.rank, comm.rank + 1)))
        run.state = {name: value[share].copy() for name, value in run.state.items()}
        run.position, run.jumps, run.stream = (
            x[share].copy() for x in (run.position, run.jumps, run.stream))
        if comm.rank > 0:                           # worker 0 logs and samples for all
            run.fname, run.sample_length = None, 0
        if hasattr(signal, "SIGUSR1"):              # mpirun passes it on without killing
            signal.signal(signal.SIGUSR1, stop)
        script.say(f"{comm.size} workers share the streams")
        script.train(run, stop, gradients, save, agree)
    return train


def main():
    """Run the script's main in each worker; a worker that fails ends the job."""
    if len(sys.argv) < 2 or not os.path.isfile(sys.argv[1]):
        sys.exit(f"usage: mpirun -n N python {sys.argv[0]} SCRIPT [flags of the script]")
    script = load_script(sys.argv[1])
    comm, MPI = connect()
    errors, status = sys.stderr, 1
    if comm.rank > 0:                               # what fails everywhere is said by worker 0
        sys.stdout, sys.stderr = open(os.devnull, "w"), io.StringIO()
    try:
        status = script.main(sys.argv[2:], sharing_train(script, comm, MPI))
    except SystemExit as e:                         # --help
        status = e.code
    except BaseException:                           # a mistake in the script ends all, too
        traceback.print_exc()
    if status in (1, 2, 141):
        if comm.rank > 0:
            time.sleep(1)                           # worker 0 ends the job before, if it fails too
            print(f"worker {comm.rank}: {sys.stderr.getvalue()}", file=errors, flush=True)
        comm.Abort(status)                          # the others would wait for ever
    return status


if __name__ == "__main__":
    sys.exit(main())
