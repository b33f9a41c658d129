/* export_format.h: what a format of export.h is made of. For train/export*.c only.
 *
 * A new format is one file with a struct export_format, and an entry in export_formats.
 */
#ifndef OFFRAMP_TRAIN_EXPORT_FORMAT_H
#define OFFRAMP_TRAIN_EXPORT_FORMAT_H

#include <jansson.h>

#include "common/head/head.h"
#include "common/model/tensor.h"
#include "train/stores.h"

/* What is exported. */
struct export_subject {
    const char *id; /* of the trial */
    const struct head *head;
    struct queue *queue; /* of the head's backend */
    const struct stores *stores;
    const char *model; /* as in struct export_options */
};

struct export_format {
    const char *name;
    const char *tensors; /* the file of its tensors. Its metadata has "offramp", by which an export is known */
    /* -1 where the format has no such head; the error says which it has. */
    int (*check)(const struct export_subject *subject, struct error *error);
    /* Writes that file and config.json into a folder that is there. */
    int (*write)(const struct export_subject *subject, const char *folder, struct error *error);
};

#define EXPORT_CONFIG "config.json"

extern const struct export_format export_torch, export_ee_llm, export_eagle3;

/* ---- the tensors of a file ---- */

/* A list of tensors with their values, in the order in which the file gets them. Zeroed it is empty. */
struct export_tensors {
    struct tensor *tensor; /* [count] */
    void **data; /* [count] */
    size_t count, capacity[2];
};

/* Another tensor, [rows, cols], or of one dimension where cols is 0. *data: its values, zeros, to be filled. */
int export_tensors_add(struct export_tensors *list, const char *name, enum dtype type, int64_t rows,
                       int64_t cols, void **data, struct error *error);
/* Another one, F32, with the values of the head's parameter of that name, in its shape. */
int export_tensors_add_parameter(struct export_tensors *list, const struct export_subject *subject,
                                 const char *name, const char *parameter, struct error *error);
/* Another one, F32, with those of a tensor that the store keeps of the model ("output"). */
int export_tensors_add_source(struct export_tensors *list, const struct export_subject *subject,
                              const char *name, const char *source, struct error *error);
/* Writes folder/name in safetensors' format. ERROR_INTERRUPTED where the program was told to stop meanwhile. */
int export_tensors_write(const struct export_tensors *list, const struct export_subject *subject,
                         const char *folder, const char *name, struct error *error);
void export_tensors_free(struct export_tensors *list); /* a zeroed one is fine */

/* ---- for formats ---- */

/* The head's parameter of that name, or NULL. */
const struct head_parameter *export_parameter(const struct export_subject *subject, const char *name);
/* Its values into [rows * cols] floats. */
int export_read(const struct export_subject *subject, const struct head_parameter *parameter, float *values,
                struct error *error);
/* What the head reads: "12.mid", of a draft "2+15+27". */
void export_tap_name(const struct export_subject *subject, char name[TAPS_NAME_SIZE]);
/* Writes folder/config.json. Takes the reference; NULL: memory is out. */
int export_config_write(const char *folder, json_t *config, struct error *error);

#endif
