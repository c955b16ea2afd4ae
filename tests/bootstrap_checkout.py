"""A checkout of its own for tests of the bootstrap, with packages that exist nowhere else.

`Checkout` is a small tree with the real launcher and the real bootstrap, and a command line that
only says where it runs. Its interpreter may be a stub, which makes environments in no time; their
pip does what `TEST_PIP` tells it at each step, so that a test can stop it at a chosen point.
"""

import hashlib
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = "src/demo_bert"

_CLI = """
import json, sys
from demo_bert.errors import DemoBertError

def main(argv, *, prepare_environment=None):
    if argv == ["-h"]:
        print("help")
        return 0
    try:
        prepare_environment()
    except DemoBertError as error:
        print(f"demo_bert: error: {type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    import one, torch
    files = {"torch": torch.__file__, "one": one.__file__}
    print(json.dumps({"prefix": sys.prefix, "argv": argv} | files))
    return 0

def run(*, prepare_environment=None):
    sys.exit(main(sys.argv[1:], prepare_environment=prepare_environment))
"""

_PYPROJECT = """
[project]
dependencies = ["torch>=2.11,<3", "one>=1.0"]
"""

# The launching process: an interpreter without packages, perhaps the stub as far as it can tell.
_BARE = """
import os, runpy, sys
if os.path.realpath(sys.prefix) != os.path.realpath({environment!r}):
    sys.executable = {python!r} or sys.executable
    sys.path[:] = [path for path in sys.path if not path.endswith("-packages") or {keeps!r}]
"""

_LAUNCH = (
    _BARE
    + """
sys.argv = [{launcher!r}, *sys.argv[1:]]
sys.path[0] = {root!r}
runpy.run_path({launcher!r}, run_name="__main__")
"""
)

WITH_TOOLS = (
    _BARE
    + """
sys.path[0] = {root!r} + "/src"
runpy.run_module("demo_bert.bootstrap", run_name="__main__")
"""
)

_STUB_PYTHON = """#!{python}
import os, pathlib, shutil, signal, sys
assert sys.argv[1:4] == ["-I", "-m", "venv"], sys.argv
directory = pathlib.Path(sys.argv[4])
packages = directory / "lib" / ("python%d.%d" % sys.version_info[:2]) / "site-packages"
packages.mkdir(parents=True)
(directory / "bin").mkdir()
(directory / "bin" / "python").symlink_to({python!r})
home = "home = " + os.path.dirname({python!r})
(directory / "pyvenv.cfg").write_text(home + "\\ninclude-system-site-packages = false\\n")
if os.environ.get("TEST_VENV") == "killed":
    os.killpg(0, signal.SIGKILL)
if os.environ.get("TEST_VENV") == "failed":
    sys.exit("Error: no luck")
shutil.copytree({pip!r}, packages / "pip")
"""

# One action for each step, as "torch=killed packages=stop:/fifo"; steps are packages, torch, tools.
_STUB_PIP = """
import os, pathlib, signal, sys
requirements = [word for word in sys.argv if "==" in word]
steps = {"torch": "torch", "one": "packages"}
step = steps.get(requirements[0].split("==")[0], "tools")
with open(os.environ["TEST_PIP_CALLS"], "a") as calls:
    calls.write(step + (" size" if "--dry-run" in sys.argv else "") + "\\n")
if "--dry-run" in sys.argv:
    print(os.environ.get("TEST_PIP_SIZES", ""))
    sys.exit(0)
actions = dict(word.split("=", 1) for word in os.environ.get("TEST_PIP", "").split())
action, _, value = actions.get(step, "").partition(":")
if action == "killed":
    os.killpg(0, signal.SIGKILL)
if action == "failed":
    print(pathlib.Path(value).read_text())
    sys.exit(1)
if action == "stopped":
    print("process", os.getpid(), flush=True)
    with open(value + ".reached", "w") as reached:
        reached.write(str(os.getpid()))
    with open(value):
        pass
packages = pathlib.Path(__file__).parents[1]
for requirement in requirements:
    name, version = requirement.split("==")
    (packages / f"{name}-{version}.dist-info").mkdir(exist_ok=True)
    (packages / f"{name}.py").write_text(
        "import os, sys\\n"
        "if __name__ == '__main__':\\n"
        f"    print('ran {name}', *sys.argv[1:])\\n"
        f"    sys.exit(int(os.environ.get('TEST_EXIT_{name}', 0)))\\n"
    )
"""


class Checkout:
    """A checkout in a directory of its own.

    Args:
        directory: An empty directory.
        is_real: Whether environments are made by the interpreter itself, rather than the stub.
        pip: The package pip that the stub's environments get; None: the stub's own.
    """

    def __init__(self, directory: Path, *, is_real: bool = False, pip: Path | None = None) -> None:
        self.root = directory / "checkout"
        self.home = directory / "home"
        self.wheels = directory / "wheels"
        self.calls = directory / "pip-calls"
        for each in (self.root, self.home, self.wheels):
            each.mkdir()
        self._copy()
        self._stub: Path | None = None
        if not is_real:
            self._stub = directory / "stub" / "python3"
            self._write_stub(self._stub, pip)

    @property
    def launcher(self) -> Path:
        return self.root / "demo_bert"

    @property
    def environment(self) -> Path:
        return self.root / ".venv"

    def env(self, variables: Mapping[str, str] | None = None) -> dict[str, str]:
        """What the processes see: nothing of the machine's settings for pip."""
        given = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PIP_", "DEMO_BERT_", "PYTHON", "VIRTUAL_ENV", "TEST_"))
        }
        own = {
            "HOME": str(self.home),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "TEST_PIP_CALLS": str(self.calls),
        }
        return given | own | dict(variables or {})

    def start(
        self,
        *words: str,
        variables: Mapping[str, str] | None = None,
        launcher: Path | None = None,
        python: Path | None = None,
        program: str = _LAUNCH,
    ) -> subprocess.Popen[str]:
        """Starts the launcher in a process group of its own, and in its directory.

        The interpreter is one without packages, or `python` with all that it has.
        """
        env = self.env(variables)
        launcher = launcher or self.launcher
        root = launcher.resolve().parent
        driver = program.format(
            environment=env.get("DEMO_BERT_VENV", str(root / ".venv")),
            python=str(self._stub or ""),
            launcher=str(launcher),
            root=str(root),
            keeps=python is not None,
        )
        return subprocess.Popen(
            [str(python or sys.executable), "-B", "-c", driver, *words],
            env=env,
            cwd=launcher.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(
        self,
        *words: str,
        variables: Mapping[str, str] | None = None,
        launcher: Path | None = None,
        python: Path | None = None,
        program: str = _LAUNCH,
    ) -> subprocess.CompletedProcess[str]:
        """Runs the launcher to its end, as `start` starts it."""
        process = self.start(
            *words, variables=variables, launcher=launcher, python=python, program=program
        )
        output, error = process.communicate(timeout=120)
        return subprocess.CompletedProcess(words, process.returncode, output, error)

    def pip_calls(self) -> list[str]:
        """The steps that the stub's pip was called for, but not those that asked for sizes."""
        calls = self.calls.read_text().splitlines() if self.calls.exists() else []
        return [call for call in calls if not call.endswith(" size")]

    def _copy(self) -> None:
        package = self.root / PACKAGE
        package.mkdir(parents=True)
        shutil.copy(REPOSITORY / "demo_bert", self.launcher)
        shutil.copytree(
            REPOSITORY / PACKAGE / "bootstrap",
            package / "bootstrap",
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        for name in ("__init__.py", "errors.py", "files.py", "downloads.py"):
            shutil.copy(REPOSITORY / PACKAGE / name, package / name)
        (package / "cli.py").write_text(_CLI)
        (self.root / "pyproject.toml").write_text(_PYPROJECT)
        (self.root / "requirements.lock").write_text("torch==2.13.0\none==1.0  # a comment\n")
        (self.root / "requirements-dev.lock").write_text("ruff==1\npyrefly==1\npytest==1\n")

    def _write_stub(self, stub: Path, pip: Path | None) -> None:
        stub.parent.mkdir()
        if pip is None:
            pip = stub.parent / "pip"
            pip.mkdir()
            (pip / "__main__.py").write_text(_STUB_PIP)
        stub.write_text(_STUB_PYTHON.format(python=os.path.realpath(sys.executable), pip=str(pip)))
        stub.chmod(stub.stat().st_mode | stat.S_IXUSR)


def write_wheel(
    directory: Path, name: str, *, version: str = "1.0", requires: str = "", size_bytes: int = 0
) -> Path:
    """A wheel with one module.

    Args:
        directory: Where it is put.
        name: Of the distribution and its module.
        version: Of both.
        requires: One requirement of its own, or none.
        size_bytes: How much of random-like data it carries besides.

    Returns:
        Its path.
    """
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += f"Requires-Dist: {requires}\n" if requires else ""
    files = {
        f"{name}.py": f"__version__ = {version!r}\n".encode(),
        f"{name}.bin": os.urandom(size_bytes),
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},{_digest(data)},{len(data)}\n" for path, data in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    path = directory / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name_in_wheel, data in files.items():
            wheel.writestr(name_in_wheel, data)
    return path


def _digest(data: bytes) -> str:
    digest = urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
    return f"sha256={digest}"
