"""eif.py — an independent reader of enclave images, for tests: struct, hashlib, zlib and nothing of ours.

eif.py pcrs FILE           JSON: PCR0, PCR1, PCR2 [, PCR8], crc_ok
eif.py signature FILE DIR  writes DIR/cert.pem, DIR/tbs (what was signed), DIR/sig.der, DIR/payload_pcr0
eif.py names FILE N        names in ramdisk N (from 0), one a line, of every archive in it
eif.py boot FILE DIR       what a boot loader takes out: DIR/kernel, DIR/cmdline, DIR/initrd (all ramdisks)
eif.py flip FILE OUT N     changes one byte of ramdisk N's middle and repairs the CRC
eif.py graft FILE OUT SPEC an unsigned copy whose last ramdisk is changed: SPEC is a JSON list of
                           {"name", "mode" (octal text), "data"}: replaces the entry of that name or
                           adds it at the end; {"name", "remove": true}; {"tail": "text after the trailer"}
eif.py bomb FILE OUT MIB   an unsigned copy whose ramdisk 1 is compressed and expands to so much more
"""
import hashlib
import json
import struct
import sys
import zlib


def sections(data):
    magic, version, flags, mem, cpus, reserved, count = struct.unpack(">4sHHQQHH", data[:28])
    assert magic == b".eif" and version == 4, (magic, version)
    offsets = struct.unpack(">32Q", data[28:284])
    sizes = struct.unpack(">32Q", data[284:540])
    at = 548
    for i in range(count):
        kind, sflags, size = struct.unpack(">HHQ", data[at:at + 12])
        assert offsets[i] == at and sizes[i] == size and sflags == 0, i
        yield kind, at + 12, data[at + 12:at + 12 + size]
        at += 12 + size
    assert at == len(data), "bytes after the last section"


def extend(content):
    return hashlib.sha384(bytes(48) + hashlib.sha384(content).digest()).digest()


def crc(data):
    return zlib.crc32(data[548:], zlib.crc32(data[:544]))


def signature(data):
    import cbor2
    blob = next(d for kind, _, d in sections(data) if kind == 4)
    (entry,) = cbor2.loads(blob)
    return bytes(entry["signing_certificate"]), cbor2.loads(bytes(entry["signature"]))


def pcrs(path):
    data = open(path, "rb").read()
    parts = list(sections(data))
    order = [d for kind, _, d in parts if kind in (1, 2, 3)]
    ramdisks = [d for kind, _, d in parts if kind == 3]
    first = [i for i, d in enumerate(order) if d is ramdisks[0]][0]
    out = {"PCR0": extend(b"".join(order)).hex(), "PCR1": extend(b"".join(order[:first + 1])).hex(),
           "PCR2": extend(b"".join(ramdisks[1:])).hex(),
           "crc_ok": crc(data) == struct.unpack(">I", data[544:548])[0]}
    if any(kind == 4 for kind, _, d in parts):
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import Encoding
        cert = x509.load_pem_x509_certificate(signature(data)[0])
        out["PCR8"] = extend(cert.public_bytes(Encoding.DER)).hex()
    print(json.dumps(out))


def write_signature(path, where):
    import cbor2
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
    cert, (protected, unprotected, payload, sig) = signature(open(path, "rb").read())
    tbs = cbor2.dumps(["Signature1", protected, b"", payload])
    half = len(sig) // 2
    der = encode_dss_signature(int.from_bytes(sig[:half], "big"), int.from_bytes(sig[half:], "big"))
    for name, value in (("cert.pem", cert), ("tbs", tbs), ("sig.der", der)):
        open(f"{where}/{name}", "wb").write(value)
    open(f"{where}/payload_pcr0", "w").write(bytes(cbor2.loads(payload)["register_value"]).hex())


def names(path, n):
    ramdisk = [d for kind, _, d in sections(open(path, "rb").read()) if kind == 3][n]
    at = 0
    while True:
        head = ramdisk[at:at + 110]
        assert head[:6] == b"070701"
        size, name_size = int(head[54:62], 16), int(head[94:102], 16)
        name = ramdisk[at + 110:at + 109 + name_size].decode()
        at = (at + 110 + name_size + 3) // 4 * 4
        if name != "TRAILER!!!":
            print(name)
            at = (at + size + 3) // 4 * 4
            continue
        while at < len(ramdisk) and ramdisk[at] == 0:
            at += 1
        if at == len(ramdisk):
            return
        assert at % 4 == 0, "the kernel would skip what follows"


def boot(path, where):
    parts = {1: b"", 2: b"", 3: b""}
    for kind, _, data in sections(open(path, "rb").read()):
        if kind in parts:
            parts[kind] += data
    for kind, name in ((1, "kernel"), (2, "cmdline"), (3, "initrd")):
        open(f"{where}/{name}", "wb").write(parts[kind])


def flip(path, out, n):
    data = bytearray(open(path, "rb").read())
    _, at, part = [s for s in sections(bytes(data)) if s[0] == 3][n]
    data[at + len(part) // 2] ^= 1
    data[544:548] = struct.pack(">I", crc(bytes(data)))
    open(out, "wb").write(data)


def entries(ramdisk):
    at = 0
    while True:
        head = ramdisk[at:at + 110]
        size, name_size = int(head[54:62], 16), int(head[94:102], 16)
        name = ramdisk[at + 110:at + 109 + name_size].decode()
        at = (at + 110 + name_size + 3) // 4 * 4
        if name == "TRAILER!!!":
            return
        yield name, bytearray(head), ramdisk[at:at + size]
        at = (at + size + 3) // 4 * 4


def record(name, head, data):
    head[54:62] = b"%08x" % len(data)
    head[94:102] = b"%08x" % (len(name.encode()) + 1)
    out = bytes(head) + name.encode() + b"\0"
    out += bytes(-len(out) % 4) + data
    return out + bytes(-len(out) % 4)


def write(data, parts, out):
    head, body, offsets, sizes = bytearray(data[:548]), b"", [], []
    for kind, d in parts:
        offsets.append(548 + len(body))
        sizes.append(len(d))
        body += struct.pack(">HHQ", kind, 0, len(d)) + d
    head[26:28] = struct.pack(">H", len(parts))
    head[28:284] = struct.pack(">32Q", *offsets, *[0] * (32 - len(parts)))
    head[284:540] = struct.pack(">32Q", *sizes, *[0] * (32 - len(parts)))
    whole = bytes(head) + body
    open(out, "wb").write(whole[:544] + struct.pack(">I", crc(whole)) + whole[548:])


def bomb(path, out, mib):
    member = lambda b: (lambda z: z.compress(b) + z.flush())(zlib.compressobj(1, zlib.DEFLATED, 31))
    data = open(path, "rb").read()
    parts = [[kind, d] for kind, _, d in sections(data) if kind != 4]
    first = [p for p in parts if p[0] == 3][0]
    first[1] = member(first[1]) + member(bytes(64 << 20)) * (mib // 64)
    first[1] += bytes(-len(first[1]) % 4)
    write(data, parts, out)


def graft(path, out, spec):
    data = open(path, "rb").read()
    parts = [[kind, d] for kind, _, d in sections(data) if kind != 4]
    last = [p for p in parts if p[0] == 3][-1]
    kept, tail, inode = list(entries(last[1])), b"", 900000
    for e in json.loads(spec):
        if "tail" in e:
            tail = e["tail"].encode()
            continue
        body, new = e.get("data", "").encode(), None
        if not e.get("remove"):
            inode += 1
            head = bytearray(b"070701" + b"%08x" % inode + b"%08x" % int(e["mode"], 8) + b"00000000" * 2 +
                             b"00000001" + b"00000000" * 8)
            new = (e["name"], head, body)
        at = [i for i, k in enumerate(kept) if k[0] == e["name"]]
        if at and not e.get("twice"):
            kept[at[0]:at[0] + 1] = [new] if new else []
        elif new:
            kept.append(new)
    trailer = bytearray(b"070701" + b"00000000" * 4 + b"00000001" + b"00000000" * 8)
    last[1] = b"".join(record(*k) for k in kept) + record("TRAILER!!!", trailer, b"") + tail
    last[1] += bytes(-len(last[1]) % 4)
    write(data, parts, out)


if __name__ == "__main__":
    verb, path, *rest = sys.argv[1:]
    if verb == "pcrs":
        pcrs(path)
    elif verb == "signature":
        write_signature(path, rest[0])
    elif verb == "names":
        names(path, int(rest[0]))
    elif verb == "boot":
        boot(path, rest[0])
    elif verb == "flip":
        flip(path, rest[0], int(rest[1]))
    elif verb == "graft":
        graft(path, rest[0], rest[1])
    elif verb == "bomb":
        bomb(path, rest[0], int(rest[1]))
    else:
        sys.exit(__doc__)
