"""Build the stubs (grpcio-tools), the C library (CMake) and the cffi module, in one distribution.

Metadata is in pyproject.toml. The stubs are generated at build time and never committed.
"""

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

from setuptools import Command, find_packages, setup
from setuptools.command.build import build
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
SOURCES = ("sdk", "server", "pilot", "helper_c/python")
STUBS = "sdk"
PROTOS = sorted(str(p.relative_to(ROOT / "protos")) for p in (ROOT / "protos").rglob("*.proto"))
SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")


def stub_names() -> list[str]:
    """Return the generated files, relative to the source root."""
    return [p.removesuffix(".proto") + suffix for p in PROTOS for suffix in SUFFIXES]


class BuildProtos(Command):
    """Generate typed gRPC stubs; run after build_py, so that fresh stubs win over stale ones."""

    user_options = [("build-lib=", None, "directory to build into")]
    build_lib: str | None = None
    editable_mode = False

    def initialize_options(self) -> None:
        self.build_lib = None

    def finalize_options(self) -> None:
        self.set_undefined_options("build_py", ("build_lib", "build_lib"))

    def run(self) -> None:
        from grpc_tools import protoc  # late: an sdist needs none of it

        out = ROOT / STUBS if self.editable_mode else Path(str(self.build_lib))
        out.mkdir(parents=True, exist_ok=True)
        flags = [f"--{kind}_out={out}" for kind in ("python", "mypy", "grpc_python", "mypy_grpc")]
        plugins = [
            f"--plugin={name}={path}"
            for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")
            if (path := Path(sys.executable).with_name(name)).exists()
        ]
        include = [f"-I{ROOT / 'protos'}", f"-I{files('grpc_tools') / '_proto'}"]
        if protoc.main(["protoc", *include, *plugins, *flags, *PROTOS]):
            raise SystemExit("protoc failed")

    def get_source_files(self) -> list[str]:
        return [f"protos/{p}" for p in PROTOS]

    def get_outputs(self) -> list[str]:
        return [f"{self.build_lib}/{name}" for name in stub_names()]

    def get_output_mapping(self) -> dict[str, str]:
        if not self.editable_mode:
            return {}
        return {f"{self.build_lib}/{name}": f"{STUBS}/{name}" for name in stub_names()}


class Build(build):
    """Add the stubs to the standard build."""

    sub_commands = [*build.sub_commands, ("build_protos", None)]


class BuildExt(build_ext):
    """Build the C library first, then link the cffi module to it."""

    def run(self) -> None:
        tree = Path(self.build_temp).resolve() / "cmake"
        subprocess.run(
            ["cmake", "-S", ROOT, "-B", tree, "-DCMAKE_BUILD_TYPE=RelWithDebInfo", "-DBUILD_TESTING=OFF"], check=True
        )
        subprocess.run(["cmake", "--build", tree, "--target", "pilotage_core"], check=True)
        for extension in self.extensions:
            extension.extra_objects.append(f"{tree}/helper_c/libpilotage-core.a")
            extension.depends.append(f"{tree}/helper_c/libpilotage-core.a")
            extension.include_dirs += [f"{ROOT}/helper_c/include", f"{ROOT}/helper_c/src"]
        super().run()


packages = {name: root for root in SOURCES for name in find_packages(str(ROOT / root))}
setup(
    packages=list(packages),
    package_dir={name: f"{root}/{name}" for name, root in packages.items() if "." not in name},
    package_data={"": ["py.typed", "*.pyi", "*.sql", "*.html", "*.mako"]},
    data_files=[("share/man/man1", ["helper_c/man/pilotage-helper.1"])],
    cffi_modules=["helper_c/python/build_ffi.py:ffi"] if sys.platform == "linux" else [],
    cmdclass={"build": Build, "build_protos": BuildProtos, "build_ext": BuildExt},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
