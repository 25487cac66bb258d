"""Damage is found, whatever its kind, never read as data, and made good."""

import json
import re

import numpy as np
import pytest

from tests.bank.studies import TARGETS, make, same, study
from whence.bank import BankError
from whence.bank._files import checksum, encode


def flip(path, position=3, bit=4):
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-7])


def swap_with_another_block(path):
    """A whole and valid chunk, but of other rows."""
    path.write_bytes(path.with_name(path.name.replace("2", "3", 1)).read_bytes())


DAMAGE = {
    "bit flipped in the outputs": ("margin/c.2.0", flip, "margin: its checksum does not match"),
    "outputs cut short": ("margin/c.2.0", truncate, "margin: .* bytes instead of"),
    "outputs missing": ("margin/c.2.0", lambda path: path.unlink(), "margin: the chunk is missing"),
    "outputs of another block": (
        "margin/c.2.0",
        swap_with_another_block,
        "margin: whole, but not what was committed",
    ),
    "bit flipped in the masks": ("masks/c.2.0", flip, "masks: its checksum does not match"),
    "ok cut short": ("ok/c.2", truncate, "ok: .* bytes instead of"),
    "marker cut short": ("commits/000002.json", truncate, "its marker cannot be read"),
    "marker of another block": (
        "commits/000002.json",
        swap_with_another_block,
        "its marker is another block's",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_found_and_made_good(tmp_path, kind):
    bank, whole = make(tmp_path / "b.zarr"), make(tmp_path / "whole.zarr")
    name, damage, reason = DAMAGE[kind]
    if "another block" in kind:
        (bank.path / name).write_bytes((bank.path / name.replace("2", "3")).read_bytes())
    else:
        damage(bank.path / name)
    found = bank.verify()
    assert [d.block for d in found.damaged] == [2]
    assert found.damaged[0].rows == (8, 12)
    assert re.search(reason, found.damaged[0].reason)
    assert bank.remake(study()) == [2]
    assert bank.verify().ok
    assert same(bank, whole)


@pytest.mark.parametrize("damage", [flip, truncate, lambda path: path.unlink()])
@pytest.mark.parametrize("name", ["margin/c.2.0", "masks/c.2.0"])
def test_damaged_rows_are_never_read_as_data(tmp_path, damage, name):
    bank = make(tmp_path / "b.zarr")
    damage(bank.path / name)
    with pytest.raises(BankError, match=r"block 2 of .* is damaged .*whence bank verify"):
        bank.select()
    assert bank.outputs_of(rows=range(8)).shape == (8, TARGETS)  # the other blocks can still be read


def test_masks_that_the_plan_does_not_draw_are_found(tmp_path):
    """Also when every checksum fits, as after a bug or a forgery."""
    bank = make(tmp_path / "b.zarr")
    masks = np.array(bank._reader.chunk("masks", 1))
    masks[0, 0] ^= 1
    (bank.path / "masks" / "c.1.0").write_bytes(encode(masks))
    marker = bank.path / "commits" / "000001.json"
    content = json.loads(marker.read_text())
    content["checksums"]["masks"] = checksum(masks)
    marker.write_text(json.dumps(content))
    assert [d.reason for d in bank.verify().damaged] == ["masks: not the ones that the plan draws"]


def test_discarding_uncommits_and_an_intact_bank_needs_no_remake(tmp_path):
    bank = make(tmp_path / "b.zarr")
    assert str(bank.verify()) == "24 rows in 6 blocks are whole."
    assert bank.remake(study()) == []
    bank.discard([1, 3])
    assert bank.missing_blocks() == [1, 3]
    assert bank.rows_committed == 16


def test_damage_in_the_plans_columns_is_found_and_rewritten(tmp_path):
    bank = make(tmp_path / "b.zarr")
    flip(bank.path / "seed" / "c.0", 100)
    assert ["seed" in d.reason for d in bank.verify().damaged] == [True]
    bank.remake(study())
    assert bank.verify().ok
