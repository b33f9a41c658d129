#include "extract/corpus.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/json.h"
#include "common/base/memory.h"
#include "common/base/random.h"
#include "common/text/unicode.h"
#include "extract/kind.h"
#include "extract/stream.h"

#define LONGEST_VALUE  LONGEST_PART /* of JSON */
#define CONTROLS_BYTES ((size_t)64 << 10)

/* The part of the open file that is in memory. */
struct window {
    struct stream *stream; /* NULL: no file is open */
    char *data;
    size_t capacity;
    size_t begin, end; /* what is unread: data[begin .. end) */
    bool ended; /* the file has nothing behind it */
};

struct corpus {
    const struct corpus_list *list;
    const struct corpus_rules *rules;
    struct corpus_position position;
    struct window window;
};

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

static const struct corpus_file *current_file(const struct corpus *corpus)
{
    return &corpus->list->file[corpus->position.file];
}

static const char *current_path(const struct corpus *corpus)
{
    return current_file(corpus)->path;
}

/* Returns true at the first part of a document. */
static bool begin_document(struct corpus *corpus)
{
    struct corpus_position *position = &corpus->position;
    if (position->inside)
        return false;
    position->inside = true;
    position->split = current_file(corpus)->held_out
                          ? SPLIT_HELD_OUT
                          : document_split(position->document, corpus->rules->held_out);
    return true;
}

static void end_document(struct corpus *corpus, bool empty)
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
        end_document(corpus, false);
    corpus->position.file++;
    corpus->position.offset = corpus->position.line = 0;
}

/* Ends a file that is not one text. One without anything in it counts as an empty document, as an empty text does. */
static void end_file(struct corpus *corpus, bool empty)
{
    corpus->position.empty += empty;
    next_file(corpus);
}

static bool at_begin(const struct corpus *corpus)
{
    return corpus->position.offset == current_file(corpus)->begin;
}

static int open_file(struct corpus *corpus, struct error *error)
{
    const struct corpus_file *file = current_file(corpus);
    if (corpus->window.stream)
        return 0;
    if (corpus->position.offset < file->begin)
        corpus->position.offset = file->begin;
    if (stream_open(file->path, file->compression, file->size, &corpus->window.stream, error) < 0)
        return -1;
    return stream_skip(corpus->window.stream, corpus->position.offset, error);
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

static void consume(struct corpus *corpus, size_t size)
{
    corpus->window.begin += size;
    corpus->position.offset += size;
}

/* ---- text ---- */

/* The size of the first part of a text of which `size` bytes are here: all, where those are at most `limit`, else up
 * to a cut; 0: there is none in the first `limit` bytes. limit: PART_BYTES at first, then doubled. */
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
        current_path(corpus), (unsigned long long)corpus->position.offset, LONGEST_PART >> 20);
}

/* What to do about a text that is not UTF-8. */
static const char *utf8_advice(const char *text, size_t size)
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
    return error_set(error, "%s: byte %llu: is not UTF-8%s", current_path(corpus),
                     (unsigned long long)(corpus->position.offset + at), utf8_advice(text, size));
}

/* Has the next part of a text in the window. */
static int fill_part(struct corpus *corpus, size_t *part, bool *last, struct error *error)
{
    const struct window *window = &corpus->window;
    for (size_t limit = PART_BYTES; limit <= LONGEST_PART; limit *= 2) {
        if (fill_window(corpus, limit + 1, error) < 0)
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
    bool first = begin_document(corpus), last = false;
    size_t size = 0;
    if (!wanted[corpus->position.split]) {
        next_file(corpus);
        return 0;
    }
    if (open_file(corpus, error) < 0 || fill_part(corpus, &size, &last, error) < 0)
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

static int refuse_value(const struct corpus *corpus, struct error *error)
{
    return error_set(error, "%s: line %llu: a JSON value of more than %zu MB", current_path(corpus),
                     (unsigned long long)corpus->position.line + 1, LONGEST_VALUE >> 20);
}

/* The next line without its end, which is LF, CR LF or CR; *size counts no end, *whole does. */
static int find_line(struct corpus *corpus, const char **line, size_t *size, size_t *whole, struct error *error)
{
    struct window *window = &corpus->window;
    size_t searched = 0;
    for (;;) {
        const size_t have = window->end - window->begin;
        const char *begin = window->data ? window->data + window->begin : "";
        const char *feed = memchr(begin + searched, '\n', have - searched);
        const size_t length = feed ? (size_t)(feed - begin) : have;
        const char *cr = memchr(begin + searched, '\r', length - searched);
        const bool certain = feed || window->ended; /* what may follow a CR at the end is known */
        if (cr && (certain || cr + 1 < begin + have)) {
            *line = begin;
            *size = (size_t)(cr - begin);
            *whole = *size + 1 + (cr + 1 == feed);
            return 0;
        }
        if (certain) {
            *line = begin;
            *size = length;
            *whole = length + (feed != NULL);
            return 0;
        }
        if (have > LONGEST_VALUE)
            return refuse_value(corpus, error);
        searched = cr ? have - 1 : have;
        if (fill_window(corpus, have + PART_BYTES, error) < 0)
            return -1;
    }
}

/* A document of any length from memory, cut like a file. */
static int append_document(struct corpus *corpus, struct part_list *list, const char *text, size_t size,
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

/* What to do about a value that cannot be parsed; "" where nothing is known. */
static const char *parse_advice(const struct corpus *corpus, const json_error_t *where, const char *text,
                                size_t size)
{
    const bool first_line = current_file(corpus)->kind == CORPUS_JSON_LINES && corpus->position.line == 0;
    switch (json_error_code(where)) {
    case json_error_invalid_utf8: return utf8_advice(text, size);
    case json_error_premature_end_of_input:
        return first_line ? ": JSON that goes over several lines is read from a file that is called .json" : "";
    default: return "";
    }
}

static int refuse_json(const struct corpus *corpus, const json_error_t *where, const char *text, size_t size,
                       struct error *error)
{
    return error_set(error, "%s: line %llu: column %d: %s%s", current_path(corpus),
                     (unsigned long long)corpus->position.line + (unsigned long long)where->line, where->column,
                     where->text, parse_advice(corpus, where, text, size));
}

/* The text that a value holds, or is. *empty: it has none. */
static int parse_value(struct corpus *corpus, const char *text, size_t size, struct part_list *list,
                       bool *empty, struct error *error)
{
    const bool lines = current_file(corpus)->kind == CORPUS_JSON_LINES;
    const char *field = corpus->rules->field;
    char name[512];
    json_error_t where;
    json_t *value = json_decode(text, size, JSON_ALLOW_NUL | JSON_DECODE_ANY, &where);
    if (!value)
        return refuse_json(corpus, &where, text, size, error);
    snprintf(name, sizeof name, "%s: line %llu", current_path(corpus),
             (unsigned long long)corpus->position.line + 1);
    const json_t *member = json_is_string(value) && !lines ? value : json_object_get(value, field);
    int result;
    if (lines && json_is_array(value))
        result = error_set(error, "%s: is not a JSON object but an array: name a file that is one array .json",
                           name);
    else if (!json_is_object(value) && !member)
        result = error_set(error, "%s: is not a JSON object%s", name, lines ? "" : " (or text)");
    else if (!member)
        result =
            error_set(error, "%s: has no \"%s\" (--field names the member that holds the text)", name, field);
    else if (!json_is_string(member))
        result = error_set(error, "%s: \"%s\" is not a string", name, field);
    else
        result = append_document(corpus, list, json_string_value(member), json_string_length(member), error);
    *empty = result == 0 && json_string_length(member) == 0;
    json_decref(value);
    return result;
}

/* One document, of a value of `size` bytes in the window; `whole` bytes are done with then. */
static int read_value(struct corpus *corpus, const bool wanted[SPLIT_COUNT], size_t size, size_t whole,
                      struct part_list *list, struct error *error)
{
    bool empty = false;
    begin_document(corpus);
    if (wanted[corpus->position.split]) {
        const char *text = corpus->window.data + corpus->window.begin;
        if (parse_value(corpus, text, size, list, &empty, error) < 0)
            return -1;
        list->bytes += whole;
    }
    end_document(corpus, empty);
    consume(corpus, whole);
    return 0;
}

static bool is_blank(const char *line, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (!strchr(" \t\r", line[i]) || line[i] == 0)
            return false;
    return true;
}

static int read_json_line(struct corpus *corpus, const bool wanted[SPLIT_COUNT], struct part_list *list,
                          struct error *error)
{
    const char *line = NULL;
    size_t size = 0, whole = 0;
    if (open_file(corpus, error) < 0 || find_line(corpus, &line, &size, &whole, error) < 0)
        return -1;
    if (whole == 0) {
        end_file(corpus, at_begin(corpus));
        return 0;
    }
    if (is_blank(line, size))
        consume(corpus, whole);
    else if (read_value(corpus, wanted, size, whole, list, error) < 0)
        return -1;
    corpus->position.line++;
    return 0;
}

/* ---- JSON values in an array, or one behind the other ---- */

/* Goes to what is not white space; *next is 0 at the file's end. */
static int pass_space(struct corpus *corpus, char *next, struct error *error)
{
    struct window *window = &corpus->window;
    for (;;) {
        if (fill_window(corpus, 1, error) < 0)
            return -1;
        const size_t have = window->end - window->begin;
        const char *text = window->data + window->begin;
        size_t i = 0;
        for (; i < have && strchr(" \t\r\n", text[i]) && text[i]; i++)
            corpus->position.line += text[i] == '\n';
        *next = i < have ? text[i] : 0;
        consume(corpus, i);
        if (i < have || window->ended)
            return 0;
    }
}

/* Bytes of the value that begins a text, by its brackets and quotation marks; 0: it goes on behind the text. */
static size_t value_size(const char *text, size_t size)
{
    size_t depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < size; i++) {
        const char c = text[i];
        if (quoted && c == '\\')
            i++;
        else if (c == '"')
            quoted = !quoted;
        else if (!quoted && (c == '{' || c == '['))
            depth++;
        else if (!quoted && depth > 0 && (c == '}' || c == ']'))
            depth--;
        else if (!quoted && depth == 0 && (strchr(" \t\r\n,]}", c) || c == 0))
            return i > 0 ? i : 1;
        if (!quoted && depth == 0 && (c == '"' || c == '}' || c == ']'))
            return i + 1;
    }
    return 0;
}

static int find_value(struct corpus *corpus, size_t *size, struct error *error)
{
    const struct window *window = &corpus->window;
    for (size_t wanted = PART_BYTES; wanted / 2 <= LONGEST_VALUE; wanted *= 2) {
        if (fill_window(corpus, wanted, error) < 0)
            return -1;
        const size_t have = window->end - window->begin;
        *size = value_size(window->data + window->begin, have);
        if (*size == 0 && window->ended)
            *size = have; /* for the parser to say what is missing */
        if (*size > 0)
            return 0;
    }
    return refuse_value(corpus, error);
}

static int refuse_array(const struct corpus *corpus, const char *what, struct error *error)
{
    return error_set(error, "%s: line %llu: %s", current_path(corpus),
                     (unsigned long long)corpus->position.line + 1, what);
}

/* Goes to the next value of an array, or to the end of it, behind the bracket or comma before. */
static int pass_comma(struct corpus *corpus, char *next, struct error *error)
{
    const bool first = corpus->position.offset == current_file(corpus)->begin;
    if (pass_space(corpus, next, error) < 0)
        return -1;
    if (*next == (first ? '[' : ',')) {
        consume(corpus, 1);
        if (pass_space(corpus, next, error) < 0)
            return -1;
    } else if (*next && *next != ']') {
        return refuse_array(corpus, "no comma stands between two values of the array", error);
    }
    return *next ? 0 : refuse_array(corpus, "the array does not end", error);
}

static int end_array(struct corpus *corpus, bool empty, struct error *error)
{
    char next;
    consume(corpus, 1);
    if (pass_space(corpus, &next, error) < 0)
        return -1;
    if (next)
        return refuse_array(corpus, "something stands behind the array", error);
    end_file(corpus, empty);
    return 0;
}

static int read_json(struct corpus *corpus, const bool wanted[SPLIT_COUNT], struct part_list *list,
                     struct error *error)
{
    const bool array = current_file(corpus)->array;
    size_t size;
    char next;
    if (open_file(corpus, error) < 0)
        return -1;
    const bool empty = at_begin(corpus); /* until a value is found */
    if ((array ? pass_comma(corpus, &next, error) : pass_space(corpus, &next, error)) < 0)
        return -1;
    if (array && next == ']')
        return end_array(corpus, empty, error);
    if (!next) {
        end_file(corpus, empty);
        return 0;
    }
    if (find_value(corpus, &size, error) < 0)
        return -1;
    uint64_t lines = 0;
    for (size_t i = 0; i < size; i++)
        lines += corpus->window.data[corpus->window.begin + i] == '\n';
    if (read_value(corpus, wanted, size, size, list, error) < 0)
        return -1;
    corpus->position.line += lines;
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
    int width = current_file(corpus)->token_bytes;
    struct document_part *part = append_part(list, corpus, first, last, error);
    if (!part || array_grow(&part->ids.data, &part->ids.capacity, count, error) < 0)
        return -1;
    list->count++;
    for (size_t i = 0; i < count; i++) {
        uint32_t id = read_id(bytes + i * (size_t)width, width);
        if (id >= (uint32_t)corpus->rules->vocab)
            return error_set(error, "%s: byte %llu: token id %u is outside the model's vocabulary of %d",
                             current_path(corpus),
                             (unsigned long long)(corpus->position.offset + i * (size_t)width), id,
                             corpus->rules->vocab);
        part->ids.data[i] = (int32_t)id;
    }
    part->ids.count = count;
    return 0;
}

static int end_ids(struct corpus *corpus, struct error *error)
{
    const struct corpus_file *file = current_file(corpus);
    const uint64_t size = corpus->position.offset - file->begin;
    if (corpus->window.end > corpus->window.begin)
        return error_set(error, "%s: byte %llu: the last token id is cut short", file->path,
                         (unsigned long long)corpus->position.offset);
    if (file->counted && size != file->ids * (uint64_t)file->token_bytes)
        return error_set(error, "%s: its header says that %llu ids follow, but there are %llu", file->path,
                         (unsigned long long)file->ids,
                         (unsigned long long)(size / (uint64_t)file->token_bytes));
    end_file(corpus, size == 0);
    return 0;
}

/* The next document of a token file, or as much of it as a part holds. */
static int read_ids(struct corpus *corpus, const bool wanted[SPLIT_COUNT], struct part_list *list,
                    struct error *error)
{
    struct window *window = &corpus->window;
    size_t width = (size_t)current_file(corpus)->token_bytes, count = 0;
    if (open_file(corpus, error) < 0 || fill_window(corpus, PART_BYTES + width, error) < 0)
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
    bool first = begin_document(corpus);
    if (wanted[corpus->position.split]) {
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
    bool held_out = current_file(corpus)->held_out, shared = !held_out && corpus->rules->held_out > 0;
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
        else if (current_file(corpus)->kind == CORPUS_TEXT)
            result = read_text(corpus, wanted, list, error);
        else if (current_file(corpus)->kind == CORPUS_JSON_LINES)
            result = read_json_line(corpus, wanted, list, error);
        else if (current_file(corpus)->kind == CORPUS_JSON)
            result = read_json(corpus, wanted, list, error);
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
    if (corpus->position.file < corpus->list->count && current_file(corpus)->compression != COMPRESSION_NONE)
        bytes = corpus->window.stream ? stream_taken(corpus->window.stream) : 0;
    else
        bytes = corpus->position.offset;
    for (uint64_t i = 0; i < corpus->position.file; i++)
        bytes += corpus->list->file[i].size;
    return bytes;
}
