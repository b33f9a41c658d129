#include "train/sweep_yaml.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <yaml.h>

#include "common/base/memory.h"
#include "common/base/spelling.h"
#include "common/base/string.h"

#define SIZE_MOST     ((size_t)4 << 20)
#define ANCHORS_MOST  1000 /* the parser looks through all of them at each */
#define DEPTH_MOST    100 /* likewise */
#define SCALAR_MOST   200
#define ITEMS_MOST    1000
#define SECTIONS_MOST 10000
#define LISTS_MOST    1000 /* sections that may hold lists */

const char *const sweep_choice_names[CHOICES] = {
    [CHOICE_UNIFORM] = "uniform", [CHOICE_LOG_UNIFORM] = "log_uniform", [CHOICE_INTEGER] = "integer"};

static const struct {
    const char *name;
    bool one; /* one section, as keys and values */
    bool several; /* a list of sections */
    bool lists, distributions; /* what a key's value may be beside a single one */
} kinds[SECTION_KINDS] = {
    [SECTION_DEFAULTS] = {"defaults", .one = true},
    [SECTION_GRID] = {"grid", .one = true, .several = true, .lists = true},
    [SECTION_RANDOM] = {"random", .one = true, .several = true, .lists = true, .distributions = true},
    [SECTION_TRIALS] = {"trials", .several = true},
};

/* ---- nodes ---- */

static const yaml_node_t *get_node(const struct sweep_document *document, int node)
{
    return yaml_document_get_node(document->yaml, node);
}

static int line_of(const yaml_node_t *node)
{
    return (int)node->start_mark.line + 1;
}

static int item_count(const yaml_node_t *list)
{
    const ptrdiff_t count = list->data.sequence.items.top - list->data.sequence.items.start;
    return count > SECTIONS_MOST ? SECTIONS_MOST + 1 : (int)count;
}

static const yaml_node_t *get_item(const struct sweep_document *document, const yaml_node_t *list, int index)
{
    return get_node(document, list->data.sequence.items.start[index]);
}

static const char *words_for(const yaml_node_t *node)
{
    if (node->type == YAML_SEQUENCE_NODE)
        return "a list";
    if (node->type == YAML_MAPPING_NODE)
        return "keys and values";
    return node->data.scalar.length > 0 ? "a single value" : "nothing";
}

/* Puts the file and the line before an error. */
static int blame(const struct sweep_document *document, int line, struct error *error)
{
    return error_prefix(error, "%s: line %d", document->name, line);
}

static int read_scalar(const struct sweep_document *document, const yaml_node_t *node,
                       struct sweep_scalar *scalar, struct error *error)
{
    *scalar = (struct sweep_scalar){.line = line_of(node)};
    if (node->type != YAML_SCALAR_NODE)
        return error_set(error, "a single value expected, not %s", words_for(node)),
               blame(document, scalar->line, error);
    const char *text = (const char *)node->data.scalar.value;
    const size_t length = node->data.scalar.length;
    if (length > SCALAR_MOST)
        return error_set(error, "\"%.20s...\" is too long", text), blame(document, scalar->line, error);
    for (size_t i = 0; i < length; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return error_set(error, "a value holds a control character"), blame(document, scalar->line, error);
    }
    scalar->text = text;
    return 0;
}

/* The key of a pair, which must be a single word. */
static int read_key(const struct sweep_document *document, const yaml_node_pair_t *pair,
                    struct sweep_scalar *key, struct error *error)
{
    const yaml_node_t *node = get_node(document, pair->key);
    if (node->type != YAML_SCALAR_NODE)
        return error_set(error, "a key is not a single word"), blame(document, line_of(node), error);
    return read_scalar(document, node, key, error);
}

struct sweep_scalar sweep_document_item(const struct sweep_document *document,
                                        const struct sweep_values *values, int index)
{
    const yaml_node_t *node = get_node(document, values->node);
    if (node->type == YAML_SEQUENCE_NODE)
        node = get_item(document, node, index);
    const bool empty = node->data.scalar.length == 0;
    return (struct sweep_scalar){(const char *)node->data.scalar.value, empty ? values->line : line_of(node)};
}

/* ---- keys that are not known ---- */

enum { WORDS = TRIAL_KEYS + SETTING_KEYS + SECTION_KINDS + CHOICES };

struct vocabulary {
    const char *word[WORDS];
    int count;
};

static void learn(struct vocabulary *known, const char *word)
{
    if (word)
        known->word[known->count++] = word;
}

static void learn_keys(struct vocabulary *known, const struct sweep_key *keys, int count)
{
    for (int k = 0; k < count; k++)
        learn(known, keys[k].name);
}

static bool is_key(const struct sweep_key *keys, int count, const char *name)
{
    for (int k = 0; k < count; k++) {
        if (!strcmp(keys[k].name, name))
            return true;
    }
    return false;
}

/* A weight of layers or exits, as sweeps of other programs have: exit_layer_weight, loss-weights ... */
static bool is_weight(const char *word)
{
    const size_t length = strlen(word);
    const char *const ends[] = {"weight", "weights"};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        const size_t end = strlen(ends[i]);
        if (length >= end && !strcasecmp(word + length - end, ends[i]))
            return true;
    }
    return false;
}

/* what: "key"; where: " in grid", or nothing. */
static int refuse_word(const struct sweep_document *document, const char *what, const struct sweep_scalar *word,
                       const char *where, const struct vocabulary *known, struct error *error)
{
    struct string list = {0};
    const int nearest = spelling_nearest(word->text, known->word, known->count);
    for (int i = 0; i < known->count; i++)
        string_print(&list, "%s%s", i ? ", " : "", known->word[i]);
    if (is_weight(word->text))
        error_set(
            error,
            "\"%.40s\": exits have no weights here. They share no parameter, so each is trained as if it were "
            "alone, and a factor of its loss would change nothing but the size of its gradient; leave the key "
            "out. `weighting: confidence` is EE-LLM's weight of each token",
            word->text);
    else if (!string_failed(&list, error))
        error_set(error, "unknown %s \"%.40s\"%s%s%s%s (known here: %s)", what, word->text, where,
                  nearest < 0 ? "" : "; did you mean \"", nearest < 0 ? "" : known->word[nearest],
                  nearest < 0 ? "" : "\"?", list.data);
    string_free(&list);
    return blame(document, word->line, error);
}

static int refuse_merge_key(const struct sweep_document *document, const struct sweep_scalar *key,
                            struct error *error)
{
    return error_set(error, "merge keys (\"<<\") are not supported; put into `defaults` what trials share"),
           blame(document, key->line, error);
}

static int refuse_top_key(const struct sweep_document *document, const struct sweep_scalar *key,
                          struct error *error)
{
    struct vocabulary known = {0};
    if (!strcmp(key->text, "<<"))
        return refuse_merge_key(document, key, error);
    if (is_key(trial_keys, TRIAL_KEYS, key->text))
        return error_set(error,
                         "\"%s\" is a key of trials; put it into `defaults`, `grid`, `random` or `trials`",
                         key->text),
               blame(document, key->line, error);
    learn_keys(&known, setting_keys, SETTING_KEYS);
    for (int p = 0; p < SECTION_KINDS; p++)
        learn(&known, kinds[p].name);
    return refuse_word(document, "key", key, "", &known, error);
}

static int refuse_section_key(const struct sweep_document *document, enum section_kind kind,
                              const struct sweep_scalar *key, struct error *error)
{
    struct vocabulary known = {0};
    char where[32] = " in ";
    if (!strcmp(key->text, "<<"))
        return refuse_merge_key(document, key, error);
    if (is_key(setting_keys, SETTING_KEYS, key->text))
        return error_set(
                   error,
                   "\"%s\" is a setting of the run, not of a trial, because all trials take the same steps "
                   "together; put it at the top",
                   key->text),
               blame(document, key->line, error);
    learn_keys(&known, trial_keys, TRIAL_KEYS);
    if (kind == SECTION_RANDOM) {
        learn(&known, "count");
        learn(&known, "seed");
    }
    strcat(where, kinds[kind].name);
    return refuse_word(document, "key", key, where, &known, error);
}

static int refuse_twice(const struct sweep_document *document, const struct sweep_scalar *key,
                        struct error *error)
{
    return error_set(error, "\"%s\" is given twice", key->text), blame(document, key->line, error);
}

/* ---- sections ---- */

/* A distribution: one name with a list of two values. */
static int read_distribution(const struct sweep_document *document, const yaml_node_t *node,
                             struct sweep_values *values, struct error *error)
{
    struct sweep_scalar name, bound;
    struct vocabulary known = {0};
    const yaml_node_pair_t *pair = node->data.mapping.pairs.start;
    for (int c = CHOICE_UNIFORM; c < CHOICES; c++)
        learn(&known, sweep_choice_names[c]);
    if (node->data.mapping.pairs.top - pair != 1)
        return error_set(error, "one distribution expected, such as {uniform: [0, 1]}"),
               blame(document, line_of(node), error);
    if (read_key(document, pair, &name, error) < 0)
        return -1;
    values->choice = CHOICE_LIST;
    for (int c = CHOICE_UNIFORM; c < CHOICES; c++) {
        if (!strcmp(name.text, sweep_choice_names[c]))
            values->choice = (enum sweep_choice)c;
    }
    if (values->choice == CHOICE_LIST)
        return refuse_word(document, "distribution", &name, "", &known, error);
    const yaml_node_t *bounds = get_node(document, pair->value);
    if (bounds->type != YAML_SEQUENCE_NODE || item_count(bounds) != 2)
        return error_set(error, "%s: two values expected: [lower, upper]", name.text),
               blame(document, line_of(bounds), error);
    values->node = pair->value;
    values->count = 2;
    return read_scalar(document, get_item(document, bounds, 0), &bound, error) < 0
               ? -1
               : read_scalar(document, get_item(document, bounds, 1), &bound, error);
}

static int read_list(const struct sweep_document *document, const yaml_node_t *node,
                     struct sweep_values *values, struct error *error)
{
    struct sweep_scalar item;
    values->count = item_count(node);
    if (values->count == 0)
        return error_set(error, "the list is empty"), blame(document, line_of(node), error);
    if (values->count > ITEMS_MOST)
        return error_set(error, "the list has more than %d items", ITEMS_MOST),
               blame(document, line_of(node), error);
    for (int i = 0; i < values->count; i++) {
        if (read_scalar(document, get_item(document, node, i), &item, error) < 0)
            return -1;
    }
    return 0;
}

static int read_values(const struct sweep_document *document, enum section_kind kind, int node, int line,
                       struct sweep_values *values, struct error *error)
{
    struct sweep_scalar single;
    const yaml_node_t *value = get_node(document, node);
    *values = (struct sweep_values){.choice = CHOICE_LIST, .count = 1, .line = line, .node = node};
    if (value->type == YAML_MAPPING_NODE && kinds[kind].distributions)
        return read_distribution(document, value, values, error);
    if (value->type == YAML_SEQUENCE_NODE && kinds[kind].lists)
        return read_list(document, value, values, error);
    if (value->type == YAML_MAPPING_NODE && kinds[kind].lists)
        return error_set(error, "a list expected, not keys and values; distributions belong in `random`"),
               blame(document, line_of(value), error);
    if (value->type == YAML_SEQUENCE_NODE)
        return error_set(error, "a single value expected, not a list; lists belong in `grid` and `random`"),
               blame(document, line_of(value), error);
    return read_scalar(document, value, &single, error);
}

/* One pair of a section. */
static int read_pair(const struct sweep_document *document, enum section_kind kind,
                     const yaml_node_pair_t *pair, struct sweep_section *section, struct error *error)
{
    struct sweep_scalar key;
    if (read_key(document, pair, &key, error) < 0)
        return -1;
    const bool is_count = !strcmp(key.text, "count"), is_seed = !strcmp(key.text, "seed");
    if (kind == SECTION_RANDOM && (is_count || is_seed)) {
        struct sweep_scalar *scalar = is_count ? &section->count : &section->seed;
        return scalar->text ? refuse_twice(document, &key, error)
                            : read_scalar(document, get_node(document, pair->value), scalar, error);
    }
    for (int k = 0; k < TRIAL_KEYS; k++) {
        if (strcmp(key.text, trial_keys[k].name))
            continue;
        return section->key[k].count
                   ? refuse_twice(document, &key, error)
                   : read_values(document, kind, pair->value, key.line, &section->key[k], error);
    }
    return refuse_section_key(document, kind, &key, error);
}

static int read_section(const struct sweep_document *document, enum section_kind kind, const yaml_node_t *node,
                        struct sweep_section *section, struct error *error)
{
    section->line = line_of(node);
    if (node->type != YAML_MAPPING_NODE)
        return error_set(error, "%s: keys and values expected, not %s", kinds[kind].name, words_for(node)),
               blame(document, section->line, error);
    const yaml_node_pair_t *pair = node->data.mapping.pairs.start, *end = node->data.mapping.pairs.top;
    for (; pair < end; pair++) {
        if (read_pair(document, kind, pair, section, error) < 0)
            return -1;
    }
    if (kind == SECTION_RANDOM && !section->count.text)
        return error_set(error, "random: \"count\" is missing: the number of trials"),
               blame(document, section->line, error);
    return 0;
}

static int read_sections(struct sweep_document *document, enum section_kind kind, const yaml_node_t *node,
                         struct error *error)
{
    const bool list = node->type == YAML_SEQUENCE_NODE;
    const int count = list ? item_count(node) : 1;
    if (list ? !kinds[kind].several : !kinds[kind].one)
        return error_set(error, "%s: %s expected, not %s", kinds[kind].name,
                         list ? "keys and values" : "a list", words_for(node)),
               blame(document, line_of(node), error);
    if (count == 0)
        return error_set(error, "%s: the list is empty", kinds[kind].name),
               blame(document, line_of(node), error);
    const int most = kinds[kind].lists ? LISTS_MOST : SECTIONS_MOST;
    if (count > most)
        return error_set(error, "%s: the list has more than %d items", kinds[kind].name, most),
               blame(document, line_of(node), error);
    if (array_alloc(&document->kind[kind].section, count, error) < 0)
        return -1;
    document->kind[kind].sections = count;
    for (int i = 0; i < count; i++) {
        const yaml_node_t *section = list ? get_item(document, node, i) : node;
        if (read_section(document, kind, section, &document->kind[kind].section[i], error) < 0)
            return -1;
    }
    return 0;
}

/* ---- the document ---- */

static int read_top_pair(struct sweep_document *document, const yaml_node_pair_t *pair, struct error *error)
{
    struct sweep_scalar key;
    const yaml_node_t *value = get_node(document, pair->value);
    if (read_key(document, pair, &key, error) < 0)
        return -1;
    for (int k = 0; k < SETTING_KEYS; k++) {
        if (strcmp(key.text, setting_keys[k].name))
            continue;
        if (document->setting[k].text)
            return refuse_twice(document, &key, error);
        return read_scalar(document, value, &document->setting[k], error);
    }
    for (int p = 0; p < SECTION_KINDS; p++) {
        if (strcmp(key.text, kinds[p].name))
            continue;
        if (document->kind[p].sections)
            return refuse_twice(document, &key, error);
        return read_sections(document, (enum section_kind)p, value, error);
    }
    return refuse_top_key(document, &key, error);
}

static int read_top(struct sweep_document *document, struct error *error)
{
    const yaml_node_t *root = yaml_document_get_root_node(document->yaml);
    if (!root)
        return error_set(error, "%s: is empty", document->name);
    if (root->type != YAML_MAPPING_NODE)
        return error_set(error, "keys and values expected, not %s", words_for(root)),
               blame(document, line_of(root), error);
    const yaml_node_pair_t *pair = root->data.mapping.pairs.start, *end = root->data.mapping.pairs.top;
    for (; pair < end; pair++) {
        if (read_top_pair(document, pair, error) < 0)
            return -1;
    }
    return 0;
}

/* Whether a line (from 1) is indented with a tab, at least in part. */
static bool has_tab(const char *text, size_t size, int line)
{
    const char *end = text + size;
    for (int i = 1; i < line && text; i++) {
        text = memchr(text, '\n', (size_t)(end - text));
        text += text != NULL;
    }
    while (text && text < end && *text == ' ')
        text++;
    return text && text < end && *text == '\t';
}

static int refuse_second(const char *name, int line, struct error *error)
{
    return error_set(error, "%s: line %d: a second document begins here, but a sweep file holds one only", name,
                     line);
}

static int refuse_yaml(const char *name, const char *text, size_t size, const yaml_parser_t *parser,
                       struct error *error)
{
    const int line = (int)parser->problem_mark.line + 1;
    if (parser->error == YAML_MEMORY_ERROR)
        return error_set_kind(error, ERROR_NO_MEMORY, "%s: out of memory", name);
    if (parser->error == YAML_READER_ERROR)
        return error_set(error, "%s: byte %zu: not YAML: %s", name, parser->problem_offset, parser->problem);
    if (!strcmp(parser->problem, "did not find expected <document start>"))
        return refuse_second(name, line, error);
    if (has_tab(text, size, line))
        return error_set(error, "%s: line %d: is indented with a tab; YAML takes only spaces", name, line);
    return error_set(error, "%s: line %d: not YAML: %s%s%s", name, line, parser->context ? parser->context : "",
                     parser->context ? ": " : "", parser->problem);
}

/* What the parser would take very long for. Brackets and anchors in remarks and quotes count, too. */
static int check_text(const char *name, const char *text, size_t size, struct error *error)
{
    size_t anchors = 0;
    int line = 1, depth = 0;
    if (size > SIZE_MOST)
        return error_set(error, "%s: is longer than the %zu MiB that a sweep file may be", name,
                         SIZE_MOST >> 20);
    for (size_t i = 0; i < size; i++) {
        line += text[i] == '\n';
        anchors += text[i] == '&';
        if (text[i] == '[' || text[i] == '{')
            depth++;
        else if (depth > 0 && (text[i] == ']' || text[i] == '}'))
            depth--;
        if (depth > DEPTH_MOST || anchors > ANCHORS_MOST)
            return depth > DEPTH_MOST
                       ? error_set(error, "%s: line %d: more than %d brackets are open", name, line, DEPTH_MOST)
                       : error_set(error, "%s: line %d: more than %d anchors (\"&\")", name, line,
                                   ANCHORS_MOST);
    }
    return 0;
}

/* The first document, and that there is none behind it. */
static int load_yaml(const char *name, const char *text, size_t size, yaml_document_t *yaml,
                     struct error *error)
{
    yaml_parser_t parser;
    yaml_document_t second;
    if (!yaml_parser_initialize(&parser))
        return error_set_kind(error, ERROR_NO_MEMORY, "%s: out of memory", name);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, size);
    int result = 0;
    if (!yaml_parser_load(&parser, yaml)) {
        result = refuse_yaml(name, text, size, &parser, error);
    } else if (yaml_document_get_root_node(yaml)) {
        if (!yaml_parser_load(&parser, &second)) {
            result = refuse_yaml(name, text, size, &parser, error);
        } else {
            const yaml_node_t *root = yaml_document_get_root_node(&second);
            if (root && (root->type != YAML_SCALAR_NODE || root->data.scalar.length > 0))
                result = refuse_second(name, (int)second.start_mark.line + 1, error);
            yaml_document_delete(&second);
        }
        if (result < 0)
            yaml_document_delete(yaml);
    }
    yaml_parser_delete(&parser);
    return result;
}

int sweep_document_load(const char *name, const char *text, size_t size, struct sweep_document **document,
                        struct error *error)
{
    yaml_document_t *yaml;
    struct sweep_document *made;
    *document = NULL;
    if (check_text(name, text, size, error) < 0 || array_alloc(&yaml, 1, error) < 0)
        return -1;
    if (load_yaml(name, text, size, yaml, error) < 0) {
        free(yaml);
        return -1;
    }
    if (array_alloc(&made, 1, error) < 0) {
        yaml_document_delete(yaml);
        free(yaml);
        return -1;
    }
    made->name = name;
    made->yaml = yaml;
    if (read_top(made, error) < 0) {
        sweep_document_free(made);
        return -1;
    }
    *document = made;
    return 0;
}

void sweep_document_free(struct sweep_document *document)
{
    if (!document)
        return;
    for (int p = 0; p < SECTION_KINDS; p++)
        free(document->kind[p].section);
    yaml_document_delete(document->yaml);
    free(document->yaml);
    free(document);
}
