/* Documents that are JSON values: one a line, in an array, or one behind the other. */
#include <stdio.h>
#include <string.h>

#include "common/base/json.h"
#include "extract/corpus_internal.h"

#define LONGEST_VALUE LONGEST_PART

/* ---- JSON lines ---- */

static int refuse_value(const struct corpus *corpus, struct error *error)
{
    return error_set(error, "%s: line %llu: a JSON value of more than %zu MB", corpus_current_path(corpus),
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
        if (corpus_fill_window(corpus, have + PART_BYTES, error) < 0)
            return -1;
    }
}

/* What to do about a value that cannot be parsed; "" where nothing is known. */
static const char *parse_advice(const struct corpus *corpus, const json_error_t *where, const char *text,
                                size_t size)
{
    const bool first_line =
        corpus_current_file(corpus)->kind == CORPUS_JSON_LINES && corpus->position.line == 0;
    switch (json_error_code(where)) {
    case json_error_invalid_utf8: return corpus_utf8_advice(text, size);
    case json_error_premature_end_of_input:
        return first_line ? ": JSON that goes over several lines is read from a file that is called .json" : "";
    default: return "";
    }
}

static int refuse_json(const struct corpus *corpus, const json_error_t *where, const char *text, size_t size,
                       struct error *error)
{
    return error_set(error, "%s: line %llu: column %d: %s%s", corpus_current_path(corpus),
                     (unsigned long long)corpus->position.line + (unsigned long long)where->line, where->column,
                     where->text, parse_advice(corpus, where, text, size));
}

/* The text that a value holds, or is. *empty: it has none. */
static int parse_value(struct corpus *corpus, const char *text, size_t size, struct part_list *list,
                       bool *empty, struct error *error)
{
    const bool lines = corpus_current_file(corpus)->kind == CORPUS_JSON_LINES;
    const char *field = corpus->rules->field;
    char name[512];
    json_error_t where;
    json_t *value = json_decode(text, size, JSON_ALLOW_NUL | JSON_DECODE_ANY, &where);
    if (!value)
        return refuse_json(corpus, &where, text, size, error);
    snprintf(name, sizeof name, "%s: line %llu", corpus_current_path(corpus),
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
        result =
            corpus_append_document(corpus, list, json_string_value(member), json_string_length(member), error);
    *empty = result == 0 && json_string_length(member) == 0;
    json_decref(value);
    return result;
}

/* One document, of a value of `size` bytes in the window; `whole` bytes are done with then. */
static int read_value(struct corpus *corpus, const bool wanted[SPLIT_COUNT], size_t size, size_t whole,
                      struct part_list *list, struct error *error)
{
    bool empty = false;
    corpus_begin_document(corpus);
    if (wanted[corpus->position.split]) {
        const char *text = corpus->window.data + corpus->window.begin;
        if (parse_value(corpus, text, size, list, &empty, error) < 0)
            return -1;
        list->bytes += whole;
    }
    corpus_end_document(corpus, empty);
    corpus_consume(corpus, whole);
    return 0;
}

static bool is_blank(const char *line, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (!strchr(" \t\r", line[i]) || line[i] == 0)
            return false;
    return true;
}

int corpus_read_json_line(struct corpus *corpus, const bool wanted[SPLIT_COUNT], struct part_list *list,
                          struct error *error)
{
    const char *line = NULL;
    size_t size = 0, whole = 0;
    if (corpus_open_file(corpus, error) < 0 || find_line(corpus, &line, &size, &whole, error) < 0)
        return -1;
    if (whole == 0) {
        corpus_end_file(corpus, corpus_at_begin(corpus));
        return 0;
    }
    if (is_blank(line, size))
        corpus_consume(corpus, whole);
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
        if (corpus_fill_window(corpus, 1, error) < 0)
            return -1;
        const size_t have = window->end - window->begin;
        const char *text = window->data + window->begin;
        size_t i = 0;
        for (; i < have && strchr(" \t\r\n", text[i]) && text[i]; i++)
            corpus->position.line += text[i] == '\n';
        *next = i < have ? text[i] : 0;
        corpus_consume(corpus, i);
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
        if (corpus_fill_window(corpus, wanted, error) < 0)
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
    return error_set(error, "%s: line %llu: %s", corpus_current_path(corpus),
                     (unsigned long long)corpus->position.line + 1, what);
}

/* Goes to the next value of an array, or to the end of it, behind the bracket or comma before. */
static int pass_comma(struct corpus *corpus, char *next, struct error *error)
{
    const bool first = corpus->position.offset == corpus_current_file(corpus)->begin;
    if (pass_space(corpus, next, error) < 0)
        return -1;
    if (*next == (first ? '[' : ',')) {
        corpus_consume(corpus, 1);
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
    corpus_consume(corpus, 1);
    if (pass_space(corpus, &next, error) < 0)
        return -1;
    if (next)
        return refuse_array(corpus, "something stands behind the array", error);
    corpus_end_file(corpus, empty);
    return 0;
}

int corpus_read_json(struct corpus *corpus, const bool wanted[SPLIT_COUNT], struct part_list *list,
                     struct error *error)
{
    const bool array = corpus_current_file(corpus)->array;
    size_t size;
    char next;
    if (corpus_open_file(corpus, error) < 0)
        return -1;
    const bool empty = corpus_at_begin(corpus); /* until a value is found */
    if ((array ? pass_comma(corpus, &next, error) : pass_space(corpus, &next, error)) < 0)
        return -1;
    if (array && next == ']')
        return end_array(corpus, empty, error);
    if (!next) {
        corpus_end_file(corpus, empty);
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
