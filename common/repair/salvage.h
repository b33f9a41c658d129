/* salvage.h: builds a store whose structure is damaged anew, from the values in it that are right. This folder
 * is frozen (common/lmdb/README.md).
 *
 * Caveats:
 *   - Nobody may have the store open for writing. Readers go on reading the damaged file.
 *   - It takes as much disk as the store does. The new store is made in a folder of the old one, which it replaces when it
 *     is whole: after a kill the old one is as it was.
 *   - Records, tensors and parameters that are damaged stay out. store_verify then names what is missing, and repair.h
 *     puts it again. One flipped bit in tokens or in the store's own state is mended (mend.h).
 *
 * A value is known by what it says of itself and by its hash, not by what led to it.
 */
#ifndef OFFRAMP_REPAIR_SALVAGE_H
#define OFFRAMP_REPAIR_SALVAGE_H

#include "common/store/store.h"

struct salvage_report {
    bool older; /* the last commit was lost: the store is of the one before */
};

/* Shows its progress on stderr. On error nothing is changed: too little of the structure is whole, the disk is
 * full, or a signal asks to stop (ERROR_INTERRUPTED). */
int store_salvage(const char *path, struct salvage_report *report, struct error *error);

/* In a sound store, clears what a killed salvage or repair left behind: removes the salvage's folder, and marks
 * a finished store as finished. */
int salvage_settle(const char *path, struct error *error);

#endif
