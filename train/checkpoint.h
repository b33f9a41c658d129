/* checkpoint.h: a trial's whole state in one file. After a crash the file is the old one or the new one.
 *
 * last.ckpt is a safetensors file. It holds value.NAME for each parameter, and first.NAME and second.NAME
 * (Adam's moments) for each trained one. Its metadata says the trial's name, the model's fingerprint, the step,
 * the step at which the moments were zeros ("optimizer_start"; 0 when it is missing), and a hash of all
 * tensors.
 *
 * A run that is done has no checkpoints (members.h). Its trials are their kept heads then, which have less than
 * half the size.
 */
#ifndef OFFRAMP_TRAIN_CHECKPOINT_H
#define OFFRAMP_TRAIN_CHECKPOINT_H

#include "common/base/error.h"
#include "train/trial.h"

/* ERROR_INTERRUPTED, with the file that was there before, where the program was told to stop and the new one takes
 * longer than STOP_SECONDS (interrupt.h). */
int checkpoint_write(const struct trial *trial, const char *path, const char *fingerprint, struct error *error);

/* Reads into a trial of the same settings. Sets its step and the optimizer's start. Everything is checked
 * before the trial is changed. ERROR_INTERRUPTED where the program was told to stop meanwhile. */
int checkpoint_read(struct trial *trial, const char *path, const char *fingerprint, struct error *error);

/* The step that a checkpoint says it is of; the rest of it is not looked at. */
int checkpoint_step(const char *path, int64_t *step, struct error *error);

#endif
