/* export_torch.c: head.safetensors as the trial has it, and a config.json with all that its formula needs
 * (docs/formats.md). tests/interop/heads.py is a PyTorch module that reads the two. */
#include <stdlib.h>

#include "common/base/cli.h"
#include "common/base/file.h"
#include "train/export_format.h"

static int check(const struct export_subject *subject, struct error *error)
{
    (void)subject;
    (void)error;
    return 0; /* every head has one */
}

/* {name: shape} */
static json_t *shapes_to_json(const struct head *head)
{
    json_t *object = json_object();
    for (int i = 0; i < head_parameter_count(head); i++) {
        const struct head_parameter *parameter = head_parameter(head, i);
        const struct matrix value = parameter->value;
        json_object_set_new(object, parameter->name,
                            value.rows == 1
                                ? json_pack("[I]", (json_int_t)value.cols)
                                : json_pack("[I, I]", (json_int_t)value.rows, (json_int_t)value.cols));
    }
    return object;
}

static json_t *config_of(const struct export_subject *subject, struct error *error)
{
    const struct head_spec *spec = head_get_spec(subject->head);
    char tap[TAPS_NAME_SIZE];
    json_t *model = config_to_json(head_get_config(subject->head), error);
    export_tap_name(subject, tap);
    json_t *object = json_pack("{ss si ss ss ss ss so ss so}", "offramp", OFFRAMP_VERSION, "version", 1,
                               "trial", subject->id, "kind", head_kind_name(spec->kind), "output",
                               head_output_name(spec->output), "tap", tap, "model", model, "fingerprint",
                               subject->stores->fingerprint, "tensors", shapes_to_json(subject->head));
    if (object && spec->rank > 0)
        json_object_set_new(object, "rank", json_integer(spec->rank));
    if (object && spec->to > 0) {
        json_object_set_new(object, "to", json_integer(spec->to));
        json_object_set_new(object, "frozen", json_boolean(spec->frozen));
    }
    if (object && spec->draft_vocab > 0)
        json_object_set_new(object, "draft_vocab", json_integer(spec->draft_vocab));
    return object;
}

static int write(const struct export_subject *subject, const char *folder, struct error *error)
{
    char *path = path_join(folder, export_torch.tensors, error);
    int result =
        path ? head_save(subject->head, subject->queue, path, subject->stores->fingerprint, error) : -1;
    if (result == 0)
        result = export_config_write(folder, config_of(subject, error), error);
    free(path);
    return result;
}

const struct export_format export_torch = {"torch", "head.safetensors", check, write};
