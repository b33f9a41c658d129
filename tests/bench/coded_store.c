/* coded_store STORE CODEC OUT: a copy of a raw:f32 store whose training states have been through a codec,
 * fitted to that store; held-out ones stay exact. What training on coded states costs is then seen by `train`,
 * which scores on the held-out split. Prints the bits per value of each tap. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/memory.h"
#include "common/pilot/pilot.h"
#include "common/store/copy.h"
#include "common/store/record.h"

struct copying {
    struct store *from, *to;
    struct reader *reader;
    struct codec_worker *worker;
    struct codec_choice choice;
    float *states; /* [rows, hidden] */
    struct codec_payload payload;
    struct record record;
    double bytes; /* of the tap's payloads */
};

static int make_coder(struct copying *copying, int tap, struct coder **coder, struct error *error)
{
    const struct store_info *info = store_info(copying->from);
    const uint64_t there = store_progress(copying->from, tap, SPLIT_TRAIN);
    const struct pilot pilot = {.store = copying->from,
                                .tap = tap,
                                .sequences = pilot_sequences(info, there, there),
                                .choice = &copying->choice};
    struct string parameters = {0};
    struct codec_setting setting;
    double kl;
    int result = 0;
    if (copying->choice.codec->fit)
        result = pilot_fit(&pilot, &parameters, &setting, &kl, error);
    if (result == 0)
        result =
            coder_create(copying->choice.codec, parameters.data, parameters.length, info->hidden, coder, error);
    string_free(&parameters);
    return result;
}

/* There and back. */
static int pass_through(struct copying *copying, const struct coder *coder, struct error *error)
{
    const int64_t rows = store_info(copying->from)->rows;
    struct codec_payload *payload = &copying->payload;
    if (array_grow(&payload->bytes, &payload->capacity, coder_bound(coder, rows), error) < 0 ||
        coder_encode(coder, copying->worker, copying->states, rows, payload, error) < 0)
        return -1;
    copying->bytes += (double)(sizeof(struct record_header) + payload->size);
    return coder_decode(coder, copying->worker, payload->bytes, payload->size, rows, copying->states, error);
}

static int put_record(struct copying *copying, int tap, struct sequence sequence, const struct coder *through,
                      struct error *error)
{
    const struct store_info *info = store_info(copying->from);
    const bool target = tap == store_find_target(info);
    struct record_states states = {.states = copying->states};
    const struct coder *coder;
    if ((target ? reader_target_columns(copying->reader, sequence, &states.columns, copying->states, error)
                : reader_states(copying->reader, tap, sequence, copying->states, error)) < 0 ||
        (through && pass_through(copying, through, error) < 0) ||
        store_coder(copying->to, tap, &coder, error) < 0)
        return -1;
    const struct record_key key = record_key(info, coder, tap, sequence);
    if (record_encode(copying->worker, &key, &states, &copying->record, error) < 0)
        return -1;
    return store_put_record(copying->to, tap, sequence, copying->record.bytes, copying->record.size, error);
}

static int copy_tap(struct copying *copying, int tap, struct error *error)
{
    const struct store_info *info = store_info(copying->from);
    const uint64_t train = store_progress(copying->from, tap, SPLIT_TRAIN);
    char name[TAP_NAME_SIZE];
    struct coder *coder;
    if (make_coder(copying, tap, &coder, error) < 0 || store_begin(copying->to, error) < 0)
        return -1;
    int result = 0;
    copying->bytes = 0;
    for (enum split split = 0; split < SPLIT_COUNT && result == 0; split++) {
        const uint64_t count = store_progress(copying->from, tap, split);
        for (uint64_t i = 0; i < count && result == 0; i++)
            result = put_record(copying, tap, (struct sequence){split, i}, split == SPLIT_TRAIN ? coder : NULL,
                                error);
        if (result == 0)
            result = store_set_progress(copying->to, tap, split, count, error);
    }
    coder_destroy(coder);
    tap_name(info->tap[tap], info->layers, name);
    printf("%s\t%s\t%.3f\n", copying->choice.name, name,
           8 * copying->bytes / ((double)train * info->rows * info->hidden));
    return result < 0 ? -1 : store_commit(copying->to, error);
}

static int copy_all(struct copying *copying, struct error *error)
{
    const struct store_info *info = store_info(copying->from);
    if (copy_sources(copying->to, copying->from, error) < 0 || store_begin(copying->to, error) < 0)
        return -1;
    for (enum split split = 0; split < SPLIT_COUNT; split++)
        for (uint64_t i = 0; i < store_sequences(copying->from, split); i++)
            if (copy_tokens(copying->to, copying->reader, (struct sequence){split, i}, error) < 0)
                return -1;
    if (store_commit(copying->to, error) < 0)
        return -1;
    for (int tap = 0; tap < info->taps; tap++)
        if (copy_tap(copying, tap, error) < 0)
            return -1;
    return store_seal(copying->to, error);
}

int main(int argc, char **argv)
{
    struct copying copying = {0};
    struct error error;
    int result = -1;
    if (argc != 4) {
        fprintf(stderr, "usage: coded_store STORE CODEC OUT\n");
        return 2;
    }
    if (codec_parse(argv[2], &copying.choice, &error) < 0 ||
        store_open(argv[1], STORE_READ, &copying.from, &error) < 0 ||
        reader_open(copying.from, &copying.reader, &error) < 0 ||
        codec_worker_create(&copying.worker, &error) < 0)
        goto done;
    const struct store_info *info = store_info(copying.from);
    if (array_alloc(&copying.states, (int64_t)info->rows * info->hidden, &error) == 0 &&
        store_create(argv[3], store_manifest(copying.from), &copying.to, &error) == 0)
        result = copy_all(&copying, &error);
done:
    if (result < 0)
        fprintf(stderr, "coded_store: %s\n", error.text);
    store_close(copying.to);
    reader_close(copying.reader);
    store_close(copying.from);
    codec_worker_destroy(copying.worker);
    free(copying.states);
    free(copying.payload.bytes);
    free(copying.record.bytes);
    return result < 0;
}
