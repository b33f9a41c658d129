/* columns.h: what a target holds of every row beside u (target.h): a list of columns, each known by its name.
 *
 * The manifest names them, under the tap "target":
 *
 *     "columns": [{"name": "top", "type": "i32", "width": 1}, {"name": "probability", "type": "f32", "width": 1}, ...]
 *
 * A record has them one behind the other in that order, each [rows, width], little-endian. A reader looks for those
 * it wants by name; the rest is kept, exported and checked by the record's hash as it is, so that a column more is
 * no other format.
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

/* Fills *columns from the manifest's list, which may be anything or NULL. */
int columns_parse(const json_t *list, struct columns *columns, struct error *error);
/* The list for a manifest; NULL: memory is out. */
json_t *columns_to_json(const struct columns *columns);

/* The index of a name; -1: there is no such column. */
int columns_find(const struct columns *columns, const char *name);
/* Bytes of a column in a record of so many rows, and where it begins. */
size_t column_bytes(const struct columns *columns, int column, int64_t rows);
size_t column_offset(const struct columns *columns, int column, int64_t rows);
/* Of all columns. */
size_t columns_bytes(const struct columns *columns, int64_t rows);

#endif
