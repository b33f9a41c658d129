#include "common/head/policy.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/memory.h"
#include "common/base/string.h"
#include "common/head/draft.h"

enum { POLICY_VERSION = 2, LAYERS_MAX = 1 << 16, EXITS_MAX = 1024, ROWS_MAX = 1 << 16 };

static const char file_name[] = "policy.json";

int policy_hash_file(const char *path, char hash[17], struct error *error)
{
    struct file_map map;
    if (file_map(path, &map, error) < 0)
        return -1;
    hash_print(hash_bytes(map.data, map.size, 0), hash);
    file_unmap(&map);
    return 0;
}

void policy_free(struct policy *policy)
{
    for (int r = 0; r < policy->rows; r++)
        free(policy->row[r].exit_rate);
    free(policy->row);
    free(policy->exit);
    free(policy->tried_tap);
    free(policy->folder);
    *policy = (struct policy){0};
}

int policy_columns(const struct policy *policy)
{
    return policy->exits > 0 ? policy->exits : policy->tried;
}

struct tap policy_column(const struct policy *policy, int column)
{
    return policy->exits > 0 ? policy->exit[column].tap : policy->tried_tap[column];
}

/* ---- why there are no exits ---- */

/* Finds the fastest row that agrees often enough. Where none does, it is the one that agrees most. NULL: no
 * token left. */
static const struct policy_row *best_row(const struct policy *policy, bool *agrees)
{
    const struct policy_row *best = NULL;
    *agrees = false;
    for (int r = 0; r < policy->rows; r++) {
        const struct policy_row *row = &policy->row[r];
        const bool enough = isnan(policy->agreement) || row->agreement >= policy->agreement;
        if (isnan(row->agreement) || (*agrees && !enough))
            continue;
        if (!best || (enough && !*agrees) ||
            (enough ? row->speedup > best->speedup : row->agreement > best->agreement))
            best = row;
        *agrees = *agrees || enough;
    }
    return best;
}

void policy_reason(const struct policy *policy, char *text, size_t size)
{
    char taps[128] = "", name[TAP_NAME_SIZE];
    bool agrees;
    const struct policy_row *best = best_row(policy, &agrees);
    if (policy->tried == 0) {
        snprintf(text, size, "no head was trained at a tap before the last layer");
        return;
    }
    for (int i = 0; i < policy->tried; i++) {
        const size_t used = strlen(taps);
        tap_name(policy->tried_tap[i], policy->layers, name);
        snprintf(taps + used, sizeof taps - used, "%s%s", i ? ", " : "", name);
    }
    if (!best)
        snprintf(text, size, "no token was sure enough to leave (tried: %s)", taps);
    else if (agrees)
        snprintf(text, size,
                 "none was predicted to be faster than the full model (best: %.2f times its speed at %s with "
                 "threshold %g)",
                 best->speedup, taps, best->threshold);
    else
        snprintf(text, size,
                 "none agrees with the full model in %g %% of the tokens that leave (best: %.1f %% at %s with "
                 "threshold %g)",
                 100 * policy->agreement, 100 * best->agreement, taps, best->threshold);
}

/* ---- checks of what is read and of what is written; `name` goes into errors ---- */

static bool in_range(double value, double least, double most)
{
    return value >= least && value <= most; /* false for NaN */
}

static int check_head(const struct policy_head *head, struct error *error)
{
    const struct head_kind *kind = head_kind_find(head->kind, error);
    enum head_output output;
    if (!kind || head_output_find(head->output, &output, error) < 0)
        return -1;
    if (head_kind_is_draft(kind))
        return error_set(error, "a head of kind %s is not an exit", head->kind);
    if (!head->file[0] || head->file[0] == '.' || strchr(head->file, '/'))
        return error_set(error, "\"%s\" is not the name of a file in the policy's folder", head->file);
    if (strlen(head->hash) != 16 || strspn(head->hash, "0123456789abcdef") != 16)
        return error_set(error, "\"%s\" is not a hash of 16 digits", head->hash);
    return 0;
}

static int check_exit(const char *name, const struct policy *policy, int index, struct error *error)
{
    const struct policy_exit *exit = &policy->exit[index];
    char tap[TAP_NAME_SIZE], before[TAP_NAME_SIZE];
    tap_name(exit->tap, policy->layers, tap);
    if (check_head(&exit->head, error) < 0)
        return error_prefix(error, "%s: exit %s", name, tap);
    if (!in_range(exit->rule.threshold, 0, 1))
        return error_set(error, "%s: exit %s: the threshold %g is not in 0 .. 1", name, tap,
                         exit->rule.threshold);
    if (index > 0 && tap_compare(exit[-1].tap, exit->tap) >= 0) {
        tap_name(exit[-1].tap, policy->layers, before);
        return error_set(error,
                         "%s: the exits must be in the order of their taps, one at each, but %s follows %s",
                         name, tap, before);
    }
    return 0;
}

static int check_row(const char *name, const struct policy *policy, int index, struct error *error)
{
    const struct policy_row *row = &policy->row[index];
    double left = 0;
    for (int e = 0; e < policy_columns(policy); e++) {
        if (!in_range(row->exit_rate[e], 0, 1))
            return error_set(error, "%s: table row %d: exit rate %g is not in 0 .. 1", name, index + 1,
                             row->exit_rate[e]);
        left += row->exit_rate[e];
    }
    if (left > 1.001) /* rates are rounded when they are written */
        return error_set(error, "%s: table row %d: exit rates sum to %g", name, index + 1, left);
    if (!in_range(row->threshold, 0, 1) || !(isnan(row->agreement) || in_range(row->agreement, 0, 1)) ||
        !in_range(row->depth, 0, policy->layers) || !in_range(row->speedup, 0, 1e9))
        return error_set(error,
                         "%s: table row %d is out of range: threshold %g, agreement %g, depth %g, speedup %g",
                         name, index + 1, row->threshold, row->agreement, row->depth, row->speedup);
    if (index > 0 && row[-1].threshold >= row->threshold)
        return error_set(
            error, "%s: the rows of the table must be in the order of their thresholds, but %g follows %g",
            name, row->threshold, row[-1].threshold);
    return 0;
}

static int check_policy(const char *name, const struct policy *policy, struct error *error)
{
    if (strlen(policy->fingerprint) != 16 || strspn(policy->fingerprint, "0123456789abcdef") != 16)
        return error_set(error, "%s: the model \"%s\" is not a fingerprint of 16 digits", name,
                         policy->fingerprint);
    if (policy->exits < 0 || policy->exits > EXITS_MAX)
        return error_set(error, "%s: has %d exits, not 0 .. %d", name, policy->exits, EXITS_MAX);
    if (policy->exits > 0 && policy->tried > 0)
        return error_set(error, "%s: has both exits and \"tried\"; only a policy without exits has \"tried\"",
                         name);
    if (!isnan(policy->agreement) && !in_range(policy->agreement, 0, 1))
        return error_set(error, "%s: the agreement %g is not in 0 .. 1", name, policy->agreement);
    for (int i = 1; i < policy->tried; i++)
        if (tap_compare(policy->tried_tap[i - 1], policy->tried_tap[i]) >= 0)
            return error_set(error, "%s: \"tried\" must name taps in their order, each once", name);
    if (!in_range(policy->cost_head, 0, 1e9) || !in_range(policy->cost_output, 0, 1e9))
        return error_set(error, "%s: the costs head %g and output %g are out of range", name, policy->cost_head,
                         policy->cost_output);
    for (int e = 0; e < policy->exits; e++) {
        if (check_exit(name, policy, e, error) < 0)
            return -1;
    }
    for (int r = 0; r < policy->rows; r++) {
        if (check_row(name, policy, r, error) < 0)
            return -1;
    }
    return 0;
}

/* ---- writing ---- */

static json_t *exits_to_json(const struct policy *policy)
{
    json_t *array = json_array();
    for (int e = 0; e < policy->exits; e++) {
        const struct policy_exit *exit = &policy->exit[e];
        const struct policy_head *head = &exit->head;
        char tap[TAP_NAME_SIZE];
        tap_name(exit->tap, policy->layers, tap);
        json_array_append_new(array,
                              json_pack("{ss s{ss ss ss ss} s{ss} s{sf}}", "tap", tap, "head", "kind",
                                        head->kind, "output", head->output, "file", head->file, "hash",
                                        head->hash, "evidence", "kind", evidence_kind_name(exit->evidence.kind),
                                        "rule", "threshold", exit->rule.threshold));
    }
    return array;
}

static json_t *table_to_json(const struct policy *policy)
{
    json_t *array = json_array();
    for (int r = 0; r < policy->rows; r++) {
        const struct policy_row *row = &policy->row[r];
        json_t *rates = json_array();
        for (int e = 0; e < policy_columns(policy); e++)
            json_array_append_new(rates, json_real(row->exit_rate[e]));
        json_array_append_new(array, json_pack("{sf so so sf sf}", "threshold", row->threshold, "exit_rates",
                                               rates, "agreement",
                                               isnan(row->agreement) ? json_null() : json_real(row->agreement),
                                               "depth", row->depth, "speedup", row->speedup));
    }
    return array;
}

static json_t *tried_to_json(const struct policy *policy)
{
    json_t *array = json_array();
    for (int i = 0; i < policy->tried; i++) {
        char tap[TAP_NAME_SIZE];
        tap_name(policy->tried_tap[i], policy->layers, tap);
        json_array_append_new(array, json_string(tap));
    }
    return array;
}

int policy_write(const char *folder, const struct policy *policy, struct error *error)
{
    char *path = path_join(folder, file_name, error);
    int result = -1;
    if (!path || check_policy(path, policy, error) < 0)
        goto done;
    json_t *object =
        json_pack("{si ss si so so* so s{sf sf sf} so}", "version", POLICY_VERSION, "model",
                  policy->fingerprint, "layers", policy->layers, "exits", exits_to_json(policy), "tried",
                  policy->exits > 0 ? NULL : tried_to_json(policy), "agreement",
                  isnan(policy->agreement) ? json_null() : json_real(policy->agreement), "costs", "layer", 1.0,
                  "head", policy->cost_head, "output", policy->cost_output, "table", table_to_json(policy));
    if (!object) {
        error_set_kind(error, ERROR_NO_MEMORY, "%s: out of memory", path);
        goto done;
    }
    result = json_write(path, object, error);
    json_decref(object);
done:
    free(path);
    return result;
}

/* ---- reading ---- */

/* A member that is text and fits. */
static int read_text(const char *name, const json_t *object, const char *key, char *text, size_t size,
                     struct error *error)
{
    const char *value;
    if (json_get_string(name, object, key, &value, error) < 0)
        return -1;
    if (strlen(value) >= size)
        return error_set(error, "%s: \"%s\" is longer than %zu bytes", name, key, size - 1);
    memcpy(text, value, strlen(value) + 1);
    return 0;
}

static int read_head(const char *name, const json_t *object, struct policy_head *head, struct error *error)
{
    if (read_text(name, object, "kind", head->kind, sizeof head->kind, error) < 0 ||
        read_text(name, object, "output", head->output, sizeof head->output, error) < 0 ||
        read_text(name, object, "file", head->file, sizeof head->file, error) < 0)
        return -1;
    return read_text(name, object, "hash", head->hash, sizeof head->hash, error);
}

/* Gets the member `key` of an exit, which must be an object with no other member than `known`. Another member
 * could change when a token leaves, so an exit that has one is refused. */
static const json_t *read_part(const json_t *exit, const char *key, const char *known, struct error *error)
{
    json_t *part = json_object_get(exit, key);
    const char *member;
    json_t *value;
    if (!json_is_object(part)) {
        error_set(error, "\"%s\" is not an object", key);
        return NULL;
    }
    json_object_foreach(part, member, value)
    {
        if (strcmp(member, known) != 0) {
            error_set(error, "\"%s\" has \"%.40s\", which this version does not know", key, member);
            return NULL;
        }
    }
    return part;
}

static int read_evidence(const json_t *exit, struct policy_evidence *evidence, struct error *error)
{
    const json_t *object = read_part(exit, "evidence", "kind", error);
    const char *kind;
    if (!object || json_get_string("evidence", object, "kind", &kind, error) < 0)
        return -1;
    return evidence_kind_find(kind, &evidence->kind, error);
}

static int read_rule(const json_t *exit, struct exit_rule *rule, struct error *error)
{
    const json_t *object = read_part(exit, "rule", "threshold", error);
    return object ? json_get_number("rule", object, "threshold", &rule->threshold, error) : -1;
}

/* In version 1, the members of the head and the threshold are in the exit itself, and "rule" is the kind of
 * evidence. */
static int read_exit_1(const json_t *object, struct policy_exit *exit, struct error *error)
{
    const char *kind;
    if (read_head("head", object, &exit->head, error) < 0 ||
        json_get_string("exit", object, "rule", &kind, error) < 0 ||
        evidence_kind_find(kind, &exit->evidence.kind, error) < 0)
        return -1;
    return json_get_number("exit", object, "threshold", &exit->rule.threshold, error);
}

static int read_exit(const json_t *object, int64_t version, int layers, struct policy_exit *exit,
                     struct error *error)
{
    const char *tap;
    if (json_get_string("exit", object, "tap", &tap, error) < 0 ||
        tap_parse(tap, layers, &exit->tap, error) < 0)
        return -1;
    if (version == 1)
        return read_exit_1(object, exit, error);
    if (read_head("head", json_object_get(object, "head"), &exit->head, error) < 0 ||
        read_evidence(object, &exit->evidence, error) < 0)
        return -1;
    return read_rule(object, &exit->rule, error);
}

static int read_exits(const char *path, const json_t *root, int64_t version, struct policy *policy,
                      struct error *error)
{
    const json_t *array = json_object_get(root, "exits");
    const size_t count = json_array_size(array);
    if (!json_is_array(array) || count > EXITS_MAX)
        return error_set(error, "%s: \"exits\" is not a list of at most %d exits", path, EXITS_MAX);
    if (array_alloc(&policy->exit, count, error) < 0)
        return -1;
    policy->exits = (int)count;
    for (size_t e = 0; e < count; e++) {
        if (read_exit(json_array_get(array, e), version, policy->layers, &policy->exit[e], error) < 0)
            return error_prefix(error, "%s: exit %zu", path, e + 1);
    }
    return 0;
}

/* What a policy without exits was chosen from, and the agreement that was asked for. Both may be missing. */
static int read_choice(const char *path, const json_t *root, struct policy *policy, struct error *error)
{
    const json_t *array = json_object_get(root, "tried"), *agreement = json_object_get(root, "agreement");
    const size_t count = json_array_size(array);
    policy->agreement = NAN;
    if (agreement && !json_is_null(agreement) &&
        json_get_number(path, root, "agreement", &policy->agreement, error) < 0)
        return -1;
    if ((array && !json_is_array(array)) || count > EXITS_MAX)
        return error_set(error, "%s: \"tried\" is not a list of at most %d taps", path, EXITS_MAX);
    if (array_alloc(&policy->tried_tap, count, error) < 0)
        return -1;
    for (; (size_t)policy->tried < count; policy->tried++) {
        const char *tap = json_string_value(json_array_get(array, (size_t)policy->tried));
        if (!tap)
            return error_set(error, "%s: \"tried\" is not a list of taps", path);
        if (tap_parse(tap, policy->layers, &policy->tried_tap[policy->tried], error) < 0)
            return error_prefix(error, "%s: \"tried\"", path);
    }
    return 0;
}

static int read_row(const char *name, const json_t *object, const struct policy *policy, struct policy_row *row,
                    struct error *error)
{
    const json_t *rates = json_object_get(object, "exit_rates");
    if (json_array_size(rates) != (size_t)policy_columns(policy))
        return error_set(error, "%s: \"exit_rates\" is not a list of %d numbers, one for each exit", name,
                         policy_columns(policy));
    for (int e = 0; e < policy_columns(policy); e++) {
        const json_t *rate = json_array_get(rates, (size_t)e);
        row->exit_rate[e] = json_is_number(rate) ? json_number_value(rate) : NAN;
    }
    row->agreement = NAN;
    if (!json_is_null(json_object_get(object, "agreement")) &&
        json_get_number(name, object, "agreement", &row->agreement, error) < 0)
        return -1;
    if (json_get_number(name, object, "threshold", &row->threshold, error) < 0 ||
        json_get_number(name, object, "depth", &row->depth, error) < 0)
        return -1;
    return json_get_number(name, object, "speedup", &row->speedup, error);
}

static int read_table(const char *path, const json_t *root, struct policy *policy, struct error *error)
{
    const json_t *array = json_object_get(root, "table");
    const size_t count = json_array_size(array);
    if (!json_is_array(array) || count > ROWS_MAX)
        return error_set(error, "%s: \"table\" is not a list of at most %d rows", path, ROWS_MAX);
    if (array_alloc(&policy->row, count, error) < 0)
        return -1;
    for (size_t r = 0; r < count; r++) {
        struct policy_row *row = &policy->row[r];
        if (array_alloc(&row->exit_rate, policy_columns(policy), error) < 0)
            return -1;
        policy->rows = (int)r + 1;
        char name[32];
        snprintf(name, sizeof name, "table row %zu", r + 1);
        if (read_row(name, json_array_get(array, r), policy, row, error) < 0)
            return error_prefix(error, "%s", path);
    }
    return 0;
}

/* The head files must be there, and be the ones that the policy was made with. */
static int check_files(const char *path, const struct policy *policy, struct error *error)
{
    for (int e = 0; e < policy->exits; e++) {
        const struct policy_head *head = &policy->exit[e].head;
        char hash[17];
        char *file = path_join(policy->folder, head->file, error);
        if (!file)
            return -1;
        int result = policy_hash_file(file, hash, error);
        free(file);
        if (result < 0)
            return error_prefix(error, "%s: exit %d", path, e + 1);
        if (strcmp(hash, head->hash) != 0)
            return error_set(error,
                             "%s: the head file %s has the hash %s, but the policy was made with %s; run train "
                             "again, which makes the policy "
                             "anew",
                             path, head->file, hash, head->hash);
    }
    return 0;
}

static int read_object(const char *path, const json_t *root, struct policy *policy, struct error *error)
{
    int64_t version, layers;
    if (!json_is_object(root))
        return error_set(error, "%s: is not a JSON object", path);
    if (json_get_integer(path, root, "version", INT64_MIN, INT64_MAX, &version, error) < 0)
        return -1;
    if (version < 1 || version > POLICY_VERSION)
        return error_set(error, "%s: is of version %lld; this program reads versions 1 to %d", path,
                         (long long)version, POLICY_VERSION);
    if (read_text(path, root, "model", policy->fingerprint, sizeof policy->fingerprint, error) < 0 ||
        json_get_integer(path, root, "layers", 1, LAYERS_MAX, &layers, error) < 0)
        return -1;
    policy->layers = (int)layers;
    const json_t *costs = json_object_get(root, "costs");
    if (!json_is_object(costs))
        return error_set(error, "%s: \"costs\" is missing", path);
    if (json_get_number(path, costs, "head", &policy->cost_head, error) < 0 ||
        json_get_number(path, costs, "output", &policy->cost_output, error) < 0 ||
        read_exits(path, root, version, policy, error) < 0 || read_choice(path, root, policy, error) < 0 ||
        read_table(path, root, policy, error) < 0)
        return -1;
    return check_policy(path, policy, error);
}

/* The folder of a path, freshly allocated. */
static char *parent_of(const char *path, struct error *error)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return string_copy(".", error);
    char *folder = string_copy(path, error);
    if (folder)
        folder[slash == path ? 1 : slash - path] = 0;
    return folder;
}

/* Finds the policy.json that a path means. Where the replacement of a folder was stopped between two renames,
 * that is the old folder's. */
static char *find_file(const char *path, struct error *error)
{
    struct string old = {0};
    char *file = NULL;
    if (path_is_directory(path))
        return path_join(path, file_name, error);
    if (file_exists(path))
        return string_copy(path, error);
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    string_print(&old, "%.*s%s", (int)length, path, DIRECTORY_OLD);
    if (!string_failed(&old, error))
        file = path_is_directory(old.data) ? path_join(old.data, file_name, error) : string_copy(path, error);
    string_free(&old);
    return file;
}

int policy_read(const char *path, struct policy *policy, struct error *error)
{
    char *file = NULL;
    json_t *root = NULL;
    int result = -1;
    *policy = (struct policy){0};
    file = find_file(path, error);
    if (!file)
        goto done;
    policy->folder = parent_of(file, error);
    if (!policy->folder)
        goto done;
    root = json_read(file, error);
    if (!root || read_object(file, root, policy, error) < 0 || check_files(file, policy, error) < 0)
        goto done;
    result = 0;
done:
    if (result < 0)
        policy_free(policy);
    json_decref(root);
    free(file);
    return result;
}
