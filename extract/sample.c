#include "extract/sample.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/memory.h"
#include "extract/tokenize_parts.h"

#define POSITIONS      16
#define POSITION_BYTES ((uint64_t)1 << 20)
#define PACKING        ((uint64_t)4) /* of which size text is of its compressed one */
#define LOOK_BYTES     ((size_t)1 << 20) /* for the beginning of a line */

struct sampling {
    const struct corpus_rules *rules;
    struct pool *pool;
    struct sample *sample;
    double read; /* bytes, of all lists */
};

/* Tokens of a part of the corpus, scaled up in the end. */
struct counts {
    double bytes, tokens[SPLIT_COUNT];
};

static int add_ids(struct token_list *list, const int32_t *ids, size_t count, struct error *error)
{
    if (array_grow(&list->data, &list->capacity, list->count + count, error) < 0)
        return -1;
    if (count > 0)
        memcpy(list->data + list->count, ids, count * sizeof *ids);
    list->count += count;
    return 0;
}

static int add_parts(struct sampling *sampling, const struct part_list *parts, struct counts *counts,
                     struct error *error)
{
    for (size_t i = 0; i < parts->count; i++) {
        const struct document_part *part = &parts->part[i];
        counts->tokens[part->split] += (double)part->ids.count + (part->last && sampling->rules->end >= 0);
        if (add_ids(&sampling->sample->ids, part->ids.data, part->ids.count, error) < 0 ||
            (part->last && sampling->rules->end >= 0 &&
             add_ids(&sampling->sample->ids, &sampling->rules->end, 1, error) < 0))
            return -1;
    }
    return 0;
}

/* Reads about so many bytes from the position on, or what there is. */
static int read_from(struct sampling *sampling, const struct corpus_list *list,
                     const struct corpus_position *position, uint64_t bytes, struct counts *counts,
                     struct error *error)
{
    static const bool both[SPLIT_COUNT] = {true, true};
    struct corpus *corpus;
    struct part_list parts = {0};
    if (corpus_open(list, sampling->rules, position, &corpus, error) < 0)
        return -1;
    const uint64_t first = corpus_bytes_read(corpus);
    int result = 0;
    do {
        part_list_clear(&parts);
        result = corpus_read(corpus, both, POSITION_BYTES, &parts, error);
        if (result == 0)
            result = parts_tokenize(sampling->pool, sampling->rules, &parts, error);
        if (result == 0)
            result = add_parts(sampling, &parts, counts, error);
    } while (result == 0 && parts.count > 0 && corpus_bytes_read(corpus) - first < bytes);
    counts->bytes += (double)(corpus_bytes_read(corpus) - first);
    part_list_free(&parts);
    corpus_close(corpus);
    return result;
}

/* The offset at which the line behind `offset` begins, or the file's size when none is near. */
static int find_line(const struct corpus_file *file, uint64_t offset, uint64_t *line, struct error *error)
{
    char *text;
    int descriptor = open(file->path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return error_system(error, "%s", file->path);
    int result = array_alloc(&text, LOOK_BYTES, error);
    if (result == 0) {
        const ssize_t got = pread(descriptor, text, LOOK_BYTES, (off_t)offset);
        const char *feed = got > 0 ? memchr(text, '\n', (size_t)got) : NULL;
        *line = feed ? offset + (uint64_t)(feed - text) + 1 : file->size;
        free(text);
    }
    close(descriptor);
    return result;
}

/* Where the values of a file begin is not known, or the bytes between are not there. */
static bool is_read_from_its_beginning(const struct corpus_file *file)
{
    return file->compression != COMPRESSION_NONE || file->kind == CORPUS_JSON;
}

/* The file that byte number *byte of the list lies in; *byte becomes the one of the file. */
static size_t find_file(const struct corpus_list *list, uint64_t *byte)
{
    size_t file = 0;
    while (*byte >= list->file[file].size)
        *byte -= list->file[file++].size;
    return file;
}

/* A position where a document may begin, at byte number `byte` of the list or a little behind, or at the
 * beginning of its file. Which split the document there belongs to is drawn by a number of its own. */
static int find_position(const struct corpus_list *list, uint64_t byte, struct corpus_position *position,
                         struct error *error)
{
    *position = (struct corpus_position){.document = byte};
    position->file = find_file(list, &byte);
    const struct corpus_file *file = &list->file[position->file];
    if (byte <= file->begin || is_read_from_its_beginning(file))
        return 0;
    if (file->kind == CORPUS_TOKENS)
        position->offset = byte - (byte - file->begin) % (uint64_t)file->token_bytes;
    else if (find_line(file, byte, &position->offset, error) < 0)
        return -1;
    if (position->offset == file->size) {
        position->file++;
        position->offset = 0;
    }
    return 0;
}

/* How many positions, from number `first` on, are the same one: the beginning of a file. */
static int count_positions(const struct corpus_list *list, int first, int positions)
{
    uint64_t byte = list->bytes / (uint64_t)positions * (uint64_t)first;
    const size_t file = find_file(list, &byte);
    int count = 1;
    for (; first + count < positions && is_read_from_its_beginning(&list->file[file]); count++) {
        byte = list->bytes / (uint64_t)positions * (uint64_t)(first + count);
        if (find_file(list, &byte) != file)
            break;
    }
    return count;
}

static int sample_list(struct sampling *sampling, const struct corpus_list *list, bool whole,
                       struct error *error)
{
    struct counts counts = {0};
    const int positions = whole ? 1 : POSITIONS;
    if (list->bytes == 0)
        return 0;
    for (int i = 0, same; i < positions; i += same) {
        struct corpus_position position;
        same = count_positions(list, i, positions);
        const uint64_t bytes = whole ? UINT64_MAX : POSITION_BYTES * (uint64_t)same;
        if (find_position(list, list->bytes / (uint64_t)positions * (uint64_t)i, &position, error) < 0 ||
            read_from(sampling, list, &position, bytes, &counts, error) < 0)
            return -1;
    }
    for (int split = 0; split < SPLIT_COUNT && counts.bytes > 0; split++)
        sampling->sample->tokens[split] += counts.tokens[split] * ((double)list->bytes / counts.bytes);
    sampling->read += counts.bytes;
    return 0;
}

/* About what the files unpack to. */
static uint64_t unpacked_bytes(const struct corpus_list *list)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < list->count; i++)
        bytes += list->file[i].size * (list->file[i].compression == COMPRESSION_NONE ? 1 : PACKING);
    return bytes;
}

/* The files from `first` on, `count` of them. */
static struct corpus_list part_of(const struct corpus_list *list, size_t first, size_t count)
{
    struct corpus_list part = {.file = list->file + first, .count = count};
    for (size_t i = 0; i < count; i++)
        part.bytes += part.file[i].size;
    return part;
}

int corpus_sample(const struct corpus_list *list, const struct corpus_rules *rules, int threads,
                  struct sample *sample, struct error *error)
{
    const double started = clock_seconds();
    struct sampling sampling = {.rules = rules, .sample = sample};
    size_t shared = 0; /* files before those that are held out whole */
    while (shared < list->count && !list->file[shared].held_out)
        shared++;
    const struct corpus_list parts[] = {part_of(list, 0, shared), part_of(list, shared, list->count - shared)};
    *sample = (struct sample){.exact = unpacked_bytes(list) <= POSITIONS * POSITION_BYTES};
    if (pool_create(threads, &sampling.pool, error) < 0)
        return -1;
    int result = sample_list(&sampling, &parts[0], sample->exact, error);
    if (result == 0)
        result = sample_list(&sampling, &parts[1], sample->exact, error);
    pool_destroy(sampling.pool);
    if (sampling.read > 0)
        sample->seconds = (clock_seconds() - started) * (double)list->bytes / sampling.read;
    return result;
}

void sample_free(struct sample *sample)
{
    free(sample->ids.data);
    *sample = (struct sample){0};
}
