#include "extract/corpus_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/memory.h"
#include "common/base/random.h"
#include "common/text/unicode.h"
#include "extract/kind.h"

#define CONTROLS_BYTES ((size_t)64 << 10)

/* ---- parts ---- */

void part_list_clear(struct part_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->part[i].text);
        free(list->part[i].ids.data);
        list->part[i] = (struct document_part){0};
    }
    list->count = list->bytes = 0;
}

void part_list_free(struct part_list *list)
{
    part_list_clear(list);
    free(list->part);
    *list = (struct part_list){0};
}

static struct document_part *append_part(struct part_list *list, const struct corpus *corpus, bool first,
                                         bool last, struct error *error)
{
    if (array_grow(&list->part, &list->capacity, list->count + 1, error) < 0)
        return NULL;
    struct document_part *part = &list->part[list->count];
    *part = (struct document_part){.split = corpus->position.split, .first = first, .last = last};
    return part;
}

static int append_text(struct part_list *list, const struct corpus *corpus, const char *text, size_t size,
                       bool first, bool last, struct error *error)
{
    struct document_part *part = append_part(list, corpus, first, last, error);
    if (!part)
        return -1;
    part->text = memory_alloc(size + 1, 1, error);
    if (!part->text)
        return -1;
    memcpy(part->text, text, size);
    part->size = size;
    list->count++;
    return 0;
}

/* ---- documents ---- */

enum split document_split(uint64_t number, double held_out)
{
    struct random random = {number};
    return random_uniform(&random) < held_out ? SPLIT_HELD_OUT : SPLIT_TRAIN;
}

const struct corpus_file *corpus_current_file(const struct corpus *corpus)
{
    return &corpus->list->file[corpus->position.file];
}

const char *corpus_current_path(const struct corpus *corpus)
{
    return corpus_current_file(corpus)->path;
}

bool corpus_begin_document(struct corpus *corpus)
{
    struct corpus_position *position = &corpus->position;
    if (position->inside)
        return false;
    position->inside = true;
    position->split = corpus_current_file(corpus)->held_out
                          ? SPLIT_HELD_OUT
                          : document_split(position->document, corpus->rules->held_out);
    return true;
}

void corpus_end_document(struct corpus *corpus, bool empty)
{
    corpus->position.inside = false;
    corpus->position.document++;
    corpus->position.empty += empty;
}

/* ---- bytes ---- */

static void close_file(struct corpus *corpus)
{
    struct window *window = &corpus->window;
    stream_close(window->stream);
    window->stream = NULL;
    window->begin = window->end = 0;
    window->ended = false;
}

static void next_file(struct corpus *corpus)
{
    close_file(corpus);
    if (corpus->position.inside)
        corpus_end_document(corpus, false);
    corpus->position.file++;
    corpus->position.offset = corpus->position.line = 0;
}

void corpus_end_file(struct corpus *corpus, bool empty)
{
    corpus->position.empty += empty;
    next_file(corpus);
}

bool corpus_at_begin(const struct corpus *corpus)
{
    return corpus->position.offset == corpus_current_file(corpus)->begin;
}

int corpus_open_file(struct corpus *corpus, struct error *error)
{
    const struct corpus_file *file = corpus_current_file(corpus);
    if (corpus->window.stream)
        return 0;
    if (corpus->position.offset < file->begin)
        corpus->position.offset = file->begin;
    if (stream_open(file->path, file->compression, file->size, &corpus->window.stream, error) < 0)
        return -1;
    return stream_skip(corpus->window.stream, corpus->position.offset, error);
}

int corpus_fill_window(struct corpus *corpus, size_t wanted, struct error *error)
{
    struct window *window = &corpus->window;
    if (window->end - window->begin >= wanted || window->ended)
        return 0;
    if (window->begin > 0) {
        memmove(window->data, window->data + window->begin, window->end - window->begin);
        window->end -= window->begin;
        window->begin = 0;
    }
    if (array_grow(&window->data, &window->capacity, wanted + PART_BYTES, error) < 0)
        return -1;
    const size_t room = window->capacity - window->end;
    size_t got;
    if (stream_read(window->stream, window->data + window->end, room, &got, error) < 0)
        return -1;
    window->end += got;
    window->ended = got < room;
    return 0;
}

void corpus_consume(struct corpus *corpus, size_t size)
{
    corpus->window.begin += size;
    corpus->position.offset += size;
}

/* ---- text ---- */

/* The size of the first part of a text of which `size` bytes are here: all, where those are at most `limit`,
 * else up to a cut; 0: there is none in the first `limit` bytes. limit: PART_BYTES at first, then doubled. */
static size_t find_part(const struct corpus *corpus, const char *text, size_t size, size_t limit)
{
    if (size <= limit)
        return size;
    if (!corpus->rules->tokenizer)
        return 0;
    return tokenizer_cut(corpus->rules->tokenizer, text, limit == PART_BYTES ? 0 : limit / 4, limit);
}

static int refuse_part(const struct corpus *corpus, struct error *error)
{
    return error_set(
        error,
        "%s: byte %llu: a text of more than %zu MB from here on has no point where this tokenizer lets "
        "it be cut: give it as several files, or tokenize it elsewhere",
        corpus_current_path(corpus), (unsigned long long)corpus->position.offset, LONGEST_PART >> 20);
}

const char *corpus_utf8_advice(const char *text, size_t size)
{
    return kind_has_controls(text, size < CONTROLS_BYTES ? size : CONTROLS_BYTES)
               ? ": the file has control characters, so that it is not text at all: leave it out"
               : ": convert the file (iconv -f LATIN1 -t UTF-8) or leave it out";
}

/* The last character may lack bytes that are still to be read. */
static int check_utf8(const struct corpus *corpus, const char *text, size_t size, bool ended,
                      struct error *error)
{
    size_t at = 0, length;
    if (utf8_is_valid(text, size))
        return 0;
    while (at < size && utf8_decode(text + at, size - at, &length) >= 0)
        at += length;
    if (!ended && at + length == size && size - at < UTF8_LONGEST)
        return 0;
    return error_set(error, "%s: byte %llu: is not UTF-8%s", corpus_current_path(corpus),
                     (unsigned long long)(corpus->position.offset + at), corpus_utf8_advice(text, size));
}

/* Has the next part of a text in the window. */
static int fill_part(struct corpus *corpus, size_t *part, bool *last, struct error *error)
{
    const struct window *window = &corpus->window;
    for (size_t limit = PART_BYTES; limit <= LONGEST_PART; limit *= 2) {
        if (corpus_fill_window(corpus, limit + 1, error) < 0)
            return -1;
        const char *text = window->data + window->begin;
        const size_t have = window->end - window->begin, size = have < limit ? have : limit;
        if (check_utf8(corpus, text, size, have <= limit, error) < 0)
            return -1;
        *last = have <= limit;
        *part = find_part(corpus, text, have, limit);
        if (*part > 0 || *last)
            return 0;
    }
    return refuse_part(corpus, error);
}

/* The next part of a file that is one document. */
static int read_text(struct corpus *corpus, const bool wanted[SPLIT_COUNT], struct part_list *list,
                     struct error *error)
{
    bool first = corpus_begin_document(corpus), last = false;
    size_t size = 0;
    if (!wanted[corpus->position.split]) {
        next_file(corpus);
        return 0;
    }
    if (corpus_open_file(corpus, error) < 0 || fill_part(corpus, &size, &last, error) < 0)
        return -1;
    const char *text = corpus->window.data + corpus->window.begin;
    if (size > 0 && append_text(list, corpus, text, size, first, last, error) < 0)
        return -1;
    list->bytes += size;
    corpus_consume(corpus, size);
    if (last) {
        corpus_end_document(corpus, first && size == 0);
        next_file(corpus);
    }
    return 0;
}

int corpus_append_document(struct corpus *corpus, struct part_list *list, const char *text, size_t size,
                           struct error *error)
{
    bool first = true;
    for (size_t limit = PART_BYTES; size > 0;) {
        const size_t part = find_part(corpus, text, size, limit);
        limit *= 2;
        if (part == 0 && limit > LONGEST_PART)
            return refuse_part(corpus, error);
        if (part == 0)
            continue;
        if (append_text(list, corpus, text, part, first, part == size, error) < 0)
            return -1;
        text += part;
        size -= part;
        first = false;
        limit = PART_BYTES;
    }
    return 0;
}

/* ---- token files ---- */

static uint32_t read_id(const unsigned char *bytes, int size)
{
    uint32_t low = bytes[0] | (uint32_t)bytes[1] << 8;
    return size == 2 ? low : low | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

/* Copies `count` checked ids into a part. */
static int append_ids(struct corpus *corpus, struct part_list *list, const unsigned char *bytes, size_t count,
                      bool first, bool last, struct error *error)
{
    int width = corpus_current_file(corpus)->token_bytes;
    struct document_part *part = append_part(list, corpus, first, last, error);
    if (!part || array_grow(&part->ids.data, &part->ids.capacity, count, error) < 0)
        return -1;
    list->count++;
    for (size_t i = 0; i < count; i++) {
        uint32_t id = read_id(bytes + i * (size_t)width, width);
        if (id >= (uint32_t)corpus->rules->vocab)
            return error_set(error, "%s: byte %llu: token id %u is outside the model's vocabulary of %d",
                             corpus_current_path(corpus),
                             (unsigned long long)(corpus->position.offset + i * (size_t)width), id,
                             corpus->rules->vocab);
        part->ids.data[i] = (int32_t)id;
    }
    part->ids.count = count;
    return 0;
}

static int end_ids(struct corpus *corpus, struct error *error)
{
    const struct corpus_file *file = corpus_current_file(corpus);
    const uint64_t size = corpus->position.offset - file->begin;
    if (corpus->window.end > corpus->window.begin)
        return error_set(error, "%s: byte %llu: the last token id is cut short", file->path,
                         (unsigned long long)corpus->position.offset);
    if (file->counted && size != file->ids * (uint64_t)file->token_bytes)
        return error_set(error, "%s: its header says that %llu ids follow, but there are %llu", file->path,
                         (unsigned long long)file->ids,
                         (unsigned long long)(size / (uint64_t)file->token_bytes));
    corpus_end_file(corpus, size == 0);
    return 0;
}

/* The next document of a token file, or as much of it as a part holds. */
static int read_ids(struct corpus *corpus, const bool wanted[SPLIT_COUNT], struct part_list *list,
                    struct error *error)
{
    struct window *window = &corpus->window;
    size_t width = (size_t)corpus_current_file(corpus)->token_bytes, count = 0;
    if (corpus_open_file(corpus, error) < 0 || corpus_fill_window(corpus, PART_BYTES + width, error) < 0)
        return -1;
    const unsigned char *bytes = (const unsigned char *)window->data + window->begin;
    size_t have = (window->end - window->begin) / width;
    if (have == 0)
        return end_ids(corpus, error);
    const size_t most = PART_BYTES / width;
    bool ended = false;
    while (count < have && count < most && !ended) {
        ended = corpus->rules->end >= 0 &&
                read_id(bytes + count * width, (int)width) == (uint32_t)corpus->rules->end;
        count += !ended;
    }
    size_t consumed = (count + ended) * width;
    bool last = ended || count == have; /* where count == have the file has no more: have <= most */
    bool first = corpus_begin_document(corpus);
    if (wanted[corpus->position.split]) {
        if ((count > 0 || !first) && append_ids(corpus, list, bytes, count, first, last, error) < 0)
            return -1;
        list->bytes += consumed;
    }
    corpus_consume(corpus, consumed);
    if (last)
        corpus_end_document(corpus, first && count == 0);
    return 0;
}

/* ---- reading ---- */

int corpus_open(const struct corpus_list *list, const struct corpus_rules *rules,
                const struct corpus_position *position, struct corpus **result, struct error *error)
{
    *result = NULL;
    if (position &&
        (position->file > list->count ||
         (position->file < list->count && list->file[position->file].compression == COMPRESSION_NONE &&
          position->offset > list->file[position->file].size) ||
         (position->file == list->count && (position->offset > 0 || position->inside))))
        return error_set_kind(error, ERROR_INTERNAL, "the corpus has no file %llu with a byte %llu",
                              (unsigned long long)position->file, (unsigned long long)position->offset);
    struct corpus *corpus = memory_alloc(1, sizeof *corpus, error);
    if (!corpus)
        return -1;
    *corpus = (struct corpus){.list = list, .rules = rules};
    if (position)
        corpus->position = *position;
    *result = corpus;
    return 0;
}

void corpus_close(struct corpus *corpus)
{
    if (!corpus)
        return;
    close_file(corpus);
    free(corpus->window.data);
    free(corpus);
}

/* Some document of the file may belong to a wanted split. */
static bool is_wanted(const struct corpus *corpus, const bool wanted[SPLIT_COUNT])
{
    bool held_out = corpus_current_file(corpus)->held_out, shared = !held_out && corpus->rules->held_out > 0;
    return (wanted[SPLIT_TRAIN] && !held_out) || (wanted[SPLIT_HELD_OUT] && (held_out || shared));
}

int corpus_read(struct corpus *corpus, const bool wanted[SPLIT_COUNT], size_t bytes, struct part_list *list,
                struct error *error)
{
    const size_t before = list->count;
    while ((list->count == before || list->bytes < bytes) && corpus->position.file < corpus->list->count) {
        int result = 0;
        if (!is_wanted(corpus, wanted))
            next_file(corpus);
        else if (corpus_current_file(corpus)->kind == CORPUS_TEXT)
            result = read_text(corpus, wanted, list, error);
        else if (corpus_current_file(corpus)->kind == CORPUS_JSON_LINES)
            result = corpus_read_json_line(corpus, wanted, list, error);
        else if (corpus_current_file(corpus)->kind == CORPUS_JSON)
            result = corpus_read_json(corpus, wanted, list, error);
        else
            result = read_ids(corpus, wanted, list, error);
        if (result < 0)
            return -1;
    }
    return 0;
}

struct corpus_position corpus_tell(const struct corpus *corpus)
{
    return corpus->position;
}

uint64_t corpus_bytes_read(const struct corpus *corpus)
{
    uint64_t bytes = 0;
    if (corpus->position.file < corpus->list->count &&
        corpus_current_file(corpus)->compression != COMPRESSION_NONE)
        bytes = corpus->window.stream ? stream_taken(corpus->window.stream) : 0;
    else
        bytes = corpus->position.offset;
    for (uint64_t i = 0; i < corpus->position.file; i++)
        bytes += corpus->list->file[i].size;
    return bytes;
}
