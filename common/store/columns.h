/* columns.h: what a target holds of every row beside u (target.h): a list of named columns.
 *
 * The manifest lists them, under the tap "target":
 *
 *     "columns": [{"name": "top", "type": "i32", "width": 1}, {"name": "probability", "type": "f32", "width": 1}, ...]
 *
 * A record holds them in that order, one behind the other, each [rows, width], little-endian. A reader finds by
 * name those that it wants. Others are kept, copied and exported as they are, so a new column does not make a
 * new format.
 */
#ifndef OFFRAMP_STORE_COLUMNS_H
#define OFFRAMP_STORE_COLUMNS_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "kernels/dtype.h"

#define COLUMN_NAME_SIZE 32
#define COLUMNS_MAX      16

struct column {
    char name
        [COLUMN_NAME_SIZE]; /* a-z, 0-9 and _; no two alike, none of cache export's "tokens", "split", "states" */
    enum dtype type; /* f64, f32, f16, i32, i16 or u8: what NumPy has, too */
    int width; /* values of a row */
};

struct columns {
    int count;
    struct column column[COLUMNS_MAX];
};

/* From the manifest's list, which is not checked before. NULL: no columns. */
int columns_parse(const json_t *list, struct columns *columns, struct error *error);
/* The list for a manifest, a new reference. NULL: out of memory. */
json_t *columns_to_json(const struct columns *columns);

/* The index of the column with a name, or -1. */
int columns_find(const struct columns *columns, const char *name);
/* Bytes of a column in a record of so many rows, and its offset among the columns. */
size_t column_bytes(const struct columns *columns, int column, int64_t rows);
size_t column_offset(const struct columns *columns, int column, int64_t rows);
/* Bytes of all columns. */
size_t columns_bytes(const struct columns *columns, int64_t rows);

#endif
