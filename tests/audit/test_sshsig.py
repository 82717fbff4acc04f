"""Signatures of security keys: what OpenSSH accepts counts, and nothing else does."""

import base64
import subprocess
from pathlib import Path

import pytest
from conftest import require_program
from hypothesis import given
from hypothesis import strategies as st
from security_key import APPROVAL, SecurityKey

from canary.audit.sshsig import verify
from canary.core.rules.approvals import signed_text
from canary.errors import RefusedError

TEXT = signed_text("approve", "shop/checkout-7f9c2", "sha256:" + "9" * 64, "priya")
KEYS = {kind: SecurityKey(ecdsa=kind == "ecdsa") for kind in ("ed25519", "ecdsa")}

SIGNED = {kind: key.sign(TEXT).strip().splitlines() for kind, key in KEYS.items()}


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("hash_name", ["sha256", "sha512"])
def test_a_touched_key_of_the_person_counts(kind: str, hash_name: str) -> None:
    verify(KEYS[kind].sign(TEXT, hash_name=hash_name), TEXT, ["ssh-rsa nonsense", "", KEYS[kind].line])


@pytest.mark.parametrize("kind", KEYS)
def test_openssh_itself_accepts_what_is_verified_here(kind: str, tmp_path: Path) -> None:
    keygen = require_program("ssh-keygen")
    (tmp_path / "allowed").write_text(f'priya namespaces="{APPROVAL}" {KEYS[kind].line}\n')
    (tmp_path / "signature").write_text(KEYS[kind].sign(TEXT))
    command = [keygen, "-Y", "verify", "-f", tmp_path / "allowed", "-I", "priya", "-n", APPROVAL]
    command += ["-s", tmp_path / "signature"]
    done = subprocess.run(command, input=TEXT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize(
    ("text", "says"),
    [
        (TEXT.replace("shop/checkout", "shop/cart"), "not of this text"),
        (TEXT.replace("9999", "9998"), "not of this text"),  # T-A17: presence for another digest
        (TEXT.replace("priya", "sam"), "not of this text"),
        (TEXT.replace("expires: ", "expires: 2027"), "not of this text"),
        (TEXT.replace("verb: approve", "verb: bypass"), "not of this text"),
    ],
)
def test_t_a17_a_signature_of_anything_else_does_not_count(kind: str, text: str, says: str) -> None:
    with pytest.raises(RefusedError, match=says):
        verify(KEYS[kind].sign(text), TEXT, [KEYS[kind].line])


def test_a_key_that_was_not_touched_is_of_another_person_or_of_another_purpose_does_not_count() -> None:
    asleep = SecurityKey(flags=0)
    with pytest.raises(RefusedError, match="not touched"):
        verify(asleep.sign(TEXT), TEXT, [asleep.line])
    with pytest.raises(RefusedError, match="none of this person's"):
        verify(KEYS["ed25519"].sign(TEXT), TEXT, [KEYS["ecdsa"].line])
    with pytest.raises(RefusedError, match="another purpose"):
        verify(KEYS["ed25519"].sign(TEXT, namespace="git"), TEXT, [KEYS["ed25519"].line])


def test_a_flag_that_was_set_afterwards_is_found() -> None:
    asleep = SecurityKey(flags=0)
    lines = asleep.sign(TEXT).strip().splitlines()
    body = bytearray(base64.b64decode("".join(lines[1:-1])))
    assert body[-5] == 0
    body[-5] = 1
    forged = "\n".join([lines[0], base64.b64encode(bytes(body)).decode(), lines[-1]])
    with pytest.raises(RefusedError, match="not of this text"):
        verify(forged, TEXT, [asleep.line])


def test_a_key_in_a_file_does_not_count(tmp_path: Path) -> None:
    keygen = require_program("ssh-keygen")
    key = tmp_path / "id"
    subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    sign = [keygen, "-Y", "sign", "-n", APPROVAL, "-f", key]
    done = subprocess.run(sign, input=TEXT, capture_output=True, text=True, check=True)
    with pytest.raises(RefusedError):
        verify(done.stdout, TEXT, [(tmp_path / "id.pub").read_text()])


@given(st.data())
def test_no_altered_signature_counts_and_none_ends_in_another_error(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(KEYS)))
    key, lines = KEYS[kind], SIGNED[kind]
    body = bytearray(base64.b64decode("".join(lines[1:-1])))
    place = data.draw(st.integers(0, len(body) - 1))
    if data.draw(st.booleans()):
        body[place] ^= data.draw(st.integers(1, 255))
    else:
        del body[place : place + data.draw(st.integers(1, 40))]
    forged = "\n".join([lines[0], base64.b64encode(bytes(body)).decode(), lines[-1]])
    with pytest.raises(RefusedError):
        verify(forged, TEXT, [key.line])


@pytest.mark.parametrize(
    "text", ["", "x", "-----BEGIN SSH SIGNATURE-----\n*\n-----END SSH SIGNATURE-----", "a" * 9_000]
)
def test_what_is_no_signature_is_refused(text: str) -> None:
    with pytest.raises(RefusedError):
        verify(text, TEXT, [KEYS["ed25519"].line])
