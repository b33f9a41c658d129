/* scout_file.h: sums of one shard in a file, and those of all shards together.
 *
 * A file is safetensors. A tensor "L-TO" (f64, one dimension) has the sums of the map from tap L to tap TO as
 * common/head/ridge.h keeps them. Its metadata:
 *     version      "1"
 *     of           JSON: model, tokenizer, corpus and rows, as the manifest of a store has them
 *     shard        "0", and
 *     shards       "4"
 *     tokens       that were added
 *     L-TO.hash    of the bytes of that tensor (hash.h), for each
 *
 * Sums of shards add up. They are of f32 products that are summed in f64, and another number of shards sums them in
 * another order: so its maps differ in the last bits of f64, before they are rounded to f32.
 */
#ifndef OFFRAMP_EXTRACT_SCOUT_FILE_H
#define OFFRAMP_EXTRACT_SCOUT_FILE_H

#include <jansson.h>

#include "extract/scout_sums.h"

/* Of what model and text sums are, from the manifest that a store of them would have: a new object, or NULL. */
json_t *scout_identity(const json_t *manifest, struct error *error);

struct scout_about {
    const json_t *identity;
    int layers, hidden;
    int shard, shards;
};

int scout_file_write(const char *path, const struct scout_sums *sums, struct queue *queue,
                     const struct scout_about *about, struct error *error);

struct scout_files;

/* The files must be all shards of one scouting, each once, and of `about`'s identity; about's shard and shards are
 * not looked at. */
int scout_files_open(char *const *paths, size_t count, const struct scout_about *about,
                     struct scout_files **files, struct error *error);
void scout_files_close(struct scout_files *files); /* NULL is fine */
uint64_t scout_files_tokens(const struct scout_files *files);

/* The sum of a map's sums over all files, in the order of the shards; free() it. ERROR_DAMAGED where one is not a
 * number, or its hash is another. */
int scout_files_sum(const struct scout_files *files, int map, double **values, struct error *error);

#endif
