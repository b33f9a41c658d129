/* options.h: the command line of extract. */
#ifndef OFFRAMP_EXTRACT_OPTIONS_H
#define OFFRAMP_EXTRACT_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/device/device.h"
#include "common/store/store.h"
#include "kernels/ops.h"

struct path_list {
    char **path; /* [count], argv's own */
    size_t count, capacity;
};

struct extract_options {
    const char *model, *out;
    struct path_list corpus, held_out_corpus;
    const char *field;
    int token_bytes; /* of *.bin files: 2, 4, or 0: not given */
    int64_t end_of_text; /* -1: the tokenizer's or the model's own */
    double held_out; /* share of the documents of `corpus` */
    uint64_t tokens[SPLIT_COUNT]; /* the most of each split; UINT64_MAX: all */
    const char *taps; /* NULL: four, evenly spaced */
    bool no_target;
    const char *codec; /* as codecs_parse takes it */
    const char *pilot, *pilot_out; /* files of parameters, or NULL */
    bool scout; /* then `out` may be NULL, or is a file of sums */
    struct path_list sums; /* of --scout: files of sums */
    const char *svg; /* of --scout, or NULL */
    int rows; /* tokens per sequence */
    struct device_options device;
    uint64_t memory; /* bytes, 0: what it takes */
    int shard, shards; /* this is shard 0 .. shards-1 */
    bool dry_run, force, json;
    char *command; /* the command line */
};

/* Ends the program with EXIT_WRONG_USAGE and a reason where the line is wrong, and for --help. The
 * texts are argv's own; free the rest with extract_options_free. */
void extract_options_parse(int argc, char **argv, struct extract_options *options);
void extract_options_free(struct extract_options *options);

#endif
