"""The BLAS kernel that a bench measures with.

OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE choose OpenBLAS's kernels, and so NumPy's speed; PyTorch and
JAX do not read them. A kernel for an older processor can halve the speed of products. So no bench
runs while one of the two is set, unless --kernel names the kernel on purpose.
"""
import importlib.metadata
import os
import platform
import sys

VARIABLES = "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"


def add_flag(parser):
    """Give a bench the flag --kernel."""
    parser.add_argument("--kernel", metavar="NAME", help="measure with this OpenBLAS kernel, as "
                        "Haswell for a processor without AVX-512 (default: the machine's own)")


def choose(parser, args):
    """Refuse a kernel that the environment has chosen; with --kernel start again with that one.
    Then print the machine, the versions and the kernel, as lines above the tables."""
    chosen = [name for name in VARIABLES if os.environ.get(name)]
    if chosen and not args.kernel:
        parser.error(f"{chosen[0]} is set, which changes the speed of NumPy alone: unset it, as in "
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
