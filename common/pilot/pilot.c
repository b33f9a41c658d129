#include "common/pilot/pilot.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/cli.h"
#include "common/base/memory.h"
#include "common/codec/fit.h"
#include "common/store/record.h"

#define CHOICE_SHARE  8 /* one of so many sequences chooses the spacing */
#define CHOICE_TOKENS 4096

/* A search for the coarsest spacing that loses no more than was asked for. */
#define FIRST_SPACING  0.1
#define KL_TRIES       16
#define KL_NEAR        0.97 /* of what is asked for: near enough */
#define KL_AIM         0.985
#define SPACINGS_ALIKE 1.005

/* A search for the spacing with which records have as many bits as were asked for. */
#define BITS_TRIES 6
#define BITS_NEAR  0.002

struct fitting {
    const struct pilot *pilot;
    struct reader *reader;
    struct codec_worker *worker;
    int64_t rows, hidden; /* of a record */
    uint64_t choosing; /* sequences that choose the spacing */
    float *states; /* [choosing, rows, hidden] */
    float *decoded; /* [rows, hidden] */
    struct codec_payload payload;
};

uint64_t pilot_tokens(uint64_t tokens, int hidden)
{
    const uint64_t least = 8 * (uint64_t)hidden, most = 32 * (uint64_t)hidden;
    const uint64_t wanted = tokens / 8 < least ? least : tokens / 8 > most ? most : tokens / 8;
    return wanted < tokens ? wanted : tokens;
}

uint64_t pilot_sequences(const struct store_info *info, uint64_t all, uint64_t there)
{
    const uint64_t rows = (uint64_t)info->rows,
                   wanted = (pilot_tokens(all * rows, info->hidden) + rows - 1) / rows;
    return wanted < there ? wanted : there;
}

void pilot_warn_few(uint64_t tokens, int hidden)
{
    if (tokens < PILOT_FEW * (uint64_t)hidden)
        cli_say("warning: klt is fitted to %" PRIu64
                " tokens, fewer than %d for each of a state's %d values: it "
                "takes more bits, or loses more, than with a longer text; lossless and q8 are not fitted",
                tokens, PILOT_FEW, hidden);
}

uint64_t pilot_index(uint64_t number, uint64_t count, uint64_t total)
{
    return (uint64_t)(((double)number + 0.5) / (double)count * (double)total);
}

/* ---- reading ---- */

static bool chooses(const struct fitting *fitting, uint64_t number)
{
    const uint64_t all = fitting->pilot->sequences;
    return (number + 1) * fitting->choosing / all != number * fitting->choosing / all;
}

static int read_states(struct fitting *fitting, uint64_t number, float *states, struct error *error)
{
    const struct pilot *pilot = fitting->pilot;
    const struct store_info *info = store_info(pilot->store);
    const uint64_t index =
        pilot_index(number, pilot->sequences, store_progress(pilot->store, pilot->tap, SPLIT_TRAIN));
    const struct sequence sequence = store_sequence(info, SPLIT_TRAIN, index);
    if (reader_states(fitting->reader, pilot->tap, sequence, states, error) < 0)
        return -1;
    reader_forget(fitting->reader, pilot->tap, sequence);
    for (int64_t i = 0; pilot->round && i < fitting->rows * fitting->hidden; i++)
        states[i] = bf16_to_f32(f32_to_bf16(states[i]));
    return 0;
}

static int interrupted(struct error *error)
{
    return error_set_kind(error, ERROR_INTERRUPTED, "interrupted: the same command fits the codecs again");
}

/* Moments of the sequences to fit to; the states of the others are kept. A single one does both. */
static int gather(struct fitting *fitting, struct moments *moments, struct error *error)
{
    const uint64_t all = fitting->pilot->sequences;
    const int64_t values = fitting->rows * fitting->hidden;
    uint64_t kept = 0;
    for (uint64_t number = 0; number < all; number++) {
        const bool keep = chooses(fitting, number);
        float *states = keep ? fitting->states + (int64_t)kept++ * values : fitting->decoded;
        if (cli_interrupted())
            return interrupted(error);
        if (read_states(fitting, number, states, error) < 0)
            return -1;
        if ((!keep || all == 1) && moments_add(moments, states, fitting->rows, error) < 0)
            return -1;
    }
    return 0;
}

/* ---- choosing ---- */

/* What the setting's spacing gives on the sequences that choose: bits and loss; *kl with a meter. */
static int measure(struct fitting *fitting, struct string *parameters, struct codec_setting *setting,
                   double *kl, struct error *error)
{
    const struct codec *codec = fitting->pilot->choice->codec;
    struct meter *meter = fitting->pilot->meter;
    const int64_t rows = fitting->rows, values = rows * fitting->hidden;
    const double records = (double)fitting->choosing;
    struct codec_payload *payload = &fitting->payload;
    struct coder *coder = NULL;
    int result = codec->set(parameters->data, parameters->length, setting, error);
    if (result == 0)
        result = coder_create(codec, parameters->data, parameters->length, fitting->hidden, &coder, error);
    if (result == 0)
        result =
            array_grow(&fitting->payload.bytes, &fitting->payload.capacity, coder_bound(coder, rows), error);
    setting->bits = setting->loss = 0;
    if (meter)
        meter_reset(meter);
    for (uint64_t i = 0; i < fitting->choosing && result == 0; i++) {
        const float *states = fitting->states + (int64_t)i * values;
        if (cli_interrupted()) {
            result = interrupted(error);
            break;
        }
        result = coder_encode(coder, fitting->worker, states, rows, payload, error);
        if (result == 0 && meter)
            result = coder_decode(coder, fitting->worker, payload->bytes, payload->size, rows, fitting->decoded,
                                  error);
        if (result == 0 && meter)
            result = meter_add(meter, states, fitting->decoded, rows, error);
        setting->bits += 8 * (double)(sizeof(struct record_header) + payload->size) / (double)values / records;
        setting->loss += payload->loss / records;
    }
    *kl = meter ? meter_mean(meter) : 0;
    coder_destroy(coder);
    return result;
}

/* The loss grows with the square of the spacing, nearly: few tries are needed. */
static int search_kl(struct fitting *fitting, struct string *parameters, struct codec_setting *setting,
                     double *kl, struct error *error)
{
    const double most = fitting->pilot->choice->value;
    struct codec_setting trial = {.spacing = FIRST_SPACING};
    double fine = 0, coarse = INFINITY, lost;
    for (int i = 0; i < KL_TRIES && coarse > fine * SPACINGS_ALIKE; i++) {
        const double spacing = trial.spacing;
        if (measure(fitting, parameters, &trial, &lost, error) < 0)
            return error->kind == ERROR_INTERRUPTED
                       ? -1
                       : error_prefix(error, "%s cannot be reached", fitting->pilot->choice->name);
        if (lost <= most) {
            fine = spacing;
            *setting = trial;
            *kl = lost;
            if (lost >= KL_NEAR * most)
                break;
        } else
            coarse = spacing;
        trial.spacing = spacing * sqrt(KL_AIM * most / (lost > most / 100 ? lost : most / 100));
        if (trial.spacing <= fine || trial.spacing >= coarse)
            trial.spacing =
                fine > 0 && coarse < INFINITY ? sqrt(fine * coarse) : spacing * (fine > 0 ? 2 : 0.5);
    }
    return fine > 0 ? 0 : error_set(error, "%s cannot be reached", fitting->pilot->choice->name);
}

/* The entropy stage takes less than an ideal coder for each column by itself: what it saves is spent on a finer
 * spacing. A spacing of half the size costs about a bit at most, so that the tries come up to the goal from
 * below. What short records have beyond it, in tables, stays. */
static int search_bits(struct fitting *fitting, struct string *parameters, struct codec_setting *setting,
                       double *kl, struct error *error)
{
    const struct codec_choice *choice = fitting->pilot->choice;
    if (choice->codec->choose_spacing(parameters->data, parameters->length, fitting->states,
                                      (int64_t)fitting->choosing * fitting->rows, choice->value,
                                      &setting->spacing, error) < 0 ||
        measure(fitting, parameters, setting, kl, error) < 0)
        return -1;
    for (int i = 0; i < BITS_TRIES && setting->bits < choice->value - BITS_NEAR; i++) {
        setting->spacing *= exp2(setting->bits - choice->value);
        if (measure(fitting, parameters, setting, kl, error) < 0)
            return -1;
    }
    return 0;
}

static int choose(struct fitting *fitting, struct string *parameters, struct codec_setting *setting, double *kl,
                  struct error *error)
{
    const struct codec_choice *choice = fitting->pilot->choice;
    if ((choice->goal == CODEC_KL ? search_kl(fitting, parameters, setting, kl, error)
                                  : search_bits(fitting, parameters, setting, kl, error)) < 0)
        return -1;
    return choice->codec->set(parameters->data, parameters->length, setting, error);
}

/* ---- all of it ---- */

static int open_fitting(struct fitting *fitting, struct error *error)
{
    const struct pilot *pilot = fitting->pilot;
    const struct store_info *info = store_info(pilot->store);
    const uint64_t most = CHOICE_TOKENS / (uint64_t)info->rows, wanted = pilot->sequences / CHOICE_SHARE;
    fitting->rows = info->rows;
    fitting->hidden = info->hidden;
    fitting->choosing = wanted < 1 || most < 1 ? 1 : wanted < most ? wanted : most;
    const int64_t values = fitting->rows * fitting->hidden;
    if (pilot->sequences < 1 || pilot->sequences > store_progress(pilot->store, pilot->tap, SPLIT_TRAIN))
        return error_set(error, "there are not %llu sequences to fit %s to",
                         (unsigned long long)pilot->sequences, pilot->choice->name);
    if (array_alloc(&fitting->states, (int64_t)fitting->choosing * values, error) < 0 ||
        array_alloc(&fitting->decoded, values, error) < 0 || codec_worker_create(&fitting->worker, error) < 0)
        return -1;
    return reader_open(pilot->store, &fitting->reader, error);
}

int pilot_fit(const struct pilot *pilot, struct string *parameters, struct codec_setting *setting, double *kl,
              struct error *error)
{
    struct fitting fitting = {.pilot = pilot};
    struct moments *moments = NULL;
    int result = -1;
    *setting = (struct codec_setting){0};
    *kl = 0;
    if (open_fitting(&fitting, error) < 0 || moments_create(fitting.hidden, &moments, error) < 0 ||
        gather(&fitting, moments, error) < 0 || (cli_interrupted() && interrupted(error) < 0) ||
        pilot->choice->codec->fit(moments, parameters, error) < 0)
        goto done;
    moments_destroy(moments);
    moments = NULL;
    result = choose(&fitting, parameters, setting, kl, error);
done:
    if (result < 0 && error->kind == ERROR_INTERRUPTED) /* in a softmax, perhaps */
        interrupted(error);
    moments_destroy(moments);
    reader_close(fitting.reader);
    codec_worker_destroy(fitting.worker);
    free(fitting.states);
    free(fitting.decoded);
    free(fitting.payload.bytes);
    return result;
}
