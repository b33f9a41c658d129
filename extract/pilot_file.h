/* pilot_file.h: parameters of codecs as a file, so that all shards of an extraction have the same.
 *
 *     "OFRPILOT", u32 length, JSON {"version", "model": its fingerprint, "taps": [{"name", "codec", "bytes"}]},
 *     the taps' parameters one behind the other, u64 XXH3 of all before it
 */
#ifndef OFFRAMP_EXTRACT_PILOT_FILE_H
#define OFFRAMP_EXTRACT_PILOT_FILE_H

#include "common/base/error.h"
#include "common/store/store.h"

/* Writes the parameters of all taps of a store that have some. */
int pilot_file_write(const char *path, struct store *store, struct error *error);

/* The bytes [*size] of a tap of `store`, which must be made for the same model and codec; free() them. */
struct pilot_file;
int pilot_file_open(const char *path, const struct store *store, struct pilot_file **file, struct error *error);
void pilot_file_close(struct pilot_file *file); /* NULL is fine */
int pilot_file_find(const struct pilot_file *file, const struct store *store, int tap, const void **bytes,
                    size_t *size, struct error *error);

#endif
