/* html_report.h: RUN/report.html, which shows a run in one file and needs no network: facts, the ranked table,
 * loss curves, KL and agreement by depth, and what confidence exits would do.
 */
#ifndef OFFRAMP_TRAIN_HTML_REPORT_H
#define OFFRAMP_TRAIN_HTML_REPORT_H

#include "common/base/error.h"
#include "common/head/policy.h"
#include "train/leaderboard.h"
#include "train/stores.h"

int html_report_write(const struct run_folder *run, const struct stores *stores,
                      const struct leaderboard *board, const struct policy *policy, struct error *error);

#endif
