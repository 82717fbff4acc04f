"""Signing and verifying statements about a change's origin, offline: DSSE envelopes, Ed25519 and ECDSA P-256.

`canary attest` signs; the controller and `canary flag` verify against the `trustedKeys` of the safety policies. A key
is written "ed25519:" or "ecdsa-p256:" and the base64 of its DER form, as `openssl pkey -pubout -outform DER` gives it.
Imported only where there is something to sign or to verify.
"""

import base64
import binascii
from collections.abc import Iterable

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey as EcPrivate
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey as EcPublic
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from canary.api.attestation import MAX_ENVELOPE_BYTES, PAYLOAD_TYPE, Envelope, Signature, Statement
from canary.api.change import OriginEvidence
from canary.api.reasons import Origin
from canary.api.safety import TrustedKey
from canary.core.rules.proof import Release, evidence, evidence_of_statement
from canary.errors import RefusedError

Private = Ed25519PrivateKey | EcPrivate
Public = Ed25519PublicKey | EcPublic


def sign(statement: Statement, key: Private, key_id: str) -> str:
    """Return the envelope as JSON on one line. Raise RefusedError where it would be too large for an annotation."""
    payload = statement.model_dump_json(by_alias=True, exclude_none=True).encode()
    message = _message(payload)
    raw = (
        key.sign(message) if isinstance(key, Ed25519PrivateKey) else key.sign(message, ECDSA(hashes.SHA256()))
    )
    signature = Signature(keyid=key_id, sig=base64.b64encode(raw).decode())
    size = len(payload) * 4 // 3
    if size > MAX_ENVELOPE_BYTES - 1024:
        raise RefusedError(
            f"the statement has {size} bytes, too many to be kept; release fewer commits at once"
        )
    envelope = Envelope(payload=base64.b64encode(payload).decode(), signatures=[signature])
    return envelope.model_dump_json(by_alias=True)


def verify(text: str, keys: Iterable[TrustedKey]) -> Statement:
    """Return the statement of an envelope that a trusted key signed. Raise RefusedError, with why, for any other."""
    if len(text) > MAX_ENVELOPE_BYTES:
        raise RefusedError(f"it has {len(text)} bytes, more than {MAX_ENVELOPE_BYTES}")
    trusted = {key.id: key for key in keys}
    try:
        envelope = Envelope.model_validate_json(text)
        payload = base64.b64decode(envelope.payload, validate=True)
        signed = any(
            _is_by(trusted.get(each.keyid), each.sig, _message(payload)) for each in envelope.signatures
        )
        if not signed:
            names = ", ".join(each.keyid for each in envelope.signatures)
            raise RefusedError(f"no trusted key made the signature of {names}")
        return Statement.model_validate_json(payload)
    except ValueError as error:
        raise RefusedError("it is no envelope with a statement of ours") from error


def judge(text: str, keys: Iterable[TrustedKey], release: Release) -> OriginEvidence:
    """Return what the envelope in an annotation proves of a release; whatever does not verify is unknown."""
    try:
        return evidence_of_statement(verify(text, keys), release)
    except RefusedError as error:
        return evidence(Origin.UNKNOWN, str(error))


def _message(payload: bytes) -> bytes:
    """Return what is signed: the pre-authentication encoding of DSSE."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def _is_by(trusted: TrustedKey | None, signature: str, message: bytes) -> bool:
    if trusted is None:
        return False
    key, raw = public_key(trusted.public_key), base64.b64decode(signature, validate=True)
    try:
        if isinstance(key, Ed25519PublicKey):
            key.verify(raw, message)
        else:
            key.verify(raw, message, ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def public_key(text: str) -> Public:
    """Read a key as a safety policy writes it. Raise RefusedError where it is none of that kind."""
    kind, _, encoded = text.partition(":")
    try:
        key = serialization.load_der_public_key(base64.b64decode(encoded, validate=True))
    except (ValueError, binascii.Error, UnsupportedAlgorithm) as error:
        raise RefusedError(f"{text[:24]}... is no public key in DER form: {error}") from error
    if kind == "ed25519" and isinstance(key, Ed25519PublicKey):
        return key
    if kind == "ecdsa-p256" and isinstance(key, EcPublic) and isinstance(key.curve, SECP256R1):
        return key
    raise RefusedError(f"{text[:24]}... is a public key, but not of the kind {kind}")


def private_key(pem: bytes) -> Private:
    """Read an unencrypted private key. Raise RefusedError for any other than Ed25519 and ECDSA P-256."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise RefusedError(
            f"this is no unencrypted private key in PEM form: {error}", code="CAN-2301"
        ) from error
    if isinstance(key, Ed25519PrivateKey) or (
        isinstance(key, EcPrivate) and isinstance(key.curve, SECP256R1)
    ):
        return key
    raise RefusedError("the key is neither Ed25519 nor ECDSA P-256", code="CAN-2301")


def written(key: Private) -> str:
    """Return the public half of a key as `trustedKeys` of a safety policy takes it."""
    kind = "ed25519" if isinstance(key, Ed25519PrivateKey) else "ecdsa-p256"
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    der = key.public_key().public_bytes(serialization.Encoding.DER, form)
    return f"{kind}:{base64.b64encode(der).decode()}"
