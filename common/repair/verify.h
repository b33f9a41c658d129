/* verify.h: reads everything in a store and says what is wrong with it. This folder is frozen
 * (common/lmdb/README.md).
 *
 *     struct verify_options options = {.report = print_problem};
 *     struct verify_result result;
 *     if (store_verify(path, &options, &result, error) < 0) ...      // could not be done
 *     if (result.problems > 0) ...                                   // the store is damaged
 *
 * Caveats: the caller must have one thread, since child processes do the reading. A damaged page may lead LMDB
 * anywhere, and a child that dies of it is one problem. The next child goes on behind the value that was read
 * then.
 *
 * The pages of LMDB's trees come first (pages.h), then every value: tokens, records, tensors, parameters of
 * codecs. All are hashed; a value that matches its hash is what was written. Decoding records, too, takes
 * longer, and finds only faults of the program that wrote them.
 */
#ifndef OFFRAMP_REPAIR_VERIFY_H
#define OFFRAMP_REPAIR_VERIFY_H

#include "common/store/store.h"

enum verify_kind {
    VERIFY_STRUCTURE, /* LMDB's own pages, or the store's state: any value may be out of reach */
    VERIFY_TOKENS, /* of `sequence` */
    VERIFY_RECORD, /* of `sequence` at `tap` */
    VERIFY_SOURCE, /* a tensor of the model */
    VERIFY_PARAMETERS /* of the codec of `tap`: none of its records can be read */
};

struct verify_problem {
    enum verify_kind kind;
    int tap; /* index in store_info; VERIFY_RECORD and VERIFY_PARAMETERS only */
    char tap_name[TAP_NAME_SIZE]; /* of it */
    struct sequence sequence;
    char text[1024]; /* one line; names all of the above */
};

struct verify_options {
    int processes; /* that read at once; 0: one per processor */
    void (*report)(void *context, const struct verify_problem *problem); /* may be NULL */
    void *context;
    bool decode; /* records, too */
};

struct verify_result {
    uint64_t values, bytes; /* read and found right */
    uint64_t problems;
};

/* Shows its progress on stderr. An error: the store cannot be opened (it is not there, is of a newer version,
 * or is so damaged that nothing in it can be read), memory or processes are out, or a signal asks to stop
 * (ERROR_INTERRUPTED). */
int store_verify(const char *path, const struct verify_options *options, struct verify_result *result,
                 struct error *error);

#endif
