"""Signed statements: what a trusted key states, how it is forged, and what a statement leaves unproved."""

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from canary.api.attestation import Statement
from canary.api.reasons import Origin
from canary.api.safety import TrustedKey
from canary.audit.attest import Private, judge, private_key, public_key, sign, verify, written
from canary.core.rules.proof import Release, changed_paths, images_of
from canary.errors import RefusedError

NOW = datetime(2026, 3, 5, tzinfo=UTC)
BASE, HEAD, OTHER = ("1" * 40, "2" * 40, "3" * 40)
IMAGE = "registry.example/shop@sha256:" + "a" * 64
KEYS: dict[str, Private] = {
    "ed25519": ed25519.Ed25519PrivateKey.generate(),
    "ecdsa-p256": ec.generate_private_key(ec.SECP256R1()),
}
KEY = KEYS["ed25519"]
RELEASE = Release(images=(IMAGE,), fields=(), base=BASE, range=f"{BASE}..{HEAD}", now=NOW)
Edit = Callable[[dict[str, Any]], Any]


def statement(edit: Edit = lambda wire: None) -> Statement:
    """Return a statement that proves the release; `edit` alters its JSON."""
    commits = [{"sha": sha, "author": "Dana <dana@example.com>", "key": "SHA256:x"} for sha in (HEAD, OTHER)]
    predicate = {
        "repo": "shop/checkout",
        "base": BASE,
        "head": HEAD,
        "commits": commits,
        "fields": ["spec.volumes[v]"],
    }
    wire: dict[str, Any] = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "registry.example/shop", "digest": {"sha256": "a" * 64}}],
        "predicateType": "canary-controller.io/change-origin/v1",
        "predicate": {**predicate, "expiresAt": "2026-04-01T00:00:00Z"},
    }
    edit(wire)
    return Statement.model_validate_json(json.dumps(wire))


def trusted(key: Private = KEY, name: str = "ci-main") -> list[TrustedKey]:
    return [TrustedKey(id=name, public_key=written(key))]


def said(release: Release = RELEASE, edit: Edit = lambda wire: None) -> tuple[Origin, str]:
    item = judge(sign(statement(edit), KEY, "ci-main"), trusted(), release)
    assert (item.level, item.source) == ("E4", "attestation")
    return item.says, item.detail


@pytest.mark.parametrize("kind", KEYS)
def test_a_statement_of_a_trusted_key_that_covers_the_release_proves_a_human(kind: str) -> None:
    key = KEYS[kind]
    assert written(key).startswith(f"{kind}:")
    envelope = sign(statement(), key, "ci-main")
    assert verify(envelope, trusted(key)) == statement()
    item = judge(envelope, trusted(key), RELEASE)
    assert item.says is Origin.HUMAN
    assert item.detail.endswith(": 2, each signed by a person")


def test_an_envelope_of_another_implementation_verifies() -> None:
    """The vector is made from the texts of DSSE 1.0 and of RFC 8032, by hand."""
    payload = statement().model_dump_json(by_alias=True).encode()
    kind = b"application/vnd.in-toto+json"
    message = b" ".join([b"DSSEv1", str(len(kind)).encode(), kind, str(len(payload)).encode(), payload])
    assert isinstance(KEY, ed25519.Ed25519PrivateKey)
    signature = {"keyid": "ci-main", "sig": base64.b64encode(KEY.sign(message)).decode()}
    payload_text = base64.b64encode(payload).decode()
    envelope = {"payloadType": kind.decode(), "payload": payload_text, "signatures": [signature]}
    assert verify(json.dumps(envelope), trusted()) == statement()


def test_the_key_is_what_openssl_writes() -> None:
    der = KEY.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert written(KEY) == f"ed25519:{base64.b64encode(der).decode()}"


def signed_by(key: Private) -> dict[str, Any]:
    return json.loads(sign(statement(), key, "ci-main"))


FORGERIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another payload": lambda e: e.update(payload=base64.b64encode(b"{}").decode()),
    "another key's signature": lambda e: e.update(
        signatures=json.loads(sign(statement(), KEYS["ecdsa-p256"], "ci-main"))["signatures"]
    ),
    "another key's name": lambda e: e["signatures"][0].update(keyid="other"),
    "no signature": lambda e: e.update(signatures=[]),
    "an empty signature": lambda e: e["signatures"][0].update(sig=""),
    "a cut signature": lambda e: e["signatures"][0].update(sig=e["signatures"][0]["sig"][:-4]),
    "a signature that is no base64": lambda e: e["signatures"][0].update(sig="!"),
    "another type": lambda e: e.update(payloadType="text/plain"),
    "a further field": lambda e: e.update(unsigned="x"),
    "a payload that is no base64": lambda e: e.update(payload="!"),
    "a body that is too long": lambda e: e.update(payload="A" * 20_000),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_what_does_not_verify_proves_nothing(forgery: str) -> None:
    envelope = signed_by(KEY)
    FORGERIES[forgery](envelope)
    with pytest.raises(RefusedError):
        verify(json.dumps(envelope), trusted())
    assert judge(json.dumps(envelope), trusted(), RELEASE).says is Origin.UNKNOWN


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 10_000, "\x00", "{}" * 9_000])
def test_noise_proves_nothing(text: str) -> None:
    assert judge(text, trusted(), RELEASE).says is Origin.UNKNOWN


def test_without_a_trusted_key_nothing_is_proved() -> None:
    envelope = sign(statement(), KEY, "ci-main")
    assert judge(envelope, [], RELEASE).says is Origin.UNKNOWN
    assert judge(envelope, trusted(KEYS["ecdsa-p256"]), RELEASE).says is Origin.UNKNOWN
    wrong_kind = TrustedKey(id="ci-main", public_key=written(KEY).replace("ed25519:", "ecdsa-p256:"))
    assert judge(envelope, [wrong_kind], RELEASE).says is Origin.UNKNOWN


ASKED: dict[str, tuple[dict[str, Any], str]] = {
    "it is over": ({"now": NOW + timedelta(days=60)}, "expired"),
    "one of two images": ({"images": (IMAGE, f"{IMAGE[:-1]}b")}, "does not speak of the image"),
    "an image by its tag": ({"images": ("shop:v2",)}, "not named by its digest"),
    "nobody knows the base": ({"base": ""}, "no run says what serves"),
    "another record": ({"range": f"{BASE}..{OTHER}"}, "another range"),
    "a field that is not listed": ({"fields": ("spec.hostNetwork",)}, "hostNetwork"),
    "a commit less": ({"commits": frozenset({HEAD})}, "commits of its range"),
}
STATED: dict[str, tuple[Edit, str]] = {
    "a commit is not signed": (
        lambda w: w["predicate"]["commits"][1].update(key=""),
        "no known person signed 3333",
    ),
    "another image": (
        lambda w: w["subject"][0]["digest"].update(sha256="b" * 64),
        "does not speak of the image",
    ),
    "a later base": (lambda w: w["predicate"].update(base=OTHER), "it counts commits from 3333"),
}


@pytest.mark.parametrize("gap", ASKED)
def test_each_gap_in_what_is_asked_leaves_the_origin_unknown_and_is_named(gap: str) -> None:
    fields, text = ASKED[gap]
    says, detail = said(replace(RELEASE, **fields))
    assert says is Origin.UNKNOWN
    assert text in detail


@pytest.mark.parametrize("gap", STATED)
def test_each_gap_in_what_is_stated_leaves_the_origin_unknown_and_is_named(gap: str) -> None:
    edit, text = STATED[gap]
    says, detail = said(RELEASE, edit)
    assert says is Origin.UNKNOWN
    assert text in detail


def test_a_statement_that_names_an_agent_says_ai() -> None:
    assert said(edit=lambda w: w["predicate"].update(agents=["kiro"])) == (Origin.AI, "it names kiro")


def test_listed_fields_and_what_lies_below_them_may_change() -> None:
    release = Release(
        (IMAGE,), ("spec.volumes[v]", "spec.volumes[v].secret.secretName"), BASE, RELEASE.range, NOW
    )
    assert said(release)[0] is Origin.HUMAN
    release = Release((IMAGE,), ("spec.volumes[vv].secret.secretName",), BASE, RELEASE.range, NOW)
    assert said(release)[0] is Origin.UNKNOWN


def test_keys_of_other_kinds_are_refused() -> None:
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    plain = serialization.NoEncryption()
    for key in (rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())):
        with pytest.raises(RefusedError, match="neither"):
            private_key(key.private_bytes(*form, plain))
    locked = KEY.private_bytes(*form, serialization.BestAvailableEncryption(b"x"))
    for pem in (locked, b"", b"-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----\n"):
        with pytest.raises(RefusedError, match="unencrypted"):
            private_key(pem)
    assert written(private_key(KEY.private_bytes(*form, plain))) == written(KEY)
    for text in ("ed25519:", "ed25519:AAAA", f"rsa:{written(KEY)[8:]}"):
        with pytest.raises(RefusedError):
            public_key(text)


def test_a_statement_that_does_not_fit_into_an_annotation_is_not_signed() -> None:
    commit = {"sha": HEAD, "author": "x" * 256, "key": "y" * 200}
    with pytest.raises(RefusedError, match="too many"):
        sign(statement(lambda wire: wire["predicate"].update(commits=[commit] * 40)), KEY, "ci-main")


# -- what differs between two templates ------------------------------------------------------------------------------

OURS, VERSION = "canary-controller.io/what", "app.kubernetes.io/version"
OLD: dict[str, Any] = {
    "metadata": {
        "labels": {"app": "shop", "pod-template-hash": "1"},
        "annotations": {"canary-controller.io/what": "a"},
    },
    "spec": {
        "initContainers": [{"name": "init", "image": "init:1"}],
        "containers": [
            {"name": "shop", "image": "shop:1", "args": ["-a"], "env": [{"name": "A", "value": "1"}]}
        ],
    },
}


def edited(edit: Edit) -> tuple[str, ...]:
    new = json.loads(json.dumps(OLD))
    edit(new)
    return changed_paths(OLD, new)


def test_images_our_own_annotations_and_what_controllers_add_are_no_changes() -> None:
    def edit(new: dict[str, Any]) -> None:
        new["metadata"] = {
            "labels": {"app": "shop"},
            "annotations": {"canary-controller.io/what": "b"},
            "creationTimestamp": None,
        }
        new["spec"]["containers"][0]["image"] = new["spec"]["initContainers"][0]["image"] = "x"

    assert edited(edit) == ()
    assert images_of(OLD) == ("init:1", "shop:1")


EDITS: dict[str, Edit] = {
    "spec.containers[shop].env[A].value": lambda new: new["spec"]["containers"][0]["env"][0].update(
        value="2"
    ),
    "spec.containers[shop].env[B].name": lambda new: new["spec"]["containers"][0]["env"].append(
        {"name": "B"}
    ),
    "spec.containers[shop].args[0]": lambda new: new["spec"]["containers"][0].update(args=["-b"]),
    "spec.containers[side].name": lambda new: new["spec"]["containers"].append(
        {"name": "side", "image": "x"}
    ),
    "spec.hostNetwork": lambda new: new["spec"].update(hostNetwork=True),
    "metadata.labels[app.kubernetes.io/version]": lambda new: new["metadata"]["labels"].update(
        {"app.kubernetes.io/version": "2"}
    ),
    "metadata.annotations.note": lambda new: new["metadata"]["annotations"].update(note="x"),
}


@pytest.mark.parametrize("path", EDITS)
def test_each_other_field_that_differs_is_named_by_its_path(path: str) -> None:
    assert edited(EDITS[path]) == (path,)


def test_a_container_that_goes_and_one_that_stands_twice_are_changes() -> None:
    assert edited(lambda new: new["spec"].update(initContainers=[])) == ("spec.initContainers[init].name",)
    twice = {"name": "A", "value": "1"}
    assert edited(lambda new: new["spec"]["containers"][0]["env"].append(twice)) == (
        "spec.containers[shop].env[A].name",
        "spec.containers[shop].env[A].value",
    )


def test_nothing_that_starts_imports_the_library_that_verifies() -> None:
    program = (
        "import sys, canary.operator.run, canary.operator.proofs, canary.cli.attesting, canary.cli.flag; "
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{program} sys.exit('cryptography' in sys.modules)"], check=False
    )
    assert done.returncode == 0


@given(st.sampled_from(["payload", "sig"]), st.integers(0, 10_000), st.integers(0, 7))
def test_a_statement_or_a_signature_with_one_bit_flipped_proves_nothing(part: str, at: int, bit: int) -> None:
    envelope = signed_by(KEY)
    holder: dict[str, Any] = envelope if part == "payload" else envelope["signatures"][0]
    raw = bytearray(base64.b64decode(holder[part]))
    raw[at % len(raw)] ^= 1 << bit
    holder[part] = base64.b64encode(raw).decode()
    assert judge(json.dumps(envelope), trusted(), RELEASE).says is Origin.UNKNOWN


@given(st.text())
def test_no_text_breaks_the_verification(text: str) -> None:
    assert judge(text, trusted(), RELEASE).says is Origin.UNKNOWN
