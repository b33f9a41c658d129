#include "train/sweep_yaml.h"

#include <cyaml/cyaml.h>
#include <stdio.h>
#include <string.h>

#include "common/base/memory.h"
#include "common/base/string.h"

/* ---- the schema, made from the tables of keys ---- */

static const cyaml_schema_value_t list_item = {CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char *, 0, 4096)};

struct schema {
    cyaml_schema_field_t scalars[TRIAL_KEYS + 1], lists[TRIAL_KEYS + 1], document[SETTING_KEYS + 3];
    cyaml_schema_value_t trial, top;
};

static cyaml_schema_field_t scalar_field(const char *key, size_t offset, bool optional)
{
    const int flags = CYAML_FLAG_POINTER | (optional ? CYAML_FLAG_OPTIONAL : 0);
    return (cyaml_schema_field_t){
        .key = key,
        .data_offset = (uint32_t)offset,
        .value = {CYAML_VALUE_STRING(flags, char *, 0, 4096)},
    };
}

static void fill_schema(struct schema *schema)
{
    *schema = (struct schema){0}; /* a field without a key ends its list */
    for (int k = 0; k < TRIAL_KEYS; k++) {
        const bool optional = trial_keys[k].standard != NULL;
        const size_t size = sizeof((struct sweep_lists *)NULL)->key[0];
        schema->scalars[k] = scalar_field(
            trial_keys[k].name, offsetof(struct sweep_scalars, value) + (size_t)k * sizeof(char *), optional);
        schema->lists[k] = (cyaml_schema_field_t){
            .key = trial_keys[k].name,
            .data_offset = (uint32_t)(offsetof(struct sweep_lists, key[0].item) + (size_t)k * size),
            .count_offset = (uint32_t)(offsetof(struct sweep_lists, key[0].count) + (size_t)k * size),
            .count_size = sizeof(unsigned),
            .value = {CYAML_VALUE_SEQUENCE(CYAML_FLAG_POINTER | (optional ? CYAML_FLAG_OPTIONAL : 0), char *,
                                           &list_item, 1, 1000)},
        };
    }
    for (int k = 0; k < SETTING_KEYS; k++)
        schema->document[k] = scalar_field(
            setting_keys[k].name, offsetof(struct sweep_document, setting) + (size_t)k * sizeof(char *), true);
    schema->trial =
        (cyaml_schema_value_t){CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct sweep_scalars, schema->scalars)};
    schema->document[SETTING_KEYS] = (cyaml_schema_field_t)CYAML_FIELD_MAPPING_PTR(
        "grid", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct sweep_document, grid, schema->lists);
    schema->document[SETTING_KEYS + 1] = (cyaml_schema_field_t){
        .key = "trials",
        .data_offset = offsetof(struct sweep_document, trial),
        .count_offset = offsetof(struct sweep_document, trials),
        .count_size = sizeof(unsigned),
        .value = {CYAML_VALUE_SEQUENCE(CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct sweep_scalars,
                                       &schema->trial, 1, 10000)},
    };
    schema->top = (cyaml_schema_value_t){
        CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct sweep_document, schema->document)};
}

/* ---- what libcyaml says ---- */

/* Its complaint, and where it was: libcyaml logs the reason first, and then the values that enclose it, the
 * innermost first. */
struct complaint {
    char reason[256];
    size_t line, column; /* of the last value before it */
    char section[16]; /* "grid", "trials", or empty: the top */
};

static void take_complaint(cyaml_log_t level, void *context, const char *format, va_list list)
{
    struct complaint *complaint = context;
    char text[512];
    size_t line, column;
    if (level < CYAML_LOG_ERROR)
        return;
    vsnprintf(text, sizeof text, format, list);
    const char *position = strstr(text, "(line: ");
    if (!complaint->reason[0]) {
        const char *from = strncmp(text, "Load: ", 6) ? text : text + 6;
        snprintf(complaint->reason, sizeof complaint->reason, "%.*s", (int)strcspn(from, "\n"), from);
    } else if (position && sscanf(position, "(line: %zu, column: %zu", &line, &column) == 2) {
        if (!complaint->line) {
            complaint->line = line;
            complaint->column = column;
        }
        if (strstr(text, "'grid'"))
            strcpy(complaint->section, "grid");
        if (strstr(text, "'trials'"))
            strcpy(complaint->section, "trials");
    }
}

static cyaml_config_t cyaml_settings(struct complaint *complaint)
{
    return (cyaml_config_t){
        .log_fn = take_complaint,
        .log_ctx = complaint,
        .mem_fn = cyaml_mem,
        .log_level = CYAML_LOG_ERROR,
    };
}

static const char *event_words(const char *event)
{
    if (!strncmp(event, "SEQUENCE", 8))
        return "a list";
    if (!strncmp(event, "MAPPING", 7))
        return "keys and values";
    if (!strncmp(event, "SCALAR", 6) || !strncmp(event, "STRING", 6))
        return "a single value";
    return "nothing";
}

/* The line of the first key of that name behind the last value that was read. */
static int line_behind(const char *text, const char *key, const struct complaint *complaint)
{
    const char *from = text;
    for (size_t line = 1; line < complaint->line && strchr(from, '\n'); line++)
        from = strchr(from, '\n') + 1;
    for (size_t column = 1; column < complaint->column && *from && *from != '\n'; column++)
        from++;
    const int found = sweep_line(from, key, NULL, 1);
    return found ? (int)complaint->line + found - 1 : (int)complaint->line;
}

/* A line behind the last value whose indentation has a tab; 0: there is none. */
static int line_with_tab(const char *text, const struct complaint *complaint)
{
    int line = 1;
    for (const char *from = text; *from; line++) {
        const size_t indent = strspn(from, " \t");
        if (line >= (int)complaint->line && memchr(from, '\t', indent) && !strchr("#\r\n", from[indent]))
            return line;
        from += strcspn(from, "\n");
        from += *from == '\n';
    }
    return 0;
}

/* The line where a second document begins; 0: there is none. What comes behind the first one would be
 * ignored. */
static int line_of_second(const char *text)
{
    bool content = false;
    int line = 1;
    for (const char *from = text; *from; line++) {
        const bool mark = (!strncmp(from, "---", 3) || !strncmp(from, "...", 3)) && strchr(" \t\r\n", from[3]);
        const bool nothing = strchr("%#\r\n", from[strspn(from, " \t")]) != NULL;
        if (mark && content && from[3 + strspn(from + 3, " \t\r\n.-")])
            return line;
        content = content || (!mark && !nothing);
        from += strcspn(from, "\n");
        from += *from == '\n';
    }
    return 0;
}

static int refuse_key(const char *name, const char *text, const struct complaint *complaint,
                      struct error *error)
{
    const char *key = strchr(complaint->reason, ':');
    key = key ? key + 2 : complaint->reason;
    if (!strcmp(key, "<<"))
        return error_set(
            error, "%s: line %d: merge keys (\"<<\") are not supported; write the keys out, or use `grid`",
            name, line_behind(text, key, complaint));
    const bool top = !complaint->section[0];
    const struct sweep_key *keys = top ? setting_keys : trial_keys;
    struct string known = {0};
    for (int k = 0; k < (top ? SETTING_KEYS : TRIAL_KEYS); k++)
        string_print(&known, "%s%s", k ? ", " : "", keys[k].name);
    if (top)
        string_print(&known, ", grid, trials");
    int line = sweep_line(text, key, NULL, (int)complaint->line);
    if (!string_failed(&known, error))
        error_set(error, "%s: line %d: unknown key \"%s\"%s%s (known here: %s)", name,
                  line ? line : (int)complaint->line, key, top ? "" : " in ", complaint->section, known.data);
    string_free(&known);
    return -1;
}

static int refuse_document(const char *name, const char *text, cyaml_err_t code,
                           const struct complaint *complaint, struct error *error)
{
    char expected[32], found[32], key[64];
    int line = complaint->line ? (int)complaint->line : 1;
    if (code == CYAML_ERR_INVALID_KEY)
        return refuse_key(name, text, complaint, error);
    if (code == CYAML_ERR_SEQUENCE_ENTRIES_MIN)
        return error_set(error, "%s: line %d: the list is empty", name, line);
    if (code == CYAML_ERR_OOM)
        return error_set_kind(error, ERROR_NO_MEMORY, "%s: out of memory", name);
    if (sscanf(complaint->reason, "Expecting %31[^,], got event: %31s", expected, found) == 2)
        return error_set(error, "%s: line %d: %s expected, not %s", name, line, event_words(expected),
                         event_words(found));
    if (sscanf(complaint->reason, "Missing required mapping field: %63s", key) == 1)
        return error_set(error, "%s: line %d: \"%s\" is missing in %s", name, line, key, complaint->section);
    if (sscanf(complaint->reason, "Mapping field already seen: %63s", key) == 1)
        return error_set(error, "%s: line %d: \"%s\" is given twice", name, line_behind(text, key, complaint),
                         key);
    if (code == CYAML_ERR_LIBYAML_PARSER && line_with_tab(text, complaint))
        return error_set(error, "%s: line %d: is indented with a tab; YAML takes only spaces", name,
                         line_with_tab(text, complaint));
    if (code == CYAML_ERR_INTERNAL_ERROR)
        return error_set(error, "%s: after line %d: a key is not a single word", name, line);
    if (code == CYAML_ERR_LIBYAML_PARSER)
        return error_set(error, "%s: after line %d: not YAML: %s", name, line, complaint->reason);
    return error_set(error, "%s: line %d: %s", name, line,
                     complaint->reason[0] ? complaint->reason : cyaml_strerror(code));
}

int sweep_document_load(const char *name, const char *text, size_t size, struct sweep_document **document,
                        struct error *error)
{
    struct schema schema;
    struct complaint complaint = {0};
    cyaml_config_t config = cyaml_settings(&complaint);
    cyaml_data_t *data = NULL;
    fill_schema(&schema);
    *document = NULL;
    if (line_of_second(text))
        return error_set(error, "%s: line %d: a second document begins here, but a sweep file holds one only",
                         name, line_of_second(text));
    cyaml_err_t code = cyaml_load_data((const uint8_t *)text, size, &config, &schema.top, &data, NULL);
    if (code != CYAML_OK)
        return refuse_document(name, text, code, &complaint, error);
    if (!data)
        return error_set(error, "%s: is empty", name);
    *document = data;
    return 0;
}

void sweep_document_free(struct sweep_document *document)
{
    struct schema schema;
    struct complaint complaint = {0};
    cyaml_config_t config = cyaml_settings(&complaint);
    if (!document)
        return;
    fill_schema(&schema);
    cyaml_free(&config, &schema.top, document, 0);
}

/* ---- lines ---- */

/* A word of YAML text: a plain or quoted scalar. */
struct word {
    const char *from;
    size_t length;
    int line;
    bool is_key; /* a colon follows */
};

static bool ends_plain(const char *c)
{
    return !*c || strchr(" \t\r\n,[]{}", *c) || (*c == ':' && (!c[1] || strchr(" \t\r\n,[]{}", c[1])));
}

/* The next word from *from on, which moves behind it. False at the end of the text. */
static bool next_word(const char **from, int *line, struct word *word)
{
    const char *c = *from;
    for (; *c; c++) {
        if (*c == '\n')
            ++*line;
        else if (*c == '#')
            c += strcspn(c, "\n") - 1;
        else if (!strchr(" \t\r,[]{}:", *c) && !(*c == '-' && ends_plain(c + 1)))
            break;
    }
    if (!*c)
        return false;
    word->line = *line;
    if (*c == '"' || *c == '\'') {
        const char quote[] = {*c, 0};
        word->from = ++c;
        c += word->length = strcspn(c, quote);
        for (const char *inside = word->from; inside < c; inside++)
            *line += *inside == '\n';
        c += *c != 0;
    } else {
        word->from = c;
        while (!ends_plain(c))
            c++;
        word->length = (size_t)(c - word->from);
    }
    *from = c;
    c += strspn(c, " \t");
    word->is_key = *c == ':' && ends_plain(c);
    return true;
}

static bool word_is(const struct word *word, const char *text)
{
    return strlen(text) == word->length && !memcmp(word->from, text, word->length);
}

int sweep_line(const char *text, const char *key, const char *value, int from)
{
    struct word word;
    int line = 1, key_line = 0;
    bool inside = false;
    while (next_word(&text, &line, &word)) {
        if (word.is_key) {
            inside = word.line >= from && word_is(&word, key);
            if (inside && !key_line)
                key_line = word.line;
            if (inside && !value)
                return word.line;
        } else if (inside && value && word_is(&word, value)) {
            return word.line;
        }
    }
    return key_line;
}
