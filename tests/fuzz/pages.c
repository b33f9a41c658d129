/* A sound store with some bytes changed: three bytes of the input say where, one what. Whatever the changes
 * are, the walk over LMDB's pages must end; and where it finds nothing, LMDB must be able to read all of the
 * store: what it gives may be wrong, which hashes are for, but may not lead it astray. */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/lmdb/pages.h"
#include "tests/fuzz/fuzz.h"
#include "tests/store_fixture.h"

/* One a process. */
static struct {
    char path[64], data[80];
    unsigned char *bytes; /* of the sound store */
    size_t size;
    int file;
} store;

static void fail(const struct error *error)
{
    fprintf(stderr, "fuzz: %s\n", error->text);
    abort();
}

static int fill(struct store *made, struct error *error)
{
    static const float tensor[8 * 40];
    for (int i = 0; i < 6; i++) /* commits leave lists of freed pages, and a tree of two levels */
        if (fixture_fill(made, i % 3 == 2 ? SPLIT_HELD_OUT : SPLIT_TRAIN, 16, error) < 0)
            return -1;
    if (store_begin(made, error) < 0 ||
        store_put_source(made, "output", (struct source_shape){DTYPE_F32, 8, 40}, tensor, error) < 0)
        return -1;
    return store_commit(made, error) < 0 ? -1 : store_seal(made, error);
}

static void prepare(void)
{
    struct error error;
    struct store *made;
    char *text;
    json_t *manifest = fixture_manifest(0, 1);
    snprintf(store.path, sizeof store.path, "/tmp/offramp-fuzz-pages-XXXXXX");
    if (!mkdtemp(store.path) || rmdir(store.path) < 0)
        abort();
    snprintf(store.data, sizeof store.data, "%s/data.mdb", store.path);
    if (store_create(store.path, manifest, &made, &error) < 0 || fill(made, &error) < 0)
        fail(&error);
    store_close(made);
    json_decref(manifest);
    if (file_read(store.data, &text, &store.size, &error) < 0)
        fail(&error);
    store.bytes = (unsigned char *)text;
    store.file = open(store.data, O_RDWR | O_CLOEXEC);
}

static void write_byte(size_t offset, unsigned char byte)
{
    if (pwrite(store.file, &byte, 1, (off_t)offset) != 1)
        abort();
}

static void ignore(void *context, const char *problem)
{
    (void)context, (void)problem;
}

static void read_all(void)
{
    struct error error;
    struct store *opened;
    struct reader *reader;
    const struct store_info *info;
    const void *record;
    size_t size;
    if (store_open(store.path, STORE_READ, &opened, &error) < 0)
        return;
    info = store_info(opened);
    if (reader_open(opened, &reader, &error) == 0) {
        for (int tap = STORE_TOKENS; tap < info->taps; tap++)
            for (enum split split = 0; split < SPLIT_COUNT; split++)
                for (uint64_t i = 0; i < store_sequences(opened, split); i++)
                    reader_record(reader, tap, (struct sequence){split, i}, &record, &size, &error);
        reader_close(reader);
    }
    store_close(opened);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error error;
    int problems;
    if (!store.bytes)
        prepare();
    const size_t changes = size / 4 < 16 ? size / 4 : 16;
    for (size_t i = 0; i < changes; i++) {
        const uint8_t *change = data + 4 * i;
        write_byte((change[0] | (size_t)change[1] << 8 | (size_t)change[2] << 16) % store.size, change[3]);
    }
    if (pages_check(store.data, 0, ignore, NULL, &problems, &error) == 0 && problems == 0)
        read_all();
    for (size_t i = 0; i < changes; i++) {
        const uint8_t *change = data + 4 * i;
        const size_t offset = (change[0] | (size_t)change[1] << 8 | (size_t)change[2] << 16) % store.size;
        write_byte(offset, store.bytes[offset]);
    }
    return 0;
}
