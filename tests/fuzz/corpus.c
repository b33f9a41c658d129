/* A file of a corpus, its kind chosen by the first byte, read at once and again from every place where reading
 * may have stopped: the documents must be the same. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/hash.h"
#include "extract/corpus.h"
#include "tests/fuzz/fuzz.h"

#define MOST ((size_t)256 << 10) /* unpacked bytes: a longer file of lines is only slow */

static const char *const names[] = {"txt", "jsonl", "json", "u16", "u32", "bin", "u16.gz", "bin.zst"};

static const struct corpus_rules rules = {.field = "text", .held_out = 0.3, .end = 0, .vocab = 60000};

static uint64_t hash_parts(const struct part_list *parts, uint64_t hash)
{
    for (size_t i = 0; i < parts->count; i++) {
        const struct document_part *part = &parts->part[i];
        const uint64_t facts[] = {part->split, part->first, part->last, part->size, part->ids.count};
        hash = hash_bytes(facts, sizeof facts, hash);
        if (part->text)
            hash = hash_bytes(part->text, part->size, hash);
        if (part->ids.count > 0)
            hash = hash_bytes(part->ids.data, part->ids.count * sizeof *part->ids.data, hash);
    }
    return hash;
}

/* reopen: at each place where something came. */
static int read_all(const struct corpus_list *list, bool reopen, uint64_t *hash)
{
    static const bool both[SPLIT_COUNT] = {true, true};
    struct corpus *corpus = NULL;
    struct corpus_position position = {0};
    struct part_list parts = {0};
    struct error error;
    int result = 0;
    *hash = 0;
    do {
        part_list_clear(&parts);
        if (!corpus)
            result = corpus_open(list, &rules, &position, &corpus, &error);
        if (result == 0)
            result = corpus_read(corpus, both, 1, &parts, &error);
        if (result == 0)
            *hash = hash_parts(&parts, *hash);
        if (result == 0 && reopen) {
            position = corpus_tell(corpus);
            corpus_close(corpus);
            corpus = NULL;
        }
    } while (result == 0 && parts.count > 0);
    part_list_free(&parts);
    corpus_close(corpus);
    return result;
}

static bool is_small(const struct corpus_file *file)
{
    char buffer[4096];
    size_t got = 1, all = 0;
    struct stream *stream;
    struct error error;
    int result = stream_open(file->path, file->compression, file->size, &stream, &error);
    while (result == 0 && got > 0 && all <= MOST) {
        result = stream_read(stream, buffer, sizeof buffer, &got, &error);
        all += got;
    }
    stream_close(stream);
    return all <= MOST;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char folder[] = "/dev/shm/offramp-fuzz-XXXXXX", *made, path[64]; /* one a process */
    struct corpus_list list = {0};
    struct error error;
    uint64_t once, again;
    if (size == 0)
        return 0;
    if (!made)
        made = mkdtemp(folder);
    snprintf(path, sizeof path, "%s/a.%s", folder, names[data[0] % (sizeof names / sizeof *names)]);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data + 1, 1, size - 1, file) != size - 1 || fclose(file) != 0)
        abort();
    if (corpus_list_add(&list, path, false, data[0] & 8 ? 2 : 0, &error) == 0 && is_small(&list.file[0])) {
        const int first = read_all(&list, false, &once), second = read_all(&list, true, &again);
        if (first != second || once != again)
            abort();
    }
    corpus_list_free(&list);
    remove(path);
    return 0;
}
