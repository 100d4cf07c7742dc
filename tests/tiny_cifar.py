"""CIFAR's published archives in small: their names and layout, and a few random images."""

import hashlib
import io
import tarfile

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.checksums import UrlInfo

FINE = {
    "cifar10": [f"class {number}" for number in range(10)],
    "cifar100": [f"fine {number}" for number in range(100)],
}
COARSE = [f"coarse {number}" for number in range(20)]
IMAGES = 2  # in each file of records


def records(name):
    """File -> (IMAGES, labels + 3072) uint8: coarse label, fine label, then the colours' planes."""
    batches = [f"data_batch_{number}.bin" for number in range(1, 6)]
    files = [*batches, "test_batch.bin"] if name == "cifar10" else ["train.bin", "test.bin"]
    numbers = np.random.default_rng(0)
    kinds = [len(FINE[name])] if name == "cifar10" else [len(COARSE), len(FINE[name])]
    return {
        file: np.concatenate(
            [
                *(numbers.integers(kind, size=(IMAGES, 1)) for kind in kinds),
                numbers.integers(256, size=(IMAGES, 3072)),
            ],
            axis=1,
        ).astype(np.uint8)
        for file in files
    }


def originals(name, split):
    """(images (N, 32, 32, 3), labels (N, levels), fine first) of a split, in the files' order."""
    rows = np.concatenate(
        [r for file, r in records(name).items() if ("test" in file) == (split == "test")]
    )
    images = rows[:, -3072:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return images, rows[:, :-3072][:, ::-1]


def archive(name):
    """The bytes of the archive."""
    if name == "cifar10":
        folder, names = "cifar-10-batches-bin", {"batches.meta.txt": FINE[name]}
    else:
        folder = "cifar-100-binary"
        names = {"fine_label_names.txt": FINE[name], "coarse_label_names.txt": COARSE}
    members = {file: rows.tobytes() for file, rows in records(name).items()}
    members |= {file: ("\n".join(lines) + "\n\n").encode() for file, lines in names.items()}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for file, content in members.items():
            member = tarfile.TarInfo(f"{folder}/{file}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def put(name, data_dir, monkeypatch):
    """Puts the archive where users put the published one, and has TFDS expect its checksum."""
    content = archive(name)
    urls = tfds.builder(name, data_dir=data_dir).url_infos
    ((url, published),) = urls.items()
    file = data_dir / "downloads" / "manual" / published.filename
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    checksum = hashlib.sha256(content).hexdigest()
    monkeypatch.setitem(urls, url, UrlInfo(len(content), checksum, published.filename))
