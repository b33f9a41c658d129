/* How well gates tell which tokens may leave. */
#include "train/report_gates.h"

#include <inttypes.h>
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
    *value = NAN;
    if (json_is_null(json_object_get(object, key))) /* there is none */
        return 0;
    if (json_get_number(name, object, key, value, error) < 0)
        return -1;
    if (!(*value >= 0 && *value <= 1))
        return error_set_kind(error, ERROR_DAMAGED, "%s: %s is %g, which is not within 0 and 1", name, key,
                              *value);
    return 0;
}

static int read_bins(const char *name, const json_t *list, struct report_gate *gate, struct error *error)
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

static int read_gate(const char *name, const json_t *object, struct report_gate *gate, struct error *error)
{
    const char *trial;
    gate->confidence = NAN;
    if (read_name(name, object, "tap", gate->tap, sizeof gate->tap, error) < 0 ||
        read_name(name, object, "gate", gate->gate, sizeof gate->gate, error) < 0 ||
        json_get_string(name, object, "trial", &trial, error) < 0 ||
        read_share(name, object, "auc", &gate->auc, error) < 0 ||
        (json_object_get(object, "confidence") &&
         read_share(name, object, "confidence", &gate->confidence, error) < 0) ||
        json_get_number(name, object, "cost", &gate->cost, error) < 0 ||
        json_get_integer(name, object, "fitted", 0, INT64_MAX, &gate->fitted, error) < 0 ||
        json_get_integer(name, object, "scored", 0, INT64_MAX, &gate->scored, error) < 0 ||
        !(gate->trial = string_copy(trial, error)))
        return -1;
    return read_bins(name, json_object_get(object, "reliability"), gate, error);
}

int report_gate_list_read(const char *path, struct report_gate_list *gates, struct error *error)
{
    *gates = (struct report_gate_list){0};
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
        report_gate_list_free(gates);
    return result;
}

void report_gate_list_free(struct report_gate_list *gates)
{
    for (size_t i = 0; i < gates->count; i++)
        free(gates->gate[i].trial);
    free(gates->gate);
    *gates = (struct report_gate_list){0};
}

/* ---- taps and kinds of gates, in the order in which they come ---- */

bool report_gates_apply(const struct report *report)
{
    return report->gates->count > 0;
}

/* The number of a gate's tap among the taps: how many others came before it. */
static int tap_number(const struct report_gate_list *gates, size_t index)
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
static int kind_number(const struct report_gate_list *gates, size_t index)
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

static int count_taps(const struct report_gate_list *gates)
{
    int most = 0;
    for (size_t i = 0; i < gates->count; i++)
        most = tap_number(gates, i) >= most ? tap_number(gates, i) + 1 : most;
    return most;
}

static bool is_first_of_kind(const struct report_gate_list *gates, size_t index)
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

static const struct report_gate *best_at(const struct report_gate_list *gates, int tap)
{
    const struct report_gate *best = NULL;
    for (size_t i = 0; i < gates->count; i++) {
        if (tap_number(gates, i) == tap && (!best || isnan(best->auc) || gates->gate[i].auc > best->auc))
            best = &gates->gate[i];
    }
    return best;
}

/* ---- charts ---- */

/* Where a tap is drawn: at its layer, or half a layer before. */
static double tap_place(const struct report_gate *gate)
{
    return strtod(gate->tap, NULL) - (strstr(gate->tap, ".mid") ? 0.5 : 0);
}

/* The same kind of gate at the next tap; NULL: there is none. */
static const struct report_gate *next_of_kind(const struct report_gate_list *gates,
                                              const struct report_gate *gate)
{
    const struct report_gate *next = NULL;
    for (size_t i = 0; i < gates->count; i++) {
        const struct report_gate *other = &gates->gate[i];
        if (!strcmp(other->gate, gate->gate) && tap_place(other) > tap_place(gate) &&
            (!next || tap_place(other) < tap_place(next)))
            next = other;
    }
    return next;
}

static void write_auc(const struct report *report, struct string *out)
{
    const struct report_gate_list *gates = report->gates;
    struct svg_chart chart = report_chart(out, "layer of the exit", "AUC");
    chart.x =
        (struct svg_axis){.label = chart.x.label, .least = 0, .most = report->model->layers, .exact = true};
    for (size_t i = 0; i < gates->count; i++)
        report_stretch(&chart.y, gates->gate[i].auc);
    report_chart_begin(&chart, "How well gates tell",
                       "AUC of each gate at each tap; the table below has the numbers.");
    for (size_t i = 0; i < gates->count; i++) {
        const struct report_gate *gate = &gates->gate[i], *next = next_of_kind(gates, gate);
        const int kind = kind_number(gates, i);
        const struct svg_point point = {tap_place(gate), gate->auc};
        char hint[160];
        if (next)
            svg_line(&chart, (const struct svg_point[]){point, {tap_place(next), next->auc}}, 2,
                     report_colour(kind), NULL);
        snprintf(hint, sizeof hint, "tap %s, %s: %.3f", gate->tap, gate->gate, gate->auc);
        svg_mark(&chart, point, kind_shape(kind), report_colour(kind), hint);
    }
    report_chart_end(&chart);
}

/* What gates say against what is so, at one tap. */
static void write_reliability(const struct report_gate_list *gates, int tap, struct string *out)
{
    struct svg_chart chart = report_chart(out, "what the gate says", "how often it is so");
    char title[80];
    chart.x = (struct svg_axis){.label = chart.x.label, .least = 0, .most = 1, .percent = true, .exact = true};
    chart.y = (struct svg_axis){.label = chart.y.label, .least = 0, .most = 1, .percent = true, .exact = true};
    chart.room = 24;
    snprintf(title, sizeof title, "Reliability at tap %s", best_at(gates, tap)->tap);
    report_chart_begin(&chart, title, "A gate that is right lies on the diagonal.");
    svg_line(&chart, (const struct svg_point[]){{0, 0}, {1, 1}}, 2, report_colour(-1), "4 4");
    for (size_t i = 0; i < gates->count; i++) {
        const struct report_gate *gate = &gates->gate[i];
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

static void write_legend(const struct report_gate_list *gates, struct string *out)
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

static void write_auc_cell(double auc, bool best, struct string *out)
{
    if (isnan(auc))
        string_print(out, "<td>-</td>");
    else
        string_print(out, best ? "<td>best <b>%.3f</b></td>" : "<td>%.3f</td>", auc);
}

static void write_table(const struct report_gate_list *gates, struct string *out)
{
    struct report_table table = {.out = out,
                                 .caption = "Gates",
                                 .head = "<th class=\"text\">tap</th><th class=\"text\">gate</th><th>AUC</th>"
                                         "<th>confidence's AUC</th><th>off by, mean</th><th>cost, "
                                         "layers</th><th class=\"minor\">tokens fitted</th>"
                                         "<th class=\"minor\">tokens scored</th>",
                                 .count = (int)gates->count};
    char share[32];
    report_table_begin(&table);
    for (size_t i = 0; i < gates->count; i++) {
        const struct report_gate *gate = &gates->gate[i];
        report_table_row(&table, NULL);
        string_print(out, "<th scope=\"row\">");
        html_escape(out, gate->tap);
        string_print(out, "</th><td class=\"text\">");
        html_escape(out, gate->gate);
        string_print(out, "</td>");
        write_auc_cell(gate->auc, best_at(gates, tap_number(gates, i)) == gate, out);
        write_auc_cell(gate->confidence, false, out);
        string_print(out,
                     "<td>%s</td><td>%.3f</td><td class=\"minor\">%" PRId64 "</td><td class=\"minor\">%" PRId64
                     "</td></tr>\n",
                     report_share(gate_calibration_error(gate->bin), share, sizeof share), gate->cost,
                     gate->fitted, gate->scored);
    }
    report_table_end(&table);
}

/* Whether the gate's head is one that could be deployed. */
static bool is_of_front(const struct leaderboard *board, const struct report_gate *gate)
{
    for (int i = 0; i < board->exits; i++) {
        if (!strcmp(board->row[i].config->id, gate->trial))
            return report_front_has(board, i);
    }
    return false;
}

void report_gates_in_short(const struct report *report, struct string *out)
{
    const struct report_gate *best = NULL;
    for (size_t i = 0; i < report->gates->count; i++) {
        const struct report_gate *gate = &report->gates->gate[i];
        if (gate->auc > gate->confidence && is_of_front(report->board, gate) &&
            (!best || gate->auc - gate->confidence > best->auc - best->confidence))
            best = gate;
    }
    if (!best)
        return;
    string_print(out, "<p>At layer ");
    html_escape(out, best->tap);
    string_print(out, " the <a href=\"#gates\">gate</a> <b>");
    html_escape(out, best->gate);
    string_print(out,
                 "</b> tells more of which tokens may leave than the head's own confidence does (AUC %.3f "
                 "against %.3f), for "
                 "%.2f layers.</p>\n",
                 best->auc, best->confidence, best->cost);
}

void report_gates(const struct report *report, struct string *out)
{
    const struct report_gate_list *gates = report->gates;
    string_print(
        out,
        "<p>A gate says, before or without the vocabulary product, how likely it is that the exit's likeliest "
        "token is the full model's. AUC is how often it gives a token of which that is true more than one of "
        "which it is not: 0.5 is guessing, 1 never errs. Gates are scored on held-out tokens that they were "
        "not "
        "fitted to.</p>\n<div class=\"charts\">\n");
    write_auc(report, out);
    for (int tap = 0; tap < count_taps(gates); tap++)
        write_reliability(gates, tap, out);
    string_print(out, "</div>\n");
    write_legend(gates, out);
    write_table(gates, out);
}
