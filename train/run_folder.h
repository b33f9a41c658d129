/* run_folder.h: the folder RUN, in which a run keeps everything.
 *
 *     sweep.yaml                  as given
 *     run.json                    what the run is made of, and its result: the "facts"
 *     trials/ID/                  config.json, metrics.jsonl, head.safetensors; last.ckpt until the run is done
 *     leaderboard.tsv, report.html, policy/
 *
 * One process at a time works in it. When a run goes on, its facts are compared (run_identity.h), so that a
 * changed option is refused by its name.
 */
#ifndef OFFRAMP_TRAIN_RUN_FOLDER_H
#define OFFRAMP_TRAIN_RUN_FOLDER_H

#include <jansson.h>

#include "common/base/error.h"

struct run_folder {
    char *path;
    int lock; /* of the folder, held until it is closed */
    json_t *facts; /* run.json */
};

/* Makes the folder if it is missing and takes its lock; refuses a folder that holds something else. */
int run_folder_open(const char *path, struct run_folder *run, struct error *error);
void run_folder_close(struct run_folder *run); /* a zeroed one is fine */

/* A path inside, freshly allocated; free() it. NULL with `error` set. */
char *run_folder_path(const struct run_folder *run, struct error *error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A path inside the folder of the trial `id`; of the folder itself when `name` is NULL. Likewise to be
 * freed. */
char *run_folder_trial_path(const struct run_folder *run, const char *id, const char *name,
                            struct error *error);

/* Sets a fact that must not change while the run lives: another value is an error, which names it. Takes the
 * reference. */
int run_folder_fix(struct run_folder *run, const char *name, json_t *value, struct error *error);
/* Sets a fact that may change. Takes the reference. */
int run_folder_note(struct run_folder *run, const char *name, json_t *value, struct error *error);
/* A fact that is a number; 0 when there is none. */
double run_folder_number(const struct run_folder *run, const char *name);
/* Writes run.json. */
int run_folder_save(const struct run_folder *run, struct error *error);

/* Removes from a folder what a killed process left in it: half-written files, and folders of them. */
void remove_leftovers(const char *folder);

#endif
