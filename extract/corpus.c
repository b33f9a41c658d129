#include "extract/corpus.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/json.h"
#include "common/base/memory.h"
#include "common/base/random.h"
#include "common/text/unicode.h"

#define LONGEST_LINE LONGEST_PIECE

/* The part of the open file that is in memory. */
struct window {
    int descriptor; /* -1: no file is open */
    char *data;
    size_t capacity;
    size_t begin, end; /* what is unread: data[begin .. end) */
    bool ended; /* the file has nothing behind it */
};

struct corpus {
    const struct corpus_list *list;
    const struct corpus_rules *rules;
    struct corpus_place place;
    struct window window;
};

/* ---- pieces ---- */

void piece_list_clear(struct piece_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->piece[i].text);
        free(list->piece[i].ids.data);
        list->piece[i] = (struct piece){0};
    }
    list->count = list->bytes = 0;
}

void piece_list_free(struct piece_list *list)
{
    piece_list_clear(list);
    free(list->piece);
    *list = (struct piece_list){0};
}

static struct piece *append_piece(struct piece_list *list, const struct corpus *corpus, bool first, bool last,
                                  struct error *error)
{
    if (array_grow(&list->piece, &list->capacity, list->count + 1, error) < 0)
        return NULL;
    struct piece *piece = &list->piece[list->count];
    *piece = (struct piece){.split = corpus->place.split, .first = first, .last = last};
    return piece;
}

static int append_text(struct piece_list *list, const struct corpus *corpus, const char *text, size_t size,
                       bool first, bool last, struct error *error)
{
    struct piece *piece = append_piece(list, corpus, first, last, error);
    if (!piece)
        return -1;
    piece->text = memory_alloc(size + 1, 1, error);
    if (!piece->text)
        return -1;
    memcpy(piece->text, text, size);
    piece->size = size;
    list->count++;
    return 0;
}

/* ---- documents ---- */

enum split document_split(uint64_t number, double held_out)
{
    struct random random = {number};
    return random_uniform(&random) < held_out ? SPLIT_HELD_OUT : SPLIT_TRAIN;
}

static const struct corpus_file *current_file(const struct corpus *corpus)
{
    return &corpus->list->file[corpus->place.file];
}

static const char *current_path(const struct corpus *corpus)
{
    return current_file(corpus)->path;
}

/* Returns true at the first piece of a document. */
static bool begin_document(struct corpus *corpus)
{
    struct corpus_place *place = &corpus->place;
    if (place->inside)
        return false;
    place->inside = true;
    place->split = current_file(corpus)->held_out ? SPLIT_HELD_OUT
                                                  : document_split(place->document, corpus->rules->held_out);
    return true;
}

static void end_document(struct corpus *corpus, bool empty)
{
    corpus->place.inside = false;
    corpus->place.document++;
    corpus->place.empty += empty;
}

/* ---- bytes ---- */

static void close_file(struct corpus *corpus)
{
    struct window *window = &corpus->window;
    if (window->descriptor >= 0)
        close(window->descriptor);
    window->descriptor = -1;
    window->begin = window->end = 0;
    window->ended = false;
}

static void next_file(struct corpus *corpus)
{
    close_file(corpus);
    if (corpus->place.inside)
        end_document(corpus, false);
    corpus->place.file++;
    corpus->place.offset = corpus->place.line = 0;
}

static int open_file(struct corpus *corpus, struct error *error)
{
    const char *path = current_path(corpus);
    if (corpus->window.descriptor >= 0)
        return 0;
    corpus->window.descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (corpus->window.descriptor < 0)
        return error_system(error, "%s", path);
    if (lseek(corpus->window.descriptor, (off_t)corpus->place.offset, SEEK_SET) < 0)
        return error_system(error, "%s: byte %llu", path, (unsigned long long)corpus->place.offset);
    return 0;
}

/* Reads until `wanted` bytes are there or the file ends. */
static int fill_window(struct corpus *corpus, size_t wanted, struct error *error)
{
    struct window *window = &corpus->window;
    if (window->end - window->begin >= wanted || window->ended)
        return 0;
    if (window->begin > 0) {
        memmove(window->data, window->data + window->begin, window->end - window->begin);
        window->end -= window->begin;
        window->begin = 0;
    }
    if (array_grow(&window->data, &window->capacity, wanted + PIECE_BYTES, error) < 0)
        return -1;
    while (window->end < wanted && !window->ended) {
        ssize_t got = read(window->descriptor, window->data + window->end, window->capacity - window->end);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_system(error, "%s", current_path(corpus));
        window->end += (size_t)got;
        window->ended = got == 0;
    }
    uint64_t seen = corpus->place.offset + window->end;
    if (seen > current_file(corpus)->size || (window->ended && seen < current_file(corpus)->size))
        return error_set(error, "%s: changed while it was read", current_path(corpus));
    return 0;
}

static void consume(struct corpus *corpus, size_t size)
{
    corpus->window.begin += size;
    corpus->place.offset += size;
}

/* ---- text ---- */

/* The size of the first piece of a text of which `size` bytes are here: all, where those are at most `limit`, else up
 * to a cut; 0: there is none in the first `limit` bytes. limit: PIECE_BYTES at first, then doubled. */
static size_t find_piece(const struct corpus *corpus, const char *text, size_t size, size_t limit)
{
    if (size <= limit)
        return size;
    if (!corpus->rules->tokenizer)
        return 0;
    return tokenizer_cut(corpus->rules->tokenizer, text, limit == PIECE_BYTES ? 0 : limit / 4, limit);
}

static int refuse_piece(const struct corpus *corpus, struct error *error)
{
    return error_set(
        error,
        "%s: byte %llu: a text of more than %zu MB from here on has no place where this tokenizer lets "
        "it be cut: give it as several files, or tokenize it elsewhere",
        current_path(corpus), (unsigned long long)corpus->place.offset, LONGEST_PIECE >> 20);
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
    return error_set(error,
                     "%s: byte %llu: is not UTF-8: convert the file (iconv -f LATIN1 -t UTF-8) or leave it out",
                     current_path(corpus), (unsigned long long)(corpus->place.offset + at));
}

/* Has the next piece of a text in the window. */
static int fill_piece(struct corpus *corpus, size_t *piece, bool *last, struct error *error)
{
    const struct window *window = &corpus->window;
    for (size_t limit = PIECE_BYTES; limit <= LONGEST_PIECE; limit *= 2) {
        if (fill_window(corpus, limit + 1, error) < 0)
            return -1;
        const char *text = window->data + window->begin;
        const size_t have = window->end - window->begin, size = have < limit ? have : limit;
        if (check_utf8(corpus, text, size, have <= limit, error) < 0)
            return -1;
        *last = have <= limit;
        *piece = find_piece(corpus, text, have, limit);
        if (*piece > 0 || *last)
            return 0;
    }
    return refuse_piece(corpus, error);
}

/* The next piece of a file that is one document. */
static int read_text(struct corpus *corpus, const bool wanted[SPLIT_COUNT], struct piece_list *list,
                     struct error *error)
{
    bool first = begin_document(corpus), last = false;
    size_t size = 0;
    if (!wanted[corpus->place.split]) {
        next_file(corpus);
        return 0;
    }
    if (open_file(corpus, error) < 0 || fill_piece(corpus, &size, &last, error) < 0)
        return -1;
    const char *text = corpus->window.data + corpus->window.begin;
    if (size > 0 && append_text(list, corpus, text, size, first, last, error) < 0)
        return -1;
    list->bytes += size;
    consume(corpus, size);
    if (last) {
        end_document(corpus, first && size == 0);
        next_file(corpus);
    }
    return 0;
}

/* ---- JSON lines ---- */

/* The next line without its line feed; *size counts no feed, *whole does. */
static int find_line(struct corpus *corpus, const char **line, size_t *size, size_t *whole, struct error *error)
{
    struct window *window = &corpus->window;
    size_t searched = 0;
    for (;;) {
        size_t have = window->end - window->begin;
        const char *begin = window->data ? window->data + window->begin : "";
        const char *feed = memchr(begin + searched, '\n', have - searched);
        if (feed || window->ended) {
            *line = begin;
            *size = feed ? (size_t)(feed - begin) : have;
            *whole = *size + (feed ? 1 : 0);
            return 0;
        }
        if (have > LONGEST_LINE)
            return error_set(error, "%s: line %llu: is longer than %zu MB", current_path(corpus),
                             (unsigned long long)corpus->place.line + 1, LONGEST_LINE >> 20);
        searched = have;
        if (fill_window(corpus, have + PIECE_BYTES, error) < 0)
            return -1;
    }
}

/* A document of any length from memory, cut like a file. */
static int append_document(struct corpus *corpus, struct piece_list *list, const char *text, size_t size,
                           struct error *error)
{
    bool first = true;
    for (size_t limit = PIECE_BYTES; size > 0;) {
        const size_t part = find_piece(corpus, text, size, limit);
        limit *= 2;
        if (part == 0 && limit > LONGEST_PIECE)
            return refuse_piece(corpus, error);
        if (part == 0)
            continue;
        if (append_text(list, corpus, text, part, first, part == size, error) < 0)
            return -1;
        text += part;
        size -= part;
        first = false;
        limit = PIECE_BYTES;
    }
    return 0;
}

static int parse_line(struct corpus *corpus, const char *line, size_t size, struct piece_list *list,
                      bool *empty, struct error *error)
{
    const char *field = corpus->rules->field;
    char name[512];
    snprintf(name, sizeof name, "%s: line %llu", current_path(corpus),
             (unsigned long long)corpus->place.line + 1);
    json_error_t place;
    json_t *object = json_loadb(line, size, JSON_ALLOW_NUL, &place);
    if (!object)
        return error_set(error, "%s: column %d: %s", name, place.column, place.text);
    const json_t *value = json_object_get(object, field);
    int result;
    if (!json_is_object(object))
        result = error_set(error, "%s: is not a JSON object", name);
    else if (!value)
        result =
            error_set(error, "%s: has no \"%s\" (--field names the member that holds the text)", name, field);
    else if (!json_is_string(value))
        result = error_set(error, "%s: \"%s\" is not a string", name, field);
    else
        result = append_document(corpus, list, json_string_value(value), json_string_length(value), error);
    *empty = result == 0 && json_string_length(value) == 0;
    json_decref(object);
    return result;
}

static bool is_blank(const char *line, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (!strchr(" \t\r", line[i]) || line[i] == 0)
            return false;
    return true;
}

static int read_json_line(struct corpus *corpus, const bool wanted[SPLIT_COUNT], struct piece_list *list,
                          struct error *error)
{
    const char *line = NULL;
    size_t size = 0, whole = 0;
    bool empty = false;
    if (open_file(corpus, error) < 0 || find_line(corpus, &line, &size, &whole, error) < 0)
        return -1;
    if (whole == 0) {
        next_file(corpus);
        return 0;
    }
    if (!is_blank(line, size)) {
        begin_document(corpus);
        if (wanted[corpus->place.split]) {
            if (parse_line(corpus, line, size, list, &empty, error) < 0)
                return -1;
            list->bytes += whole;
        }
        end_document(corpus, empty);
    }
    consume(corpus, whole);
    corpus->place.line++;
    return 0;
}

/* ---- token files ---- */

static uint32_t read_id(const unsigned char *bytes, int size)
{
    uint32_t low = bytes[0] | (uint32_t)bytes[1] << 8;
    return size == 2 ? low : low | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

/* Copies `count` checked ids into a piece. */
static int append_ids(struct corpus *corpus, struct piece_list *list, const unsigned char *bytes, size_t count,
                      bool first, bool last, struct error *error)
{
    int width = current_file(corpus)->token_bytes;
    struct piece *piece = append_piece(list, corpus, first, last, error);
    if (!piece || array_grow(&piece->ids.data, &piece->ids.capacity, count, error) < 0)
        return -1;
    list->count++;
    for (size_t i = 0; i < count; i++) {
        uint32_t id = read_id(bytes + i * (size_t)width, width);
        if (id >= (uint32_t)corpus->rules->vocab)
            return error_set(error, "%s: byte %llu: token id %u is outside the model's vocabulary of %d",
                             current_path(corpus),
                             (unsigned long long)(corpus->place.offset + i * (size_t)width), id,
                             corpus->rules->vocab);
        piece->ids.data[i] = (int32_t)id;
    }
    piece->ids.count = count;
    return 0;
}

/* The next document of a token file, or as much of it as a piece holds. */
static int read_ids(struct corpus *corpus, const bool wanted[SPLIT_COUNT], struct piece_list *list,
                    struct error *error)
{
    struct window *window = &corpus->window;
    size_t width = (size_t)current_file(corpus)->token_bytes, count = 0;
    if (open_file(corpus, error) < 0 || fill_window(corpus, PIECE_BYTES + width, error) < 0)
        return -1;
    const unsigned char *bytes = (const unsigned char *)window->data + window->begin;
    size_t have = (window->end - window->begin) / width;
    if (have == 0) {
        next_file(corpus);
        return 0;
    }
    const size_t most = PIECE_BYTES / width;
    bool ended = false;
    while (count < have && count < most && !ended) {
        ended = corpus->rules->end >= 0 &&
                read_id(bytes + count * width, (int)width) == (uint32_t)corpus->rules->end;
        count += !ended;
    }
    size_t consumed = (count + ended) * width;
    bool last = ended || count == have; /* where count == have the file has no more: have <= most */
    bool first = begin_document(corpus);
    if (wanted[corpus->place.split]) {
        if ((count > 0 || !first) && append_ids(corpus, list, bytes, count, first, last, error) < 0)
            return -1;
        list->bytes += consumed;
    }
    consume(corpus, consumed);
    if (last)
        end_document(corpus, first && count == 0);
    return 0;
}

/* ---- reading ---- */

int corpus_open(const struct corpus_list *list, const struct corpus_rules *rules,
                const struct corpus_place *place, struct corpus **result, struct error *error)
{
    *result = NULL;
    if (place && (place->file > list->count ||
                  (place->file < list->count && place->offset > list->file[place->file].size) ||
                  (place->file == list->count && (place->offset > 0 || place->inside))))
        return error_set(error, "the corpus has no file %llu with a byte %llu", (unsigned long long)place->file,
                         (unsigned long long)place->offset);
    struct corpus *corpus = memory_alloc(1, sizeof *corpus, error);
    if (!corpus)
        return -1;
    *corpus = (struct corpus){.list = list, .rules = rules, .window = {.descriptor = -1}};
    if (place)
        corpus->place = *place;
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
    bool held_out = current_file(corpus)->held_out, shared = !held_out && corpus->rules->held_out > 0;
    return (wanted[SPLIT_TRAIN] && !held_out) || (wanted[SPLIT_HELD_OUT] && (held_out || shared));
}

int corpus_read(struct corpus *corpus, const bool wanted[SPLIT_COUNT], size_t bytes, struct piece_list *list,
                struct error *error)
{
    const size_t before = list->count;
    while ((list->count == before || list->bytes < bytes) && corpus->place.file < corpus->list->count) {
        int result = 0;
        if (!is_wanted(corpus, wanted))
            next_file(corpus);
        else if (current_file(corpus)->kind == CORPUS_TEXT)
            result = read_text(corpus, wanted, list, error);
        else if (current_file(corpus)->kind == CORPUS_JSON_LINES)
            result = read_json_line(corpus, wanted, list, error);
        else
            result = read_ids(corpus, wanted, list, error);
        if (result < 0)
            return -1;
    }
    return 0;
}

struct corpus_place corpus_tell(const struct corpus *corpus)
{
    return corpus->place;
}

uint64_t corpus_bytes_read(const struct corpus *corpus)
{
    uint64_t bytes = corpus->place.offset;
    for (uint64_t i = 0; i < corpus->place.file; i++)
        bytes += corpus->list->file[i].size;
    return bytes;
}
