"""Verifying that a person touched a security key to approve: SSHSIG, as `ssh-keygen -Y sign` makes it, offline.

Enter: the armoured signature, the text that must have been signed, and the person's keys from the identity map. Only
keys that live in hardware count (sk-ssh-ed25519, sk-ecdsa-sha2-nistp256), and only with the presence flag that the key
sets when it was touched. The format is PROTOCOL.sshsig and PROTOCOL.u2f of OpenSSH. Imported only where there is a
signature.
"""

import base64
import binascii
import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from canary.errors import RefusedError

NAMESPACE = b"canary-controller.io/approval"
MAGIC, VERSION = b"SSHSIG", 1
ED25519, ECDSA256 = b"sk-ssh-ed25519@openssh.com", b"sk-ecdsa-sha2-nistp256@openssh.com"
TOUCHED = 0x01
MAX_BYTES = 8_192
HEAD, TAIL = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
HASHES = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}


class _Reader:
    """Reads the length-prefixed fields of an SSH blob. Raise RefusedError where it ends too soon."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def take(self, count: int) -> bytes:
        if count > len(self._data):
            raise RefusedError("it is cut off")
        taken, self._data = self._data[:count], self._data[count:]
        return taken

    def number(self) -> int:
        return int(struct.unpack(">I", self.take(4))[0])

    def string(self) -> bytes:
        return self.take(self.number())

    def end(self) -> None:
        if self._data:
            raise RefusedError("something follows its end")


@dataclass(frozen=True, slots=True)
class _Signed:
    """The parts of a signature."""

    key: bytes
    message: bytes
    """What the key was asked to sign."""
    kind: bytes
    raw: bytes
    flags: int
    counter: int


def verify(armoured: str, text: str, keys: Iterable[str]) -> None:
    """Return where one of the keys, touched, signed this text. Raise RefusedError, with why, for anything else.

    A key is a line as ssh-keygen writes it: "sk-ssh-ed25519@openssh.com AAAA... comment".
    """
    signed = _parsed(_unarmoured(armoured), text.encode())
    if signed.key not in {_key_of(line) for line in keys}:
        raise RefusedError("the key is none of this person's in the identity map")
    if not signed.flags & TOUCHED:
        raise RefusedError("the key was not touched")
    try:
        _check(signed)
    except (InvalidSignature, ValueError) as error:
        raise RefusedError("the signature is not of this text, or not by this key") from error


def _unarmoured(armoured: str) -> bytes:
    lines = [line.strip() for line in armoured.strip().splitlines()]
    if len(armoured) > MAX_BYTES or len(lines) < 3 or (lines[0], lines[-1]) != (HEAD, TAIL):
        raise RefusedError("it is no SSH signature")
    try:
        return base64.b64decode("".join(lines[1:-1]), validate=True)
    except binascii.Error as error:
        raise RefusedError("it is no base64") from error


def _parsed(blob: bytes, text: bytes) -> _Signed:
    reader = _Reader(blob)
    if reader.take(len(MAGIC)) != MAGIC or reader.number() != VERSION:
        raise RefusedError("it is no SSHSIG of version 1")
    key, namespace, reserved, name = (reader.string() for _ in range(4))
    signature = _Reader(reader.string())
    reader.end()
    if namespace != NAMESPACE:
        raise RefusedError(f"it was made for another purpose; sign with -n {NAMESPACE.decode()}")
    if name not in HASHES:
        raise RefusedError("its hash is neither sha256 nor sha512")
    digest = HASHES[name](text).digest()
    message = MAGIC + b"".join(map(_string, (namespace, reserved, name, digest)))
    kind, raw = signature.string(), signature.string()
    flags, counter = signature.take(1)[0], signature.number()
    signature.end()
    return _Signed(key, message, kind, raw, flags, counter)


def _check(signed: _Signed) -> None:
    """Raise InvalidSignature or ValueError where the key did not sign what its authenticator says."""
    reader = _Reader(signed.key)
    kind = reader.string()
    if kind != signed.kind or kind not in (ED25519, ECDSA256):
        raise RefusedError("the key does not live in hardware: use one of ssh-keygen -t ed25519-sk")
    curve = reader.string() if kind == ECDSA256 else b""
    point, application = reader.string(), reader.string()
    reader.end()
    said = hashlib.sha256(application).digest() + struct.pack(">BI", signed.flags, signed.counter)
    said += hashlib.sha256(signed.message).digest()
    if kind == ED25519:
        Ed25519PublicKey.from_public_bytes(point).verify(signed.raw, said)
        return
    if curve != b"nistp256":
        raise ValueError("another curve")
    parts = _Reader(signed.raw)
    r, s = (int.from_bytes(parts.string(), "big", signed=True) for _ in range(2))
    parts.end()
    public = EllipticCurvePublicKey.from_encoded_point(SECP256R1(), point)
    public.verify(encode_dss_signature(r, s), said, ECDSA(hashes.SHA256()))


def _key_of(line: str) -> bytes:
    """Return the blob of a public key's line; b"" where it is none, which no signature has."""
    parts = line.split()
    try:
        return base64.b64decode(parts[1], validate=True) if len(parts) > 1 else b""
    except binascii.Error:
        return b""


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data
