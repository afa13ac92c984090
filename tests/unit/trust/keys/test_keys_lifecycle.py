"""A key's states, rotation and deletion, and what may be done in each state."""

from __future__ import annotations

import itertools

import pytest
from keys_rig import ACCOUNT, OTHER, Rig

from outcrop.base.errors import InvariantError
from outcrop.trust.crypto.secret import Secret
from outcrop.trust.keys import KeyManager, KeyRefused, KeySpec, KeyState, KeyUsage, RotationKind
from outcrop.trust.keys.states import EDGES, require_edge, unusable

CONTEXT = {"department": "finance"}


def refusal(code: str) -> object:
    return pytest.raises(KeyRefused, check=lambda error: error.code == code)


def test_a_new_key_is_enabled_and_its_owner_finds_it(rig: Rig) -> None:
    key = rig.key()
    assert key.state is KeyState.ENABLED
    assert str(key.arn) == f"arn:aws:kms:us-east-1:{ACCOUNT}:key/{key.key_id}"
    for name in (key.key_id, str(key.arn)):
        assert rig.keys.find(name, ACCOUNT) == key
    assert rig.store.describe(key.master_name).current_version == 1


def test_what_is_missing_is_told_apart_from_what_is_foreign(rig: Rig) -> None:
    key = rig.key()
    missing = "12345678-1234-4234-8234-123456789012"
    for name in (missing, f"arn:aws:kms:us-east-1:{ACCOUNT}:key/{missing}", "mrk-1", "alias/none", "arn:aws:kms:x"):
        with refusal("NotFoundException"):
            rig.keys.find(name, ACCOUNT)
    with refusal("NotFoundException"):
        rig.keys.find(key.key_id, OTHER)  # an id alone means one's own account
    with refusal("AccessDeniedException"):
        rig.keys.find(f"arn:aws:kms:us-east-1:{OTHER}:key/{missing}", ACCOUNT)
    with refusal("AccessDeniedException"):
        rig.keys.find(str(key.arn).replace(ACCOUNT, OTHER), ACCOUNT)  # ours, under a foreign name
    with refusal("NotFoundException"):
        rig.keys.find(str(key.arn).replace("us-east-1", "us-west-2"), ACCOUNT)


@pytest.mark.parametrize(("source", "target"), list(itertools.product(KeyState, KeyState)))
def test_only_listed_edges_are_taken(source: KeyState, target: KeyState) -> None:
    if target in EDGES[source]:
        require_edge("arn", source, target)
    else:
        with refusal("KMSInvalidStateException"):
            require_edge("arn", source, target)


def test_an_enabled_key_is_not_refused() -> None:
    with pytest.raises(InvariantError):
        unusable("arn", KeyState.ENABLED)


def test_a_disabled_key_does_nothing_until_it_is_enabled(rig: Rig) -> None:
    key = rig.key()
    sealed = rig.keys.ciphers.encrypt(key.key_id, Secret("attack at dawn"), CONTEXT)
    rig.keys.lifecycle.disable(key.key_id)
    for use in (
        lambda: rig.keys.ciphers.encrypt(key.key_id, Secret("x"), {}),
        lambda: rig.keys.ciphers.data_key(key.key_id, 32, {}),
        lambda: rig.keys.ciphers.decrypt(sealed, CONTEXT),
        lambda: rig.keys.lifecycle.rotate(key.key_id),
        lambda: rig.keys.lifecycle.set_rotation(key.key_id, 365),
    ):
        with refusal("DisabledException"):
            use()
    rig.keys.lifecycle.enable(key.key_id)
    assert rig.keys.ciphers.decrypt(sealed, CONTEXT).plaintext == Secret("attack at dawn")


def test_another_process_sees_a_disabled_key_at_once(rig: Rig) -> None:
    key, there = rig.key(), rig.another_process()
    sealed = there.ciphers.encrypt(key.key_id, Secret("x"), {})
    rig.keys.lifecycle.disable(key.key_id)
    with refusal("DisabledException"):
        there.ciphers.decrypt(sealed, {})
    rig.keys.lifecycle.enable(key.key_id)
    assert there.ciphers.decrypt(sealed, {}).plaintext == Secret("x")


def test_old_ciphertexts_open_after_rotations_and_new_ones_use_the_new_version(rig: Rig) -> None:
    key = rig.key()
    sealed = []
    for version in range(1, 5):
        blob = rig.keys.ciphers.encrypt(key.key_id, Secret(f"text {version}"), CONTEXT)
        assert rig.keys.ciphers.version_of(blob) == version
        sealed.append(blob)
        rig.keys.lifecycle.rotate(key.key_id)
    for version, blob in enumerate(sealed, 1):
        opened = rig.keys.ciphers.decrypt(blob, CONTEXT)
        assert (opened.plaintext, opened.version) == (Secret(f"text {version}"), version)
    kinds = [rotation.kind for rotation in rig.keys.rows.rotations(key.key_id)]
    assert kinds == [None, *[RotationKind.ON_DEMAND] * 4]


def test_rotation_on_demand_has_its_limit(rig: Rig) -> None:
    key = rig.key()
    for _ in range(25):
        rig.keys.lifecycle.rotate(key.key_id)
    with refusal("LimitExceededException"):
        rig.keys.lifecycle.rotate(key.key_id)
    assert rig.store.describe(key.master_name).current_version == 26


def test_yearly_rotation_comes_when_it_is_due_and_not_before(rig: Rig) -> None:
    key = rig.key()
    rig.keys.lifecycle.set_rotation(key.key_id, 365)
    rig.wait(days=364)
    assert rig.keys.reap(rig.clock.now()) == []
    rig.wait(days=1)
    assert [(done.key_id, done.action) for done in rig.keys.reap(rig.clock.now())] == [(key.key_id, "rotated")]
    assert rig.keys.reap(rig.clock.now()) == []  # once a year
    rotation = rig.keys.rows.rotations(key.key_id)[-1]
    assert (rotation.version, rotation.kind) == (2, RotationKind.AUTOMATIC)
    rig.keys.lifecycle.set_rotation(key.key_id, None)
    rig.wait(days=800)
    assert rig.keys.reap(rig.clock.now()) == []


@pytest.mark.parametrize("days", [89, 2561])
def test_rotation_periods_out_of_bounds_are_refused(rig: Rig, days: int) -> None:
    key = rig.key()
    with refusal("ValidationException"):
        rig.keys.lifecycle.set_rotation(key.key_id, days)


def test_deletion_waits_destroys_and_nothing_opens_again(rig: Rig) -> None:
    key, kept = rig.key(), rig.key()
    sealed = rig.keys.ciphers.encrypt(key.key_id, Secret("x"), {})
    stays = rig.keys.ciphers.encrypt(kept.key_id, Secret("y"), {})
    rig.keys.aliases.create(ACCOUNT, "alias/gone", key)
    wrapped = rig.store.wrap(key.master_name, Secret("z"), {})
    assert rig.keys.lifecycle.schedule_deletion(key.key_id, 7).state is KeyState.PENDING_DELETION
    with refusal("KMSInvalidStateException"):
        rig.keys.ciphers.decrypt(sealed, {})
    rig.wait(days=6, hours=23)
    assert rig.keys.reap(rig.clock.now()) == []
    assert key.master_name in rig.store.names()
    rig.wait(hours=1)
    assert [done.action for done in rig.keys.reap(rig.clock.now())] == ["destroyed"]
    assert key.master_name not in rig.store.names()
    with refusal("AccessDeniedException"):
        rig.keys.ciphers.decrypt(sealed, {})
    for name in (key.key_id, "alias/gone"):
        with refusal("NotFoundException"):
            rig.keys.find(name, ACCOUNT)
    # A key of the same name made again holds other material: the wrapping is lost for good.
    rig.store.create(key.master_name)
    with pytest.raises(Exception, match="does not open"):
        rig.store.unwrap(key.master_name, wrapped, {})
    assert rig.keys.ciphers.decrypt(stays, {}).plaintext == Secret("y")
    for change in (rig.keys.lifecycle.enable, rig.keys.lifecycle.cancel_deletion, rig.keys.lifecycle.disable):
        with refusal("NotFoundException"):
            change(key.key_id)


def test_a_deletion_can_be_cancelled_and_leaves_the_key_disabled(rig: Rig) -> None:
    key = rig.key()
    sealed = rig.keys.ciphers.encrypt(key.key_id, Secret("x"), {})
    with refusal("KMSInvalidStateException"):
        rig.keys.lifecycle.cancel_deletion(key.key_id)
    rig.keys.lifecycle.schedule_deletion(key.key_id, 30)
    for change in (rig.keys.lifecycle.enable, rig.keys.lifecycle.disable, rig.keys.lifecycle.schedule_deletion):
        with refusal("KMSInvalidStateException"):
            change(key.key_id)
    rig.keys.lifecycle.cancel_deletion(key.key_id)
    rig.wait(days=31)
    assert rig.keys.reap(rig.clock.now()) == []
    with refusal("DisabledException"):
        rig.keys.ciphers.decrypt(sealed, {})
    rig.keys.lifecycle.enable(key.key_id)
    assert rig.keys.ciphers.decrypt(sealed, {}).plaintext == Secret("x")


@pytest.mark.parametrize("days", [6, 31])
def test_a_waiting_time_out_of_bounds_is_refused(rig: Rig, days: int) -> None:
    key = rig.key()
    with refusal("ValidationException"):
        rig.keys.lifecycle.schedule_deletion(key.key_id, days)
    assert rig.keys.find(key.key_id, ACCOUNT).state is KeyState.ENABLED


def test_the_default_key_is_made_once_for_each_account_and_is_not_the_owners_to_change(rig: Rig) -> None:
    key = rig.keys.default_key(ACCOUNT)
    assert rig.another_process().default_key(ACCOUNT) == key == rig.keys.find("alias/aws/bedrock", ACCOUNT)
    assert rig.keys.default_key(OTHER).key_id != key.key_id
    assert (key.manager, key.rotation_days) == (KeyManager.AWS, 365)
    for change in (rig.keys.lifecycle.disable, rig.keys.lifecycle.schedule_deletion, rig.keys.lifecycle.rotate):
        with refusal("AccessDeniedException"):
            change(key.key_id)
    with refusal("UnsupportedOperationException"):
        rig.keys.policies.put(key, rig.keys.policies.initial(ACCOUNT), None)
    rig.wait(days=366)
    assert [done.action for done in rig.keys.reap(rig.clock.now())] == ["rotated", "rotated"]


def test_hmac_keys_authenticate_messages_and_do_nothing_else(rig: Rig) -> None:
    key, other = rig.key(spec=KeySpec.HMAC_256), rig.key(spec=KeySpec.HMAC_256)
    assert key.usage is KeyUsage.MAC
    mac = rig.keys.ciphers.mac(key.key_id, b"message")
    assert len(mac) == 32
    rig.keys.ciphers.verify_mac(key.key_id, b"message", mac)
    for key_id, message in ((key.key_id, b"massage"), (other.key_id, b"message")):
        with refusal("KMSInvalidMacException"):
            rig.keys.ciphers.verify_mac(key_id, message, mac)
    with refusal("InvalidKeyUsageException"):
        rig.keys.ciphers.encrypt(key.key_id, Secret("x"), {})
    with refusal("InvalidKeyUsageException"):
        rig.keys.ciphers.mac(rig.key().key_id, b"message")
    with refusal("UnsupportedOperationException"):
        rig.keys.lifecycle.rotate(key.key_id)


def test_tags_are_kept_and_secrets_are_no_tags(rig: Rig) -> None:
    key = rig.key()
    rig.keys.lifecycle.tag(key.key_id, {"team": "a", "cost": "1"})
    rig.keys.lifecycle.tag(key.key_id, {"team": "b"})
    rig.keys.lifecycle.untag(key.key_id, ["cost", "never"])
    assert rig.keys.rows.tags(key.key_id) == {"team": "b"}
    for tags in ({"aws:x": "1"}, {"": "1"}, {"key": "AKIA" + "A" * 16}, {"k": "bedrock-api-key-abc"}):
        with refusal("TagException"):
            rig.keys.lifecycle.tag(key.key_id, tags)
    with refusal("LimitExceededException"):
        rig.keys.lifecycle.tag(key.key_id, {f"t{index}": "" for index in range(50)})
    assert rig.keys.rows.tags(key.key_id) == {"team": "b"}
