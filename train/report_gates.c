/* How well gates tell which tokens may leave. */
#include "train/report_gates.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/memory.h"
#include "train/report.h"
#include "train/report_page.h"

/* ---- the file ---- */

static int read_name(const char *name, const json_t *object, const char *key, char *text, size_t size,
                     struct error *error)
{
    const char *value;
    if (json_get_string(name, object, key, &value, error) < 0)
        return -1;
    if (strlen(value) >= size)
        return error_set_kind(error, ERROR_DAMAGED, "%s: %s \"%.40s...\" is too long", name, key, value);
    strcpy(text, value);
    return 0;
}

static int read_share(const char *name, const json_t *object, const char *key, double *value,
                      struct error *error)
{
    if (json_get_number(name, object, key, value, error) < 0)
        return -1;
    if (!(*value >= 0 && *value <= 1))
        return error_set_kind(error, ERROR_DAMAGED, "%s: %s is %g, which is not within 0 and 1", name, key,
                              *value);
    return 0;
}

static int read_bins(const char *name, const json_t *list, struct gate_result *gate, struct error *error)
{
    if (json_array_size(list) > GATE_BINS)
        return error_set_kind(error, ERROR_DAMAGED, "%s: reliability has more than %d parts", name, GATE_BINS);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *entry = json_array_get(list, i);
        struct gate_bin *bin = &gate->bin[gate->bins++];
        if (json_get_integer(name, entry, "tokens", 0, INT64_MAX, &bin->tokens, error) < 0)
            return -1;
        if (bin->tokens > 0 && (read_share(name, entry, "predicted", &bin->predicted, error) < 0 ||
                                read_share(name, entry, "observed", &bin->observed, error) < 0))
            return -1;
    }
    return 0;
}

static int read_gate(const char *name, const json_t *object, struct gate_result *gate, struct error *error)
{
    const char *trial;
    if (read_name(name, object, "tap", gate->tap, sizeof gate->tap, error) < 0 ||
        read_name(name, object, "gate", gate->gate, sizeof gate->gate, error) < 0 ||
        json_get_string(name, object, "trial", &trial, error) < 0 ||
        read_share(name, object, "auc", &gate->auc, error) < 0 ||
        json_get_number(name, object, "cost", &gate->cost, error) < 0 ||
        json_get_integer(name, object, "fitted", 0, INT64_MAX, &gate->fitted, error) < 0 ||
        json_get_integer(name, object, "scored", 0, INT64_MAX, &gate->scored, error) < 0 ||
        !(gate->trial = string_copy(trial, error)))
        return -1;
    return read_bins(name, json_object_get(object, "reliability"), gate, error);
}

int gate_list_read(const char *path, struct gate_list *gates, struct error *error)
{
    *gates = (struct gate_list){0};
    if (!file_exists(path))
        return 0;
    json_t *root = json_read(path, error);
    const json_t *list = root ? json_object_get(root, "gates") : NULL;
    int result = root ? array_grow(&gates->gate, &gates->capacity, json_array_size(list) + 1, error) : -1;
    for (size_t i = 0; i < json_array_size(list) && result == 0; i++) {
        char name[4096];
        snprintf(name, sizeof name, "%s: gate %zu", path, i + 1);
        result = read_gate(name, json_array_get(list, i), &gates->gate[gates->count++], error);
    }
    json_decref(root);
    if (result < 0)
        gate_list_free(gates);
    return result;
}

void gate_list_free(struct gate_list *gates)
{
    for (size_t i = 0; i < gates->count; i++)
        free(gates->gate[i].trial);
    free(gates->gate);
    *gates = (struct gate_list){0};
}

/* ---- taps and kinds of gates, in the order in which they come ---- */

bool report_gates_apply(const struct report *report)
{
    return report->gates->count > 0;
}

/* The number of a gate's tap among the taps: how many others came before it. */
static int tap_number(const struct gate_list *gates, size_t index)
{
    int number = 0;
    for (size_t i = 0; i < gates->count; i++) {
        bool first = true;
        for (size_t j = 0; j < i; j++)
            first = first && strcmp(gates->gate[j].tap, gates->gate[i].tap) != 0;
        if (!strcmp(gates->gate[i].tap, gates->gate[index].tap))
            break;
        number += first;
    }
    return number;
}

/* The same of its kind. */
static int kind_number(const struct gate_list *gates, size_t index)
{
    int number = 0;
    for (size_t i = 0; i < gates->count; i++) {
        bool first = true;
        for (size_t j = 0; j < i; j++)
            first = first && strcmp(gates->gate[j].gate, gates->gate[i].gate) != 0;
        if (!strcmp(gates->gate[i].gate, gates->gate[index].gate))
            break;
        number += first;
    }
    return number;
}

static int count_taps(const struct gate_list *gates)
{
    int most = 0;
    for (size_t i = 0; i < gates->count; i++)
        most = tap_number(gates, i) >= most ? tap_number(gates, i) + 1 : most;
    return most;
}

static bool is_first_of_kind(const struct gate_list *gates, size_t index)
{
    for (size_t i = 0; i < index; i++) {
        if (!strcmp(gates->gate[i].gate, gates->gate[index].gate))
            return false;
    }
    return true;
}

static enum svg_shape kind_shape(int number)
{
    return (enum svg_shape)(number % SVG_SHAPES);
}

static const struct gate_result *best_at(const struct gate_list *gates, int tap)
{
    const struct gate_result *best = NULL;
    for (size_t i = 0; i < gates->count; i++) {
        if (tap_number(gates, i) == tap && (!best || gates->gate[i].auc > best->auc))
            best = &gates->gate[i];
    }
    return best;
}

/* ---- charts ---- */

/* A mark for each gate, taps side by side; the axis has no numbers of its own, so taps are written below. */
static void write_auc(const struct gate_list *gates, struct string *out)
{
    struct svg_chart chart = report_chart(out, "tap (in the table's order)", "AUC");
    chart.x =
        (struct svg_axis){.label = chart.x.label, .least = 0.5, .most = count_taps(gates) + 0.5, .exact = true};
    for (size_t i = 0; i < gates->count; i++)
        report_stretch(&chart.y, gates->gate[i].auc);
    report_chart_begin(&chart, "How well gates tell",
                       "AUC of each gate at each tap; the table below has the numbers.");
    for (size_t i = 0; i < gates->count; i++) {
        const struct gate_result *gate = &gates->gate[i];
        const int kind = kind_number(gates, i);
        const struct svg_point point = {tap_number(gates, i) + 1, gate->auc};
        char hint[160];
        for (size_t j = 0; j < gates->count; j++) {
            const struct svg_point pair[] = {point, {tap_number(gates, j) + 1, gates->gate[j].auc}};
            if (kind_number(gates, j) == kind && tap_number(gates, j) == tap_number(gates, i) + 1)
                svg_line(&chart, pair, 2, report_colour(kind), NULL);
        }
        snprintf(hint, sizeof hint, "tap %s, %s: %.3f", gate->tap, gate->gate, gate->auc);
        svg_mark(&chart, point, kind_shape(kind), report_colour(kind), hint);
    }
    report_chart_end(&chart);
}

/* What gates say against what is so, at one tap. */
static void write_reliability(const struct gate_list *gates, int tap, struct string *out)
{
    struct svg_chart chart = report_chart(out, "what the gate says", "how often it is so");
    char title[80];
    chart.x = (struct svg_axis){.label = chart.x.label, .least = 0, .most = 1, .percent = true, .exact = true};
    chart.y = (struct svg_axis){.label = chart.y.label, .least = 0, .most = 1, .percent = true, .exact = true};
    snprintf(title, sizeof title, "Reliability at tap %s", best_at(gates, tap)->tap);
    report_chart_begin(&chart, title, "A gate that is right lies on the diagonal.");
    svg_line(&chart, (const struct svg_point[]){{0, 0}, {1, 1}}, 2, report_colour(-1), "4 4");
    for (size_t i = 0; i < gates->count; i++) {
        const struct gate_result *gate = &gates->gate[i];
        const int kind = kind_number(gates, i);
        struct svg_point points[GATE_BINS];
        size_t count = 0;
        if (tap_number(gates, i) != tap)
            continue;
        for (int b = 0; b < gate->bins; b++) {
            if (gate->bin[b].tokens > 0)
                points[count++] = (struct svg_point){gate->bin[b].predicted, gate->bin[b].observed};
        }
        svg_line(&chart, points, count, report_colour(kind), NULL);
        for (size_t p = 0; p < count; p++) {
            char hint[160];
            snprintf(hint, sizeof hint, "%s says %.1f %%: so in %.1f %%", gate->gate, 100 * points[p].x,
                     100 * points[p].y);
            svg_mark(&chart, points[p], kind_shape(kind), report_colour(kind), hint);
        }
    }
    report_chart_end(&chart);
}

static void write_legend(const struct gate_list *gates, struct string *out)
{
    string_print(out, "<div class=\"legend\">");
    for (size_t i = 0; i < gates->count; i++) {
        const int kind = kind_number(gates, i);
        if (!is_first_of_kind(gates, i))
            continue;
        string_print(out, "<span>");
        svg_symbol(out, kind_shape(kind), report_colour(kind));
        html_escape(out, gates->gate[i].gate);
        string_print(out, "</span>");
    }
    string_print(out, "</div>\n");
}

/* ---- the table ---- */

/* How far what it says is from what is so: the mean over tokens of the distance of their bin. */
static double calibration_error(const struct gate_result *gate)
{
    double sum = 0, tokens = 0;
    for (int b = 0; b < gate->bins; b++) {
        sum += (double)gate->bin[b].tokens * fabs(gate->bin[b].predicted - gate->bin[b].observed);
        tokens += (double)gate->bin[b].tokens;
    }
    return tokens > 0 ? sum / tokens : NAN;
}

static void write_table(const struct gate_list *gates, struct string *out)
{
    struct report_table table = {
        .out = out,
        .caption = "Gates",
        .head = "<th class=\"text\">tap</th><th class=\"text\">gate</th><th>AUC</th>"
                "<th>off by, mean</th><th>cost, layers</th><th class=\"minor\">tokens fitted</th>"
                "<th class=\"minor\">tokens scored</th>",
        .count = (int)gates->count};
    char share[32];
    report_table_begin(&table);
    for (size_t i = 0; i < gates->count; i++) {
        const struct gate_result *gate = &gates->gate[i];
        const bool best = best_at(gates, tap_number(gates, i)) == gate;
        report_table_row(&table, NULL);
        string_print(out, "<th scope=\"row\">");
        html_escape(out, gate->tap);
        string_print(out, "</th><td class=\"text\">");
        html_escape(out, gate->gate);
        string_print(out,
                     "</td><td>%s%.3f%s</td><td>%s</td><td>%.3f</td><td class=\"minor\">%lld</td><td "
                     "class=\"minor\">%lld</td></tr>\n",
                     best ? "<b>" : "", gate->auc, best ? "</b> best" : "",
                     report_share(calibration_error(gate), share, sizeof share), gate->cost,
                     (long long)gate->fitted, (long long)gate->scored);
    }
    report_table_end(&table);
}

void report_gates(const struct report *report, struct string *out)
{
    const struct gate_list *gates = report->gates;
    string_print(
        out,
        "<p>A gate says, before or without the vocabulary product, how likely it is that the exit's likeliest "
        "token is the full model's. AUC is how often it gives a token of which that is true more than one of "
        "which it is not: 0.5 is guessing, 1 never errs. Gates are scored on held-out tokens that they were "
        "not "
        "fitted to.</p>\n<div class=\"charts\">\n");
    write_auc(gates, out);
    for (int tap = 0; tap < count_taps(gates); tap++)
        write_reliability(gates, tap, out);
    string_print(out, "</div>\n");
    write_legend(gates, out);
    write_table(gates, out);
}
