/* cache export: the tokens and states of one tap as a file that other programs read. */
#include <argp.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/commands.h"
#include "cache/export_file.h"
#include "cache/export_model.h"
#include "common/base/cli.h"
#include "common/base/clock.h"
#include "common/base/memory.h"
#include "common/base/option.h"
#include "common/base/progress.h"
#include "common/store/shards.h"

#define TENSORS_MAX 256

struct export_command {
    struct cache_stores stores;
    const char *tap;
    struct export_out out;
    const char *tensor[TENSORS_MAX]; /* [tensors] of the model, instead of a tap */
    int tensors;
    bool wanted[SPLIT_COUNT];
    const char *range; /* of the one wanted: first .. last */
    int64_t first, last;
};

struct export
{
    const struct export_command *command;
    struct shards *shards;
    struct shards_reader *reader;
    struct export_file *file;
    int tap;
    uint64_t first[SPLIT_COUNT], sequences[SPLIT_COUNT]; /* that are exported */
    enum dtype type; /* of the states in the file */
    int32_t *ids; /* [rows + 1] */
    float *states; /* [rows, hidden] */
    int column; /* of the target: the one that is being written */
    struct progress progress;
    uint64_t done;
};

enum { OPTION_TAP = 256, OPTION_FORMAT, OPTION_OUT, OPTION_SPLIT, OPTION_SEQUENCES, OPTION_TENSOR };

static void parse_split(struct export_command *command, const char *text, struct argp_state *state)
{
    bool all = strcmp(text, "all") == 0, known = all;
    for (enum split split = 0; split < SPLIT_COUNT; split++) {
        command->wanted[split] = all || strcmp(text, split_name(split)) == 0;
        known = known || command->wanted[split];
    }
    if (!known)
        argp_error(state, "--split: \"%s\" is not one of train, held-out, all", text);
}

/* "5-9", "5-" or "5". */
static void parse_sequences(struct export_command *command, const char *text, struct argp_state *state)
{
    const char *dash = strchr(text, '-');
    char first[32];
    struct error error;
    snprintf(first, sizeof first, "%.*s", dash ? (int)(dash - text) : (int)strlen(text), text);
    command->range = text;
    if (parse_integer(first, 0, INT64_MAX, &command->first, &error) < 0)
        argp_error(state, "--sequences: \"%s\" is not a range such as 0-99", text);
    command->last = dash ? INT64_MAX : command->first;
    if (dash && dash[1] && parse_integer(dash + 1, command->first, INT64_MAX, &command->last, &error) < 0)
        argp_error(state, "--sequences: \"%s\" is not a range such as 0-99: the smaller number comes first",
                   text);
}

static void add_tensor(struct export_command *command, const char *name, struct argp_state *state)
{
    if (command->tensors == TENSORS_MAX)
        argp_error(state, "--tensor: there are more than %d of them", TENSORS_MAX);
    command->tensor[command->tensors++] = name;
}

static void check_command(const struct export_command *command, struct argp_state *state)
{
    if (!command->out.path)
        argp_error(state, "--out is missing");
    if (!command->tap == !command->tensors)
        argp_error(state, command->tap ? "--tap and --tensor make two different files: give one of them"
                                       : "--tap or --tensor is missing");
    if (command->range && command->wanted[SPLIT_TRAIN] && command->wanted[SPLIT_HELD_OUT])
        argp_error(state, "--sequences counts in one split: give --split train or --split held-out, too");
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    static const char *const formats[] = {"safetensors", "npy", NULL};
    struct export_command *command = state->input;
    switch (key) {
    case OPTION_TAP: command->tap = text; return 0;
    case OPTION_OUT: command->out.path = text; return 0;
    case OPTION_SPLIT: parse_split(command, text, state); return 0;
    case OPTION_SEQUENCES: parse_sequences(command, text, state); return 0;
    case OPTION_TENSOR: add_tensor(command, text, state); return 0;
    case OPTION_FORMAT:
        command->out.format =
            option_word(state, "format", text, formats) == 1 ? EXPORT_NPY : EXPORT_SAFETENSORS;
        return 0;
    case ARGP_KEY_END: check_command(command, state); return 0;
    default: return cache_take_stores(&command->stores, key, state);
    }
}

/* ---- the file ---- */

static int check_space(const struct export *export, struct error *error)
{
    const struct store_info *info = shards_info(export->shards);
    return export_check_out(&export->command->out,
                            (double)split_sum(export->sequences) * info->rows *
                                (info->hidden * (export->type == DTYPE_F32 ? 4.0 : 2.0) + 4),
                            error);
}

enum { TENSORS = 3 }; /* that a file of any tap has */

/* The target's columns as tensors; f16 becomes F32, which every reader knows. Returns how many. */
static int describe_columns(const struct store_info *info, int64_t sequences,
                            struct tensor tensors[COLUMNS_MAX])
{
    for (int i = 0; i < info->columns.count; i++) {
        const struct column *column = &info->columns.column[i];
        tensors[i] = (struct tensor){.name = (char *)(uintptr_t)column->name,
                                     .type = column->type == DTYPE_F16 ? DTYPE_F32 : column->type,
                                     .dims = column->width > 1 ? 3 : 2,
                                     .shape = {sequences, info->rows, column->width}};
    }
    return info->columns.count;
}

static int create_file(struct export *export, struct error *error)
{
    const struct store_info *info = shards_info(export->shards);
    const bool target = export->tap == store_find_target(info);
    const int64_t count = (int64_t)split_sum(export->sequences);
    struct tensor tensors[TENSORS + COLUMNS_MAX] = {
        {.name = (char[]){"tokens"}, .type = DTYPE_I32, .dims = 2, .shape = {count, info->rows + 1}},
        {.name = (char[]){"split"}, .type = DTYPE_I32, .dims = 1, .shape = {count}},
        {.name = (char[]){"states"},
         .type = export->type,
         .dims = 3,
         .shape = {count, info->rows, info->hidden}},
    };
    const size_t all = TENSORS + (target ? (size_t)describe_columns(info, count, tensors + TENSORS) : 0);
    char name[TAP_NAME_SIZE];
    const json_t *model = json_object_get(shards_manifest(export->shards), "model");
    const char *fingerprint = json_string_value(json_object_get(model, "fingerprint"));
    tap_name(info->tap[export->tap], info->layers, name);
    json_t *metadata =
        json_pack("{s:s, s:s, s:s, s:s, s:s*}", "format", "pt", "made_by", "offramp cache export", "tap", name,
                  "codec", info->codec[export->tap].name, "model", fingerprint);
    int result = metadata
                     ? export_file_create(&export->command->out, tensors, all, metadata, &export->file, error)
                     : error_set_kind(error, ERROR_NO_MEMORY, "out of memory for the file's metadata");
    json_decref(metadata);
    return result;
}

typedef int write_sequence(struct export *export, struct sequence sequence, struct error *error);

static int write_tokens(struct export *export, struct sequence sequence, struct error *error)
{
    size_t count = (size_t)shards_info(export->shards)->rows + 1;
    if (shards_reader_tokens(export->reader, sequence, export->ids, error) < 0)
        return -1;
    return export_file_write(export->file, export->ids, count * sizeof *export->ids, error);
}

static int write_split(struct export *export, struct sequence sequence, struct error *error)
{
    int32_t split = (int32_t)sequence.split;
    return export_file_write(export->file, &split, sizeof split, error);
}

static int write_states(struct export *export, struct sequence sequence, struct error *error)
{
    const struct store_info *info = shards_info(export->shards);
    size_t values = (size_t)info->rows * (size_t)info->hidden;
    if (shards_reader_states(export->reader, export->tap, sequence, export->states, error) < 0)
        return -1;
    if (export->type == DTYPE_BF16) {
        unsigned char *bytes =
            (unsigned char *)export->states; /* in place: what is written lies before what is read */
        for (size_t i = 0; i < values; i++) {
            uint16_t bits = f32_to_bf16(export->states[i]);
            memcpy(bytes + 2 * i, &bits, sizeof bits);
        }
    }
    progress_update(&export->progress, ++export->done);
    return export_file_write(export->file, export->states, values * (export->type == DTYPE_F32 ? 4 : 2), error);
}

/* f16 as F32. */
static int write_widened(struct export *export, const char *bytes, size_t values, struct error *error)
{
    float wide[256];
    const size_t most = sizeof wide / sizeof wide[0];
    for (size_t first = 0; first < values; first += most) {
        const size_t count = values - first < most ? values - first : most;
        dtype_to_f32(DTYPE_F16, bytes + 2 * first, (int64_t)count, wide);
        if (export_file_write(export->file, wide, count * sizeof wide[0], error) < 0)
            return -1;
    }
    return 0;
}

static int write_column(struct export *export, struct sequence sequence, struct error *error)
{
    const struct store_info *info = shards_info(export->shards);
    const void *columns;
    if (shards_reader_target_columns(export->reader, sequence, &columns, NULL, error) < 0)
        return -1;
    const char *column = (const char *)columns + column_offset(&info->columns, export->column, info->rows);
    const size_t bytes = column_bytes(&info->columns, export->column, info->rows);
    if (info->columns.column[export->column].type == DTYPE_F16)
        return write_widened(export, column, bytes / 2, error);
    return export_file_write(export->file, column, bytes, error);
}

static int write_all(struct export *export, write_sequence *write, struct error *error)
{
    for (enum split split = 0; split < SPLIT_COUNT; split++)
        for (uint64_t i = export->first[split]; i < export->first[split] + export->sequences[split]; i++) {
            if (cli_interrupted())
                return error_set_kind(error, ERROR_INTERRUPTED, "interrupted; %s was not written",
                                      export->command->out.path);
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

/* All sequences of the wanted splits, or the range of one split. */
static int choose_sequences(struct export *export, struct error *error)
{
    const struct export_command *command = export->command;
    for (enum split split = 0; split < SPLIT_COUNT; split++) {
        const uint64_t there = shards_progress(export->shards, export->tap, split);
        if (!command->wanted[split])
            continue;
        const uint64_t first = command->range ? (uint64_t)command->first : 0;
        const uint64_t end = command->range && command->last < INT64_MAX ? (uint64_t)command->last + 1 : there;
        if (command->range && (first >= there || end > there))
            return error_set_kind(error, ERROR_USAGE,
                                  "%s: --sequences %s goes beyond the %" PRIu64 " %s sequences, counted from 0",
                                  command->stores.path[0], command->range, there, split_name(split));
        export->first[split] = first;
        export->sequences[split] = end - first;
    }
    return 0;
}

static int open_store(struct export *export, struct error *error)
{
    const struct export_command *command = export->command;
    struct tap tap;
    if (shards_open(command->stores.path, command->stores.count, &export->shards, error) < 0 ||
        shards_check_apart(export->shards, command->out.path, error) < 0)
        return -1;
    const struct store_info *info = shards_info(export->shards);
    if (tap_parse_stored(command->tap, info->layers, &tap, error) < 0)
        return error_narrow(error, ERROR_USAGE);
    if ((export->tap = shards_find_tap(export->shards, tap, error)) < 0 ||
        shards_reader_open(export->shards, &export->reader, error) < 0 ||
        array_alloc(&export->ids, info->rows + 1, error) < 0 ||
        array_alloc(&export->states, (size_t)info->rows * (size_t)info->hidden, error) < 0)
        return -1;
    export->type = command->out.format == EXPORT_NPY ? DTYPE_F32 /* NumPy has no bf16 */
                                                     : info->codec[export->tap].codec->type;
    return choose_sequences(export, error);
}

static int run_model(const struct export_command *command, struct error *error)
{
    struct shards *shards;
    if (shards_open(command->stores.path, command->stores.count, &shards, error) < 0)
        return -1;
    int result = shards_check_apart(shards, command->out.path, error);
    if (result == 0)
        result = export_model(shards, command->tensor, command->tensors, &command->out, error);
    shards_close(shards);
    return result;
}

static int run(const struct export_command *command, struct error *error)
{
    struct export export = {.command = command};
    int result = -1;
    if (open_store(&export, error) < 0 || check_space(&export, error) < 0 || create_file(&export, error) < 0)
        goto done;
    progress_start(&export.progress, "export", "sequences", split_sum(export.sequences));
    if (write_all(&export, write_tokens, error) == 0 && write_all(&export, write_split, error) == 0 &&
        write_all(&export, write_states, error) == 0)
        result = write_columns(&export, error);
    progress_finish(&export.progress);
    if (result == 0) {
        result = export_file_finish(export.file, error);
        export.file = NULL;
    }
    if (result == 0)
        printf("%s: %" PRIu64 " train and %" PRIu64 " held-out sequences\n", command->out.path,
               export.sequences[SPLIT_TRAIN], export.sequences[SPLIT_HELD_OUT]);
done:
    export_file_abandon(export.file);
    shards_reader_close(export.reader);
    shards_close(export.shards);
    free(export.ids);
    free(export.states);
    return result;
}

int cache_export(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"tap", OPTION_TAP, "NAME", 0, "Write the states of this tap, such as 12, 12.mid, final, or the target",
         0},
        {"out", OPTION_OUT, "FILE", 0, "The file to write; for npy the folder", 0},
        {"format", OPTION_FORMAT, "NAME", 0, "safetensors, or npy: NumPy files (default: safetensors)", 0},
        {"split", OPTION_SPLIT, "NAME", 0, "train, held-out or all (default: all)", 0},
        {"sequences", OPTION_SEQUENCES, "A-B", 0,
         "Only the sequences A to B of one split, counted from 0 (default: all)", 0},
        {"tensor", OPTION_TENSOR, "NAME", 0,
         "Write a tensor of the model instead of a tap, such as output or final_norm; may be repeated", 0},
        {0}};
    static const struct argp argp = {
        .options = options,
        .parser = parse_option,
        .args_doc = "STORE...",
        .doc =
            "Write the tokens and states of a tap, or tensors of the model, to a file for other programs."
            "\vThe file has the tensors \"tokens\" I32 [N, T + 1] (the last column is the label of the last "
            "row), \"split\" I32 [N] (0 train, 1 held-out) and \"states\" [N, T, hidden], F32 from raw:f32 and "
            "BF16 from other codecs, or as NumPy files F32; train sequences come first. Shards are given "
            "together. For the target \"states\" are the sums of the output weight's rows by the full model's "
            "probabilities, and \"top\" I32, \"probability\", \"entropy\" and \"loss\" F32 [N, T] its "
            "likeliest token, that token's probability, and nats; \"best\" I32 and \"best_probability\" F32 "
            "[N, T, 8] the likeliest tokens with their probabilities. Tensors of the model keep their name and "
            "type; those of a quantized model are F32. docs/formats.md says more.",
    };
    struct export_command command = {.wanted = {true, true}};
    struct error error;
    cli_parse(&argp, argc, argv, 0, &command);
    return cache_finish(argv[0], command.tensors > 0 ? run_model(&command, &error) : run(&command, &error),
                        &error);
}
