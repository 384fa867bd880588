"""The container image: built by buildah, and run as nobody's first process on a root that can't be written."""

import importlib.util
import os
import shutil
import signal
import socket
import sys
import tomllib
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Final

import grpc.aio
import httpx
import pytest
from packaging.specifiers import SpecifierSet

from broker import __version__, offline
from tests.acceptance.contained import RECORDS, Container, container
from tests.fault_proxy import fault_proxy, proxied, target_of
from tests.images import BASE_NAME, REPOSITORY, Image, Workshop, workshop
from tests.integration.served_broker import CALL_SECONDS, INSTALL_ID, envoy_url, settings_for
from tests.integration.served_envoy import ServedEnvoy
from tokenbroker.v1 import token_broker_pb2, token_broker_pb2_grpc

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="containers are Linux'")

OURS: Final = Path("opt/broker")
REVISION: Final = "0123456789abcdef"
BUILT_AT: Final = 1_700_000_000
# What a pull costs beyond the base; docs/image.md has the measured size.
LAYER_BYTES_MAX: Final = 160_000_000
PROGRAMS_TO_MAKE_OTHERS: Final = {"cc", "gcc", "c++", "g++", "clang", "ld", "as", "make", "pip", "pip3", "uv"}
# What lies about in a checkout: at its top, and where its own files are taken from.
STRAYS: Final = (".env", "broker/.env", "broker/tls.key", "broker/keyset.pem", "broker/__pycache__/stray.pyc")
MARK: Final = "a-secret-that-lay-about"
# PEP 552: a .pyc that is taken as it is, without a look at its source.
UNCHECKED_HASH: Final = (0b01).to_bytes(4, "little")
SECRET_SETTINGS: Final = tuple(
    f"TOKEN_BROKER_{name}" for name in ("DATABASE_URL", "KEYSET", "APPS", "AUDIT_KEY")
)
NO_CAPABILITIES: Final = "0000000000000000"


@pytest.fixture(scope="module")
def images() -> Iterator[Workshop]:
    """A workshop with a base in it."""
    with workshop() as made:
        made.make_base()
        yield made


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout as a build sees it, held fast while the tests run; with secrets that lie about."""
    folder = tmp_path_factory.mktemp("context")
    taken = [
        line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")
    ]
    for name in ("Dockerfile", ".dockerignore", *taken):
        source, target = REPOSITORY / name, folder / name
        target.parent.mkdir(exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    for stray in STRAYS:
        (folder / stray).parent.mkdir(exist_ok=True)
        (folder / stray).write_text(MARK)
    return folder


@pytest.fixture(scope="module")
def image(images: Workshop, context: Path) -> Image:
    """The image."""
    return images.build("broker", context, timestamp=BUILT_AT, version=__version__, revision=REVISION)


def test_base_has_a_python_that_the_broker_runs_on(images: Workshop) -> None:
    """Else what follows would be proved of no image that anybody can build."""
    wanted = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["requires-python"]
    python = images.image(BASE_NAME).root / "usr/bin/python3"
    assert python.readlink().name.removeprefix("python") in SpecifierSet(wanted)


def test_base_is_left_as_it_is(images: Workshop, image: Image) -> None:
    """All that is ours stands in one folder, so a base that is mended is taken by a new build and hides nothing."""
    base = images.image(BASE_NAME)
    assert image.layers[:-1] == base.layers
    ours = {path for path in paths_in(image.root) if OURS not in (path, *path.parents)}
    assert ours == set(paths_in(base.root))


def test_image_says_what_it_is_and_starts_without_root_or_shell(image: Image) -> None:
    """An engine, and who looks into a registry, know no more than this."""
    labels = {
        name.removeprefix("org.opencontainers.image."): text for name, text in image.config["Labels"].items()
    }
    assert labels.keys() >= {"title", "description"}
    assert (labels["licenses"], labels["version"], labels["revision"]) == (
        "Apache-2.0",
        __version__,
        REVISION,
    )
    user, group = map(int, image.config["User"].split(":"))
    assert user > 0 < group
    assert (image.config["Entrypoint"], image.config["Cmd"]) == (["token-broker"], ["serve"])
    assert image.config["Healthcheck"]["Test"][0] == "CMD"
    assert set(image.config["ExposedPorts"]) == {"8080/tcp", "50051/tcp", "9090/tcp"}
    first_line = (image.root / OURS / "bin/token-broker").read_text().splitlines()[0]
    assert first_line == "#!/opt/broker/bin/python"


def test_image_can_make_no_programs_and_fetch_none(image: Image) -> None:
    """Who gets in finds no tools there."""
    folders = [image.root / folder.lstrip("/") for folder in image.environment["PATH"].split(":")]
    programs = {program.name for folder in folders if folder.is_dir() for program in folder.iterdir()}
    assert "token-broker" in programs
    assert not programs & PROGRAMS_TO_MAKE_OTHERS
    assert not any((image.root / OURS).rglob("site-packages/pip"))
    assert not any((image.root / OURS).rglob("site-packages/hatchling"))


def test_image_tells_nothing_of_where_it_was_built(images: Workshop, image: Image) -> None:
    """The build is lent the way to a registry, which may be a secret; and a checkout may hold others."""
    told = [*images.lent, MARK]
    config = repr(image.facts)
    assert [word for word in told if word in config] == []
    files = [path for path in (image.root / OURS).rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(files) > len(STRAYS)
    assert [path for path in files if holds(path, told)] == []
    assert set(image.environment) == {"PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"}


def test_everything_is_compiled_by_content(image: Image) -> None:
    """A read-only root can't keep what is compiled at a start, and a copy may change a file's time."""
    site_packages = next((image.root / OURS).glob("lib/python3*/site-packages"))
    sources = [path for path in site_packages.rglob("*.py") if path.stat().st_size]
    compiled = {
        Path(importlib.util.source_from_cache(str(path))): path for path in site_packages.rglob("*.pyc")
    }
    lacking = [
        path for path in sources if path not in compiled and path.is_relative_to(site_packages / "broker")
    ]
    assert lacking == []
    assert {path.read_bytes()[4:8] for path in compiled.values()} == {UNCHECKED_HASH}


def test_image_is_small(image: Image) -> None:
    """It is pulled wherever a replica starts."""
    *_, ours = image.layer_bytes
    assert ours <= LAYER_BYTES_MAX


def test_same_sources_make_the_same_layer(images: Workshop, image: Image, context: Path) -> None:
    """So anybody can find out whether an image was made of the sources that it names."""
    for path in context.rglob("*"):
        os.utime(path, (0, 0))
    again = images.build("again", context, timestamp=BUILT_AT, version=__version__, revision=REVISION)
    assert again.layers == image.layers


@pytest.fixture(scope="module")
def root(images: Workshop, image: Image) -> Path:
    """The files that containers run on, one after the other: none can change them."""
    return images.writable_copy(image)


@pytest.fixture
async def contained(
    image: Image, root: Path, database: str, envoy: ServedEnvoy, tmp_path: Path
) -> AsyncIterator[Container]:
    """A container that has all a broker needs: a database, an Envoy, secrets as files, and a place for its records."""
    async with fault_proxy(target_of(database)) as postgres:
        settings = settings_for(
            proxied(database, postgres),
            envoy_url(envoy),
            HTTP_ADDRESS=f"127.0.0.1:{free_port()}",
            AUDIT_LOG=str(RECORDS / "audit.jsonl"),
            AUDIT_KEY=offline.audit_trails.generate_audit_key().reveal(),
            LOG_FORMAT="json",
        )
        yield container(image, root, tmp_path, settings, *SECRET_SETTINGS)


@pytest.mark.parametrize("arguments", [(), ("serve", "--workers", "2")], ids=["as it is", "two workers"])
async def test_broker_serves_from_the_image_as_nobody_on_a_read_only_root(
    contained: Container, envoy: ServedEnvoy, arguments: Sequence[str]
) -> None:
    """From a webhook to a token that is on record; where its user may write is what it was given for that."""
    async with contained.start(*arguments) as served:
        done = await envoy.install(INSTALL_ID, webhook_url=f"http://{served.started['http']}/envoy/webhooks")
        assert done["webhook"]["status"] == httpx.codes.OK
        assert await envoy.is_alive(await token_from(served.started["grpc"]))
        status = served.status()
        user = contained.image.config["User"].partition(":")[0]
        assert (set(status["Uid"].split()), status["Groups"]) == ({user}, "")
        assert (status["NoNewPrivs"], status["CapBnd"], status["CapEff"]) == (
            "1",
            NO_CAPABILITIES,
            NO_CAPABILITIES,
        )
    assert INSTALL_ID in (contained.records / "audit.jsonl").read_text()
    refused = await contained.run(["python", "-c", WRITE_EVERYWHERE])
    assert (refused.code, refused.out) == (0, f"{RECORDS}\n"), refused.err


@pytest.mark.parametrize("arguments", [(), ("serve", "--workers", "2")], ids=["as it is", "two workers"])
async def test_sigterm_ends_it_in_peace_though_it_is_process_1(
    contained: Container, arguments: Sequence[str]
) -> None:
    """The kernel spares a first process every signal that it does not handle: an engine would have to kill it."""
    async with contained.start(*arguments) as served:
        assert served.status()["NSpid"].split()[-1] == "1"
        os.kill(served.first, signal.SIGTERM)
        ended = await served.process.end()
    assert ended.code == 0, ended.err
    assert '"broker.stopped"' in ended.err


async def test_healthcheck_tells_a_ready_broker_from_none(contained: Container) -> None:
    """By it an engine restarts a broker, or sends it no callers."""
    how, *command = contained.image.config["Healthcheck"]["Test"]
    assert how == "CMD"
    async with contained.start():
        healthy = await contained.run(command)
        assert healthy.code == 0, healthy.err
    unhealthy = await contained.run(command)
    assert (unhealthy.code, unhealthy.err.count("\n")) == (1, 1)


WRITE_EVERYWHERE: Final = """
import os
for folder, _, _ in os.walk("/"):
    if not folder.startswith(("/proc", "/dev", "/sys")):
        try:
            open(os.path.join(folder, "written"), "x").close()
        except OSError:
            continue
        print(folder)
"""


async def token_from(address: str) -> str:
    """The install's token, from the broker there."""
    async with grpc.aio.insecure_channel(address) as channel:
        request = token_broker_pb2.GetTokenRequest(install_id=INSTALL_ID)
        tokens = token_broker_pb2_grpc.TokenBrokerStub(channel)
        return (await tokens.GetToken(request, timeout=CALL_SECONDS)).access_token


def free_port() -> int:
    """A port that nobody listens at now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def paths_in(root: Path) -> Iterator[Path]:
    """All that stands there, by its path inside."""
    for folder, folders, files in os.walk(root):
        inside = Path(folder).relative_to(root)
        yield from (inside / name for name in (*folders, *files))


def holds(file: Path, words: Sequence[str]) -> bool:
    """Whether one of the words stands in the file."""
    content = file.read_bytes()
    return any(word.encode() in content for word in words)
