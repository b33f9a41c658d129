/* tap.h: names of points of the residual stream:
 *
 *     "0"        the embedding's output
 *     "12"       after layer 12
 *     "12.mid"   after its attention, before its MLP
 *     "final"    the last layer's output, before the final norm
 *
 * "target" is not a point of the stream: it is what the full model makes of each row (target.h). A store keeps,
 * counts and checks it like a tap, behind all others, where the tap of one more layer would be.
 */
#ifndef OFFRAMP_STORE_TAP_H
#define OFFRAMP_STORE_TAP_H

#include <stdbool.h>

#include "common/base/error.h"

struct tap {
    int layer; /* 0 .. layers; layers + 1: the target */
    bool mid; /* after the attention of `layer`, before its MLP */
};

#define TAP_NAME_SIZE 16

/* The tap with a name, in a model of so many layers. "final" and "30" of 30 layers are one tap, named
 * "final". */
int tap_parse(const char *text, int layers, struct tap *tap, struct error *error);
/* The target of a model of so many layers. */
struct tap tap_target(int layers);
/* The same for names in a store, where "target" is one. */
int tap_parse_stored(const char *text, int layers, struct tap *tap, struct error *error);
/* The tap's one name. */
void tap_name(struct tap tap, int layers, char name[TAP_NAME_SIZE]);
/* Order along the model: < 0, 0, > 0. 12.mid comes before 12, target behind final. */
int tap_compare(struct tap a, struct tap b);

#endif
