/* scout_report.h: what a scout found: a table, JSON, a picture; and what it would take. */
#ifndef OFFRAMP_EXTRACT_SCOUT_REPORT_H
#define OFFRAMP_EXTRACT_SCOUT_REPORT_H

#include "extract/scout.h"

/* On stdout, for people or as JSON. */
int scout_print(const struct scout_job *job, const struct scout_result *result, bool json, struct error *error);

/* Agreement by layer, as SVG. */
int scout_draw(const struct scout_result *result, const char *path, struct error *error);

/* --dry-run: what a scout takes of memory. */
int scout_foretell(const struct scout_job *job, bool json, struct error *error);

#endif
