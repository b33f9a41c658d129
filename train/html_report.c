#include "train/html_report.h"

#include <stdlib.h>

#include "common/base/cli.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/svg.h"
#include "train/report_page.h"

/* ---- sections ---- */

struct page_section {
    const char *id, *title;
    void (*write)(const struct report *report, struct string *out);
    bool (*applies)(const struct report *report); /* NULL: always */
};

/* What decides comes first, then what was trained, then how the run went. */
static const struct page_section sections[] = {
    {"exits", "Exits and their threshold", report_exits, NULL},
    {"front", "Cost against quality", report_front, report_front_applies},
    {"depth", "By depth and kind", report_depth, report_front_applies},
    {"trials", "Trials", report_trials, NULL},
    {"curves", "Curves", report_curves, report_curves_apply},
    {"drafts", "Drafts", report_drafts, report_drafts_apply},
    {"gates", "Gates", report_gates, report_gates_apply},
    {"halving", "Rungs of halving", report_halving, report_halving_applies},
    {"time", "Where the time went", report_time, report_time_applies},
    {"failures", "What did not end well", report_failures, report_failures_apply},
};
enum { SECTIONS = sizeof sections / sizeof sections[0] };

static bool applies(const struct page_section *section, const struct report *report)
{
    return !section->applies || section->applies(report);
}

/* ---- the page around them ---- */

static void write_head(const struct report *report, struct string *out)
{
    const struct model_config *model = report->model;
    string_print(out, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
                      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
                      "<meta name=\"color-scheme\" content=\"light dark\">\n<title>Exit heads of ");
    html_escape(out, report->name);
    string_print(out, "</title>\n");
    report_write_style(out);
    string_print(out, "</head>\n<body><main>\n<h1>Exit heads of ");
    html_escape(out, report->name);
    string_print(out, "</h1>\n<p class=\"quiet\">%s, %d layers, hidden size %d, vocabulary %d, fingerprint ",
                 model->family, model->layers, model->hidden, model->vocab);
    html_escape(out, report->fingerprint);
    string_print(out, "</p>\n");
}

static void write_contents(const struct report *report, struct string *out)
{
    string_print(out, "<nav aria-label=\"Sections\">");
    for (int s = 0; s < SECTIONS; s++) {
        if (applies(&sections[s], report))
            string_print(out, "<a href=\"#%s\">%s</a>", sections[s].id, sections[s].title);
    }
    string_print(out, "</nav>\n");
}

static void card(struct string *out, const char *value, const char *name)
{
    string_print(out, "<div class=\"card\"><b>");
    html_escape(out, value);
    string_print(out, "</b><span>");
    html_escape(out, name);
    string_print(out, "</span></div>\n");
}

static void write_facts(const struct report *report, struct string *out)
{
    const struct run_folder *run = report->run;
    const double rows = run_folder_number(run, "rows"),
                 read = run_folder_number(run, "steps") * run_folder_number(run, "sequences") * rows;
    char text[64];
    string_print(out, "<div class=\"cards\">\n");
    snprintf(text, sizeof text, "%d", report->board->count);
    card(out, text, report->board->count == 1 ? "trial" : "trials");
    snprintf(text, sizeof text, "%.0f", read);
    card(out, text, "training tokens read");
    snprintf(text, sizeof text, "%.0f", run_folder_number(run, "held_out_sequences") * rows);
    card(out, text, "held-out tokens");
    snprintf(text, sizeof text, "%.4f", report->board->full_loss);
    card(out, text, "full model's held-out loss");
    card(out, format_duration(run_folder_number(run, "seconds"), text, sizeof text), "training time");
    card(out, format_duration(run_folder_number(run, "stall_seconds"), text, sizeof text),
         "waiting for the store");
    card(out, format_bytes(run_folder_number(run, "peak_memory"), text, sizeof text),
         "peak memory, mapped store included");
    if (run_folder_number(run, "device_memory") > 0)
        card(out, format_bytes(run_folder_number(run, "device_memory"), text, sizeof text),
             "memory of the device");
    string_print(out, "</div>\n");
}

static void write_foot(const struct report *report, struct string *out)
{
    const json_t *numerics = json_object_get(report->run->facts, "numerics");
    string_print(out, "<footer>Made by offramp train %s", OFFRAMP_VERSION);
    for (size_t i = 0; i < json_array_size(numerics); i++) {
        const char *name = json_string_value(json_array_get(numerics, i));
        string_print(out, i ? ", then " : " on ");
        html_escape(out, name ? name : "?");
    }
    string_print(out, ".</footer>\n</main></body></html>\n");
}

void html_report_page(const struct report *report, struct string *out)
{
    write_head(report, out);
    report_verdict(report, out);
    write_contents(report, out);
    write_facts(report, out);
    for (int s = 0; s < SECTIONS; s++) {
        if (!applies(&sections[s], report))
            continue;
        string_print(out, "<section aria-labelledby=\"%s\"><h2 id=\"%s\">%s</h2>\n", sections[s].id,
                     sections[s].id, sections[s].title);
        sections[s].write(report, out);
        string_print(out, "</section>\n");
    }
    write_foot(report, out);
}

int html_report_write(const struct run_folder *run, const struct stores *stores,
                      const struct leaderboard *board, const struct policy *policy, struct error *error)
{
    const json_t *model = json_object_get(shards_manifest(stores->shards), "model");
    const char *name = json_string_value(json_object_get(model, "name"));
    struct report_gate_list gates = {0};
    struct string text = {0};
    int result = -1;
    char *path = run_folder_path(run, error, "report.html");
    char *gates_path = run_folder_path(run, error, "gates/gates.json");
    if (!path || !gates_path || report_gate_list_read(gates_path, &gates, error) < 0)
        goto done;
    html_report_page(&(struct report){.name = name ? name : "a model",
                                      .fingerprint = stores->fingerprint,
                                      .model = &stores->config,
                                      .run = run,
                                      .board = board,
                                      .policy = policy,
                                      .gates = &gates},
                     &text);
    if (!string_failed(&text, error))
        result = file_write(path, text.data, text.length, error);
done:
    free(path);
    free(gates_path);
    report_gate_list_free(&gates);
    string_free(&text);
    return result;
}
