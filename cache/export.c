/* cache export: the tokens and states of one tap as a file that other programs read. */
#include <argp.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/commands.h"
#include "cache/npy.h"
#include "common/base/cli.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/memory.h"
#include "common/base/option.h"
#include "common/base/progress.h"
#include "common/model/safetensors.h"
#include "common/store/shards.h"

struct export_command {
    char **paths;
    int count;
    const char *tap, *out;
    bool npy; /* else safetensors */
    bool wanted[SPLIT_COUNT];
};

struct export
{
    const struct export_command *command;
    struct shards *shards;
    struct shards_reader *reader;
    struct safetensors_writer *writer; /* this, or */
    struct npy_writer *npy;
    int tap;
    uint64_t sequences[SPLIT_COUNT]; /* that are exported */
    enum dtype type; /* of the states in the file */
    int32_t *ids; /* [rows + 1] */
    float *states; /* [rows, hidden] */
    int column; /* of the target, that is written */
    struct progress progress;
    uint64_t done;
};

enum { OPTION_TAP = 256, OPTION_FORMAT, OPTION_OUT, OPTION_SPLIT };

static void parse_split(struct export_command *command, const char *text, struct argp_state *state)
{
    bool all = strcmp(text, "all") == 0, known = all;
    for (enum split split = 0; split < SPLIT_COUNT; split++) {
        command->wanted[split] = all || strcmp(text, split_name(split)) == 0;
        known = known || command->wanted[split];
    }
    if (!known)
        argp_error(state, "--split: \"%s\" is none of train, held-out, all", text);
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    static const char *const formats[] = {"safetensors", "npy", NULL};
    struct export_command *command = state->input;
    switch (key) {
    case OPTION_TAP: command->tap = text; return 0;
    case OPTION_OUT: command->out = text; return 0;
    case OPTION_SPLIT: parse_split(command, text, state); return 0;
    case OPTION_FORMAT: command->npy = option_word(state, "format", text, formats) == 1; return 0;
    case ARGP_KEY_ARGS:
        command->paths = state->argv + state->next;
        command->count = state->argc - state->next;
        return 0;
    case ARGP_KEY_NO_ARGS: argp_error(state, "a store is missing"); return EINVAL;
    case ARGP_KEY_END:
        if (!command->tap || !command->out)
            argp_error(state, "%s is missing", command->tap ? "--out" : "--tap");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

/* ---- the file ---- */

static uint64_t sequences_in_all(const struct export *export)
{
    return export->sequences[SPLIT_TRAIN] + export->sequences[SPLIT_HELD_OUT];
}

static int check_space(const struct export *export, struct error *error)
{
    const struct store_info *info = shards_info(export->shards);
    char wanted[32], there[32];
    uint64_t available;
    double bytes = (double)sequences_in_all(export) * info->rows *
                   (info->hidden * (export->type == DTYPE_F32 ? 4.0 : 2.0) + 4);
    if (!export->command->npy && file_check_output(export->command->out, error) < 0)
        return -1;
    if (disk_free(export->command->out, &available, error) < 0)
        return -1;
    if (bytes > (double)available)
        return error_set(error, "%s: needs %s, and %s are free", export->command->out,
                         format_bytes(bytes, wanted, sizeof wanted),
                         format_bytes((double)available, there, sizeof there));
    return 0;
}

enum { TENSORS = 3 }; /* that a file has of any tap */

/* Those of the target's columns; returns how many. */
static int describe_columns(const struct store_info *info, int64_t sequences,
                            struct tensor tensors[COLUMNS_MAX])
{
    for (int i = 0; i < info->columns.count; i++) {
        const struct column *column = &info->columns.column[i];
        tensors[i] = (struct tensor){.name = (char *)(uintptr_t)column->name,
                                     .type = column->type,
                                     .dims = column->width > 1 ? 3 : 2,
                                     .shape = {sequences, info->rows, column->width}};
    }
    return info->columns.count;
}

static int create_file(struct export *export, struct error *error)
{
    const struct store_info *info = shards_info(export->shards);
    const bool target = export->tap == store_find_target(info);
    const int64_t count = (int64_t)sequences_in_all(export);
    struct tensor tensors[TENSORS + COLUMNS_MAX] = {
        {.name = (char[]){"tokens"}, .type = DTYPE_I32, .dims = 2, .shape = {count, info->rows + 1}},
        {.name = (char[]){"split"}, .type = DTYPE_I32, .dims = 1, .shape = {count}},
        {.name = (char[]){"states"},
         .type = export->type,
         .dims = 3,
         .shape = {count, info->rows, info->hidden}},
    };
    const size_t all = TENSORS + (target ? (size_t)describe_columns(info, count, tensors + TENSORS) : 0);
    if (export->command->npy)
        return npy_create(export->command->out, tensors, all, &export->npy, error);
    char name[TAP_NAME_SIZE];
    const json_t *model = json_object_get(shards_manifest(export->shards), "model");
    const char *fingerprint = json_string_value(json_object_get(model, "fingerprint"));
    tap_name(info->tap[export->tap], info->layers, name);
    json_t *metadata =
        json_pack("{s:s, s:s, s:s, s:s, s:s*}", "format", "pt", "made_by", "offramp cache export", "tap", name,
                  "codec", info->codec[export->tap].name, "model", fingerprint);
    int result = metadata
                     ? safetensors_create(export->command->out, tensors, all, metadata, &export->writer, error)
                     : error_set_kind(error, ERROR_NO_MEMORY, "out of memory for the file's metadata");
    json_decref(metadata);
    return result;
}

static int write_bytes(struct export *export, const void *data, size_t size, struct error *error)
{
    return export->npy ? npy_write(export->npy, data, size, error)
                       : safetensors_write(export->writer, data, size, error);
}

static int finish_file(struct export *export, struct error *error)
{
    int result = export->npy ? npy_finish(export->npy, error) : safetensors_finish(export->writer, error);
    export->npy = NULL;
    export->writer = NULL;
    return result;
}

typedef int write_sequence(struct export *export, struct sequence sequence, struct error *error);

static int write_tokens(struct export *export, struct sequence sequence, struct error *error)
{
    size_t count = (size_t)shards_info(export->shards)->rows + 1;
    if (shards_reader_tokens(export->reader, sequence, export->ids, error) < 0)
        return -1;
    return write_bytes(export, export->ids, count * sizeof *export->ids, error);
}

static int write_split(struct export *export, struct sequence sequence, struct error *error)
{
    int32_t split = (int32_t)sequence.split;
    return write_bytes(export, &split, sizeof split, error);
}

static int write_states(struct export *export, struct sequence sequence, struct error *error)
{
    const struct store_info *info = shards_info(export->shards);
    size_t values = (size_t)info->rows * (size_t)info->hidden;
    if (shards_reader_states(export->reader, export->tap, sequence, export->states, error) < 0)
        return -1;
    if (export->type == DTYPE_BF16) {
        unsigned char *bytes = (unsigned char *)export->states; /* the halves are behind what is read */
        for (size_t i = 0; i < values; i++) {
            uint16_t bits = f32_to_bf16(export->states[i]);
            memcpy(bytes + 2 * i, &bits, sizeof bits);
        }
    }
    progress_update(&export->progress, ++export->done);
    return write_bytes(export, export->states, values * (export->type == DTYPE_F32 ? 4 : 2), error);
}

static int write_column(struct export *export, struct sequence sequence, struct error *error)
{
    const struct store_info *info = shards_info(export->shards);
    const void *columns;
    if (shards_reader_target_columns(export->reader, sequence, &columns, NULL, error) < 0)
        return -1;
    return write_bytes(export,
                       (const char *)columns + column_offset(&info->columns, export->column, info->rows),
                       column_bytes(&info->columns, export->column, info->rows), error);
}

static int write_all(struct export *export, write_sequence *write, struct error *error)
{
    for (enum split split = 0; split < SPLIT_COUNT; split++)
        for (uint64_t i = 0; i < export->sequences[split]; i++) {
            if (cli_interrupted())
                return error_set_kind(error, ERROR_INTERRUPTED, "interrupted; nothing was written to %s",
                                      export->command->out);
            if (write(export, (struct sequence){split, i}, error) < 0)
                return -1;
        }
    return 0;
}

static int write_columns(struct export *export, struct error *error)
{
    const struct store_info *info = shards_info(export->shards);
    if (export->tap != store_find_target(info))
        return 0;
    for (export->column = 0; export->column < info->columns.count; export->column++)
        if (write_all(export, write_column, error) < 0)
            return -1;
    return 0;
}

/* ---- the store ---- */

static int open_store(struct export *export, struct error *error)
{
    const struct export_command *command = export->command;
    struct tap tap;
    if (shards_open((const char *const *)command->paths, command->count, &export->shards, error) < 0)
        return -1;
    const struct store_info *info = shards_info(export->shards);
    if (tap_parse_stored(command->tap, info->layers, &tap, error) < 0 ||
        (export->tap = shards_find_tap(export->shards, tap, error)) < 0 ||
        shards_reader_open(export->shards, &export->reader, error) < 0 ||
        array_alloc(&export->ids, info->rows + 1, error) < 0 ||
        array_alloc(&export->states, (size_t)info->rows * (size_t)info->hidden, error) < 0)
        return -1;
    export->type = command->npy ? DTYPE_F32 : info->codec[export->tap].codec->type; /* NumPy has no bf16 */
    for (enum split split = 0; split < SPLIT_COUNT; split++)
        if (command->wanted[split])
            export->sequences[split] = shards_progress(export->shards, export->tap, split);
    return 0;
}

static int run(const struct export_command *command, struct error *error)
{
    struct export export = {.command = command};
    int result = -1;
    if (open_store(&export, error) < 0 || check_space(&export, error) < 0 || create_file(&export, error) < 0)
        goto done;
    progress_start(&export.progress, "export", "sequences", sequences_in_all(&export));
    if (write_all(&export, write_tokens, error) == 0 && write_all(&export, write_split, error) == 0 &&
        write_all(&export, write_states, error) == 0)
        result = write_columns(&export, error);
    progress_finish(&export.progress);
    if (result == 0)
        result = finish_file(&export, error);
    if (result == 0)
        printf("%s: %" PRIu64 " train and %" PRIu64 " held-out sequences\n", command->out,
               export.sequences[SPLIT_TRAIN], export.sequences[SPLIT_HELD_OUT]);
done:
    safetensors_abandon(export.writer);
    npy_abandon(export.npy);
    shards_reader_close(export.reader);
    shards_close(export.shards);
    free(export.ids);
    free(export.states);
    return result;
}

int cache_export(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"tap", OPTION_TAP, "NAME", 0, "The tap whose states are written, such as 12, 12.mid, final; or target",
         0},
        {"out", OPTION_OUT, "FILE", 0, "The file to write; of npy the folder", 0},
        {"format", OPTION_FORMAT, "NAME", 0, "safetensors, or npy: NumPy files (safetensors)", 0},
        {"split", OPTION_SPLIT, "NAME", 0, "train, held-out or all (all)", 0},
        {0}};
    static const struct argp argp = {
        .options = options,
        .parser = parse_option,
        .args_doc = "STORE...",
        .doc =
            "Write the tokens and states of a tap to a file for other programs."
            "\vThe file has the tensors \"tokens\" I32 [N, T + 1] (the last column is the label of the last "
            "row), \"split\" I32 [N] (0 train, 1 held-out) and \"states\" [N, T, hidden], F32 from raw:f32 and "
            "BF16 from other codecs, or as NumPy files F32; train sequences come first. Shards are given "
            "together. For the target \"states\" are the sums of the output weight's rows by the full model's "
            "probabilities, and \"top\" I32, \"probability\", \"entropy\" and \"loss\" F32 [N, T] its "
            "likeliest "
            "token, that token's probability, and nats.",
    };
    struct export_command command = {.wanted = {true, true}};
    struct error error;
    argp_parse(&argp, argc, argv, 0, NULL, &command);
    return cache_finish(argv[0], run(&command, &error), &error);
}
