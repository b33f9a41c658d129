/* pilot_file.h: the parameters of codecs as a file, so that all shards of an extraction have the same.
 *
 *     "OFRPILOT", u32 length, JSON {"version", "model": its fingerprint, "taps": [{"name", "codec", "bytes"}]},
 *     the parameters of the taps, one behind the other, u64 XXH3 of everything before
 */
#ifndef OFFRAMP_EXTRACT_PILOT_FILE_H
#define OFFRAMP_EXTRACT_PILOT_FILE_H

#include "common/base/error.h"
#include "common/store/store.h"

/* Writes the parameters of those taps of a store that have some. */
int pilot_file_write(const char *path, struct store *store, struct error *error);

/* An error when the file was made with another model than the store. pilot_file_find gives a tap's parameters,
 * bytes [*size], which live as long as the file; an error when they were made for another codec. */
struct pilot_file;
int pilot_file_open(const char *path, const struct store *store, struct pilot_file **file, struct error *error);
void pilot_file_close(struct pilot_file *file); /* NULL is fine */
int pilot_file_find(const struct pilot_file *file, const struct store *store, int tap, const void **bytes,
                    size_t *size, struct error *error);

#endif
