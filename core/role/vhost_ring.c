/* vhost_ring.c — guest memory and split rings (vhost_int.h).
 *
 * The guest changes all of this while we look: every number is read once, checked, and then used.
 * Chains are completed in order, so `next` is all the state there is. */
#include "role/vhost_int.h"

#include <endian.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/magic.h>

#include "base/log.h"

enum { DESC_LEN = 16, DESC_NEXT = 1, DESC_WRITE = 2, DESC_INDIRECT = 4, RING_HEAD = 4, NO_NOTIFY = 1,
       NO_INTERRUPT = 1, BREAKS_TOLD = 8 };

/* --- memory --------------------------------------------------------------------------------------- */

/* A file that could be cut short would let QEMU (or who shares it) end us with a SIGBUS: it must be
 * sealed against that, as QEMU's memfd back end does by itself. Huge pages can do the same by running
 * out, so they are not for us. */
static bool stays(int fd)
{
    int seals = fcntl(fd, F_GET_SEALS);
    struct statfs fs;

    return seals >= 0 && (seals & F_SEAL_SHRINK) && fstatfs(fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

int vhost_mem_add(struct vhost_mem *m, const struct vhost_region *want, uint64_t offset, int fd)
{
    struct vhost_region r = *want;
    struct stat st;

    if (m->n == VHOST_REGIONS)
        return -ENOBUFS;
    if (r.size == 0 || r.guest + r.size < r.guest || r.front + r.size < r.front || offset + r.size < offset)
        return -EINVAL;
    if (!stays(fd))
        return -EACCES;
    if (fstat(fd, &st) < 0 || st.st_size < 0 || offset + r.size > (uint64_t)st.st_size)
        return -EINVAL;
    r.map_len = (size_t)(offset + r.size);
    r.map = mmap(NULL, r.map_len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (r.map == MAP_FAILED)
        return -errno;
    madvise(r.map, r.map_len, MADV_DONTDUMP);       /* the guest's secrets */
    r.at = (uint8_t *)r.map + offset;
    m->region[m->n++] = r;
    return 0;
}

void vhost_mem_clear(struct vhost_mem *m)
{
    for (size_t i = 0; i < m->n; i++)
        munmap(m->region[i].map, m->region[i].map_len);
    m->n = 0;
}

uint8_t *vhost_mem_guest(const struct vhost_mem *m, uint64_t address, uint64_t *len)
{
    for (size_t i = 0; i < m->n; i++) {
        const struct vhost_region *r = &m->region[i];

        if (address >= r->guest && address - r->guest < r->size) {
            *len = r->size - (address - r->guest);
            return r->at + (address - r->guest);
        }
    }
    return NULL;
}

uint8_t *vhost_mem_front(const struct vhost_mem *m, uint64_t address, uint64_t len)
{
    for (size_t i = 0; i < m->n; i++) {
        const struct vhost_region *r = &m->region[i];

        if (address >= r->front && address - r->front < r->size && len <= r->size - (address - r->front))
            return r->at + (address - r->front);
    }
    return NULL;
}

/* --- a ring's life --------------------------------------------------------------------------------- */

static uint16_t load16(const uint8_t *p)
{
    return le16toh(__atomic_load_n((const uint16_t *)(const void *)p, __ATOMIC_ACQUIRE));
}

static void store16(uint8_t *p, uint16_t v)
{
    __atomic_store_n((uint16_t *)(void *)p, htole16(v), __ATOMIC_RELEASE);
}

static void note_kick(struct vhost_src *src, uint32_t events)
{
    (void)src, (void)events;        /* the device looks at every ring in every turn */
}

void vhost_ring_init(struct vhost_ring *r)
{
    *r = (struct vhost_ring){ .kicked = { note_kick }, .kick = -1, .call = -1, .error = -1 };
}

int vhost_ring_map(struct ev_vhost *v, struct vhost_ring *r)
{
    uint8_t *desc, *avail, *used;

    r->desc = r->avail = r->used = NULL;
    if (r->num == 0 || (r->desc_front | r->avail_front | r->used_front) == 0)
        return 0;
    desc = vhost_mem_front(&v->mem, r->desc_front, (uint64_t)r->num * DESC_LEN);
    avail = vhost_mem_front(&v->mem, r->avail_front, RING_HEAD + 2 * (uint64_t)r->num + 2);
    used = vhost_mem_front(&v->mem, r->used_front, RING_HEAD + 8 * (uint64_t)r->num + 2);
    if (!desc || !avail || !used)
        return -EFAULT;
    if ((uintptr_t)desc % 16 || (uintptr_t)avail % 2 || (uintptr_t)used % 4)
        return -EINVAL;
    r->desc = desc;
    r->avail = avail;
    r->used = used;
    r->used_index = load16(used + 2);
    return 0;
}

bool vhost_ring_ready(const struct ev_vhost *v, const struct vhost_ring *r)
{
    bool on = r->enabled || !(v->features >> 30 & 1);       /* without protocol features: from the kick on */

    return r->desc && r->started && on && !r->broken;
}

void vhost_ring_break(struct ev_vhost *v, struct vhost_ring *r, const char *why)
{
    uint64_t one = 1;

    if (r->broken)
        return;
    r->broken = true;
    /* A guest that begins anew only to do it again does not fill the log. */
    ev_log(v->breaks++ < BREAKS_TOLD ? EV_WARN : EV_DEBUG, "vhost", "%s: queue %d stopped: %s", v->device->name,
           (int)(r - v->ring), why);
    if (r->error >= 0 && write(r->error, &one, sizeof one) < 0)
        ev_log(EV_DEBUG, "vhost", "nobody hears of it");
}

/* --- chains ----------------------------------------------------------------------------------------- */

struct desc { uint64_t address; uint32_t len; uint16_t flags, next; };

static struct desc load_desc(const struct vhost_ring *r, uint16_t i)
{
    const uint64_t *p = (const uint64_t *)(const void *)(r->desc + (size_t)i * DESC_LEN);
    uint64_t a = le64toh(__atomic_load_n(&p[0], __ATOMIC_RELAXED));
    uint64_t b = le64toh(__atomic_load_n(&p[1], __ATOMIC_RELAXED));

    return (struct desc){ a, (uint32_t)b, (uint16_t)(b >> 32), (uint16_t)(b >> 48) };
}

/* One descriptor, which may lie across two regions that are neighbours. */
static int add_pieces(struct ev_vhost *v, const struct desc *d, size_t at, struct vhost_chain *c)
{
    uint64_t address = d->address, left = d->len, here;
    size_t *n = d->flags & DESC_WRITE ? &c->n_in : &c->n_out;
    size_t *len = d->flags & DESC_WRITE ? &c->in_len : &c->out_len;

    while (left > 0) {
        size_t i = at + c->n_out + c->n_in;
        uint8_t *p = vhost_mem_guest(&v->mem, address, &here);

        if (!p)
            return -EFAULT;
        if (i == VHOST_IOV)
            return -ENOBUFS;
        here = here < left ? here : left;
        v->iov[i] = (struct iovec){ p, (size_t)here };
        (*n)++;
        *len += (size_t)here;
        left -= here;
        address += here;        /* may wrap: no region contains what is then left */
    }
    return c->in_len + c->out_len > VHOST_CHAIN_BYTES ? -E2BIG : 0;
}

static int walk(struct ev_vhost *v, const struct vhost_ring *r, size_t at, struct vhost_chain *c)
{
    uint32_t i = c->head, seen = 0;
    struct desc d;
    int rc;

    do {
        if (i >= r->num)
            return -ERANGE;
        if (seen++ == r->num)
            return -ELOOP;
        d = load_desc(r, (uint16_t)i);
        if (d.flags & ~(DESC_NEXT | DESC_WRITE))            /* indirect ones were not offered */
            return -EINVAL;
        if (!(d.flags & DESC_WRITE) && c->n_in > 0)
            return -EINVAL;
        if ((rc = add_pieces(v, &d, at, c)) < 0)
            return rc;
        i = d.next;
    } while (d.flags & DESC_NEXT);
    return 1;
}

static int waiting(struct ev_vhost *v, struct vhost_ring *r)
{
    uint16_t n = (uint16_t)(load16(r->avail + 2) - r->next);

    if (n > r->num) {
        vhost_ring_break(v, r, "its index ran past its size");
        return -EPROTO;
    }
    return n;
}

bool vhost_ring_filled(struct ev_vhost *v, struct vhost_ring *r)
{
    return vhost_ring_ready(v, r) && waiting(v, r) > 0;
}

int vhost_ring_peek(struct ev_vhost *v, struct vhost_ring *r, uint16_t ahead, size_t at, struct vhost_chain *out)
{
    int n, rc;

    if (!vhost_ring_ready(v, r))
        return 0;
    if ((n = waiting(v, r)) <= ahead)
        return n < 0 ? n : 0;
    *out = (struct vhost_chain){ .iov = &v->iov[at] };
    out->head = load16(r->avail + RING_HEAD + 2 * (size_t)((uint16_t)(r->next + ahead) % r->num));
    rc = walk(v, r, at, out);
    if (rc < 0 && !(rc == -ENOBUFS && at > 0))
        vhost_ring_break(v, r, rc == -EFAULT ? "a descriptor outside the guest's memory"
                         : rc == -ELOOP ? "a chain without an end"
                         : rc == -ENOBUFS || rc == -E2BIG ? "a chain that is too long" : "a wrong descriptor");
    return rc;
}

void vhost_ring_done(struct vhost_ring *r, uint16_t head, uint32_t len)
{
    uint32_t *entry = (uint32_t *)(void *)(r->used + RING_HEAD + 8 * (size_t)(r->used_index % r->num));

    __atomic_store_n(&entry[0], htole32(head), __ATOMIC_RELAXED);
    __atomic_store_n(&entry[1], htole32(len), __ATOMIC_RELAXED);
    r->used_index++;
    r->next++;
    store16(r->used + 2, r->used_index);
    r->to_signal = true;
}

void vhost_ring_signal(struct vhost_ring *r)
{
    uint64_t one = 1;

    if (!r->to_signal || !r->avail || r->call < 0)
        return;
    r->to_signal = false;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);        /* the used index before the flag is read */
    if (!(load16(r->avail) & NO_INTERRUPT) && write(r->call, &one, sizeof one) < 0 && errno != EAGAIN)
        ev_log(EV_DEBUG, "vhost", "the call descriptor does not take a signal");
}

/* Only while it is the driver's: the guest may have put the memory of a stopped ring to other use. */
void vhost_ring_mute(struct ev_vhost *v, struct vhost_ring *r)
{
    if (vhost_ring_ready(v, r))
        store16(r->used, NO_NOTIFY);
}

bool vhost_ring_unmute(struct ev_vhost *v, struct vhost_ring *r)
{
    if (!vhost_ring_ready(v, r))
        return false;
    store16(r->used, 0);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);        /* the flag before the index is read */
    return vhost_ring_filled(v, r);
}

/* --- pieces ------------------------------------------------------------------------------------------ */

size_t vhost_slice(const struct iovec *iov, size_t n, size_t skip, size_t len, struct iovec *to)
{
    size_t used = 0;

    for (size_t i = 0; i < n && len > 0; i++) {
        size_t here = iov[i].iov_len;

        if (skip >= here) {
            skip -= here;
            continue;
        }
        here -= skip;
        here = here < len ? here : len;
        to[used++] = (struct iovec){ (uint8_t *)iov[i].iov_base + skip, here };
        skip = 0;
        len -= here;
    }
    return used;
}

static size_t copy(const struct iovec *iov, size_t n, size_t skip, uint8_t *out, const uint8_t *in, size_t len)
{
    size_t done = 0;

    for (size_t i = 0; i < n && done < len; i++) {
        size_t here = iov[i].iov_len;

        if (skip >= here) {
            skip -= here;
            continue;
        }
        here -= skip;
        here = here < len - done ? here : len - done;
        if (out)
            memcpy(out + done, (uint8_t *)iov[i].iov_base + skip, here);
        else
            memcpy((uint8_t *)iov[i].iov_base + skip, in + done, here);
        skip = 0;
        done += here;
    }
    return done;
}

size_t vhost_gather(const struct iovec *iov, size_t n, size_t skip, void *to, size_t len)
{
    return copy(iov, n, skip, to, NULL, len);
}

size_t vhost_scatter(const struct iovec *iov, size_t n, size_t skip, const void *from, size_t len)
{
    return copy(iov, n, skip, NULL, from, len);
}
