/* evstr.h — Evervault's encrypted strings (`ev:…:$`) and files (`%EVENC…`): grammar, decryption,
 * encryption (spec evervault-api §8 and §9, cages-original §3).
 *
 *   ev:[debug:][VERSION:][TYPE:]IV:EPHEMERAL:DATA:$
 *
 * The grammar decides what is one: what does not match is ordinary text. What matches and does not
 * decrypt is an error. */
#ifndef EV_CRYPTO_EVSTR_H
#define EV_CRYPTO_EVSTR_H

#include "crypto/key.h"

enum {
    EV_EVSTR_IV = 12, EV_EVSTR_TAG = 16, EV_EVSTR_POINT = 33,
    EV_EVSTR_MAX = 32 << 20,        /* bytes of a decoded value or of a file's content */
    EV_EVSTR_ROLE_MAX = 20,
    EV_EVSTR_CACHE = 4096           /* derived keys that are kept */
};

enum ev_evstr_type { EV_EVSTR_STRING, EV_EVSTR_NUMBER, EV_EVSTR_BOOLEAN };

/* Version tags. BARE is the oldest form, without one. */
enum ev_evstr_version {
    EV_EVSTR_BARE, EV_EVSTR_RFVC, EV_EVSTR_T1JL, EV_EVSTR_TK9D, EV_EVSTR_TENZ, EV_EVSTR_QLJV, EV_EVSTR_QKTC,
    EV_EVSTR_S0LS
};

/* What the grammar found; slices borrow from the text and are still base64. */
struct ev_evstr {
    ev_slice whole;                 /* from "ev:" to "$" */
    ev_slice iv, ephemeral, data;
    enum ev_evstr_version version;
    enum ev_evstr_type type;
    bool debug;
};

enum ev_evstr_match {
    EV_EVSTR_NO,                    /* does not begin with an encrypted string */
    EV_EVSTR_MATCH,
    EV_EVSTR_MORE                   /* the text ends where one could go on */
};
/* At the beginning of `text`; what follows one does not matter. */
enum ev_evstr_match ev_evstr_parse(ev_slice text, struct ev_evstr *out);

/* Data that producers put beside the value. Zero and empty when the version has none. */
struct ev_evstr_meta {
    char role[EV_EVSTR_ROLE_MAX + 1];       /* "" = none */
    int64_t origin, time;                   /* client's code; seconds since 1970 */
};

/* Keys of one application, and the keys derived from them for ephemeral keys that were seen before
 * (LRU; an entry is made only after its tag was right, and is wiped when it leaves). One thread. */
struct ev_evapp;
struct ev_evapp_conf {
    const struct ev_key *p256, *secp256k1;  /* either may be NULL; public ones encrypt only */
    bool debug;                             /* these are debug keys: strings marked so are theirs */
    size_t cache;                           /* 0 = EV_EVSTR_CACHE */
};
int ev_evapp_new(const struct ev_evapp_conf *conf, struct ev_evapp **out, struct ev_err *err) EV_MUST_USE;
void ev_evapp_free(struct ev_evapp *app);
/* Keys derived so far, each some 100 us of work: a caller limits what one request may cause. */
uint64_t ev_evapp_derived(const struct ev_evapp *app);

/* Appends the text of the value. It is UTF-8, and fits the type: a JSON number (or "null", which
 * JavaScript clients make of NaN), "true" or "false". `meta` may be NULL. err->reason:
 * "debug" "no-key" "base64" "data-too-short" "public-key-point" "auth-failed" "metadata" "value". */
int ev_evstr_decrypt(struct ev_evapp *app, const struct ev_evstr *s, struct ev_buf *out,
                     struct ev_evstr_meta *meta, struct ev_err *err) EV_MUST_USE;
/* The value as JSON text: a string in quotes with escapes, others as they are. */
int ev_evstr_put_json(struct ev_buf *out, enum ev_evstr_type type, ev_slice text) EV_MUST_USE;

struct ev_evstr_how {
    enum ev_evstr_version version;          /* not BARE */
    enum ev_evstr_type type;
    bool debug;                             /* marks it as one of debug keys */
    const struct ev_evstr_meta *meta;       /* for the versions that have it */
};
int ev_evstr_encrypt(struct ev_evapp *app, const struct ev_evstr_how *how, ev_slice text, struct ev_buf *out,
                     struct ev_err *err) EV_MUST_USE;

/* Whole files. Reading: formats 0 to 5; further reasons "not-ev-file" "crc-mismatch". Writing:
 * format 3 (EV_P256) or 2 (EV_SECP256K1). */
int ev_evfile_decrypt(struct ev_evapp *app, ev_slice file, struct ev_buf *out, struct ev_evstr_meta *meta,
                      struct ev_err *err) EV_MUST_USE;
int ev_evfile_encrypt(struct ev_evapp *app, enum ev_curve curve, bool debug, ev_slice content, struct ev_buf *out,
                      struct ev_err *err) EV_MUST_USE;

#endif
