/* shards.h: all shards of an extraction, read as the one store that they are together. A store that is not a
 * shard is a set of one.
 *
 *     shards_open(paths, count, &shards, error);
 *     shards_reader_open(shards, &reader, error);                    // one for each thread
 *     shards_reader_states(reader, tap, sequence, states, error);
 *
 * Caveats: those of store.h, for each shard. Sequences have the numbers of the split that `cache split` gave
 * the store, where it gave one (split.h): in the stores themselves they may have others.
 */
#ifndef OFFRAMP_STORE_SHARDS_H
#define OFFRAMP_STORE_SHARDS_H

#include "common/store/split.h"
#include "common/store/store.h"
#include "common/store/target.h"

struct shards;

/* Paths may come in any order. Every shard must be there once. One command must have made all of them, except
 * for the shard's number and where model and corpus lay. An error names what is missing or differs. */
int shards_open(const char *const *paths, int count, struct shards **shards, struct error *error);
/* The same, whatever splits they were given, by the numbers that sequences are stored under. */
int shards_open_stored(const char *const *paths, int count, struct shards **shards, struct error *error);
/* From now on sequences have the numbers that they are stored under. */
void shards_forget_split(struct shards *shards);
void shards_close(struct shards *shards); /* NULL is fine */

/* Shard 0's. The manifests differ in the shard's number alone. */
const struct store_info *shards_info(const struct shards *shards);
const json_t *shards_manifest(const struct shards *shards);
int shards_find_tap(const struct shards *shards, struct tap tap, struct error *error);
/* Every shard is sealed; an error names the first that is not. */
int shards_check_finished(const struct shards *shards, struct error *error);

/* An error when `out` is a shard's folder, or lies in one (file_check_apart). */
int shards_check_apart(const struct shards *shards, const char *out, struct error *error);

int shards_count(const struct shards *shards);
struct store *shards_store(const struct shards *shards, int shard); /* borrowed */

/* How many sequences there are from 0 on without a gap: with tokens; with a record at a tap (an index in
 * shards_info). */
uint64_t shards_sequences(const struct shards *shards, enum split split);
uint64_t shards_all_sequences(const struct shards *shards); /* of all splits together */
uint64_t shards_progress(const struct shards *shards, int tap, enum split split);

/* As store_find_source and store_get_source. Shard 0 has them. */
int shards_find_source(struct shards *shards, const char *name, struct source_shape *shape,
                       struct error *error);
int shards_get_source(struct shards *shards, const char *name, struct source_shape *shape, void **data,
                      struct error *error);

/* One thread's view of all shards, as struct reader is of one store. */
struct shards_reader;
int shards_reader_open(struct shards *shards, struct shards_reader **reader, struct error *error);
void shards_reader_close(struct shards_reader *reader); /* NULL is fine */
/* The reader of the shard that has the sequence, borrowed. *sequence becomes the sequence as it is stored
 * there. */
struct reader *shards_reader_of(const struct shards_reader *reader, struct sequence *sequence);
int shards_reader_tokens(struct shards_reader *reader, struct sequence sequence, int32_t *ids,
                         struct error *error);
int shards_reader_states(struct shards_reader *reader, int tap, struct sequence sequence, float *states,
                         struct error *error);
/* As reader_view. */
int shards_reader_view(struct shards_reader *reader, int tap, struct sequence sequence, float *states,
                       struct states_view *view, struct error *error);
/* As reader_target_columns and reader_target_view. */
int shards_reader_target_columns(struct shards_reader *reader, struct sequence sequence, const void **columns,
                                 float *u, struct error *error);
int shards_reader_target_view(struct shards_reader *reader, struct sequence sequence, struct target_row *values,
                              float *states, struct states_view *u, struct error *error);

#endif
