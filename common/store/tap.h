/* tap.h: names of points of the residual stream: "12" after layer 12, "12.mid" after its attention,
 * "0" the embedding's output, "final" the last layer's output, before the final norm.
 *
 * "target" is none of them, but a store keeps, counts and checks it like one: what the full model makes of
 * each row (target.h). It stands behind them all, where a layer more would have its tap. */
#ifndef OFFRAMP_STORE_TAP_H
#define OFFRAMP_STORE_TAP_H

#include <stdbool.h>

#include "common/base/error.h"

struct tap {
    int layer; /* 0 .. layers; layers + 1: the target */
    bool mid; /* after the attention of `layer`, before its MLP */
};

#define TAP_NAME_SIZE 16

/* `text` with `layers` the model's; "final" and "30" of 30 layers are the same tap, named "final". */
int tap_parse(const char *text, int layers, struct tap *tap, struct error *error);
/* The target, which stands behind so many layers. */
struct tap tap_target(int layers);
/* tap_parse for what a store holds, which may be "target", too. */
int tap_parse_stored(const char *text, int layers, struct tap *tap, struct error *error);
/* The one name a tap has. */
void tap_name(struct tap tap, int layers, char name[TAP_NAME_SIZE]);
/* Order along the model: < 0, 0, > 0. 12.mid comes before 12, target behind final. */
int tap_compare(struct tap a, struct tap b);

#endif
