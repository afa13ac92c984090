"""The port of objects: what both implementations promise."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from objects_rig import ACCOUNT, OTHER, START, objects_rig
from outcrop.base.clock import FakeClock
from outcrop.base.errors import AlreadyExists, NotFound, StillInUse, UserError
from outcrop.service.objects import MemoryObjects, ObjectStore, check_key

KEYS = ["a", "a/b", "a/c", "ab", "b", "\u00e4", "\u00e4/\U0001f5a5", "\U0001f5a5", "\uffff"]


@pytest.fixture(params=["sealed", "memory"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectStore]:
    if request.param == "memory":
        store = MemoryObjects(FakeClock(START))
        store.create_bucket("things", ACCOUNT)
        yield store
        return
    with objects_rig(tmp_path / "data") as rig:
        rig.objects.create_bucket("things", ACCOUNT)
        yield rig.objects


@pytest.mark.parametrize("content", [b"", b"x", b"y" * 65_536, b"z" * 3_000_001])
def test_what_is_put_is_read_whole_and_in_parts(objects: ObjectStore, content: bytes):
    info = objects.put("things", "k", content, ACCOUNT, content_type="text/plain")
    with objects.get("things", "k", ACCOUNT) as reader:
        assert b"".join(reader.chunks()) == content
        assert reader.read(len(content) // 2, 10) == content[len(content) // 2 :][:10]
        assert reader.info == info == objects.head("things", "k", ACCOUNT)
    assert (info.size_bytes, info.content_type, info.modified_at) == (len(content), "text/plain", START)


def test_a_stream_is_put_like_bytes(objects: ObjectStore):
    content = bytes(range(256)) * 9000
    assert objects.put("things", "k", io.BytesIO(content), ACCOUNT).size_bytes == len(content)
    with objects.get("things", "k", ACCOUNT) as reader:
        assert b"".join(reader.chunks()) == content


def test_a_put_replaces_and_its_etag_changes_even_for_the_same_content(objects: ObjectStore):
    first = objects.put("things", "k", b"same", ACCOUNT)
    with objects.get("things", "k", ACCOUNT) as before:
        second = objects.put("things", "k", b"same", ACCOUNT)
        assert b"".join(before.chunks()) == b"same"
    assert first.etag != second.etag
    assert [one.etag for one in objects.list("things", ACCOUNT)] == [second.etag]


def test_a_deleted_object_is_gone_and_deleting_it_again_says_so(objects: ObjectStore):
    objects.put("things", "k", b"x", ACCOUNT)
    assert objects.delete("things", "k", ACCOUNT)
    assert not objects.delete("things", "k", ACCOUNT)
    for ask in (objects.head, objects.get):
        with pytest.raises(NotFound, match="no object"):
            ask("things", "k", ACCOUNT)


def test_objects_are_listed_by_their_keys_bytes_in_pages_and_by_prefix(objects: ObjectStore):
    for key in reversed(KEYS):
        objects.put("things", key, b"", ACCOUNT)
    ordered = sorted(KEYS, key=str.encode)
    assert [one.key for one in objects.list("things", ACCOUNT)] == ordered
    assert [one.key for one in objects.list("things", ACCOUNT, "a")] == ["a", "a/b", "a/c", "ab"]
    assert [one.key for one in objects.list("things", ACCOUNT, "a/", "a/b")] == ["a/c"]
    assert [one.key for one in objects.list("things", ACCOUNT, "\U0001f5a5")] == ["\U0001f5a5"]
    assert objects.list("things", ACCOUNT, "a/b/") == []
    pages, after = [], ""
    while page := objects.list("things", ACCOUNT, after=after, limit=2):
        pages += page
        after = page[-1].key
    assert [one.key for one in pages] == ordered


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8), max_size=12), st.text("ab/"))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_any_prefix_finds_what_begins_with_it_and_nothing_else(keys: list[str], prefix: str):
    store = MemoryObjects(FakeClock(START))
    store.create_bucket("things", ACCOUNT)
    for key in keys:
        store.put("things", key, b"", ACCOUNT)
    wanted = sorted({key for key in keys if key.startswith(prefix)}, key=str.encode)
    assert [one.key for one in store.list("things", ACCOUNT, prefix)] == wanted


def test_another_accounts_bucket_is_told_as_one_that_does_not_exist(objects: ObjectStore):
    objects.put("things", "k", b"x", ACCOUNT)
    actions = (
        lambda name: objects.bucket(name, OTHER),
        lambda name: objects.put(name, "k", b"y", OTHER),
        lambda name: objects.head(name, "k", OTHER),
        lambda name: objects.get(name, "k", OTHER),
        lambda name: objects.list(name, OTHER),
        lambda name: objects.delete(name, "k", OTHER),
        lambda name: objects.delete_bucket(name, OTHER),
    )
    for act in actions:
        texts = []
        for name in ("things", "absent"):
            with pytest.raises(NotFound) as raised:
                act(name)
            texts.append(str(raised.value).replace(name, "NAME"))
        assert texts[0] == texts[1]
    with objects.get("things", "k", ACCOUNT) as reader:
        assert reader.read(0, 9) == b"x"


def test_bucket_names_are_taken_for_everybody_and_a_full_bucket_stays(objects: ObjectStore):
    with pytest.raises(AlreadyExists):
        objects.create_bucket("things", OTHER)
    objects.create_bucket("others", OTHER)
    assert [bucket.name for bucket in objects.buckets(OTHER)] == ["others"]
    objects.put("things", "k", b"", ACCOUNT)
    with pytest.raises(StillInUse):
        objects.delete_bucket("things", ACCOUNT)
    objects.delete("things", "k", ACCOUNT)
    objects.delete_bucket("things", ACCOUNT)
    assert objects.buckets(ACCOUNT) == []


@pytest.mark.parametrize(
    "name",
    ["", "ab", "a" * 64, "Things", "th ings", "-ab", "ab-", "a..b", "../ab", "xn--abc", "a/b", "abc\n", "my-s3alias"],
)
def test_names_that_no_bucket_may_have_are_refused(objects: ObjectStore, name: str):
    with pytest.raises(UserError, match="name for a bucket"):
        objects.create_bucket(name, ACCOUNT)


def test_keys_have_1_to_1024_bytes(objects: ObjectStore):
    longest = "\u00e4" * 512
    objects.put("things", longest, b"", ACCOUNT)
    assert objects.head("things", longest, ACCOUNT).key == longest
    for key in ("", longest + "a", "\ud800"):
        with pytest.raises(UserError):
            check_key(key)
        with pytest.raises(UserError):
            objects.put("things", key, b"", ACCOUNT)


@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_a_page_has_1_to_1000_objects(objects: ObjectStore, limit: int):
    with pytest.raises(UserError):
        objects.list("things", ACCOUNT, limit=limit)
