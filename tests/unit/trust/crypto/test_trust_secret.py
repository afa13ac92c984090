"""A secret does not show itself."""

import copy
import json
import logging
import pickle
from dataclasses import asdict, dataclass

import pytest

from outcrop.trust.crypto.secret import Secret

CANARY = "canary-4711"


@dataclass(frozen=True)
class Holder:
    name: str
    secret: Secret


def test_no_form_of_text_shows_it(caplog: pytest.LogCaptureFixture):
    secret = Secret(CANARY)
    holder = Holder("x", secret)
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("test").warning("%s %r", secret, holder)
    texts = [
        repr(secret),
        str(secret),
        f"{secret} {secret!r} {secret:>40}",
        "%s %r" % (secret, secret),  # noqa: UP031
        repr(holder),
        repr(asdict(holder)),
        repr([secret]),
        json.dumps({"secret": secret}, default=str),
        repr(dir(secret)),
        caplog.text,
    ]
    assert not [text for text in texts if CANARY in text]
    assert secret.reveal() == CANARY.encode()
    assert secret.reveal_text() == CANARY


def test_it_is_not_serialised():
    secret = Secret(CANARY)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(secret, protocol)
    with pytest.raises(TypeError):
        json.dumps(secret)
    with pytest.raises(TypeError):
        vars(secret)
    assert copy.deepcopy(Holder("x", secret)).secret is secret


def test_equality_and_length():
    assert Secret("a") == Secret(b"a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len(Secret("abc")) == 3
    assert not Secret("")
    with pytest.raises(TypeError):
        hash(Secret("a"))


def test_an_error_about_it_does_not_carry_it():
    with pytest.raises(ValueError, match="not a text") as caught:
        Secret(b"canary\xff").reveal_text()
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None
