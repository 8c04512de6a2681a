/* Tests of codec/toml*.c: documents that must and must not parse, positions, limits, the editor. */
#include <math.h>
#include <stdlib.h>

#include "codec/toml.h"
#include "tap.h"

/* ---- documents ---- */

static const char *const valid[] = {
    "", "\n\n", "# only a comment", ("\xEF\xBB\xBF" "a = 1\n"), "a=1", "a = 1 # c\r\nb = 2\r\n",
    "a-b_c1 = 1", "1234 = 1", "\"\" = 1", "'quoted \"key\"' = 1", "\"\\u00e9\" = 1", "a . b . \"c\" = 1",
    "a.b = 1\na.c = 2", "a.b.c = 1\na.b.d = 2", "[a]\n[b]\n", "[a.b.c]\n[a]\nx = 1", "[ a . 'b' ]",
    "[[a]]\n[[a]]\nx=1\n[a.b]\n[[a.c]]\n[[a.c]]", "[a]\nb.c = 1\n[a.b.d]\ne = 1", "[[a.b]]\n[a]\nx=1",
    "a = true\nb = false", "a = 0\nb = -0\nc = +0\nd = 1_000", "a = 9223372036854775807",
    "a = -9223372036854775808", "a = 0xDEAD_beef\nb = 0o755\nc = 0b1101", "a = 0x7fffffffffffffff",
    "a = 1.0\nb = -0.1\nc = 5e+22\nd = 1e06\ne = 6.626e-34\nf = 1_0.0_1", "a = inf\nb = -nan\nc = +inf",
    "a = 1979-05-27T07:32:00Z", "a = 1979-05-27 07:32:00.999-07:00", "a = 1979-05-27t07:32:60",
    "a = 1979-05-27", "a = 07:32:00.5", "a = 2000-02-29", "a = 1979-05-27 # date and comment",
    "a = \"x\\b\\t\\n\\f\\r\\\"\\\\\\u00E9\\U0001F600\"", "a = 'C:\\path'", "a = \"\"\"\nx\n\"\"\"",
    "a = \"\"\"x\"\"\"\"\"", "a = '''''x'''''", "a = \"\"\"a \\\n   \n  b\"\"\"", "a = \"\"\"\\  \r\n x\"\"\"",
    "a = '''\nfirst\n'' two\n'''", "a = \"tab\there\"", "a = []", "a = [1, 2,]", "a = [ # c\n1,\n\n2 # d\n]",
    "a = [[1], [\"x\", 1.5]]", "a = [{x=1}, {}]", "a = {}", "a = { b = 1, c.d = 2, 'e' = [1,\n2] }",
    "a = { b.c = 1, b.d = 2 }", "a = \"\xC3\xA9\xF0\x9F\x98\x80\"", "a = \"\\u0000\"", "\ta = 1",
    "  [a]  # c", "a = 1\n[b]", "[a]\n[a.b]\n[a.c]", "a = \"\"\"\"\"\"", "a = ''''''", "a = ''",
};

static const char *const invalid[] = {
    "a", "a =", "= 1", "a = 1 b = 2", "a = 1\na = 2", "a.b = 1\na.b = 2", "a = 1\na.b = 2", "[a]\n[a]",
    "a = 1\n[a]", "[a]\nb = 1\n[a.b]", "[a.b]\n[a]\nb.c = 1", "[a]\nb.c = 1\n[a.b]", "[[a]]\n[a]",
    "[a]\n[[a]]", "a = []\n[[a]]", "a = {}\n[a.b]", "a = {}\na.b = 1", "[a]\n[[a.b]]\n[a.b]", "[[a.b]]\n[[a]]",
    "a = { b = 1\n}", "a = { b = 1, }", "a = { b = 1, b = 2 }", "a = { b = 1, b.c = 2 }", "a = {,}", "a = [,]",
    "a = [1 2]", "a = [1,,2]", "a = [", "a = [1", "a = {", "a = { b", "[a", "[a]]", "[[a]", "[]", "[[]]",
    "[a] b = 1", "[a.]", "a. = 1", ".a = 1", "a..b = 1", "a b = 1", "\"\"\"a\"\"\" = 1", "a = \"x", "a = 'x",
    "a = \"x\ny\"", "a = \"\"\"x", "a = '''x''", "a = \"\\x41\"", "a = \"\\q\"", "a = \"\\u12\"", "a = \"\\uD800\"",
    "a = \"\\U00110000\"", "a = \"\x01\"", "a = \"\x7F\"", "a = 'x\x02'", "# \x01", "a = 1\rb = 2", "a = \"\xFF\"",
    "\xC3(=1", "a = \"\"\"x\"\"\"\"\"\"", "a = \"\"\"a \\ b\"\"\"", "a = True", "a = yes", "a = 01", "a = +01",
    "a = 1_",
    "a = _1", "a = 1__0", "a = 0x", "a = +0x1", "a = 0xg", "a = 0o8", "a = 0b2", "a = 0x_1", "a = 9223372036854775808",
    "a = -9223372036854775809", "a = 0x8000000000000000", "a = 1.", "a = .1", "a = 1.e1", "a = 1e", "a = 1e1.0",
    "a = 1._0", "a = 00.1", "a = Inf", "a = nan1", "a = 1979-02-30", "a = 1900-02-29", "a = 1979-13-01",
    "a = 1979-00-01", "a = 1979-05-00", "a = 1979-5-27", "a = 1979-05-27T24:00:00", "a = 1979-05-27T07:60:00",
    "a = 1979-05-27T07:32:61", "a = 1979-05-27T07:32", "a = 07:32", "a = 1979-05-27T07:32:00+24:00",
    "a = 1979-05-27T07:32:00.Z", "a = 1979-05-27T", "a = 1979-05-27T07:32:00ZZ", "a = 1 [b]", "a = 1,", "!", "a = #",
    "a = \"\\\n\"", "a = 1.5.2", "a = 0x1.5", "a = --1", "a = 1979-05-27 07:32", "a = 1 \x0B",
};

static int parses(const char *text, struct ev_err *err)
{
    struct ev_toml_doc *doc = NULL;
    int rc = ev_toml_parse(ev_slice_str(text), &doc, NULL, err);

    ev_toml_free(doc);
    return rc;
}

static void test_documents(void)
{
    for (size_t i = 0; i < EV_COUNT(valid); i++) {
        struct ev_err err = EV_ERR_INIT;
        int rc = parses(valid[i], &err);

        OK(rc == 0, "valid %zu%s%s", i, rc < 0 ? ": " : "", err.msg);
    }
    for (size_t i = 0; i < EV_COUNT(invalid); i++) {
        struct ev_err err = EV_ERR_INIT;
        int rc = parses(invalid[i], &err);

        OK(rc == EV_EPARSE && strncmp(err.msg, "line ", 5) == 0, "invalid %zu: %s", i,
           rc < 0 ? err.msg : invalid[i]);
    }
}

/* Each prefix of each valid document, in an allocation of its own size: never a crash, and a
 * failure always has its place. */
static void test_truncation(void)
{
    size_t bad = 0, runs = 0;

    for (size_t i = 0; i < EV_COUNT(valid); i++) {
        for (size_t n = 0; n < strlen(valid[i]); n++) {
            struct ev_toml_pos where = {0};
            struct ev_toml_doc *doc = NULL;
            uint8_t *copy = malloc(n + 1);
            int rc;

            memcpy(copy, valid[i], n);
            copy = realloc(copy, n ? n : 1);
            rc = ev_toml_parse(ev_slice_of(copy, n), &doc, &where, NULL);
            bad += rc < 0 && (where.line == 0 || where.column == 0 || doc);
            runs++;
            ev_toml_free(doc);
            free(copy);
        }
    }
    OK(bad == 0 && runs > 500, "%zu truncated documents", runs);
}

/* ---- values ---- */

static const struct ev_toml *at(const struct ev_toml *t, const char *path)
{
    const char *dot;

    for (; t && (dot = strchr(path, '.')); path = dot + 1)
        t = ev_toml_get(t, ev_slice_of(path, (size_t)(dot - path)));
    return ev_toml_get(t, ev_slice_str(path));
}

static void test_values(void)
{
    static const char text[] =
        "s = \"a\\u00e9\\n\"\nm = \"\"\"\nx \\\n   y\"\"\"\"\"\nl = 'C:\\n'\ni = -1_000\nx = 0xff\n"
        "f = 1.5e3\nn = nan\nd = 1979-05-27 07:32:00Z\nt.u.v = true\na = [1, 'two', [3]]\n"
        "[h]\n  k = { p = 1, q.r = 2 }\n[[z]]\nw = 1\n[[z]]\nw = 2\n";
    struct ev_toml_doc *doc = NULL;
    const struct ev_toml *root, *n;

    OK(ev_toml_parse(ev_slice_str(text), &doc, NULL, NULL) == 0, "parses");
    root = ev_toml_root(doc);
    OK(ev_slice_eq(at(root, "s")->text, EV_LIT("a\xC3\xA9\n")), "basic string");
    OK(ev_slice_eq(at(root, "m")->text, EV_LIT("x y\"\"")), "multi-line string, line joint, quotes");
    OK(ev_slice_eq(at(root, "l")->text, EV_LIT("C:\\n")), "literal string");
    EQ_INT(at(root, "i")->integer, -1000, "integer");
    EQ_INT(at(root, "x")->integer, 255, "hexadecimal");
    OK(at(root, "f")->real == 1500.0, "float");
    OK(isnan(at(root, "n")->real), "nan");
    n = at(root, "d");
    OK(n->type == EV_TOML_DATETIME && ev_slice_eq(n->text, EV_LIT("1979-05-27 07:32:00Z")),
       "date-time keeps its text");
    OK(at(root, "t.u.v")->boolean, "dotted key");
    EQ_INT(ev_toml_item(ev_toml_item(at(root, "a"), 2), 0)->integer, 3, "nested array");
    OK(!ev_toml_item(at(root, "a"), 3), "past the end of an array");
    EQ_INT(at(root, "h.k.q.r")->integer, 2, "inline table");
    EQ_INT(at(root, "h.k.q.r")->line, 14, "line inside an inline table");
    EQ_INT(ev_toml_where(doc, at(root, "h.k")).column, 3, "column");
    EQ_INT(at(ev_toml_item(at(root, "z"), 1), "w")->integer, 2, "array of tables");
    EQ_INT(at(root, "i")->line, 6, "lines after a multi-line string");
    EQ_STR(ev_toml_type_name(n->type), "date-time", "type name");
    ev_toml_free(doc);
}

static void test_messages(void)
{
    static const struct { const char *text; uint32_t line, column; const char *msg; } cases[] = {
        { "a = 1\n[egress]\n\xC3\xA9 = 1\n", 3, 1, "line 3, column 1: a key was expected" },
        { "a = \"\xC3\xA9\" x\n", 1, 9, "line 1, column 9: a: the end of the line was expected" },
        { "[egress]\nports.a = maybe\n", 2, 11,
          "line 2, column 11: ports.a: \"maybe\" is not a value (text needs quotes)" },
        { "b = 1\n\nb = 2\n", 3, 1, "line 3, column 1: b: set twice, first on line 1" },
    };

    for (size_t i = 0; i < EV_COUNT(cases); i++) {
        struct ev_toml_pos where;
        struct ev_toml_doc *doc = NULL;
        struct ev_err err = EV_ERR_INIT;

        OK(ev_toml_parse(ev_slice_str(cases[i].text), &doc, &where, &err) == EV_EPARSE && !doc,
           "refused, no document");
        EQ_STR(err.msg, cases[i].msg, "message");
        OK(where.line == cases[i].line && where.column == cases[i].column, "place %u:%u", where.line,
           where.column);
    }
}

/* ---- limits ---- */

static int parse_buf(struct ev_buf *b)
{
    struct ev_toml_doc *doc = NULL;
    int rc = ev_toml_parse(ev_buf_slice(b), &doc, NULL, NULL);

    ev_toml_free(doc);
    ev_buf_clear(b);
    return rc;
}

static void repeat(struct ev_buf *b, const char *s, size_t n)
{
    while (n-- > 0)
        if (ev_buf_puts(b, s) < 0)
            abort();
}

static void test_limits(void)
{
    struct ev_buf b = EV_BUF_INIT(4 << 20);

    repeat(&b, "x", EV_TOML_MAX + 1);
    EQ_INT(parse_buf(&b), EV_ELIMIT, "too large");
    repeat(&b, "a=", 1), repeat(&b, "[", 30), repeat(&b, "]", 30);
    EQ_INT(parse_buf(&b), 0, "30 arrays deep");
    repeat(&b, "a=", 1), repeat(&b, "[", 100000);
    EQ_INT(parse_buf(&b), EV_ELIMIT, "100,000 arrays deep");
    repeat(&b, "a=", 1), repeat(&b, "{a=", 50000);
    EQ_INT(parse_buf(&b), EV_ELIMIT, "50,000 inline tables deep");
    repeat(&b, "a.", 40), repeat(&b, "a=1", 1);
    EQ_INT(parse_buf(&b), EV_ELIMIT, "41 dotted parts");
    repeat(&b, "[", 1), repeat(&b, "a.", 40), repeat(&b, "a]", 1);
    EQ_INT(parse_buf(&b), EV_ELIMIT, "header of 41 parts");
    for (int i = 0; i < EV_TOML_KEYS; i++)
        if (ev_buf_printf(&b, "k%d = 1\n", i) < 0)
            abort();
    EQ_INT(parse_buf(&b), 0, "10,000 keys");
    for (int i = 0; i <= EV_TOML_KEYS; i++)
        if (ev_buf_printf(&b, "k%d = 1\n", i) < 0)
            abort();
    EQ_INT(parse_buf(&b), EV_ELIMIT, "10,001 keys");
    repeat(&b, "a=[", 1), repeat(&b, "1,", EV_TOML_ITEMS + 1), repeat(&b, "]", 1);
    EQ_INT(parse_buf(&b), EV_ELIMIT, "too many items");
    repeat(&b, "a=", 1), repeat(&b, "1", 200);
    EQ_INT(parse_buf(&b), EV_EPARSE, "a number of 200 digits");
    ev_buf_fini(&b);
}

/* ---- editor ---- */

/* path is "a/b/key"; value NULL removes. want NULL: the edit must fail. */
static const struct edit_case {
    const char *what, *text, *path, *value, *want;
} edits[] = {
    { "replaces a value", "a = 1 # one\nb = 2\n", "a", "5", "a = 5 # one\nb = 2\n" },
    { "keeps odd spacing", "  a   =  1\t# x\n", "a", "'v'", "  a   =  'v'\t# x\n" },
    { "equal value: spelling stays", "a = 'x' # c\n", "a", "\"x\"", "a = 'x' # c\n" },
    { "equal number: spelling stays", "a = 0x10\n", "a", "16", "a = 0x10\n" },
    { "another type replaces", "a = '1'\n", "a", "1", "a = 1\n" },
    { "in a section", "[s]\na = 1\n\n# c\n[t]\na = 1\n", "t/a", "2", "[s]\na = 1\n\n# c\n[t]\na = 2\n" },
    { "multi-line value", "a = [\n 1, # one\n 2\n]\nb = 1\n", "a", "[]", "a = []\nb = 1\n" },
    { "dotted key", "s.a = 1\n", "s/a", "2", "s.a = 2\n" },
    { "inline table", "s = { a = 1, b = 2 } # c\n", "s/a", "3", "s = { a = 3, b = 2 } # c\n" },
    { "quoted key", "\"a b\" = 1\n", "a b", "2", "\"a b\" = 2\n" },
    { "new key in its section", "[s]\na = 1 # c\n\n# about t\n[t]\nb = 1\n", "s/n", "2",
      "[s]\na = 1 # c\nn = 2\n\n# about t\n[t]\nb = 1\n" },
    { "new key takes the indentation", "[s]\n    a = 1\n", "s/n", "2", "[s]\n    a = 1\n    n = 2\n" },
    { "new key in an empty section", "[s] # c\n[t]\n", "s/n", "2", "[s] # c\nn = 2\n[t]\n" },
    { "new key at the root", "a = 1\n\n[s]\n", "n", "2", "a = 1\nn = 2\n\n[s]\n" },
    { "new key at a root without lines", "# top\n[s]\n", "n", "2", "n = 2\n\n# top\n[s]\n" },
    { "new key in an empty text", "", "n", "2", "n = 2\n" },
    { "new section", "a = 1\n", "s/n", "2", "a = 1\n\n[s]\nn = 2\n" },
    { "new section, blank line is there", "a = 1\n\n", "s/n", "2", "a = 1\n\n[s]\nn = 2\n" },
    { "new section, empty text", "", "s/n", "2", "[s]\nn = 2\n" },
    { "new section, no final newline", "a = 1", "s/n", "2", "a = 1\n\n[s]\nn = 2\n" },
    { "new key, no final newline", "[s]\na = 1", "s/n", "2", "[s]\na = 1\nn = 2" },
    { "new nested section", "[s]\na = 1\n", "s/t/n", "2", "[s]\na = 1\n\n[s.t]\nn = 2\n" },
    { "implied table gets a header", "[s.t]\na = 1\n", "s/n", "2", "[s.t]\na = 1\n\n[s]\nn = 2\n" },
    { "new key beside dotted ones", "s.a = 1\nb = 2\n", "s/n", "2", "s.a = 1\ns.n = 2\nb = 2\n" },
    { "the same in a section", "[h]\ns.t.a = 1\nb = 2\n", "h/s/n", "2",
      "[h]\ns.t.a = 1\ns.n = 2\nb = 2\n" },
    { "table below a dotted one", "s.a = 1\n", "s/t/n", "2", "s.a = 1\ns.t.n = 2\n" },
    { "new key in an inline table", "s = { a = 1 }\n", "s/n", "2", "s = { a = 1, n = 2 }\n" },
    { "the same without blanks", "s = {a=1}\n", "s/n", "2", "s = {a=1, n = 2}\n" },
    { "the same in an empty one", "s = {}\n", "s/n", "2", "s = { n = 2 }\n" },
    { "the same in an empty wide one", "s = { }\n", "s/n", "2", "s = { n = 2 }\n" },
    { "table below an inline one", "s = { a = 1 }\n", "s/t/n", "2", "s = { a = 1, t.n = 2 }\n" },
    { "dotted inside an inline table", "s = { t.a = 1 }\n", "s/t/n", "2", "s = { t.a = 1, t.n = 2 }\n" },
    { "CRLF stays", "a = 1\r\n[s]\r\nb = 1\r\n", "s/n", "2", "a = 1\r\n[s]\r\nb = 1\r\nn = 2\r\n" },
    { "CRLF in a new section", "a = 1\r\n", "s/n", "2", "a = 1\r\n\r\n[s]\r\nn = 2\r\n" },
    { "byte order mark stays", "\xEF\xBB\xBF[s]\n", "n", "2", "\xEF\xBB\xBFn = 2\n\n[s]\n" },
    { "key that needs quotes", "a = 1\n", "x y", "2", "a = 1\n\"x y\" = 2\n" },
    { "removes a line", "a = 1 # c\nb = 2\n", "a", NULL, "b = 2\n" },
    { "removes the last line", "a = 1\nb = 2", "b", NULL, "a = 1\n" },
    { "removes a multi-line value", "a = [\n1\n] # c\r\nb = 2\n", "a", NULL, "b = 2\n" },
    { "removes from an inline table", "s = { a = 1, b = 2 }\n", "s/a", NULL, "s = { b = 2 }\n" },
    { "removes the last of an inline table", "s = { a = 1, b = 2 }\n", "s/b", NULL, "s = { a = 1 }\n" },
    { "removes behind a byte order mark", "\xEF\xBB\xBF" "a = 1\nb = 2\n", "a", NULL,
      "\xEF\xBB\xBF" "b = 2\n" },
    { "removing what is not there", "a = 1\n", "s/x", NULL, "a = 1\n" },
    { "refuses a table as value", "[s]\na = 1\n", "s", "1", NULL },
    { "refuses a path through a value", "s = 1\n", "s/a", "1", NULL },
    { "refuses an array of tables", "[[s]]\na = 1\n", "s/a", "1", NULL },
    { "refuses a bad literal", "a = 1\n", "a", "x", NULL },
    { "refuses a literal with a second key", "a = 1\n", "a", "1\nb = 2", NULL },
    { "refuses a literal with a comment", "a = 1\n", "a", "1 # c", NULL },
    { "refuses a broken text", "a = \n", "a", "1", NULL },
};

static int apply(const char *text, const char *path, const char *value, struct ev_buf *out,
                 struct ev_err *err)
{
    ev_slice part[8];
    struct ev_toml_edit e = { .path = part, .literal = ev_slice_str(value) };

    for (const char *slash; (slash = strchr(path, '/')); path = slash + 1)
        part[e.n_path++] = ev_slice_of(path, (size_t)(slash - path));
    e.key = ev_slice_str(path);
    return ev_toml_apply(ev_slice_str(text), &e, 1, out, err);
}

static void test_edits(void)
{
    for (size_t i = 0; i < EV_COUNT(edits); i++) {
        const struct edit_case *c = &edits[i];
        struct ev_buf out = EV_BUF_INIT(EV_TOML_MAX);
        struct ev_err err = EV_ERR_INIT;
        int rc = apply(c->text, c->path, c->value, &out, &err);

        if (c->want)
            OK(rc == 0 && strcmp(ev_buf_str(&out), c->want) == 0, "%s%s%s", c->what,
               rc < 0 ? ": " : "", err.msg);
        else
            OK(rc < 0 && err.msg[0], "%s (%s)", c->what, err.msg);
        ev_buf_fini(&out);
    }
}

static void test_edit_sequence(void)
{
    static const ev_slice path[] = { { (const uint8_t *)"attestation", 11 } };
    struct ev_toml_edit e[] = {
        { path, 1, EV_LIT("HashAlgorithm"), EV_LIT("\"Sha384 { ... }\"") },
        { path, 1, EV_LIT("PCR0"), EV_LIT("\"aa\"") },
        { NULL, 0, EV_LIT("debug"), EV_LIT("true") },
        { path, 1, EV_LIT("PCR0"), EV_LIT("\"bb\"") },
    };
    struct ev_buf out = EV_BUF_INIT(EV_TOML_MAX), small = EV_BUF_INIT(10);

    OK(ev_toml_apply(EV_LIT("name = 'x'\n\n[egress]\nenabled = false\n"), e, EV_COUNT(e), &out, NULL) == 0,
       "several changes");
    OK(strcmp(ev_buf_str(&out),
              "name = 'x'\ndebug = true\n\n[egress]\nenabled = false\n\n[attestation]\n"
              "HashAlgorithm = \"Sha384 { ... }\"\nPCR0 = \"bb\"\n") == 0, "all of them");
    EQ_INT(ev_toml_apply(EV_LIT("name = 'x'\n"), e, EV_COUNT(e), &small, NULL), -ENOBUFS,
           "no room for the result");
    ev_buf_fini(&out);
    ev_buf_fini(&small);
}

static void test_literals(void)
{
    struct ev_buf b = EV_BUF_INIT(1000);

    OK(ev_toml_put_string(&b, EV_LIT("a\"\\\n\x01\x7F\xC3\xA9")) == 0, "string literal");
    EQ_STR(ev_buf_str(&b), "\"a\\\"\\\\\\n\\u0001\\u007F\xC3\xA9\"", "escapes");
    ev_buf_clear(&b);
    OK(ev_toml_put_key(&b, EV_LIT("")) == 0, "empty key");
    EQ_STR(ev_buf_str(&b), "\"\"", "an empty key has quotes");
    ev_buf_fini(&b);
}

int main(void)
{
    test_documents();
    test_truncation();
    test_values();
    test_messages();
    test_limits();
    test_edits();
    test_edit_sequence();
    test_literals();
    return tap_done();
}
