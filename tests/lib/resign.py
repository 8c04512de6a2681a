"""resign.py EIF OUT KEY.pem OLD NEW — a copy of a signed image in which OLD, found in its last ramdisk, is NEW
(of the same length); CRC and signature are made anew with that key, so that only its measurements tell.
Independent of our own code, as eif.py."""
import struct
import sys

import cbor2
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

import eif

HASH = {32: hashes.SHA256, 48: hashes.SHA384, 66: hashes.SHA512}


def sign(blob, pcr0, key):
    """The signature section for another PCR0, of the same shapes. Byte strings may be lists of integers there,
    so its length varies."""
    (entry,) = cbor2.loads(blob)
    protected, unprotected, payload, _ = cbor2.loads(bytes(entry["signature"]))
    value = cbor2.loads(payload)
    value["register_value"] = type(value["register_value"])(pcr0)
    payload = cbor2.dumps(value)
    n = (key.curve.key_size + 7) // 8
    r, s = utils.decode_dss_signature(key.sign(cbor2.dumps(["Signature1", protected, b"", payload]),
                                               ec.ECDSA(HASH[n]())))
    cose = cbor2.dumps([protected, unprotected, payload, r.to_bytes(n, "big") + s.to_bytes(n, "big")])
    entry["signature"] = type(entry["signature"])(cose)
    return cbor2.dumps([entry])


def main(path, out, key_path, old, new):
    old, new = old.encode(), new.encode()
    data = bytearray(open(path, "rb").read())
    key = serialization.load_pem_private_key(open(key_path, "rb").read(), None)
    _, at, content = [p for p in eif.sections(bytes(data)) if p[0] == 3][-1]
    assert len(old) == len(new) and old in content
    at += content.index(old)
    data[at:at + len(new)] = new
    parts = list(eif.sections(bytes(data)))
    pcr0 = eif.extend(b"".join(p[2] for p in parts if p[0] in (1, 2, 3)))
    kind, at, blob = parts[-1]
    assert kind == 4, "the signature is the last section"
    data[at:] = sign(blob, pcr0, key)
    size = struct.pack(">Q", len(data) - at)
    data[at - 8:at] = size
    entry = 284 + 8 * (len(parts) - 1)
    data[entry:entry + 8] = size
    data[544:548] = struct.pack(">I", eif.crc(bytes(data)))
    open(out, "wb").write(data)


main(*sys.argv[1:])
