/* Tests of crypto/cert_chain.c and of how strictly cert.c reads: certificates of which one DER element
 * was replaced, and which their issuer then signed. A chain must be refused for what it says, not
 * only for what nobody signed. (Chains of ordinary forgeries: test_cert_forged.c.) */
#include "attest_kit.h"
#include "tap.h"

static struct kit_pki pki;

/* ---- DER: replacing one element, with every length around it made right ---- */

/* Head of the element at p: bytes of the head, content length. */
static size_t head_of(const uint8_t *p, size_t *len)
{
    size_t k = p[1] & 0x80 ? p[1] & 0x7F : 0;

    *len = k ? 0 : p[1];
    for (size_t i = 0; i < k; i++)
        *len = *len << 8 | p[2 + i];
    return 2 + k;
}

static void put_element(struct ev_buf *out, uint8_t tag, ev_slice content)
{
    MUST(ev_buf_putc(out, tag));
    if (content.n >= 256)
        MUST(ev_buf_put(out, (uint8_t[]){ 0x82, (uint8_t)(content.n >> 8), (uint8_t)content.n }, 3));
    else if (content.n >= 128)
        MUST(ev_buf_put(out, (uint8_t[]){ 0x81, (uint8_t)content.n }, 2));
    else
        MUST(ev_buf_putc(out, (uint8_t)content.n));
    MUST(ev_buf_put_slice(out, content));
}

/* Copies the elements in p..p+n; the one at `target` becomes `with`. */
static void rebuild(const uint8_t *p, size_t n, const uint8_t *target, ev_slice with, struct ev_buf *out)
{
    for (const uint8_t *end = p + n; p < end;) {
        size_t len, head = head_of(p, &len);

        if (p == target) {
            MUST(ev_buf_put_slice(out, with));
        } else if (target > p && target < p + head + len) {
            struct ev_buf inner = EV_BUF_INIT(1 << 16);

            rebuild(p + head, len, target, with, &inner);
            put_element(out, p[0], ev_buf_slice(&inner));
            ev_buf_fini(&inner);
        } else {
            MUST(ev_buf_put(out, p, head + len));
        }
        p += head + len;
    }
}

/* How the three parts of the new certificate are made. */
struct forgery {
    unsigned level;
    const char *find;               /* bytes in the tbsCertificate; the element begins at find + skip */
    size_t n_find, skip;
    ev_slice with;
    ev_slice outer_alg;             /* or empty: as it was */
    uint8_t unused_bits;            /* of the signature */
    ev_slice sig_tail;              /* behind the signature's SEQUENCE */
};
#define FIND(bytes) .find = bytes, .n_find = sizeof(bytes) - 1

static const uint8_t alg[] = { 0x30, 0x0A, 0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x03 };

static void new_tbs(const struct forgery *f, struct ev_buf *out)
{
    ev_slice der = ev_cert_der(pki.cert[f->level]);
    size_t len, head = head_of(der.p, &len), tbs_head = head_of(der.p + head, &len);
    const uint8_t *tbs = der.p + head, *at = f->find ? memmem(tbs, tbs_head + len, f->find, f->n_find) : NULL;

    if (f->find && !at) {
        printf("Bail out! nothing to replace in certificate %u\n", f->level);
        exit(1);
    }
    rebuild(tbs, tbs_head + len, at ? at + f->skip : NULL, f->with, out);
}

/* Signed by its issuer, whatever it says. */
static void forge(const struct forgery *f, struct ev_buf *out)
{
    struct ev_buf body = EV_BUF_INIT(1 << 16), sig = EV_BUF_INIT(256), ints = EV_BUF_INIT(256);
    uint8_t raw[96];

    new_tbs(f, &body);
    MUST(ev_key_sign(pki.key[f->level ? f->level - 1 : 0], ev_buf_slice(&body), raw, &kit_err));
    kit_put_integer(&ints, raw);
    kit_put_integer(&ints, raw + 48);
    MUST(ev_buf_putc(&sig, f->unused_bits));
    put_element(&sig, 0x30, ev_buf_slice(&ints));
    MUST(ev_buf_put_slice(&sig, f->sig_tail));
    MUST(ev_buf_put_slice(&body, f->outer_alg.n ? f->outer_alg : ev_slice_of(alg, sizeof alg)));
    put_element(&body, 0x03, ev_buf_slice(&sig));
    put_element(out, 0x30, ev_buf_slice(&body));
    ev_buf_fini(&body);
    ev_buf_fini(&sig);
    ev_buf_fini(&ints);
}

/* "accepted", or the reason: of parsing, or of the chain with this certificate in its place. */
static const char *verdict(const struct forgery *f, ev_slice der)
{
    struct ev_cert *chain[KIT_LEVELS], *forged = NULL;
    const char *r;

    kit_err = (struct ev_err)EV_ERR_INIT;
    if (ev_cert_from_der(der, &forged, &kit_err) < 0)
        return kit_err.code == EV_EPARSE ? kit_err.reason : "no reason";
    for (unsigned i = 0; i < KIT_LEVELS; i++)
        chain[KIT_LEAF - i] = i == f->level ? forged : pki.cert[i];
    r = ev_cert_chain_verify(chain, KIT_LEVELS, &pki.cert[0], 1, KIT_NOW, &kit_err) < 0 ? kit_err.reason : "accepted";
    ev_cert_free(forged);
    return r;
}

static void is(const struct forgery *f, const char *reason, const char *what)
{
    struct ev_buf der = EV_BUF_INIT(1 << 16);
    const char *r;

    forge(f, &der);
    r = verdict(f, ev_buf_slice(&der));
    OK(strcmp(r, reason) == 0, "%s: %s (%s)", what, r, kit_err.msg);
    ev_buf_fini(&der);
}

/* The parameters of a case: level, the bytes to find, where in them the element is, what it becomes. */
#define CASE(lvl, bytes, at, new, reason, what) \
    is(&(struct forgery){ .level = lvl, FIND(bytes), .skip = at, .with = EV_LIT(new) }, reason, what)

#define PATH_LEN "\x30\x06\x01\x01\xFF\x02\x01\x02"     /* of the regional certificate */

static void test_control(void)
{
    for (unsigned i = 1; i < KIT_LEVELS; i++)
        is(&(struct forgery){ .level = i }, "accepted", "signed again, nothing replaced");
    is(&(struct forgery){ .level = 0 }, "accepted", "the root signed again is the same root: nonces are deterministic");
    CASE(0, "\x30\x03\x01\x01\xFF", 0, "\x30\x06\x01\x01\xFF\x02\x01\x09", "cert-root",
         "with another path length it is not");
}

static void test_constraints(void)
{
    CASE(1, PATH_LEN, 5, "\x02\x02\x01\x00", "accepted", "path length 256");
    CASE(1, PATH_LEN, 5, "\x02\x02\x00\x02", "cert-parse", "path length 2 in two bytes");
    CASE(1, PATH_LEN, 5, "\x02\x01\xFF", "cert-usage", "path length -1");
    CASE(1, PATH_LEN, 5, "\x02\x02\xFF\x00", "cert-usage", "path length -256");
    CASE(1, PATH_LEN, 5, "\x02\x00", "cert-parse", "path length of no bytes");
    CASE(1, PATH_LEN, 5, "\x02\x01\x01", "cert-usage", "path length 1 above two");
    CASE(1, PATH_LEN, 5, "\x04\x01\x02", "cert-usage", "path length with another tag");
    CASE(1, PATH_LEN, 5, "\x02\x01\x02\x02\x01\x02", "cert-usage", "path length twice");
    CASE(1, PATH_LEN, 2, "\x01\x01\x01", "cert-parse", "CA with a boolean of 1");
    CASE(1, PATH_LEN, 2, "\x01\x01\x00", "cert-usage", "CA false with a path length");
    CASE(1, PATH_LEN, 2, "\x02\x01\xFF", "cert-usage", "CA with another tag");
    CASE(1, PATH_LEN, 2, "", "cert-usage", "a path length and no CA");
    CASE(1, PATH_LEN, 0, PATH_LEN "\x00", "cert-parse", "a byte behind the constraints");
    CASE(1, PATH_LEN, 0, PATH_LEN PATH_LEN, "cert-parse", "constraints twice in one extension");
    CASE(1, PATH_LEN, 0, "\x31\x06\x01\x01\xFF\x02\x01\x02", "cert-usage", "constraints that are a SET");
    CASE(1, PATH_LEN, 0, "", "cert-parse", "an empty extension");
    CASE(4, "\x30\x0C\x06\x03\x55\x1D\x13", 0, "\x30\x0C\x06\x03\x55\x1D\x13\x01\x01\xFF\x04\x02\x30\x00"
         "\x30\x0F\x06\x03\x55\x1D\x13\x01\x01\xFF\x04\x05\x30\x03\x01\x01\xFF", "cert-parse",
         "a leaf with constraints twice");
    CASE(4, "\x30\x0C\x06\x03\x55\x1D\x13", 0, "\x30\x0F\x06\x03\x55\x1D\x13\x01\x01\xFF\x04\x05\x30\x03\x01\x01\xFF",
         "cert-usage", "a leaf that is a CA");
    CASE(4, "\x04\x02\x30\x00", 2, "\x30\x03\x02\x01\xFF", "cert-usage",
         "a leaf with constraints that nobody can read");
    CASE(4, "\x30\x0C\x06\x03\x55\x1D\x13", 7, "\x01\x01\x01", "cert-parse", "critical with a boolean of 1");
}

#define LEAF_USAGE "\x04\x04\x03\x02\x06\xC0"
#define CA_USAGE "\x04\x04\x03\x02\x01\x86"

static void test_usage(void)
{
    CASE(4, LEAF_USAGE, 2, "\x03\x02\x07\x80", "accepted", "a leaf for signatures only");
    CASE(4, LEAF_USAGE, 2, "\x03\x02\x06\x40", "cert-usage", "a leaf without signatures");
    CASE(4, LEAF_USAGE, 2, "\x03\x01\x00", "cert-usage", "no bit at all");
    CASE(4, LEAF_USAGE, 2, "\x03\x00", "cert-parse", "not even the count of unused bits");
    CASE(4, LEAF_USAGE, 2, "\x03\x02\x08\x80", "cert-parse", "eight unused bits");
    CASE(4, LEAF_USAGE, 2, "\x03\x02\x07\xC0", "cert-parse", "unused bits that are set");
    CASE(4, LEAF_USAGE, 2, "\x04\x02\x06\xC0", "cert-usage", "usage with another tag");
    CASE(4, LEAF_USAGE, 2, "\x03\x02\x06\xC0\x05\x00", "cert-parse", "something behind it");
    CASE(3, CA_USAGE, 2, "\x03\x02\x07\x80", "cert-usage", "an authority for signatures only");
    CASE(3, CA_USAGE, 2, "\x03\x02\x02\x04", "accepted", "an authority for certificates only");
    CASE(3, CA_USAGE, 2, "\x03\x01\x00", "cert-usage", "an authority for nothing");
}

#define EC_384 "\x30\x10\x06\x07\x2A\x86\x48\xCE\x3D\x02\x01\x06\x05\x2B\x81\x04\x00\x22"

static void test_key(void)
{
    for (unsigned i = 1; i < KIT_LEVELS; i++) {
        CASE(i, EC_384, 11, "\x06\x08\x2A\x86\x48\xCE\x3D\x03\x01\x07", "cert-algorithm", "P-256 with a P-384 point");
        CASE(i, EC_384, 11, "\x05\x00", "cert-algorithm", "a curve of null");
        CASE(i, EC_384, 11, "", "cert-algorithm", "no curve");
        CASE(i, EC_384, 2, "\x06\x09\x2A\x86\x48\x86\xF7\x0D\x01\x01\x01", "cert-algorithm", "an RSA key, it says");
    }
}

/* The element with the leaf's public point. */
static const uint8_t *leaf_point(void)
{
    ev_slice der = ev_cert_der(pki.cert[4]);

    return memmem(der.p, der.n, "\x03\x62\x00\x04", 4);
}

/* The leaf's key with a count of unused bits, of which OpenSSL takes no notice. */
static void test_key_bits(void)
{
    uint8_t bits[100];

    while (leaf_point()[99] & 1) {              /* the unused bit has to be zero, or it is no DER */
        kit_pki_fini(&pki);
        kit_pki_make(&pki, NULL);
    }
    memcpy(bits, leaf_point(), sizeof bits);
    bits[2] = 1;
    is(&(struct forgery){ .level = 4, FIND("\x03\x62\x00\x04"), .with = ev_slice_of(bits, sizeof bits) },
       "cert-parse", "a key with an unused bit");
    bits[2] = 0;
    bits[99] ^= 1;
    is(&(struct forgery){ .level = 4, FIND("\x03\x62\x00\x04"), .with = ev_slice_of(bits, sizeof bits) },
       "cert-algorithm", "a point that is not on the curve");
}

static void test_algorithm(void)
{
    static const char null[] = "\x30\x0C\x06\x08\x2A\x86\x48\xCE\x3D\x04\x03\x03\x05\x00";
    static const char sha256[] = "\x30\x0A\x06\x08\x2A\x86\x48\xCE\x3D\x04\x03\x02";
    struct forgery f = { .level = 4, FIND("\x30\x0A\x06\x08\x2A\x86\x48\xCE\x3D\x04\x03\x03") };

    f.with = ev_slice_of(null, sizeof null - 1);
    is(&f, "cert-algorithm", "parameters inside");
    f.outer_alg = f.with;
    is(&f, "cert-algorithm", "parameters inside and outside");
    f.with = ev_slice_of(sha256, sizeof sha256 - 1);
    f.outer_alg = (ev_slice){0};
    is(&f, "cert-algorithm", "SHA-256 inside");
    f.with = ev_slice_of(alg, sizeof alg);
    f.outer_alg = ev_slice_of(sha256, sizeof sha256 - 1);
    is(&f, "cert-algorithm", "SHA-256 outside");
    is(&(struct forgery){ .level = 3, .unused_bits = 1 }, "cert-parse", "a signature with an unused bit");
    is(&(struct forgery){ .level = 3, .unused_bits = 8 }, "cert-parse", "a signature with eight unused bits");
    is(&(struct forgery){ .level = 3, .sig_tail = EV_LIT("\x00") }, "cert-chain", "a byte behind r and s");
}

static void test_version(void)
{
    CASE(3, "\xA0\x03\x02\x01\x02", 0, "\xA0\x03\x02\x01\x01", "cert-usage", "version 2");
    CASE(3, "\xA0\x03\x02\x01\x02", 0, "", "cert-usage", "no version");
    CASE(3, "\xA0\x03\x02\x01\x02", 0, "\xA0\x03\x02\x01\x03", "cert-usage", "version 4");
    CASE(4, "\x30\x0C\x06\x03\x55\x1D\x13", 0, "\x30\x0C\x06\x03\x55\x1D\x13\x01\x01\xFF\x04\x02\x30\x00"
         "\x30\x0E\x06\x03\x2A\x03\x04\x01\x01\xFF\x04\x04\x05\x00\x05\x00", "cert-usage",
         "an unknown critical extension");
    CASE(4, "\x30\x0C\x06\x03\x55\x1D\x13", 0, "\x30\x0C\x06\x03\x55\x1D\x13\x01\x01\xFF\x04\x02\x30\x00"
         "\x30\x0B\x06\x03\x2A\x03\x04\x04\x04\x05\x00\x05\x00", "accepted", "an unknown one that is not critical");
    CASE(4, "\x30\x0C\x06\x03\x55\x1D\x13", 0, "", "accepted", "no constraints on a leaf");
}

/* The kit's notBefore is 270115 070000, one hour before KIT_NOW. */
#define FROM "\x17\x0D" "270115070000Z"

static void test_times(void)
{
    CASE(4, FROM, 0, "\x18\x0F" "20270115070000Z", "accepted", "a generalized time");
    CASE(4, FROM, 0, "\x18\x0F" "20270115090000Z", "cert-not-yet-valid", "a later one");
    CASE(4, FROM, 0, "\x17\x0D" "270230070000Z", "cert-parse", "February 30");
    CASE(4, FROM, 0, "\x17\x0D" "261301070000Z", "cert-parse", "month 13");
    CASE(4, FROM, 0, "\x17\x0D" "260115250000Z", "cert-parse", "hour 25");
    CASE(4, FROM, 0, "\x17\x0D" "261231235960Z", "cert-parse", "second 60");
    CASE(4, FROM, 0, "\x17\x0D" "260229000000Z", "cert-parse", "February 29 of 2026");
    CASE(4, FROM, 0, "\x17\x0D" "270115070000z", "cert-parse", "a small z");
    CASE(4, FROM, 0, "\x17\x0B" "2701150700Z", "cert-parse", "no seconds");
    CASE(4, FROM, 0, "\x17\x11" "270115070000+0000", "cert-parse", "an offset");
    CASE(4, FROM, 0, "\x17\x0D" "270115070000+", "cert-parse", "a plus sign");
    CASE(4, FROM, 0, "\x17\x0D" "2701150700 0Z", "cert-parse", "a blank");
    CASE(4, FROM, 0, "\x17\x0D" "27011507000\x00Z", "cert-parse", "a NUL");
    CASE(4, FROM, 0, "\x17\x0D" "+70115070000Z", "cert-parse", "a sign in the year");
    CASE(4, FROM, 0, "\x18\x11" "20270115070000.5Z", "cert-parse", "a fraction");
    CASE(4, FROM, 0, "\x0C\x0D" "270115070000Z", "cert-parse", "a text");
    CASE(1, FROM, 0, "\x17\x0D" "500115070000Z", "accepted", "1950 in two digits");
    CASE(1, FROM, 0, "\x17\x0D" "490115070000Z", "cert-not-yet-valid", "2049 in two digits");
}

static void test_names(void)
{
    CASE(3, "\x0C\x08" "instance", 0, "\x13\x08" "instance", "cert-chain", "an authority's name in another type");
    CASE(4, "\x0C\x08" "instance", 0, "\x13\x08" "instance", "cert-chain", "the issuer's name in another type");
    CASE(4, "\x0C\x08" "instance", 0, "\x0C\x08" "Instance", "cert-chain", "in another case");
    CASE(4, "\x0C\x08" "instance", 0, "\x0C\x09" "instance ", "cert-chain", "with a blank");
}

/* Encodings that are not DER, around a certificate that is. */
static void test_encoding(void)
{
    ev_slice der = ev_cert_der(pki.cert[4]);
    struct forgery f = { .level = 4 };
    struct ev_buf b = EV_BUF_INIT(1 << 16);

    MUST(ev_buf_put_slice(&b, EV_LIT("\x30\x80")));
    MUST(ev_buf_put(&b, der.p + 4, der.n - 4));
    MUST(ev_buf_put_slice(&b, EV_LIT("\x00\x00")));
    EQ_STR(verdict(&f, ev_buf_slice(&b)), "cert-parse", "an indefinite length");
    ev_buf_clear(&b);
    MUST(ev_buf_put_slice(&b, EV_LIT("\x30\x83\x00")));
    MUST(ev_buf_put(&b, der.p + 2, der.n - 2));
    EQ_STR(verdict(&f, ev_buf_slice(&b)), "cert-parse", "a length that is longer than needed");
    ev_buf_clear(&b);
    MUST(ev_buf_put_slice(&b, der));
    MUST(ev_buf_put_slice(&b, der));
    EQ_STR(verdict(&f, ev_buf_slice(&b)), "cert-parse", "two certificates");
    ev_buf_fini(&b);
}

int main(void)
{
    kit_pki_make(&pki, NULL);
    test_control();
    test_constraints();
    test_usage();
    test_key();
    test_key_bits();
    test_algorithm();
    test_version();
    test_times();
    test_names();
    test_encoding();
    kit_pki_fini(&pki);
    return tap_done();
}
