/* fuzz_replay.c — runs a fuzz target's function over files and folders given as arguments, and over
 * every truncation of each file below 4 KiB. Linked instead of libFuzzer in `make test`. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t runs;

/* An exact-size copy, so that the address sanitizer sees a read past the end. */
static void one(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);

    if (!copy)
        abort();
    memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
    runs++;
}

static void file(const char *path)
{
    FILE *f = fopen(path, "rb");
    uint8_t *data;
    long n;

    if (!f || fseek(f, 0, SEEK_END) < 0 || (n = ftell(f)) < 0) {
        perror(path);
        exit(1);
    }
    rewind(f);
    data = malloc((size_t)n + 1);
    if (!data || fread(data, 1, (size_t)n, f) != (size_t)n)
        exit(1);
    fclose(f);
    one(data, (size_t)n);
    for (size_t i = 0; n <= 4096 && i < (size_t)n; i++)
        one(data, i);
    free(data);
}

static void walk(const char *path)
{
    struct dirent **names;
    struct stat st;
    int n;

    if (stat(path, &st) < 0) {
        perror(path);
        exit(1);
    }
    if (!S_ISDIR(st.st_mode)) {
        file(path);
        return;
    }
    if ((n = scandir(path, &names, NULL, alphasort)) < 0)
        exit(1);
    for (int i = 0; i < n; i++) {
        char sub[4096];

        snprintf(sub, sizeof sub, "%s/%s", path, names[i]->d_name);
        if (names[i]->d_name[0] != '.')
            walk(sub);
        free(names[i]);
    }
    free(names);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        walk(argv[i]);
    printf("ok 1 - %zu inputs\n1..1\n", runs);
    return runs ? 0 : 1;
}
