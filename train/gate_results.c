#include "train/gate_results.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/json.h"

struct gate_entry gate_entry_of(const char *tap, const char *trial, const struct gate_spec *spec)
{
    struct gate_entry entry = {.tap = tap, .trial = trial};
    gate_spec_name(spec, entry.gate);
    snprintf(entry.file, sizeof entry.file, "%s-%s.safetensors", tap, entry.gate);
    return entry;
}

/* ---- the file ---- */

json_t *gate_results_read(const struct run_folder *run)
{
    struct error ignored; /* what cannot be read is made again */
    char *path = run_folder_path(run, &ignored, "gates/gates.json");
    json_t *results = path && file_exists(path) ? json_read(path, &ignored) : NULL;
    free(path);
    if (json_is_array(json_object_get(results, "gates")) &&
        json_is_array(json_object_get(results, "left_out")) &&
        json_integer_value(json_object_get(results, "version")) == 1)
        return results;
    json_decref(results);
    return json_pack("{si s{} s[] s[]}", "version", 1, "split", "gates", "left_out");
}

int gate_results_write(const struct run_folder *run, const json_t *results, struct error *error)
{
    char *path = run_folder_path(run, error, "gates/gates.json");
    int result = path ? json_write(path, results, error) : -1;
    free(path);
    return result;
}

/* ---- entries ---- */

static bool text_is(const json_t *object, const char *key, const char *text)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value && strcmp(value, text) == 0;
}

/* The index of the entry of that tap and gate in a list; its size: there is none. */
static size_t find(const json_t *list, const struct gate_entry *entry)
{
    size_t i = 0;
    while (i < json_array_size(list) && !(text_is(json_array_get(list, i), "tap", entry->tap) &&
                                          text_is(json_array_get(list, i), "gate", entry->gate)))
        i++;
    return i;
}

/* Whether the one found is of the same head. */
static bool is_of(const json_t *found, const struct gate_entry *entry)
{
    return text_is(found, "trial", entry->trial) && (!entry->head[0] || text_is(found, "head", entry->head));
}

static bool has_file(const struct run_folder *run, const struct gate_entry *entry)
{
    struct error ignored;
    char *path = run_folder_path(run, &ignored, "gates/%s", entry->file);
    const bool there = path && file_exists(path);
    free(path);
    return there;
}

bool gate_results_have(const struct run_folder *run, const json_t *results, const struct gate_entry *entry)
{
    const json_t *gates = json_object_get(results, "gates"), *left_out = json_object_get(results, "left_out");
    return (is_of(json_array_get(gates, find(gates, entry)), entry) && has_file(run, entry)) ||
           is_of(json_array_get(left_out, find(left_out, entry)), entry);
}

/* Takes away what either list has of the entry. */
static void forget(json_t *results, const struct gate_entry *entry)
{
    json_t *gates = json_object_get(results, "gates"), *left_out = json_object_get(results, "left_out");
    json_array_remove(gates, find(gates, entry));
    json_array_remove(left_out, find(left_out, entry));
}

/* Behind those of its tap, or, where there are none, at the end. Takes the reference. */
static int insert(json_t *list, const struct gate_entry *entry, json_t *item, struct error *error)
{
    size_t at = json_array_size(list);
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (text_is(json_array_get(list, i), "tap", entry->tap))
            at = i + 1;
    }
    if (!item || json_array_insert_new(list, at, item) < 0)
        return error_set_kind(error, ERROR_NO_MEMORY, "out of memory");
    return 0;
}

static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *reliability(const struct gate_bin bins[GATE_BINS])
{
    json_t *list = json_array();
    for (int b = 0; b < GATE_BINS; b++)
        json_array_append_new(list, json_pack("{so so sI}", "predicted", number(bins[b].predicted), "observed",
                                              number(bins[b].observed), "tokens", (json_int_t)bins[b].tokens));
    return list;
}

int gate_results_put(json_t *results, const struct gate_entry *entry, const struct gate_score *score,
                     double cost, const char *file_hash, struct error *error)
{
    json_t *item = json_pack(
        "{ss ss ss so so sf sf sf sI sI sf so ss ss ss}", "tap", entry->tap, "trial", entry->trial, "gate",
        entry->gate, "auc", number(score->auc), "confidence", number(score->confidence), "agreement",
        score->agreement, "loss", score->loss, "calibration_error", gate_calibration_error(score->bins),
        "fitted", (json_int_t)score->fitted, "scored", (json_int_t)score->scored, "cost", cost, "reliability",
        reliability(score->bins), "file", entry->file, "hash", file_hash, "head", entry->head);
    forget(results, entry);
    return insert(json_object_get(results, "gates"), entry, item, error);
}

int gate_results_leave_out(json_t *results, const struct gate_entry *entry, const char *reason,
                           struct error *error)
{
    json_t *item = json_pack("{ss ss ss ss ss}", "tap", entry->tap, "trial", entry->trial, "gate", entry->gate,
                             "head", entry->head, "reason", reason);
    forget(results, entry);
    return insert(json_object_get(results, "left_out"), entry, item, error);
}

/* ---- for people ---- */

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "?";
}

static double number_of(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

void gate_results_print(const json_t *results, FILE *stream)
{
    const json_t *gates = json_object_get(results, "gates"), *left_out = json_object_get(results, "left_out"),
                 *split = json_object_get(results, "split");
    if (json_array_size(gates) + json_array_size(left_out) == 0)
        return;
    fprintf(stream, "%-8s  %-36s  %6s  %10s  %18s  %14s\n", "tap", "gate", "AUC", "confidence",
            "calibration error", "cost in layers");
    for (size_t i = 0; i < json_array_size(gates); i++) {
        const json_t *gate = json_array_get(gates, i);
        fprintf(stream, "%-8s  %-36s  %6.3f  %10.3f  %18.3f  %14.3f\n", text_of(gate, "tap"),
                text_of(gate, "gate"), number_of(gate, "auc"), number_of(gate, "confidence"),
                number_of(gate, "calibration_error"), number_of(gate, "cost"));
    }
    for (size_t i = 0; i < json_array_size(left_out); i++) {
        const json_t *gate = json_array_get(left_out, i);
        fprintf(stream, "%-8s  %-36s  none: %s\n", text_of(gate, "tap"), text_of(gate, "gate"),
                text_of(gate, "reason"));
    }
    fprintf(stream,
            "AUC: how well a gate tells held-out tokens where the exit has the full model's token from others; "
            "\"confidence\": the same of the head's largest probability. Fitted to %.0f held-out sequences, "
            "scored on "
            "%.0f others, %s.\n",
            number_of(split, "fitted"), number_of(split, "scored"),
            strcmp(text_of(split, "documents"), "apart") == 0 ? "which share no document with them"
                                                              : "which may share a document with them");
}
