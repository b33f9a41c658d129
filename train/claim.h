/* claim.h: one process at a time has a claim, on whichever machine: files that link(2) makes, since network file
 * systems need not have locks.
 *
 *     struct claim claim = {0};
 *     if (claim_take("RUN/parts/0-of-4.claim", "part 0 of 4", &claim, error) < 0) ...   // somebody has it
 *     ...
 *     claim_release(&claim);
 *
 * A claim is a file that says who made it: host, process, Slurm job, time. A process that was killed leaves its file,
 * and whoever comes next judges it:
 *
 *     the same host              it is over when that process is not there any more
 *     the same Slurm job         it is over when that was an earlier start of it: Slurm queued the job again
 *     anything else              it may be at work; the error says which files to remove when it is not
 *
 * The files are numbered: BASE.1, BASE.2, ... The last one counts, and those before it are over. To take over is to
 * make the next one, which one process alone can do. No file is removed, so nobody can remove what somebody else has
 * just made; a claim that is released says so.
 */
#ifndef OFFRAMP_TRAIN_CLAIM_H
#define OFFRAMP_TRAIN_CLAIM_H

#include <stdbool.h>

#include "common/base/error.h"

struct claim {
    char *base;
    int number; /* of the file that this process has made */
};

/* base: path of the files without their number; its folder must be there. what: names in errors what is claimed. */
int claim_take(const char *base, const char *what, struct claim *claim, struct error *error);
/* When the last byte that it protects is written. A zeroed one is fine. */
void claim_release(struct claim *claim);

/* Whether somebody else has taken it over meanwhile, or has removed it. */
bool claim_is_lost(const struct claim *claim);

/* Whether somebody may be at work by this claim; `holder` says who, for people. */
enum { CLAIM_HOLDER_SIZE = 640 };
bool claim_is_held(const char *base, char holder[CLAIM_HOLDER_SIZE]);

#endif
