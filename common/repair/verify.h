/* verify.h: reads everything in a store and says what is wrong with it.
 *
 * First the pages that LMDB's trees are made of (pages.h), then every value: tokens, records, tensors,
 * parameters of codecs. All of them are hashed: what matches is what was written. Decoding records, too,
 * takes longer and finds only faults of the program that wrote them. The reading is done by child processes:
 * a damaged page may lead LMDB anywhere, and a child that dies of it is one problem more. The next
 * child goes on behind the value that was read then.
 *
 *     struct verify_options options = {.report = print_problem};
 *     struct verify_result result;
 *     if (store_verify(path, &options, &result, error) < 0) ...      // could not be done
 *     if (result.problems > 0) ...                                   // the store is damaged
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

/* Shows its progress on stderr. Must be called from a process of one thread. -1 when the store cannot be
 * opened (it is not there, is of a newer version, or so damaged that nothing in it can be read), when
 * memory or processes are out, or when a signal asks to stop (cli_interrupted). */
int store_verify(const char *path, const struct verify_options *options, struct verify_result *result,
                 struct error *error);

#endif
