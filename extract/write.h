/* write.h: puts records into the store, in the order of their sequences, and commits them with their progress.
 *
 * A commit is made every 64 MB or every quarter of a second. The marks of progress are in the same commit as
 * the records that they count. So at any moment at which the program is killed, every record that is marked is
 * there.
 *
 *     writer_create(store, &order, &writer, error);
 *     free_jobs = NULL;
 *     writer_put(writer, job, &free_jobs, error);        // any number of times
 *     if (clock_seconds() >= writer_due(writer))          // no job has come for a while
 *         writer_finish(writer, error);                  // commits what there is
 *     writer_finish(writer, error);                      // the rest
 */
#ifndef OFFRAMP_EXTRACT_WRITE_H
#define OFFRAMP_EXTRACT_WRITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/store/record.h"
#include "extract/order.h"

/* One sequence at one tap, on its way from the model to the store. */
struct job {
    int tap; /* its index in store_info */
    uint64_t index; /* of the sequence in the run's order (order.h) */
    float *states; /* [rows, hidden]; of the target u */
    bool
        transformed; /* in their memory are rows that a device made of them, as coder_encode_transformed takes them */
    struct target_row *values; /* [rows], of the target */
    struct record record; /* what is made of them */
    struct job *next; /* in a list of jobs */
};

struct writer;

/* order: the run's. Copied. */
int writer_create(struct store *store, const struct order *order, struct writer **writer, struct error *error);
void writer_destroy(struct writer *writer); /* NULL is fine; what is not committed is dropped */

/* Takes a job with its record. It may come before its predecessors of the same tap: the writer keeps it until
 * they have come. Jobs whose records are put, this one or earlier ones, are pushed onto *done. */
int writer_put(struct writer *writer, struct job *job, struct job **done, struct error *error);
/* The time, by clock_seconds, at which what was put must be committed; INFINITY: all is committed. Where jobs
 * come in time, writer_put commits by itself. */
double writer_due(const struct writer *writer);
/* Commits what was put; more may follow. */
int writer_finish(struct writer *writer, struct error *error);

/* ---- what is stored ---- */

/* bytes [taps]: of each tap's records, over all runs. */
int records_bytes(struct store *store, uint64_t *bytes, struct error *error);
/* The same of the first `sequences` of each split only. */
int records_bytes_of(struct store *store, const uint64_t sequences[SPLIT_COUNT], uint64_t *bytes,
                     struct error *error);
/* Keeps these numbers. Inside a transaction. */
int records_put_bytes(struct store *store, const uint64_t *bytes, struct error *error);

#endif
