/* gate_wish.h: which gates are asked of a run (common/head/gate.h): the setting `gates` of the sweep file, or the flag.
 * Where neither says it, those that were asked for last count, which run.json keeps:
 *     "gates": ["mlp", "short-list+state"]
 */
#ifndef OFFRAMP_TRAIN_GATE_WISH_H
#define OFFRAMP_TRAIN_GATE_WISH_H

#include <jansson.h>
#include <stdbool.h>

#include "common/base/error.h"
#include "common/head/gate.h"

enum { GATES_MOST = 16 }; /* there are no more kinds */

struct gate_wish {
    bool given;
    int count;
    struct gate_spec spec[GATES_MOST]; /* none twice */
};

/* "none", or names with commas between them; "": not given. */
int gate_wish_parse(const char *text, struct gate_wish *wish, struct error *error);

/* For run.json; NULL when memory is out. */
json_t *gate_wish_to_json(const struct gate_wish *wish);
/* As it was asked last, unless it is given now. kept: of run.json, or NULL. */
int gate_wish_keep(const json_t *kept, struct gate_wish *wish, struct error *error);

#endif
