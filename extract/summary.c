#include "extract/summary.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/cli.h"
#include "common/base/clock.h"
#include "common/base/json.h"
#include "common/base/memory.h"
#include "extract/texts.h"
#include "extract/write.h"

/* What becomes of one tap: its bytes against those of the values as the codec keeps them, uncoded. */
struct tap_size {
    char name[TAP_NAME_SIZE];
    const char *codec;
    uint64_t bytes;
    double bits; /* per value */
    double ratio;
};

static struct tap_size measure_tap(const struct store *store, int tap, uint64_t bytes)
{
    const struct store_info *info = store_info(store);
    const uint64_t records = store_all_progress(store, tap);
    const double values = (double)records * info->rows * info->hidden;
    const double kept = info->codec[tap].codec->type == DTYPE_F32 ? 32 : 16;
    struct tap_size size = {.codec = info->codec[tap].name, .bytes = bytes};
    tap_name(info->tap[tap], info->layers, size.name);
    if (records > 0 && bytes > 0) {
        size.bits = 8 * (double)bytes / values;
        size.ratio = kept / size.bits;
    }
    return size;
}

/* All that ran through the model, each token once unless the run could not take the pilot's. */
static uint64_t computed_tokens(const struct summary *summary)
{
    return summary->run->tokens + summary->pilot->tokens;
}

static double tokens_per_second(const struct run_report *run)
{
    const double seconds = run->seconds - run->loading;
    return seconds > 0 ? (double)run->tokens / seconds : 0;
}

/* What a run was bound by: the part at work for most of the time beside the others. */
struct bound {
    const char *name;
    double seconds;
};

static struct bound find_bound(const struct run_report *run)
{
    const bool device = run->device.ops > 0;
    const struct bound parts[] = {
        {"reading tokens", run->read.busy},
        {"computing", device ? run->device.ops : run->compute.busy + run->target.busy - run->waited},
        {"loading layers", run->load},
        {"bringing to the device", run->device.in},
        {"taking from the device", run->device.out},
        {"encoding", run->encoders > 0 ? run->encode.busy / run->encoders : 0},
        {"writing", run->write.busy},
    };
    struct bound most = parts[0];
    for (size_t i = 1; i < sizeof parts / sizeof *parts; i++)
        if (parts[i].seconds > most.seconds)
            most = parts[i];
    return most;
}

/* ---- for people ---- */

static void print_stage(const struct stage *stage)
{
    if (stage->name)
        printf("  %-10s %9.1f %9.1f\n", stage->name, stage->busy, stage->waiting);
}

static void print_run(const struct summary *summary)
{
    const struct run_report *run = summary->run;
    char text[32];
    printf("computed %llu tokens in %s", (unsigned long long)run->tokens,
           format_duration(run->seconds, text, sizeof text));
    printf(" (%s of it loading weights): %.0f tokens/s\n", format_duration(run->loading, text, sizeof text),
           tokens_per_second(run));
    printf("  %-10s %9s %9s\n", "stage", "busy s", "waiting s");
    printf("  %-10s %9.1f\n", "tokenize", summary->tokens->seconds);
    if (summary->pilot->seconds > 0)
        printf("  %-10s %9.1f           %llu tokens more\n", "pilot", summary->pilot->seconds,
               (unsigned long long)summary->pilot->tokens);
    print_stage(&run->read);
    print_stage(&run->compute);
    print_stage(&run->target);
    print_stage(&run->encode);
    print_stage(&run->write);
    if (run->device.ops > 0)
        printf("  device     %9.1f computing, %.1f taking in, %.1f giving out\n", run->device.ops,
               run->device.in, run->device.out);
    const struct bound bound = find_bound(run);
    printf("  bound by %s: %.1f s\n", bound.name, bound.seconds);
    if (!summary->plan->resident)
        printf(
            "  weights were loaded layer by layer for up to %d tokens: in %.1f s, for which computing waited "
            "%.1f s\n",
            run->group * summary->plan->batch * store_info(summary->store)->rows, run->load, run->waited);
}

static void print_text(const struct summary *summary, const uint64_t *bytes)
{
    const struct store_info *info = store_info(summary->store);
    const struct tokenize_result *tokens = summary->tokens;
    char text[32], texts[600];
    printf("%s: %llu training and %llu held-out sequences of %d tokens, from %llu and %llu documents\n",
           store_path(summary->store), (unsigned long long)tokens->sequences[SPLIT_TRAIN],
           (unsigned long long)tokens->sequences[SPLIT_HELD_OUT], info->rows,
           (unsigned long long)tokens->documents[SPLIT_TRAIN],
           (unsigned long long)tokens->documents[SPLIT_HELD_OUT]);
    printf("  %s\n", holding_text(summary->holding));
    texts_describe(&summary->job->rules, summary->job->list, texts, sizeof texts);
    printf("  %s\n", texts);
    if (info->shards > 1)
        printf("  of these this is shard %d of %d (counted from 0): %llu and %llu sequences\n", info->shard,
               info->shards, (unsigned long long)store_sequences(summary->store, SPLIT_TRAIN),
               (unsigned long long)store_sequences(summary->store, SPLIT_HELD_OUT));
    printf("  %-10s %-10s %10s %11s %7s\n", "tap", "codec", "bytes", "bits/value", "ratio");
    for (int tap = 0; tap < info->taps; tap++) {
        const struct tap_size size = measure_tap(summary->store, tap, bytes[tap]);
        printf("  %-10s %-10s %10s %11.2f %7.2f\n", size.name, size.codec,
               format_bytes((double)size.bytes, text, sizeof text), size.bits, size.ratio);
    }
    if (computed_tokens(summary) > 0)
        print_run(summary);
    printf("peak memory %s", format_bytes((double)memory_peak(), text, sizeof text));
    printf("; weights take %s%s; numerics: %s\n",
           format_bytes((double)summary->plan->weights, text, sizeof text),
           summary->plan->resident ? "" : " (two layers' at a time)", summary->numerics);
}

/* ---- as JSON ---- */

static json_t *stage_to_json(const struct stage *stage)
{
    return json_pack("{s:f, s:f}", "busy", stage->busy, "waiting", stage->waiting);
}

static json_t *taps_to_json(const struct summary *summary, const uint64_t *bytes)
{
    json_t *taps = json_array();
    for (int tap = 0; tap < store_info(summary->store)->taps; tap++) {
        const struct tap_size size = measure_tap(summary->store, tap, bytes[tap]);
        json_array_append_new(taps, json_pack("{s:s, s:s, s:I, s:f, s:f}", "name", size.name, "codec",
                                              size.codec, "bytes", (json_int_t)size.bytes, "bits_per_value",
                                              size.bits, "ratio", size.ratio));
    }
    return taps;
}

static int print_json(const struct summary *summary, const uint64_t *bytes, struct error *error)
{
    const struct tokenize_result *tokens = summary->tokens;
    const struct run_report *run = summary->run;
    json_t *stages = json_pack("{s:{s:f}, s:o, s:o, s:o, s:o, s:o}", "tokenize", "busy", tokens->seconds,
                               "read", stage_to_json(&run->read), "compute", stage_to_json(&run->compute),
                               "target", stage_to_json(&run->target), "encode", stage_to_json(&run->encode),
                               "write", stage_to_json(&run->write));
    json_t *device = json_pack("{s:f, s:f, s:f}", "computing", run->device.ops, "in", run->device.in, "out",
                               run->device.out);
    json_t *object = json_pack(
        "{s:s, s:i, s:{s:I, s:I}, s:{s:I, s:I, s:I}, s:s, s:o, s:o, s:i, s:o, s:I, s:f, s:f, s:f, s:o, s:o, "
        "s:s, s:I, s:I, "
        "s:b, "
        "s:i, s:f, s:f, s:s}",
        "store", store_path(summary->store), "rows", store_info(summary->store)->rows, "sequences", "train",
        (json_int_t)tokens->sequences[SPLIT_TRAIN], "held_out", (json_int_t)tokens->sequences[SPLIT_HELD_OUT],
        "documents", "train", (json_int_t)tokens->documents[SPLIT_TRAIN], "held_out",
        (json_int_t)tokens->documents[SPLIT_HELD_OUT], "empty", (json_int_t)tokens->empty, "split",
        holding_name(summary->holding), "before_text",
        texts_before(summary->job->rules.tokenizer, summary->job->list), "behind_text",
        texts_behind(summary->job->rules.tokenizer, summary->job->list), "end_of_text",
        (int)summary->job->rules.end, "taps", taps_to_json(summary, bytes), "computed_tokens",
        (json_int_t)computed_tokens(summary), "seconds", run->seconds, "loading_seconds", run->loading,
        "tokens_per_second", tokens_per_second(run), "stages", stages, "device", device, "bound_by",
        find_bound(run).name, "peak_memory", (json_int_t)memory_peak(), "weight_bytes",
        (json_int_t)summary->plan->weights, "resident", (int)summary->plan->resident, "super_batch",
        run->group * summary->plan->batch * store_info(summary->store)->rows, "weights_load", run->load,
        "weights_waited", run->waited, "numerics", summary->numerics);
    return json_print("the summary", object, stdout, error);
}

int summary_print(const struct summary *summary, bool json, struct error *error)
{
    uint64_t *bytes;
    int result = 0;
    if (array_alloc(&bytes, store_info(summary->store)->taps, error) < 0)
        return -1;
    if (records_bytes(summary->store, bytes, error) < 0)
        result = -1;
    else if (json)
        result = print_json(summary, bytes, error);
    else
        print_text(summary, bytes);
    free(bytes);
    return result == 0 ? cli_finish_output(error) : result;
}
