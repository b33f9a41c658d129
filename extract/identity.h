/* identity.h: the manifest of a store, and the check that a later command means the same store.
 *
 * The manifest:
 *     model      config_to_json's members, "name" (of the file or folder), "fingerprint"
 *     tokenizer  its fingerprint; null when the corpus is token files only
 *     corpus     "paths", "files", "bytes", "fingerprint", "field", "held_out" (share), "split"
 *                (split.h; set when a store is begun), "tokens" and "held_out_tokens" (caps, null: none), "end_of_text" (id), "before_text" and
 *                "behind_text" (ids around each text; null: there are token files only)
 *     rows       tokens per sequence
 *     taps       [{"name", "codec"}], ascending, "target" at the end with its "columns"
 *     shard      {"index", "count"}, of several
 *     numerics   backend_identity
 *     command, version
 */
#ifndef OFFRAMP_EXTRACT_IDENTITY_H
#define OFFRAMP_EXTRACT_IDENTITY_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/codec/codec.h"
#include "common/model/model.h"
#include "common/store/tap.h"
#include "common/text/tokenizer.h"
#include "extract/files.h"
#include "extract/options.h"

struct identity {
    const struct extract_options *options;
    const struct model *model;
    const struct tokenizer *tokenizer; /* or NULL */
    const struct corpus_list *list; /* identified */
    const struct tap *tap; /* [taps], ascending */
    const struct codec_choice *codec; /* [taps] */
    int taps;
    int32_t end;
    const char *numerics;
};

/* A new object; NULL on error. Reads the whole model to make its fingerprint. */
json_t *identity_manifest(const struct identity *identity, struct error *error);

/* A store keeps the columns that its target was begun with, also where this program would make others, as long as
 * it can make them: `wanted` gets those of `there`. Returns whether they differ from its own. */
bool identity_keep_columns(const json_t *there, json_t *wanted);

/* 0 when a command that wants the manifest `wanted` may go on with a store that has `there`. Otherwise an error
 * that names the option and both values. */
int identity_compare(const char *store, const json_t *there, const json_t *wanted, struct error *error);

/* They differ only in the files and bytes of the corpus, so that it may have grown (grow.h finds out). */
bool identity_may_have_grown(const json_t *there, const json_t *wanted);

#endif
