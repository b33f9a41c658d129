/* verify_internal.h: what verify.c (the parent) and verify_read.c (its children) share. */
#ifndef OFFRAMP_REPAIR_VERIFY_INTERNAL_H
#define OFFRAMP_REPAIR_VERIFY_INTERNAL_H

#include <limits.h>
#include <stdatomic.h>

#include "common/repair/verify.h"
#include "common/store/manifest.h"

#define VERIFY_PROCESSES_MAX 256

/* What one child is at, left behind when it dies. */
struct verify_slot {
    atomic_bool busy;
    atomic_uint_fast64_t unit, value; /* value: how many of the unit's were begun before this one */
};

/* In memory shared by all. Databases: 0 is the tokens, 1 + tap the tap's. */
struct verify_shared {
    int taps;
    struct tap tap[MANIFEST_TAPS_MAX];
    int layers;
    int shard, shards;
    uint64_t count[1 + MANIFEST_TAPS_MAX][SPLIT_COUNT]; /* values that must be there */
    uint64_t total; /* of the above, and parts of tensors and parameters */
    bool unreadable[MANIFEST_TAPS_MAX]; /* its codec's parameters are bad: its records are not tried */
    bool decode; /* records, besides hashing them */
    bool damaged; /* the structure is: what goes from entry to entry is not tried */
    atomic_uint_fast64_t next_unit, values, bytes;
    struct verify_slot slot[VERIFY_PROCESSES_MAX];
};

/* What one child does at a time. */
struct verify_unit {
    enum { UNIT_SEQUENCES, UNIT_REST, UNIT_SOURCE, UNIT_PARAMETERS } kind;
    int database;
    enum split split;
    uint64_t first, count; /* UNIT_SEQUENCES: numbers in this store's split */
};

/* False behind the last unit. */
bool verify_unit_at(const struct verify_shared *shared, uint64_t number, struct verify_unit *unit);
/* The value of the unit that a child was at; text for a person in problem->text, "" before the colon. */
void verify_problem_at(const struct verify_shared *shared, const struct verify_unit *unit, uint64_t value,
                       struct verify_problem *problem);

/* The first child: checks the structure and says in `shared` what there is. */
int verify_survey(const char *path, struct verify_shared *shared, struct verify_slot *slot, int pipe,
                  struct error *error);
/* A child: units until there are none. With the slot busy, it goes on behind the slot's value. */
int verify_read(const char *path, struct verify_shared *shared, struct verify_slot *slot, int pipe,
                struct error *error);

/* What children send. POSIX writes up to PIPE_BUF bytes to a pipe at once, whoever else writes. */
struct verify_message {
    bool fatal; /* the child gives up: problem.text says why */
    struct verify_problem problem;
};
_Static_assert(sizeof(struct verify_message) <= PIPE_BUF, "a message is written at once");
void verify_send(int pipe, bool fatal, const struct verify_problem *problem);

#endif
