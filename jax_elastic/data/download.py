"""CIFAR as TFDS makes it of the published archives, fetched where they are not there yet."""

import sys
import tempfile
from pathlib import Path
from typing import Any

from jax_elastic.data.without_tensorflow import able_to_prepare
from jax_elastic.errors import UsageError

DOWNLOADED = ("cifar10", "cifar100")  # each made of one archive
_ANSWER = 30.0  # seconds in which a server answers, or counts as silent


def download_and_prepare(builder: Any, file_format: str) -> None:
    """Prepares a set with its true builder; says so on standard error, for it takes minutes.

    An archive that was put into `downloads/manual` of the data directory is not fetched; TFDS
    compares its checksum with the published one, as after a download. Nor is one that TFDS has
    fetched before, which it trusts.

    Args:
      builder: of TFDS, of a set in `DOWNLOADED` that is not prepared.
      file_format: of the records.

    Raises:
      UsageError: the archive cannot be fetched, or is not the published one.
      OSError: nothing can be written, or another process has prepared the set meanwhile.
    """
    import requests
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

    ((url, archive),) = builder.url_infos.items()
    downloads = Path(builder.data_dir_root) / "downloads"
    by_hand = downloads / "manual" / archive.filename
    downloads.mkdir(parents=True, exist_ok=True)
    there = by_hand.exists() or _is_cached(builder.name, url, archive.checksum, downloads)
    _announce(builder, 0 if there else archive.size)
    try:
        if not there:
            _reach(url)
        # A folder of its own: processes that extract to one place remove each other's files.
        with tempfile.TemporaryDirectory(dir=downloads) as extracted, able_to_prepare():
            config = tfds.download.DownloadConfig(extract_dir=extracted)
            builder.download_and_prepare(file_format=file_format, download_config=config)
    except (requests.RequestException, tfds.download.DownloadError) as error:
        raise UsageError(
            f"{builder.name} cannot be downloaded from {url}: {error}",
            next_step=f"try again, or fetch that file elsewhere and put it at {by_hand}, or let "
            f"TFDS_DATA_DIR name a directory that holds {builder.name} prepared",
        ) from error
    except NonMatchingChecksumError as error:
        raise UsageError(
            f"{by_hand if by_hand.exists() else url} is not the published archive",
            f"{int(archive.size)} bytes with the SHA-256 {archive.checksum}",
            f"fetch {url} again" if by_hand.exists() else "try again",
        ) from error


def _announce(builder: Any, size: int) -> None:
    """One line on standard error; `size` is in bytes, and 0 where nothing is downloaded."""
    first = f"downloading {size / 1e6:.0f} MB, " if size else ""
    line = f"{builder.name}: {first}preparing it in {builder.data_dir}; takes minutes, once"
    print(line, file=sys.stderr, flush=True)


def _is_cached(name: str, url: str, checksum: str, downloads: Path) -> bool:
    """Whether TFDS has fetched a file before."""
    from tensorflow_datasets.core.download import resource

    file = resource.get_dl_fname(url, checksum)
    folders = (downloads / name, downloads)
    return any(resource.is_locally_cached(folder / file) for folder in folders)


def _reach(url: str) -> None:
    """Raises at once what TFDS, without a network, would raise after three minutes of trying."""
    import requests

    with requests.get(url, stream=True, timeout=_ANSWER) as answer:
        answer.raise_for_status()
