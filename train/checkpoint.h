/* checkpoint.h: a trial's whole state in one file, which is the old one or the new one after a crash.
 *
 * last.ckpt is a safetensors file: value.NAME of every parameter, first.NAME and second.NAME (Adam's
 * moments) of the trained ones; metadata: the trial's name, the model's fingerprint, the step, the step at which
 * the moments were zeros ("optimizer_start", 0 where it is not said), and a hash of all tensors.
 *
 * A run that is done has none (members.h): its trials are their kept heads then, which are less than half of it.
 */
#ifndef OFFRAMP_TRAIN_CHECKPOINT_H
#define OFFRAMP_TRAIN_CHECKPOINT_H

#include "common/base/error.h"
#include "train/trial.h"

int checkpoint_write(const struct trial *trial, const char *path, const char *fingerprint, struct error *error);

/* Into a trial of the same settings; sets its step and the optimizer's start. Everything is checked before the trial is touched. */
int checkpoint_read(struct trial *trial, const char *path, const char *fingerprint, struct error *error);

#endif
