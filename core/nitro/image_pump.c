/* image_pump.c — the bytes of an image go by once, on two threads.
 *
 *   caller:         fill a slot (read, copy) → publish it → PCR0 over the same slot → next slot
 *   second thread:                                  ↳ PCR2, digest of the part, write
 *
 * Writing costs a third of a hash pass: the second thread does it after its hash, when the bytes are
 * in its cache, unless it is behind; then the caller does it for that slot. The CRC, which must go in
 * order, is the caller's when something is written, else the second thread's.
 *
 * PCR1's message is a prefix of PCR0's, so it is a clone of PCR0's state after the first ramdisk.
 * A slot belongs to the caller until it is published and again when the second thread is through
 * with it; what is published is read by both and written by none. */
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "base/file.h"
#include "codec/crc32.h"
#include "crypto/digest.h"
#include "nitro/image_int.h"

enum { SLOTS = 6, BEHIND = 3 };

struct slot {
    uint8_t *data;
    size_t n;
    uint64_t at;                                /* in the file */
    int how;
    bool write;                                 /* by the second thread */
    uint8_t *part_out;                          /* ends a part */
    bool last;
};

struct ev_pump {
    int fd;                                     /* -1: nothing is written */
    /* the caller's */
    struct slot slot[SLOTS];
    uint64_t filled;                            /* slots published so far */
    struct slot *cur;                           /* being filled */
    struct ev_digest *pcr0, *pcr1;
    uint32_t crc;                               /* whose: see the top */
    uint64_t put, offset;                       /* bytes so far; where they begin in the file */
    const struct ev_image_watch *watch;
    const char *step;
    uint64_t total;
    pthread_t thread;
    bool running;

    /* both, under the lock */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t published, done;
    int error;                                  /* of the second thread */
    bool stop;

    /* the second thread's */
    struct ev_digest *pcr2, *part;
};

/* ---- second thread ---- */

static int write_slot(const struct ev_pump *p, const struct slot *s)
{
    const uint8_t *data = s->data;
    uint64_t at = s->at;
    size_t n = s->n;

    while (n > 0) {
        ssize_t w = pwrite(p->fd, data, n, (off_t)at);

        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0)
            return w < 0 ? -errno : -EIO;
        data += w;
        n -= (size_t)w;
        at += (uint64_t)w;
    }
    return 0;
}

static int consume(struct ev_pump *p, const struct slot *s)
{
    int rc = 0;

    if (s->how & EV_PUMP_PCR2)
        ev_digest_update(p->pcr2, s->data, s->n);
    if (s->how & EV_PUMP_PART) {
        if (!p->part)
            p->part = ev_digest_new(EV_SHA384);
        ev_digest_update(p->part, s->data, s->n);
    }
    if (s->part_out && p->part) {
        ev_digest_final(p->part, s->part_out);
        ev_digest_free(p->part);
        p->part = NULL;
    }
    if (s->write)
        rc = write_slot(p, s);
    else if (p->fd < 0)
        p->crc = ev_crc32(p->crc, s->data, s->n);
    return rc;
}

static void *second(void *ctx)
{
    struct ev_pump *p = ctx;
    bool last = false;
    int rc;

    pthread_mutex_lock(&p->lock);
    while (!last) {
        const struct slot *s = &p->slot[p->done % SLOTS];

        while (p->done == p->published && !p->stop)
            pthread_cond_wait(&p->changed, &p->lock);
        if (p->stop || p->error < 0)
            break;
        pthread_mutex_unlock(&p->lock);
        rc = consume(p, s);
        last = s->last;
        pthread_mutex_lock(&p->lock);
        p->done++;
        if (rc < 0)
            p->error = rc;
        pthread_cond_signal(&p->changed);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* ---- caller ---- */

static int start(struct ev_pump *p)
{
    sigset_t all, before;
    int rc;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);        /* signals are the caller's business */
    rc = pthread_create(&p->thread, NULL, second, p);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    p->running = rc == 0;
    return -rc;
}

struct ev_pump *ev_pump_new(int fd, uint64_t offset)
{
    struct ev_pump *p = ev_alloc(sizeof *p);

    p->fd = fd;
    p->offset = offset;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->changed, NULL);
    for (size_t i = 0; i < SLOTS; i++)
        p->slot[i].data = ev_alloc(EV_IMAGE_STEP);
    p->pcr0 = ev_digest_new(EV_SHA384);
    p->pcr2 = ev_digest_new(EV_SHA384);
    p->error = start(p);
    return p;
}

void ev_pump_watch(struct ev_pump *p, const struct ev_image_watch *w, const char *step, uint64_t total)
{
    p->watch = w;
    p->step = step;
    p->total = total;
}

static int write_failed(int code, struct ev_err *err)
{
    return ev_fail(err, code, "write: %s", ev_err_text(code));
}

/* What the caller does with a slot while the second thread has it, too. */
static int own_share(struct ev_pump *p, const struct slot *s, bool write, struct ev_err *err)
{
    int rc = 0;

    if (s->how & EV_PUMP_PCR0)
        ev_digest_update(p->pcr0, s->data, s->n);
    if (p->fd >= 0)
        p->crc = ev_crc32(p->crc, s->data, s->n);
    if (write && (rc = write_slot(p, s)) < 0)
        return write_failed(rc, err);
    return 0;
}

/* Hands the current slot over. */
static int publish(struct ev_pump *p, struct ev_err *err)
{
    struct slot *s = p->cur;
    bool behind;
    int rc;

    if (!s)
        return 0;
    p->cur = NULL;
    pthread_mutex_lock(&p->lock);
    behind = p->filled - p->done >= BEHIND;
    s->at = p->offset + p->put - s->n;
    s->write = p->fd >= 0 && !behind;
    p->published = ++p->filled;
    pthread_cond_signal(&p->changed);
    pthread_mutex_unlock(&p->lock);
    if ((rc = own_share(p, s, p->fd >= 0 && behind, err)) < 0)
        return rc;
    return p->step ? ev_image_step(p->watch, p->step, p->put, p->total, err) : 0;
}

/* The slot to fill for `how`: the current one while it is of that kind and has room. */
static int slot_for(struct ev_pump *p, int how, struct slot **out, struct ev_err *err)
{
    int error, rc;

    if (p->cur && (p->cur->how != how || p->cur->n == EV_IMAGE_STEP) && (rc = publish(p, err)) < 0)
        return rc;
    if (!p->cur) {
        pthread_mutex_lock(&p->lock);
        while (p->filled - p->done == SLOTS && p->error == 0)
            pthread_cond_wait(&p->changed, &p->lock);
        error = p->error;
        pthread_mutex_unlock(&p->lock);
        if (error < 0)
            return write_failed(error, err);
        p->cur = &p->slot[p->filled % SLOTS];
        p->cur->n = 0;
        p->cur->how = how;
        p->cur->part_out = NULL;
        p->cur->last = false;
    }
    *out = p->cur;
    return 0;
}

int ev_pump_put(struct ev_pump *p, int how, const void *data, size_t n, struct ev_err *err)
{
    const uint8_t *from = data;
    struct slot *s;
    int rc;

    while (n > 0) {
        size_t some;

        if ((rc = slot_for(p, how, &s, err)) < 0)
            return rc;
        some = EV_IMAGE_STEP - s->n < n ? EV_IMAGE_STEP - s->n : n;
        memcpy(s->data + s->n, from, some);
        s->n += some;
        p->put += some;
        from += some;
        n -= some;
    }
    return 0;
}

int ev_pump_file(struct ev_pump *p, int how, int fd, uint64_t offset, uint64_t n, struct ev_err *err)
{
    struct slot *s;
    int rc;

    while (n > 0) {
        size_t some;

        if ((rc = slot_for(p, how, &s, err)) < 0)
            return rc;
        some = EV_IMAGE_STEP - s->n < n ? EV_IMAGE_STEP - s->n : (size_t)n;
        if ((rc = ev_pread_all(fd, s->data + s->n, some, offset)) < 0)
            return ev_fail(err, rc, "read: %s", rc == EV_EEOF ? "the file became shorter" : ev_err_text(rc));
        s->n += some;
        p->put += some;
        offset += some;
        n -= some;
    }
    return 0;
}

int ev_pump_part(struct ev_pump *p, uint8_t out[48], struct ev_err *err)
{
    struct slot *s;
    int rc;

    EV_TRY(slot_for(p, EV_PUMP_PART, &s, err));
    s->part_out = out;
    EV_TRY(publish(p, err));
out:
    return rc;
}

int ev_pump_mark_pcr1(struct ev_pump *p, struct ev_err *err)
{
    int rc = publish(p, err);

    ev_digest_free(p->pcr1);
    p->pcr1 = ev_digest_clone(p->pcr0);
    return rc;
}

/* One extend of a zero register by a finished digest (eif.md §2). */
static void to_pcr(struct ev_digest *d, uint8_t out[48])
{
    uint8_t content[EV_DIGEST_MAX];

    ev_digest_final(d, content);
    memset(out, 0, EV_PCR_LEN);
    ev_pcr_extend(out, ev_slice_of(content, EV_PCR_LEN));
}

int ev_pump_pcr0(struct ev_pump *p, uint8_t out[48], struct ev_err *err)
{
    int rc = publish(p, err);

    if (p->pcr0)
        to_pcr(p->pcr0, out);
    ev_digest_free(p->pcr0);
    p->pcr0 = NULL;
    return rc;
}

int ev_pump_finish(struct ev_pump *p, struct ev_pcrs *out, uint32_t *crc, uint64_t *len, struct ev_err *err)
{
    struct slot *s;
    int rc;

    EV_TRY(publish(p, err));
    EV_TRY(slot_for(p, 0, &s, err));
    s->last = true;
    EV_TRY(publish(p, err));
    pthread_join(p->thread, NULL);
    p->running = false;
    if (p->error < 0)
        return write_failed(p->error, err);
    if (p->pcr1) {
        to_pcr(p->pcr1, out->value[1]);
        out->present |= 1u << 1;
    }
    to_pcr(p->pcr2, out->value[2]);
    out->present |= 1u << 2;
    *crc = p->crc;
    *len = p->put;
out:
    return rc;
}

void ev_pump_free(struct ev_pump *p)
{
    if (!p)
        return;
    if (p->running) {
        pthread_mutex_lock(&p->lock);
        p->stop = true;
        pthread_cond_signal(&p->changed);
        pthread_mutex_unlock(&p->lock);
        pthread_join(p->thread, NULL);
    }
    for (size_t i = 0; i < SLOTS; i++)
        ev_free(p->slot[i].data);
    ev_digest_free(p->pcr0);
    ev_digest_free(p->pcr1);
    ev_digest_free(p->pcr2);
    ev_digest_free(p->part);
    pthread_cond_destroy(&p->changed);
    pthread_mutex_destroy(&p->lock);
    ev_free(p);
}
