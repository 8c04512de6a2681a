/* evstr_file.c — encrypted files:
 *
 *   %EVENC format offset:u16le ephemeral:33 iv:12 flags [n:u16le metadata:n] content tag [crc32:u32le]
 *
 * Metadata (formats 4 and 5) is sealed on its own under the same key and IV; that is the format. */
#include "codec/crc32.h"
#include "crypto/evstr_internal.h"

enum {
    AT_FORMAT = 6, AT_OFFSET = 7, AT_EPHEMERAL = 9, AT_IV = 42, AT_FLAGS = 54, HEAD = 55,
    CRC = 4, FLAG_DEBUG = 1
};

static const struct format { bool k1, kdf, meta, crc; } formats[] = {
    { true, false, false, false }, { false, true, false, false }, { true, false, false, true },
    { false, true, false, true }, { true, true, true, true }, { false, true, true, true },
};

static uint16_t u16le(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static int not_one(struct ev_err *err, const char *what)
{
    return evstr_fail(err, EV_EPARSE, "not-ev-file", what);
}

/* Takes the checksum off the end. */
static int check_crc(ev_slice *file, struct ev_err *err)
{
    const uint8_t *p = file->p + file->n - CRC;

    file->n -= CRC;
    if (ev_crc32(0, file->p, file->n) != ((uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0]))
        return evstr_fail(err, EV_EPARSE, "crc-mismatch", "the file's checksum is wrong");
    return 0;
}

/* Where metadata and content are; the file is without its checksum. */
static int layout(ev_slice file, const struct format *f, ev_slice *meta, ev_slice *content, struct ev_err *err)
{
    size_t offset = u16le(file.p + AT_OFFSET), n;

    *meta = (ev_slice){0};
    if (f->meta) {
        if (file.n < HEAD + 2)
            return not_one(err, "the file is cut off");
        n = u16le(file.p + HEAD);
        if (n > file.n - HEAD - 2 || offset != HEAD + 2 + n)
            return not_one(err, "the file's offset does not fit");
        *meta = ev_slice_of(file.p + HEAD + 2, n);
    } else if (offset != HEAD) {
        return not_one(err, "the file's offset does not fit");
    }
    *content = ev_slice_of(file.p + offset, file.n - offset);
    if (content->n < EV_EVSTR_TAG)
        return evstr_fail(err, EV_EPARSE, "data-too-short", "the file is cut off");
    return 0;
}

static int open_meta(struct ev_evapp *app, const struct evstr_seal *seal, ev_slice sealed, struct ev_evstr_meta *out,
                     struct ev_err *err)
{
    struct ev_buf plain = EV_BUF_INIT(UINT16_MAX);
    int rc = 0;

    EV_TRY(evstr_open(app, seal, sealed, &plain, err));
    if (evstr_meta_read(ev_buf_slice(&plain), out) < 0)
        rc = evstr_fail(err, EV_EPARSE, "metadata", "its metadata is malformed");
out:
    ev_buf_wipe(&plain);
    return rc;
}

int ev_evfile_decrypt(struct ev_evapp *app, ev_slice file, struct ev_buf *out, struct ev_evstr_meta *meta,
                      struct ev_err *err)
{
    struct ev_evstr_meta found = {0};
    struct evstr_seal seal = {0};
    const struct format *f;
    ev_slice sealed_meta, content;
    int rc = 0;

    if (file.n < HEAD + EV_EVSTR_TAG || memcmp(file.p, "%EVENC", AT_FORMAT) != 0)
        return not_one(err, "not an encrypted file");
    if (file.p[AT_FORMAT] >= EV_COUNT(formats))
        return not_one(err, "a file of an unknown format");
    f = &formats[file.p[AT_FORMAT]];
    if (file.n < HEAD + EV_EVSTR_TAG + (f->crc ? CRC : 0))
        return not_one(err, "the file is cut off");
    if (f->crc)
        EV_TRY(check_crc(&file, err));
    if ((file.p[AT_FLAGS] & FLAG_DEBUG) && !app->debug)
        return evstr_fail(err, EV_ECRYPTO, "debug", "it was made with a debug key");
    EV_TRY(layout(file, f, &sealed_meta, &content, err));
    seal = (struct evstr_seal){ .k1 = f->k1, .kdf = f->kdf, .iv = file.p + AT_IV, .ephemeral = file.p + AT_EPHEMERAL };
    if (f->kdf) {
        memcpy(seal.aad, app->side[f->k1].pub, EV_EVSTR_POINT);
        seal.n_aad = EV_EVSTR_POINT;
    }
    if (f->meta)
        EV_TRY(open_meta(app, &seal, sealed_meta, &found, err));
    EV_TRY(evstr_open(app, &seal, content, out, err));
    if (meta)
        *meta = found;
out:
    return rc;
}

int ev_evfile_encrypt(struct ev_evapp *app, enum ev_curve curve, bool debug, ev_slice content, struct ev_buf *out,
                      struct ev_err *err)
{
    bool k1 = curve == EV_SECP256K1;
    const uint8_t format = k1 ? 2 : 3;
    struct evstr_own *own = &app->own[k1];
    uint8_t iv[EV_EVSTR_IV], head[AT_EPHEMERAL] = "%EVENC";
    struct evstr_seal seal = { .k1 = k1, .kdf = !k1, .iv = iv, .ephemeral = own->pub };
    size_t before = out->n;
    uint32_t crc;
    int rc;

    if ((curve != EV_P256 && !k1) || !app->side[k1].group)
        return evstr_fail(err, EV_EUSAGE, "no-key", "there is no key on this curve");
    if ((rc = evstr_own_refresh(own, &app->side[k1])) < 0 || (rc = ev_random(iv, sizeof iv)) < 0)
        return ev_ossl_fail(err, rc, "encrypting");
    own->uses++;
    if (seal.kdf) {
        memcpy(seal.aad, app->side[k1].pub, EV_EVSTR_POINT);
        seal.n_aad = EV_EVSTR_POINT;
    }
    head[AT_FORMAT] = format;
    head[AT_OFFSET] = HEAD;
    EV_TRY(ev_buf_put(out, head, sizeof head));
    EV_TRY(ev_buf_put(out, own->pub, sizeof own->pub));
    EV_TRY(ev_buf_put(out, iv, sizeof iv));
    EV_TRY(ev_buf_putc(out, debug ? FLAG_DEBUG : 0));
    EV_TRY(evstr_close(app, &seal, &own->keys, content, out, err));
    crc = ev_crc32(0, out->p + before, out->n - before);
    for (int i = 0; i < CRC; i++)
        EV_TRY(ev_buf_putc(out, (uint8_t)(crc >> 8 * i)));
out:
    if (rc < 0 && out->p) {
        out->n = before;
        out->p[before] = 0;
    }
    return rc == -ENOBUFS ? evstr_fail(err, rc, "", "no room for the file") : rc;
}
