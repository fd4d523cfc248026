"""The container image without an engine: hadolint reads its Dockerfile, its steps are done in roots of their own, the files
beside it are held against the published schemas. What its entry point does is in tests/system/test_container.py.

Each stage's root is an overlay over this machine's, in a mount namespace: nothing here is changed. This machine stands for
the base image, with its Python, and nothing is fetched: pip takes what the tests have.
"""

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import sysconfig

import compose_spec
import kubernetes_validate
import pytest
import yaml

from kit.api import write_token
from kit.programs import need
from tcp_proxy import __version__
from tcp_proxy.config.load import load_text
from tests.packaging.conftest import HOME, copy_of_the_tree

DOCKERFILE = (HOME / "Dockerfile").read_text()
CONTAINER = HOME / "container"
KUBERNETES = ("1.30", "1.37")
PROBES = ("livenessProbe", "readinessProbe")
# $1: where the roots are; $2: the build context; $3: Python; $4: its packages; $5: the steps
SCRATCH = """
mount -t tmpfs none "$1"
for stage in 0 1; do
    mkdir "$1/upper$stage" "$1/work$stage" "$1/$stage"
    mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper$stage,workdir=$1/work$stage" "$1/$stage"
    mount -t proc proc "$1/$stage/proc"; mount --bind /dev "$1/$stage/dev"
    mount -t tmpfs -o mode=1777 none "$1/$stage/dev/shm"
    mkdir "$1/$stage/packages"; mount --bind "$4" "$1/$stage/packages"
    ln -sf "$3" "$1/$stage/usr/local/bin/python"
    folder=$3  # root's own Python is everybody's in there
    while folder=$(dirname "$folder"); [ "$folder" != / ]; do chmod a+rx "$1/$stage$folder"; done
done
context=$2 roots=$1
TCP_PROXY_COMPILE_LEVEL=0 PYTHONPATH=/packages PIP_NO_INDEX=1 PIP_NO_DEPS=1 PIP_NO_BUILD_ISOLATION=0 PIP_IGNORE_INSTALLED=1
export TCP_PROXY_COMPILE_LEVEL PYTHONPATH PIP_NO_INDEX PIP_NO_DEPS PIP_NO_BUILD_ISOLATION PIP_IGNORE_INSTALLED
eval "$5"
"""
TRY = """
cd /var/lib/tcp_proxy; touch state.db; id -u; id -g
touch "$TCP_PROXY_HEALTH_FILE"; tcp-proxy-health
echo "$PATH" | cut -d: -f1
tcp-proxy --version; tcp-proxy-ctl --version
printf '{"apps": [{"name": "a", "ports": [8080], "targets": ["192.0.2.1:80"]}]}' >/tmp/image-config.json
tcp-proxy --check /tmp/image-config.json
python -c 'import tcp_proxy; print(tcp_proxy.__file__)'
! touch /opt/tcp_proxy/x 2>/dev/null; test -w /etc/tcp_proxy || echo 'not root'
ls /usr/local/src/tcp_proxy 2>/dev/null || echo 'no sources'
"""


def instructions():
    """(stage, word, the rest) of each instruction, from FROM on."""
    stage = -1
    text = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    for line in filter(None, map(str.strip, text.splitlines())):
        word, rest = line.split(maxsplit=1)
        stage += word == "FROM"
        yield stage, word, rest.strip()


def steps():
    """The shell's words for all that builds."""
    folders, environment = ["/", "/"], {}
    for stage, word, rest in instructions():
        root = f'"$roots/{stage}"'
        if word == "WORKDIR":
            folders[stage] = rest
            yield f"mkdir -p {root}{rest}"
        elif word == "ENV":
            environment |= dict(pair.split("=", 1) for pair in rest.split())
        elif word == "RUN":
            yield f"chroot {root} sh -ec {shlex.quote(f'cd {folders[stage]}; {rest}')}"
        elif word == "COPY":
            *sources, target = rest.split()
            source = '"$context"'
            if sources[0].startswith("--from="):
                del sources[0]
                source = '"$roots/0"'
            target = target if target.startswith("/") else f"{folders[stage]}/{target}"
            if len(sources) == 1 and not target.endswith("/"):
                yield f"mkdir -p {root}{os.path.dirname(target)}; cp -rT {source}/{sources[0]} {root}{target}"
            else:
                yield f"cp -r {' '.join(f'{source}/{one}' for one in sources)} {root}{target}"
    user = next(rest for _, word, rest in instructions() if word == "USER")
    uid, gid = user.split(":")
    path = environment["PATH"].replace("$PATH", "/usr/local/bin:/usr/bin:/bin")
    environment = " ".join(f"{name}={value}" for name, value in ({**environment, "PATH": path}).items())
    become = f"setpriv --reuid={uid} --regid={gid} --clear-groups env {environment}"
    yield f'chroot "$roots/1" {become} sh -ec {shlex.quote(TRY)}'


def context_of(folder):
    """What .dockerignore lets through."""
    tree, left = copy_of_the_tree(folder / "tree"), folder / "context"
    left.mkdir()
    wanted = [line[1:] for line in (HOME / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for name in wanted:
        (left / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).rename(left / name)
    return left


def test_hadolint_finds_nothing():
    program = pathlib.Path(sys.executable).with_name("hadolint")
    done = subprocess.run([program, HOME / "Dockerfile"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(os.geteuid() != 0, reason="needs roots of its own")
def test_every_step_builds_and_what_comes_of_it_runs_as_a_number(tmp_path):
    if subprocess.run([need("unshare"), "--mount", "true"], capture_output=True, check=False).returncode:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no mount namespace may be made here")
    need("setpriv")
    roots = tmp_path / "roots"
    roots.mkdir()
    python, packages = os.path.realpath(sys.executable), sysconfig.get_path("purelib")
    command = ["unshare", "--mount", "sh", "-ec", SCRATCH, "sh", roots, context_of(tmp_path), python, packages]
    done = subprocess.run([*command, "\n".join(steps())], capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    said = done.stdout.splitlines()[-9:]
    assert said == [
        "10001", "10001", "/opt/tcp_proxy/bin", *(2 * [f"tcp_proxy {__version__} (compiled)"]),
        "/tmp/image-config.json: right, 1 app on 1 listener",
        f"/opt/tcp_proxy/lib/python3.{sys.version_info.minor}/site-packages/tcp_proxy/__init__.py", "not root", "no sources",
    ]  # fmt: skip


def test_the_image_says_what_it_is():
    found = list(instructions())
    bases = [rest.split()[0] for _, word, rest in found if word == "FROM"]
    assert bases == ["python:3.11.14-bookworm", "python:3.11.14-slim-bookworm"], "one Python"
    last = {word: rest for stage, word, rest in found if stage == 1}
    assert re.fullmatch(r"\d+:\d+", last["USER"]), "a number, which runAsNonRoot can judge"
    assert last["EXPOSE"].split() == ["8080", "8687"]
    assert last["VOLUME"] == last["WORKDIR"] == "/var/lib/tcp_proxy"
    assert 'image.title="tcp_proxy"' in last["LABEL"]


def test_the_compose_file_is_one_and_names_what_is_there():
    text = (CONTAINER / "compose.yaml").read_text()
    compose_spec.PyCompose.from_yaml(text).validate()
    found = yaml.safe_load(text)
    services = found["services"]
    assert services["prometheus"]["network_mode"] == "service:proxy"
    for service in services.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in found["volumes"] or (CONTAINER / source).exists(), source
    assert (CONTAINER / services["proxy"]["build"]["context"]).samefile(HOME)
    config = load_text((CONTAINER / "config.json").read_bytes(), "config.json")
    assert {target.address.host for target in config.apps[0].targets} <= set(services)
    port = int(services["proxy"]["ports"][0].rsplit(":", 1)[1])
    assert [(one.host, one.port) for one in config.apps[0].listeners] == [("*", port)]
    assert int(services["proxy"]["stop_grace_period"].removesuffix("s")) > config.shutdown_grace
    (scrape,) = yaml.safe_load((CONTAINER / "prometheus.yml").read_text())["scrape_configs"]
    assert scrape["static_configs"][0]["targets"] == [str(config.api.listen)]


@pytest.mark.parametrize("version", KUBERNETES)
def test_the_manifests_are_what_kubernetes_knows(version):
    for manifest in yaml.safe_load_all((CONTAINER / "kubernetes.yaml").read_text()):
        kubernetes_validate.validate(manifest, version, strict=True)


def test_the_manifests_fit_each_other_and_the_program(tmp_path):
    found = {one["kind"]: one for one in yaml.safe_load_all((CONTAINER / "kubernetes.yaml").read_text())}
    token = write_token(tmp_path / "token")
    text = found["ConfigMap"]["data"]["config.json"].replace("/run/secrets/tcp-proxy/token", str(token))
    config = load_text(text.encode(), "config.json")
    pod = found["Deployment"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    assert ports == {"web": config.apps[0].listeners[0].port, "api": config.api.listen.port}
    asked = {probe: (container[probe]["httpGet"]["path"], container[probe]["httpGet"]["port"]) for probe in PROBES}
    assert asked == {"livenessProbe": ("/healthz", "api"), "readinessProbe": ("/readyz", "api")}
    stop = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["spec"]["terminationGracePeriodSeconds"] > stop + config.shutdown_grace
    labels = pod["metadata"]["labels"].items()
    for selector in (found["Service"]["spec"]["selector"], found["Deployment"]["spec"]["selector"]["matchLabels"]):
        assert selector.items() <= labels
    mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    assert set(mounts) == {one["name"] for one in pod["spec"]["volumes"]}
    assert json.loads(found["ConfigMap"]["data"]["config.json"])["api"]["token_file"] == f"{mounts['token']}/token"
    security = pod["spec"]["securityContext"]
    user = f"{security['runAsUser']}:{security['runAsGroup']}"
    assert ("USER", user) in [(word, rest) for _, word, rest in instructions()]
