/* tap.h: names of places in the residual stream: "12" after layer 12, "12.mid" after its attention,
 * "0" the embedding's output, "final" the last layer's output, before the final norm. */
#ifndef OFFRAMP_STORE_TAP_H
#define OFFRAMP_STORE_TAP_H

#include <stdbool.h>

#include "common/base/error.h"

struct tap {
    int layer; /* 0 .. layers */
    bool mid; /* after the attention of `layer`, before its MLP */
};

#define TAP_NAME_SIZE 16

/* `text` with `layers` the model's; "final" and "30" of 30 layers are the same tap, named "final". */
int tap_parse(const char *text, int layers, struct tap *tap, struct error *error);
/* The one name a tap has. */
void tap_name(struct tap tap, int layers, char name[TAP_NAME_SIZE]);
/* Order along the model: < 0, 0, > 0. 12.mid comes before 12. */
int tap_compare(struct tap a, struct tap b);

#endif
