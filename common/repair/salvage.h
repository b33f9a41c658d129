/* salvage.h: a store whose structure is damaged, built anew from the values in it that are right.
 *
 * A value is known by what it says of itself and by its hash, not by what led to it; a bit flipped in tokens or in the
 * store's own state is mended (mend.h). Records, tensors and parameters that are damaged stay out: `store_verify` then
 * names what is missing, and repair.h puts it again. The new store is made in a folder of the old one, which it
 * replaces when it is whole: a kill leaves the old one as it was.
 */
#ifndef OFFRAMP_REPAIR_SALVAGE_H
#define OFFRAMP_REPAIR_SALVAGE_H

#include "common/store/store.h"

struct salvage_report {
    bool older; /* it is of the last commit but one */
};

/* Nobody may have the store open for writing, and readers read the damaged one on. Shows its progress on stderr. -1, and
 * nothing is changed: too little of the structure is whole, the disk is full, or a signal asks to stop. */
int store_salvage(const char *path, struct salvage_report *report, struct error *error);

/* Sees to what is left of a salvage or a repair that was killed behind its last commit, in a store that is sound: the
 * salvage's folder, and the missing file that says that the store is finished. */
int salvage_settle(const char *path, struct error *error);

#endif
