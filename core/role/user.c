/* user.c — USER of an image, looked up in the image's own passwd and group (rootfs.h). Both files
 * are a stranger's: malformed lines are skipped, counts are bounded, nothing is executed or opened. */
#include "role/rootfs.h"

#include <stdlib.h>

enum { FIELDS = 7, ID_DIGITS = 10 };

struct line {
    ev_slice field[FIELDS];
    size_t n;
};

/* Splits the first line off *text at ':'; false at the end. */
static bool next_line(ev_slice *text, struct line *out)
{
    const uint8_t *end = text->n ? memchr(text->p, '\n', text->n) : NULL;
    size_t n = end ? (size_t)(end - text->p) : text->n;
    const uint8_t *p = text->p, *stop = p + n;

    if (text->n == 0)
        return false;
    memset(out, 0, sizeof(*out));
    while (out->n < FIELDS) {
        const uint8_t *colon = p < stop && out->n + 1 < FIELDS ? memchr(p, ':', (size_t)(stop - p)) : NULL;

        out->field[out->n++] = ev_slice_of(p, (size_t)((colon ? colon : stop) - p));
        if (!colon)
            break;
        p = colon + 1;
    }
    text->p += n + (end != NULL);
    text->n -= n + (end != NULL);
    return true;
}

/* A decimal id below 2^31 (docker's bound). */
static bool id_of(ev_slice s, uint32_t *out)
{
    uint64_t v = 0;

    if (s.n == 0 || s.n > ID_DIGITS)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        v = v * 10 + (s.p[i] - '0');
    }
    *out = (uint32_t)v;
    return v <= INT32_MAX;
}

/* The passwd line of a name or, when `by_id`, of a number. */
static bool find_passwd(ev_slice passwd, ev_slice name, bool by_id, uint32_t id, struct line *l)
{
    uint32_t uid, gid;

    while (next_line(&passwd, l)) {
        if (l->n < 6 || !id_of(l->field[2], &uid) || !id_of(l->field[3], &gid))
            continue;
        if (by_id ? uid == id : ev_slice_eq(l->field[0], name))
            return true;
    }
    return false;
}

static bool lists_member(ev_slice members, ev_slice name)
{
    while (members.n > 0) {
        const uint8_t *comma = memchr(members.p, ',', members.n);
        size_t n = comma ? (size_t)(comma - members.p) : members.n;

        if (ev_slice_eq(ev_slice_of(members.p, n), name))
            return true;
        members.p += n + (comma != NULL);
        members.n -= n + (comma != NULL);
    }
    return false;
}

static int add_groups(ev_slice group, ev_slice name, struct ev_user *out, struct ev_err *err)
{
    struct line l;
    uint32_t gid;

    while (name.n > 0 && next_line(&group, &l)) {
        if (l.n < 4 || !id_of(l.field[2], &gid) || !lists_member(l.field[3], name))
            continue;
        if (out->n_groups == EV_USER_GROUPS)
            return ev_fail(err, EV_ELIMIT, "user is in more than %d groups", EV_USER_GROUPS);
        out->groups[out->n_groups++] = (gid_t)gid;
    }
    return 0;
}

static int find_group(ev_slice group, ev_slice spec, struct ev_user *out, struct ev_err *err)
{
    struct line l;
    uint32_t gid;

    while (next_line(&group, &l))
        if (l.n >= 3 && id_of(l.field[2], &gid) && ev_slice_eq(l.field[0], spec))
            return out->gid = (gid_t)gid, 0;
    if (!id_of(spec, &gid))
        return ev_fail_reason(err, EV_ECONFIG, "user", "USER: group \"%.*s\" is not in the image's /etc/group",
                              (int)spec.n, (const char *)spec.p);
    out->gid = (gid_t)gid;
    return 0;
}

static void take_home(const struct line *l, struct ev_user *out)
{
    ev_slice home = l->n > 5 ? l->field[5] : (ev_slice){ NULL, 0 };

    if (home.n == 0 || home.n >= sizeof(out->home) || memchr(home.p, 0, home.n))
        return;
    memcpy(out->home, home.p, home.n);
    out->home[home.n] = 0;
}

int ev_user_find(const char *spec, ev_slice passwd, ev_slice group, struct ev_user *out, struct ev_err *err)
{
    const char *colon = strchr(spec, ':');
    ev_slice user = ev_slice_of(spec, colon ? (size_t)(colon - spec) : strlen(spec)), name = { NULL, 0 };
    uint32_t id = 0;
    bool numeric;
    struct line l;

    memset(out, 0, sizeof(*out));
    memcpy(out->home, "/", 2);
    if (user.n == 0)
        user = EV_LIT("0");
    numeric = id_of(user, &id);
    if (find_passwd(passwd, user, false, 0, &l) || (numeric && find_passwd(passwd, user, true, id, &l))) {
        name = l.field[0];
        id_of(l.field[2], &id);
        out->uid = (uid_t)id;
        id_of(l.field[3], &id);
        out->gid = (gid_t)id;
        take_home(&l, out);
    } else if (numeric) {
        out->uid = (uid_t)id;
    } else {
        return ev_fail_reason(err, EV_ECONFIG, "user", "USER: \"%.*s\" is not in the image's /etc/passwd", (int)user.n,
                              (const char *)user.p);
    }
    if (colon && colon[1])
        return find_group(group, ev_slice_str(colon + 1), out, err);
    return add_groups(group, name, out, err);
}
