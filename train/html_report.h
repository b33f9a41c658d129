/* html_report.h: RUN/report.html, which shows a run in one file and needs no network and no script: what to deploy and
 * why, and below that the sections of report.h.
 */
#ifndef OFFRAMP_TRAIN_HTML_REPORT_H
#define OFFRAMP_TRAIN_HTML_REPORT_H

#include "common/base/error.h"
#include "common/head/policy.h"
#include "train/leaderboard.h"
#include "train/report.h"
#include "train/stores.h"

/* Writes the file, with the gates that RUN/gates/gates.json knows. */
int html_report_write(const struct run_folder *run, const struct stores *stores,
                      const struct leaderboard *board, const struct policy *policy, struct error *error);

/* The page. */
void html_report_page(const struct report *report, struct string *out);

#endif
