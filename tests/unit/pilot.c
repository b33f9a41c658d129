/* The spacing of a fitted codec, from a store whose tokens follow from one another: what the entropy stage
 * makes of that is spent. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/random.h"
#include "common/pilot/pilot.h"
#include "common/store/record.h"
#include "tests/test.h"

enum { ROWS = 256, HIDDEN = 64, SEQUENCES = 16 };

static json_t *make_manifest(void)
{
    return json_pack("{s:{s:i, s:i, s:i, s:s}, s:i, s:[{s:s, s:s}], s:{s:i, s:i}, s:s}", "model", "layers", 1,
                     "hidden", HIDDEN, "vocab", 10, "fingerprint", "0123456789abcdef", "rows", ROWS, "taps",
                     "name", "final", "codec", "raw:f32", "shard", "index", 0, "count", 1, "command",
                     "extract");
}

/* Each token is the one before it, for the most part. */
static void make_states(struct random *random, double kept, float *states)
{
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < HIDDEN; c++) {
            const double before = r > 0 ? states[(r - 1) * HIDDEN + c] : random_normal(random);
            states[r * HIDDEN + c] = (float)(kept * before + sqrt(1 - kept * kept) * random_normal(random));
        }
}

static int fill(struct store *store, double kept, struct error *error)
{
    static float states[ROWS * HIDDEN];
    const int32_t ids[ROWS + 1] = {0};
    struct random random = {11};
    struct codec_worker *worker = NULL;
    struct record record = {0};
    const struct coder *coder;
    int result = codec_worker_create(&worker, error) < 0 || store_begin(store, error) < 0 ||
                         store_coder(store, 0, &coder, error) < 0
                     ? -1
                     : 0;
    for (uint64_t i = 0; i < SEQUENCES && result == 0; i++) {
        const struct sequence sequence = {SPLIT_TRAIN, i};
        make_states(&random, kept, states);
        const struct record_key key = record_key(store_info(store), coder, 0, sequence);
        if (store_put_tokens(store, SPLIT_TRAIN, ids, NULL, 0, error) < 0 ||
            record_encode(worker, &key, &(struct record_states){.states = states}, &record, error) < 0 ||
            store_put_record(store, 0, sequence, record.bytes, record.size, error) < 0)
            result = -1;
    }
    if (result == 0)
        result = store_set_progress(store, 0, SPLIT_TRAIN, SEQUENCES, error);
    codec_worker_destroy(worker);
    free(record.bytes);
    return result < 0 ? -1 : store_commit(store, error);
}

/* Fits klt:BITS to a store of such tokens. */
static int fit(double kept, int bits, struct codec_setting *setting, struct error *error)
{
    char path[4200], name[32];
    struct codec_choice choice;
    struct store *store = NULL;
    struct string parameters = {0};
    json_t *manifest = make_manifest();
    double kl;
    snprintf(path, sizeof path, "%s/%g-%d", test_folder(), kept, bits);
    snprintf(name, sizeof name, "klt:%d", bits);
    int result = codec_parse(name, &choice, error);
    if (result == 0 && (result = store_create(path, manifest, &store, error)) == 0)
        result = fill(store, kept, error);
    const struct pilot pilot = {.store = store, .sequences = SEQUENCES, .choice = &choice};
    if (result == 0)
        result = pilot_fit(&pilot, &parameters, setting, &kl, error);
    json_decref(manifest);
    string_free(&parameters);
    store_close(store);
    return result;
}

TEST(pilot_spends_the_bits_asked_for)
{
    struct error error;
    struct codec_setting setting;
    for (int bits = 2; bits <= 5; bits++) {
        REQUIRE_OK(fit(0.95, bits, &setting, &error));
        printf("  klt:%d: %.4f bits, spacing %.4f\n", bits, setting.bits, setting.spacing);
        CHECK(setting.bits > bits - 0.005 && setting.bits < bits + 0.005);
    }
}

/* Where there is nothing to gain, the spacing is that of an ideal coder: sqrt(2 pi e) / 2^bits for normal
 * values. */
TEST(pilot_takes_no_finer_spacing_than_bits_allow)
{
    struct error error;
    struct codec_setting setting;
    for (int bits = 3; bits <= 5; bits++) {
        const double expected = sqrt(2 * 3.14159265 * 2.71828183) / exp2(bits);
        REQUIRE_OK(fit(0, bits, &setting, &error));
        printf("  klt:%d: %.4f bits, spacing %.4f, expected %.4f\n", bits, setting.bits, setting.spacing,
               expected);
        CHECK(setting.bits > bits && fabs(setting.spacing / expected - 1) < 0.05);
    }
}

TEST_MAIN
