/* summary.h: what extract has done, on stdout, for people or as JSON. */
#ifndef OFFRAMP_EXTRACT_SUMMARY_H
#define OFFRAMP_EXTRACT_SUMMARY_H

#include <stdbool.h>

#include "common/base/error.h"
#include "common/store/store.h"
#include "extract/codec_pilot.h"
#include "extract/plan.h"
#include "extract/run.h"
#include "extract/split.h"
#include "extract/tokenize.h"

struct summary {
    struct store *store;
    const struct plan *plan;
    const struct tokenize_result *tokens;
    enum holding holding;
    const struct tokenize_job *job;
    const struct codec_pilot_result *pilot; /* that came before the run */
    const struct run_report *run;
    const char *numerics;
};

/* Prints bytes and bits per value of each tap, over all runs; the times of this run; the seconds that each
 * stage worked and waited; the peak of memory. */
int summary_print(const struct summary *summary, bool json, struct error *error);

#endif
