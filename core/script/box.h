/* box.h — what the bindings of codec, crypto and nitro share: a byte buffer that Lua's collector owns
 * (so that nothing leaks when a push raises), fields of result tables, and the certificate and key
 * objects. */
#ifndef EV_SCRIPT_BOX_H
#define EV_SCRIPT_BOX_H

#include "crypto/cert.h"
#include "script/script.h"

/* Pushes a userdata that holds an empty buffer with this maximum. */
EV_MAY_RAISE struct ev_buf *ev_lua_push_buf(lua_State *L, size_t max);
/* Pushes the content as a string and frees the buffer; returns 1. */
EV_MAY_RAISE int ev_lua_return_buf(lua_State *L, struct ev_buf *b);

/* Pushes the bytes as lower-case hex. */
EV_MAY_RAISE void ev_lua_push_hex(lua_State *L, const uint8_t *p, size_t n);
/* Sets a field of the table on the top; a NULL string leaves nil. */
EV_MAY_RAISE void ev_lua_set_int(lua_State *L, const char *name, int64_t v);
EV_MAY_RAISE void ev_lua_set_bool(lua_State *L, const char *name, bool v);
EV_MAY_RAISE void ev_lua_set_str(lua_State *L, const char *name, const char *v);
EV_MAY_RAISE void ev_lua_set_buf(lua_State *L, const char *name, const struct ev_buf *b);

/* Makes the type of a userdata; its methods and metamethods are one table. May be called again. */
EV_MAY_RAISE void ev_lua_type(lua_State *L, const char *name, const luaL_Reg *methods);

/* The classes of certificates and keys; may be called again. */
EV_MAY_RAISE void ev_lua_crypto_classes(lua_State *L);
/* Box first, then acquire: pushes a userdata whose pointer is NULL and that frees what is put there. */
EV_MAY_RAISE struct ev_cert **ev_lua_box_cert(lua_State *L);
EV_MAY_RAISE struct ev_key **ev_lua_box_key(lua_State *L);
EV_MAY_RAISE struct ev_cert *ev_lua_check_cert(lua_State *L, int arg);      /* borrowed */
EV_MAY_RAISE struct ev_key *ev_lua_check_key(lua_State *L, int arg);
/* A field of a table argument; NULL when it is nil. Borrowed. */
EV_MAY_RAISE struct ev_cert *ev_lua_field_cert(lua_State *L, int table, const char *name);
EV_MAY_RAISE struct ev_key *ev_lua_field_key(lua_State *L, int table, const char *name);

/* Adds image_* to the table on the top (l_image.c; the other half of ev.c.nitro). */
void ev_lua_add_image(lua_State *L);
/* Adds evapp to the table on the top (l_evstr.c; the other half of ev.c.crypto). */
void ev_lua_add_evstr(lua_State *L);

#endif
