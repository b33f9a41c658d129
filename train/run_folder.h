/* run_folder.h: the folder RUN, in which a run keeps everything.
 *
 *     sweep.yaml                  as given
 *     run.json                    what the run is made of, and its result: the "facts"
 *     trials/ID/                  config.json, metrics.jsonl, head.safetensors; last.ckpt until the run is done
 *     leaderboard.tsv, cost.tsv, report.html, policy/
 *
 * One process at a time works in it. When a run goes on, its facts are compared (run_identity.h), so that a
 * changed option is refused by its name.
 *
 * A sweep may also be trained in parts, each by a process of its own, on machines that share the folder over a
 * network (parts.h). Such a run has "parts" in run.json until it is collected, and
 *
 *     parts/I-of-N.json           what part I has learned: the facts that may change
 *     parts/I-of-N.claim.K        which process has part I (claim.h)
 *     parts/collect.claim.K       which process collects the parts
 *
 * run.json is then written once, by whoever comes first, and compared by the others; a process writes the files of its
 * own part and of its own trials only.
 */
#ifndef OFFRAMP_TRAIN_RUN_FOLDER_H
#define OFFRAMP_TRAIN_RUN_FOLDER_H

#include <jansson.h>

#include <stdbool.h>

#include "common/base/error.h"
#include "train/claim.h"
#include "train/sweep.h"

/* What of a run a process works on. */
struct run_share {
    struct sweep_part part; /* of the sweep; 0 of 0: all of it */
    bool collect; /* what the parts have left; how many there are is read from the folder */
};

struct run_folder {
    char *path;
    int lock; /* of the folder, held until it is closed; a part has a claim instead */
    json_t *facts; /* run.json */
    bool begun; /* run.json was there */
    struct run_share share;
    json_t *learned; /* of a part: its own file */
    struct claim claim; /* of a part, and of collecting */
};

/* Makes the folder if it is missing and takes its lock; refuses a folder that holds something else, and a run that is
 * trained in parts. */
int run_folder_open(const char *path, struct run_folder *run, struct error *error);
/* The same for a part of a sweep, or to collect them: takes a claim instead of the lock. Of a run that has ended
 * already, run_is_whole is true then, and nothing is claimed. */
int run_folder_open_share(const char *path, const struct run_share *share, struct run_folder *run,
                          struct error *error);
void run_folder_close(struct run_folder *run); /* a zeroed one is fine */

/* A path inside, freshly allocated; free() it. NULL with `error` set. */
char *run_folder_path(const struct run_folder *run, struct error *error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A path inside the folder of the trial `id`; of the folder itself when `name` is NULL. Likewise to be
 * freed. */
char *run_folder_trial_path(const struct run_folder *run, const char *id, const char *name,
                            struct error *error);

/* Whether this process works on the trials of the whole sweep, or on a part of them. While it collects: neither. */
bool run_is_whole(const struct run_folder *run);
bool run_is_part(const struct run_folder *run);

/* RUN/parts/PART-of-PARTS.what; likewise. */
char *run_folder_part_path(const struct run_folder *run, int part, const char *what, struct error *error);

/* Sets a fact that must not change while the run lives: another value is an error, which names it. Takes the
 * reference. */
int run_folder_fix(struct run_folder *run, const char *name, json_t *value, struct error *error);
/* Sets a fact that may change. Takes the reference. */
int run_folder_note(struct run_folder *run, const char *name, json_t *value, struct error *error);
/* A fact that may change, or NULL. Borrowed. */
json_t *run_folder_noted(const struct run_folder *run, const char *name);
/* A fact that is a number; 0 when there is none. */
double run_folder_number(const struct run_folder *run, const char *name);
/* Writes run.json, before anything else is written. The first one of all is of whoever comes first: others compare
 * theirs with it, and are refused as by run_folder_fix. */
int run_folder_begin(struct run_folder *run, struct error *error);
/* -1 when the part, or the collecting, is another process's by now: nothing more may be written then. */
int run_folder_check_claim(const struct run_folder *run, struct error *error);
/* Writes run.json again; of a part, its own file. Checks the claim before. */
int run_folder_save(const struct run_folder *run, struct error *error);
/* Writes sweep.yaml. Where parts are trained or collected, it is that of whoever comes first, and another one is
 * refused. */
int run_folder_keep_sweep(const struct run_folder *run, const char *text, size_t size, struct error *error);

/* Removes from a folder what a killed process left in it: half-written files, and folders of them. */
void remove_leftovers(const char *folder);

#endif
