"""What all benches share: their flags, checked before they measure, and the BLAS kernel.

OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE choose OpenBLAS's kernels, and so NumPy's speed; PyTorch and
JAX do not read them. A kernel for an older processor can halve the speed of products. So no bench
runs while one of the two is set, unless --kernel names the kernel on purpose.
"""
import importlib.metadata
import importlib.util
import os
import platform
import re
import sys

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools"))
import command                                                  # noqa: E402

FIRST = min(getattr(os, "sched_getaffinity", lambda _: [0])(0))     # core of this process
VARIABLES = "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"
FLAGS = "batchsize", "hidden", "seqlength", "locations", "width", "heads"
LSTM = "64/256/25", "16/32/25", "64/128/25", "32/128/50", "64/256/50"   # the default comes first
SIZES = {"rnn": LSTM, "lstm": LSTM, "dnc": ("64/256/25/16/16/2", "16/32/25/16/16/2",
                                            "16/128/25/16/16/2", "32/128/50/32/32/4")}


def parser(doc):
    """The parser of a bench, with the flag --kernel."""
    p = command.Parser(description=doc.splitlines()[0])
    p.add_argument("--kernel", metavar="NAME", help="measure with this OpenBLAS kernel, as "
                   "Haswell for a processor without AVX-512 (default: the machine's own)")
    return p


def add_turns(p, turns, seconds):
    """How long to measure, for benches whose sides take turns."""
    p.add_argument("--turns", type=command.number(int, 1, 1000), default=turns,
                   help=f"of each side (default {turns})")
    p.add_argument("--seconds", type=command.number(float, 0.001, 3600), default=seconds,
                   help=f"of one turn (default {seconds:g})")


def rows(models, sizes=None):
    """(model, size) of each row of a table. A size must fit one of the models at least."""
    for size in sizes or ():
        if not re.fullmatch(r"[1-9]\d{0,5}(/[1-9]\d{0,5}){2}((/[1-9]\d{0,5}){3})?", size):
            raise command.Failure(f"{size} is no size {'/'.join(FLAGS)}; the last three: dnc alone")
        if not any(size.count("/") == SIZES[model][0].count("/") for model in models):
            raise command.Failure(f"{size} is no size of {' or '.join(models)}")
    return [(model, size) for model in models for size in sizes or SIZES[model]
            if size.count("/") == SIZES[model][0].count("/")]


def check_picture(path):
    """Whether a bench can draw in the end, before it measures."""
    if path:
        command.check_target(path)
        if not importlib.util.find_spec("matplotlib"):
            raise command.Failure("matplotlib is not installed: --png '' leaves the picture out")
        if not str(path).lower().endswith((".png", ".svg", ".pdf")):
            raise command.Failure(f"{path}: the name of a picture ends in .png, .svg or .pdf")


def pin(core):
    """Run on this core alone, where the system can do that."""
    try:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, [core])
    except (OSError, OverflowError, ValueError):
        raise command.Failure(f"--core {core}: there is no such core for this process")


def choose(p, args):
    """Refuse a kernel that the environment has chosen; with --kernel start again with that one.
    Then print the machine, the versions and the kernel, as lines above the tables."""
    chosen = [name for name in VARIABLES if os.environ.get(name)]
    if chosen and not args.kernel:
        p.error(f"{chosen[0]} is set, which changes the speed of NumPy alone: unset it, as in "
                f"env -u {' -u '.join(VARIABLES)} python ..., or name it by --kernel")
    if args.kernel and os.environ.get(VARIABLES[0]) != args.kernel:
        os.environ[VARIABLES[0]] = args.kernel          # NumPy reads it when it is imported
        os.execv(sys.executable, [sys.executable, *sys.argv])
    print("\n".join(describe()), "\n", flush=True)


def describe():
    """What the figures belong to: processor, cores, versions, kernel."""
    processor = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            processor = next(line.split(":")[1].strip() for line in file if "model name" in line)
    except (OSError, StopIteration):
        pass
    yield f"{processor}, {os.cpu_count()} cores; {platform.system()}"
    versions = [f"Python {platform.python_version()}"]
    for name in "numpy", "torch", "jax":
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            pass
    yield ", ".join(versions)
    yield f"BLAS kernel: {kernel()}"


def kernel():
    """The architecture of the kernels that NumPy's BLAS runs, as threadpoolctl sees it."""
    import numpy  # noqa: F401 (it loads the library)
    try:
        import threadpoolctl
    except ImportError:
        return "unknown (pip install threadpoolctl)"
    found = [library.get("architecture") for library in threadpoolctl.threadpool_info()
             if library["user_api"] == "blas"]
    return ", ".join(name or "unknown" for name in found) or "unknown"
