"""Chip files of the user's own: what they inherit, what they replace, and what is refused with which words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from outcrop.base.errors import NotFound, UserError
from outcrop.silicon import chip

HEAD = 'name = "mine"\ntitle = "A chip of mine"\nextends = "trn2"\n\n[sources]\nwhat-if = "an assumption of ours"\n'


def written(folder: Path, text: str, name: str = "mine.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def figure(value: str = "320", unit: str = "KiB", source: str = "what-if", confidence: str = "estimated") -> str:
    return f'{{ value = {value}, unit = "{unit}", source = "{source}", confidence = "{confidence}", note = "assumed" }}'


def test_a_hypothetical_chip_replaces_what_it_says_and_keeps_the_rest(tmp_path: Path):
    path = written(tmp_path, HEAD + f"[core.sbuf]\nbytes_per_partition = {figure()}\n")
    mine, trn2 = chip.load_file(path), chip.load("trn2")
    replaced = mine.core.sbuf.bytes_per_partition
    assert (replaced.int_in("KiB"), replaced.source) == (320, "an assumption of ours")
    assert replaced.confidence is chip.Confidence.ESTIMATED
    assert mine.core.sbuf.partitions == trn2.core.sbuf.partitions
    assert mine.core.tensor == trn2.core.tensor
    assert (mine.name, mine.path, mine.extends) == ("mine", path, "trn2")


def test_sums_follow_the_replaced_parts_and_documented_totals_are_not_inherited(tmp_path: Path):
    mine = chip.load_file(written(tmp_path, HEAD + f"[core.sbuf]\nbytes_per_partition = {figure()}\n"))
    totals = {total.key: total for total in chip.totals(mine)}
    assert totals["core.sbuf_capacity"].computed.int_in("MiB") == 40
    assert totals["device.sbuf_capacity"].computed.int_in("MiB") == 320
    assert not [key for key, total in totals.items() if total.documented]


def test_machines_are_not_inherited_and_can_be_given(tmp_path: Path):
    assert not chip.load_file(written(tmp_path, HEAD)).instances
    path = written(tmp_path, HEAD + f'[instances."mine.1"]\ndevices = {figure("4", "count")}\n')
    assert chip.load_file(path).instances["mine.1"].devices.value == 4


def test_a_table_of_figures_gains_and_replaces_single_names(tmp_path: Path):
    mine = chip.load_file(written(tmp_path, HEAD + f"[core.tensor.rate]\nfp4 = {figure('8', 'ratio')}\n"))
    assert set(mine.core.tensor.rate) == {*chip.load("trn2").core.tensor.rate, "fp4"}
    assert mine.core.tensor.rate["fp4"].value == 8


def test_a_file_extends_a_file_beside_it_and_errors_name_the_file_that_is_wrong(tmp_path: Path):
    base = HEAD + f"[core.sbuf]\nbytes_per_partition = {figure()}\n"
    written(tmp_path, base.replace('"mine"', '"base"'), "base.toml")
    second = 'name = "second"\ntitle = "Second"\nextends = "base.toml"\n'
    assert chip.load_file(written(tmp_path, second)).core.sbuf.bytes_per_partition.value == 320
    written(tmp_path, base.replace('"mine"', '"base"').replace("320", "-1"), "base.toml")
    with pytest.raises(UserError, match=r"base\.toml: core\.sbuf\.bytes_per_partition: the value is -1 KiB"):
        chip.load_file(tmp_path / "mine.toml")


def test_a_chip_may_stand_alone(tmp_path: Path):
    text = (Path(chip.__file__).parent / "data" / "trn2.toml").read_text(encoding="utf-8")
    alone = chip.load_file(written(tmp_path, text.replace('name = "trn2"', 'name = "alone"')))
    assert alone.core == chip.load("trn2").core
    assert alone.extends == ""


SBUF = "[core.sbuf]\nbytes_per_partition = "
REFUSED = {
    "an unknown key": (HEAD + f"[core.sbuf]\nbytes_per_row = {figure()}\n", "core.sbuf.bytes_per_row: this key is not"),
    "an unknown part": (HEAD + f"[core.l2]\nsize = {figure()}\n", "core.l2: this key is not known"),
    "an unknown top key": (HEAD.replace("title", "color = 1\ntitle"), "color: this key is not known"),
    "an unknown figure key": (HEAD + SBUF + figure().replace("note", "remark"), "bytes_per_partition.remark: this key"),
    "no unit": (HEAD + SBUF + '{ value = 1, source = "what-if", confidence = "estimated" }', "the figure has no unit"),
    "no value": (HEAD + SBUF + '{ unit = "B", source = "what-if", confidence = "estimated" }', "figure has no value"),
    "no source": (HEAD + SBUF + '{ value = 1, unit = "B", confidence = "estimated" }', "the figure has no source"),
    "no confidence": (HEAD + SBUF + '{ value = 1, unit = "B", source = "what-if" }', "the figure has no confidence"),
    "a bare number": (HEAD + SBUF + "320", "here is 320 where a figure belongs"),
    "an unknown unit": (HEAD + SBUF + figure(unit="kb"), "the unit 'kb' is not known. Use one of: bit, B, KiB"),
    "a wrong dimension": (HEAD + SBUF + figure(unit="GHz"), "'GHz' measures frequency, and this is a size"),
    "a negative value": (HEAD + SBUF + figure("-3"), "the value is -3 KiB"),
    "zero": (HEAD + SBUF + figure("0"), "the value is 0 KiB. Give a number above zero"),
    "not a number": (HEAD + SBUF + figure("nan"), "the value is nan KiB"),
    "infinity": (HEAD + SBUF + figure("inf"), "the value is inf KiB"),
    "a huge integer": (HEAD + SBUF + figure("1" + "0" * 400), "Give a number above zero and below 1e+30"),
    "an absurd integer": (HEAD + SBUF + figure("1" * 5000), "is not TOML"),
    "endless nesting": ("x = " + "[" * 100_000, "is not TOML"),
    "a date": (HEAD + SBUF + figure("2026-11-22"), "not a number"),
    "a text": (HEAD + SBUF + figure('"320"'), "the value is '320', not a number"),
    "a boolean": (HEAD + SBUF + figure("true"), "the value is True, not a number"),
    "half a bank": (HEAD + "[core.psum]\nbanks = " + figure("7.5", "count"), "the value is 7.5, and a count is whole"),
    "an unknown confidence": (
        HEAD + SBUF + figure(confidence="sure"),
        "the confidence 'sure' is not known. Use one of",
    ),
    "an unknown source": (HEAD + SBUF + figure(source="hearsay"), "the source 'hearsay' is not in [sources]"),
    "an estimate without a note": (HEAD + SBUF + figure().replace(', note = "assumed"', ""), "says how in a note"),
    "a table for a name": (HEAD + "[core.name]\nx = 1\n", "core.name: here is {'x': 1} where a text belongs"),
    "a name for a table": (HEAD.replace("title", 'core = "x"\ntitle'), "core: here is 'x' where a table belongs"),
    "an empty title": (HEAD.replace("A chip of mine", " "), "title: here is ' ' where a text belongs"),
    "no name": (HEAD.replace('name = "mine"', ""), "name: here is None where a chip's name belongs"),
    "a name with blanks": (HEAD.replace('"mine"', '"my chip"'), "name: here is 'my chip'"),
    "a name that is taken": (HEAD.replace('"mine"', '"trn2"'), "'trn2' is the name of a chip that comes with Outcrop"),
    "extends of no text": (HEAD.replace('"trn2"', "2"), "extends: here is 2, not a name"),
    "sources of no text": (HEAD.replace('"an assumption of ours"', "1"), "sources: here is {'what-if': 1}"),
    "another text for a source": (HEAD + 'guide-v3 = "mine"\n', "sources.guide-v3: here is another text"),
    "aliases of no list": (HEAD.replace("title", 'aliases = "x"\ntitle'), "aliases: here is 'x', not a list"),
    "no toml": ("name = \n", "is not TOML"),
    "missing parts": ('name = "mine"\ntitle = "Mine"\n', "core: this is missing and every chip needs it"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_file_is_refused_with_the_file_the_key_and_what_was_seen(case: str, tmp_path: Path):
    text, wanted = REFUSED[case]
    path = written(tmp_path, text)
    with pytest.raises(UserError, match=re.escape(wanted)) as refused:
        chip.load_file(path)
    assert str(path) in str(refused.value)
    assert refused.value.remedy


@pytest.mark.parametrize("chain", [["a"], ["a", "b"], ["a", "b", "c"]])
def test_files_that_extend_each_other_in_a_circle_are_refused(chain: list[str], tmp_path: Path):
    for name, following in zip(chain, [*chain[1:], chain[0]], strict=True):
        written(tmp_path, f'name = "{name}"\ntitle = "T"\nextends = "{following}.toml"\n', f"{name}.toml")
    with pytest.raises(UserError, match=r"circle: a\.toml -> .*a\.toml"):
        chip.load_file(tmp_path / "a.toml")


def test_a_missing_file_and_a_missing_base_are_told(tmp_path: Path):
    with pytest.raises(NotFound, match=r"none\.toml cannot be read"):
        chip.load_file(tmp_path / "none.toml")
    with pytest.raises(NotFound, match=r"extends: 'trn9' is neither a known chip nor a file.*inf2, trn1"):
        chip.load_file(written(tmp_path, HEAD.replace('"trn2"', '"trn9"')))


def test_a_file_that_is_no_chip_file_by_its_size_is_not_parsed(tmp_path: Path):
    with pytest.raises(UserError, match="larger than"):
        chip.load_file(written(tmp_path, "#" * (1 << 20) + "\n"))
