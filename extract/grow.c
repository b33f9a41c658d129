#include "extract/grow.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/cli.h"
#include "common/base/memory.h"
#include "common/store/extend.h"
#include "extract/write.h"

static int check_same(const struct store *store, const uint64_t same[SPLIT_COUNT],
                      const uint64_t packed[SPLIT_COUNT], struct error *error)
{
    for (enum split split = 0; split < SPLIT_COUNT; split++) {
        const uint64_t stored = store_sequences(store, split);
        if (packed[split] < stored)
            return error_set(error,
                             "%s: --corpus: the corpus has changed: it gives %" PRIu64
                             " %s sequences where %" PRIu64 " are stored; one that grew at its end would go on",
                             store_path(store), packed[split], split_name(split), stored);
        if (stored > same[split] + 1)
            return error_set(
                error,
                "%s: --corpus: the corpus has changed before the end that it had: %s sequence %" PRIu64
                " has other tokens than those stored: give another --out",
                store_path(store), split_name(split), same[split]);
    }
    return 0;
}

/* The store's own manifest, since a model's name may differ, with the command's corpus. */
static json_t *make_manifest(const struct store *store, const json_t *wanted, struct error *error)
{
    static const char *const members[] = {"corpus", "command", "version"};
    json_t *manifest = json_deep_copy(store_manifest(store));
    for (size_t i = 0; manifest && i < sizeof members / sizeof *members; i++)
        json_object_set(manifest, members[i], json_object_get(wanted, members[i]));
    if (!manifest)
        error_set_kind(error, ERROR_NO_MEMORY, "out of memory");
    return manifest;
}

static int extend(const struct tokenize_job *job, const json_t *wanted, const uint64_t same[SPLIT_COUNT],
                  struct error *error)
{
    uint64_t *bytes;
    json_t *manifest = make_manifest(job->store, wanted, error);
    if (!manifest)
        return -1;
    int result = array_alloc(&bytes, store_info(job->store)->taps, error);
    if (result == 0 && (result = records_bytes_of(job->store, same, bytes, error)) == 0 &&
        (result = extend_begin(job->store, manifest, same, error)) == 0 &&
        (result = records_put_bytes(job->store, bytes, error)) == 0 &&
        (result = corpus_restart(job, error)) == 0)
        result = store_commit(job->store, error);
    free(bytes);
    json_decref(manifest);
    return result;
}

int corpus_grow(const struct tokenize_job *job, const json_t *wanted, struct error *error)
{
    uint64_t same[SPLIT_COUNT], packed[SPLIT_COUNT];
    if (corpus_compare(job, same, packed, error) < 0 || check_same(job->store, same, packed, error) < 0)
        return -1;
    cli_say("the corpus has grown: going on behind %" PRIu64 " training and %" PRIu64 " held-out sequences",
            same[SPLIT_TRAIN], same[SPLIT_HELD_OUT]);
    return extend(job, wanted, same, error);
}
