"""Protects: no damage to a published file is silent. A flipped bit is detected, or every value that a reader returns
is unchanged; a file cut anywhere is refused, and what stands before the cut can be saved."""

from __future__ import annotations

import numpy as np
import pytest

from cxrfeat._store import EmbeddingFile
from cxrfeat._store.repair import repair
from cxrfeat._store.verify import verify
from cxrfeat.errors import EmbeddingFileError


@pytest.fixture
def sound(tmp_path, worker):
    path = tmp_path / "sound.h5"
    worker.extract(path, worker.Study(700))
    return path


def values(path):
    """All that a reader returns."""
    with EmbeddingFile.open(path) as file:
        return (
            file.recipe,
            file.provenance,
            file.image_ids.tolist(),
            file.image_sha256().tobytes(),
            file.failures().to_dict("records"),
            file.read(passes=range(file.passes)).tobytes(),
        )


def rows(path):
    with EmbeddingFile.open(path) as file:
        return dict(zip(file.image_ids.tolist(), np.moveaxis(file.read(passes=(0, 1)), 1, 0), strict=True))


def flip_bits(count, sound, tmp_path, told, fix):
    data, wanted, all_rows = sound.read_bytes(), values(sound), rows(sound)
    rng = np.random.default_rng(0)
    path = tmp_path / "flipped.h5"
    detected = harmless = repaired = saved = 0
    for number, bit in enumerate(rng.choice(8 * len(data), count, replace=False).tolist()):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        if verify(path).ok:
            assert values(path) == wanted, f"bit {bit} was not found"
            harmless += 1
            continue
        detected += 1
        if number % fix == 0:
            found = repair(path)
            assert verify(path).ok
            kept = rows(path)
            assert all((kept[i] == all_rows[i]).all() for i in kept)
            assert found.kept + found.lost == len(all_rows)
            assert found.lost <= 256  # one block at most
            repaired, saved = repaired + 1, saved + found.kept
    share = saved / max(1, repaired * len(all_rows))
    told(
        f"{count} single-bit flips over {len(data):,} bytes: {detected} detected, {harmless} harmless (what is read "
        f"was the same), 0 silent; {repaired} of the damaged files repaired, {share:.1%} of their rows kept"
    )


def test_some_bits_flipped(sound, tmp_path, told):
    flip_bits(120, sound, tmp_path, told, fix=10)


@pytest.mark.soak
def test_a_thousand_bits_flipped(sound, tmp_path, told):
    flip_bits(1000, sound, tmp_path, told, fix=1)


def cut(percents, sound, tmp_path, told):
    data, all_rows = sound.read_bytes(), rows(sound)
    path = tmp_path / "cut.h5"
    saved = []
    for percent in percents:
        path.write_bytes(data[: len(data) * percent // 100])
        with pytest.raises(EmbeddingFileError) as refusal:
            EmbeddingFile.open(path)
        assert str(refusal.value).endswith(".")
        assert not verify(path).ok
        try:
            repair(path)
        except EmbeddingFileError:
            assert len(path.read_bytes()) == len(data) * percent // 100  # as it was
            continue
        kept = rows(path)
        assert all((kept[i] == all_rows[i]).all() for i in kept)
        saved.append(percent)
    told(
        f"cut at {len(percents)} lengths: all refused with a sentence; from {min(saved)} % of the length on, repair "
        f"saved rows ({len(saved)} of the files)"
    )


def test_cut_at_some_lengths(sound, tmp_path, told):
    cut(range(0, 100, 7), sound, tmp_path, told)


@pytest.mark.soak
def test_cut_at_every_percent(sound, tmp_path, told):
    cut(range(100), sound, tmp_path, told)


def test_bytes_after_the_end_are_harmless(sound):
    wanted = values(sound)
    with sound.open("ab") as file:
        file.write(b"\0" * 100)
    assert values(sound) == wanted
