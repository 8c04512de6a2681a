"""mkimage.py OUT.tar SPEC.json — a `docker save` archive, or with OUT ending in / an OCI layout folder,
made from a description; nothing of the file system is asked, so that a test can say exactly what is in it.

SPEC: {"config": {"Entrypoint": [...], "Cmd": [...], "Env": [...], "User": "", "WorkingDir": "", "ExposedPorts": {}},
       "compress": "gz" | null,
       "layers": [[ENTRY, ...], ...]}
ENTRY: {"name": "a/b", "type": "file|dir|link|hard|char|block|fifo", "data": "text", "from": "path of a file",
        "size": N (zeros), "mode": 493, "uid": 0, "gid": 0, "target": "x", "major": 1, "minor": 3,
        "pax": {"SCHILY.xattr.security.capability": "..."}}
"""
import gzip
import hashlib
import io
import json
import os
import sys
import tarfile

TYPES = {"file": tarfile.REGTYPE, "dir": tarfile.DIRTYPE, "link": tarfile.SYMTYPE, "hard": tarfile.LNKTYPE,
         "char": tarfile.CHRTYPE, "block": tarfile.BLKTYPE, "fifo": tarfile.FIFOTYPE}


class Zeros(io.RawIOBase):
    def __init__(self, size):
        self.left = size

    def readable(self):
        return True

    def read(self, n=-1):
        n = self.left if n < 0 else min(n, self.left)
        self.left -= n
        return b"\0" * n


def layer(entries):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for e in entries:
            info = tarfile.TarInfo(e["name"])
            info.type = TYPES[e.get("type", "file")]
            info.mode = e.get("mode", 0o755 if info.type == tarfile.DIRTYPE else 0o644)
            info.uid, info.gid = e.get("uid", 0), e.get("gid", 0)
            info.mtime = e.get("mtime", 1234567890)
            info.linkname = e.get("target", "")
            info.devmajor, info.devminor = e.get("major", 0), e.get("minor", 0)
            info.pax_headers = e.get("pax", {})
            body = None
            if info.type == tarfile.REGTYPE:
                if "from" in e:
                    with open(e["from"], "rb") as f:
                        data = f.read()
                    body, info.size = io.BytesIO(data), len(data)
                elif "size" in e:
                    body, info.size = Zeros(e["size"]), e["size"]
                else:
                    data = e.get("data", "").encode()
                    body, info.size = io.BytesIO(data), len(data)
            tar.addfile(info, body)
    return out.getvalue()


def main():
    out, spec = sys.argv[1], json.load(open(sys.argv[2]))
    layers = [layer(entries) for entries in spec["layers"]]
    diff_ids = ["sha256:" + hashlib.sha256(data).hexdigest() for data in layers]
    config = json.dumps({"architecture": spec.get("architecture", "amd64"), "os": "linux", "config": spec["config"],
                         "rootfs": {"type": "layers", "diff_ids": diff_ids}}, sort_keys=True).encode()
    if spec.get("compress") == "gz":
        layers = [gzip.compress(data, 1, mtime=0) for data in layers]
    if out.endswith("/"):
        oci(out, config, layers, spec)
    else:
        docker(out, config, layers)


def docker(out, config, layers):
    names = ["%s/layer.tar" % hashlib.sha256(data).hexdigest() for data in layers]
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": ["test:1"], "Layers": names}]).encode()
    with tarfile.open(out, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in [*zip(names, layers), (config_name, config), ("manifest.json", manifest)]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def oci(out, config, layers, spec):
    blobs = os.path.join(out, "blobs", "sha256")
    os.makedirs(blobs, exist_ok=True)

    def blob(data, media):
        digest = hashlib.sha256(data).hexdigest()
        with open(os.path.join(blobs, digest), "wb") as f:
            f.write(data)
        return {"mediaType": media, "digest": "sha256:" + digest, "size": len(data)}

    suffix = "+gzip" if spec.get("compress") == "gz" else ""
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": blob(config, "application/vnd.oci.image.config.v1+json"),
                "layers": [blob(data, "application/vnd.oci.image.layer.v1.tar" + suffix) for data in layers]}
    index = {"schemaVersion": 2,
             "manifests": [blob(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json")]}
    with open(os.path.join(out, "index.json"), "w") as f:
        json.dump(index, f)
    with open(os.path.join(out, "oci-layout"), "w") as f:
        json.dump({"imageLayoutVersion": "1.0.0"}, f)


main()
