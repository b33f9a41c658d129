/* plan.c: how much extract computes at a time, and what it says about memory and disk. */
#include <stdlib.h>

#include "common/base/memory.h"
#include "extract/plan.h"
#include "tests/small_config.h"
#include "tests/store_fixture.h"
#include "tests/test.h"

static struct error error;

/* Llama-3-70B. */
static const struct model_config large = {.family = "llama",
                                          .layers = 80,
                                          .hidden = 8192,
                                          .attention_heads = 64,
                                          .kv_heads = 8,
                                          .head_size = 128,
                                          .intermediate = 28672,
                                          .vocab = 128256};

static struct store_info make_info(const struct model_config *config, int rows, struct tap *taps, int count)
{
    return (struct store_info){
        .layers = config->layers, .hidden = config->hidden, .rows = rows, .tap = taps, .taps = count};
}

/* Of a file in bf16. */
static struct plan_file file_of(const struct model_config *config)
{
    const uint64_t hidden = (uint64_t)config->hidden,
                   heads = 2 * (uint64_t)(config->attention_heads + config->kv_heads);
    return (struct plan_file){
        .layer = 2 * hidden * (heads * (uint64_t)config->head_size + 3 * (uint64_t)config->intermediate),
        .embedding = 2 * hidden * (uint64_t)config->vocab};
}

/* On a machine with a processor's caches. */
static int make(const struct model_config *config, const struct store_info *info, enum math math, int threads,
                uint64_t memory, struct plan *plan)
{
    const struct plan_machine machine = {
        .math = math, .threads = threads, .activations = 64 << 20, .memory = memory};
    return plan_make(config, file_of(config), info, &machine, plan, &error);
}

TEST(plan_small_model)
{
    struct tap taps[] = {{6, false}, {12, true}, {30, false}};
    const struct store_info info = make_info(&small, 512, taps, 3);
    struct plan plan;
    REQUIRE_OK(make(&small, &info, MATH_F32, 2, 0, &plan));
    CHECK(plan.resident && plan.group == 1 && plan.layers == 30 && !plan.half);
    CHECK(plan.batch * 512 >= 1024 && plan.batch * 512 <= 4096);
    CHECK(plan.weights == 30ull * 4 * 3538944); /* 106 M values */
    CHECK(plan.peak <= plan.weights + 1000000000);
    CHECK(plan.jobs >= 2 * 3 && plan.encoders == 2);
    REQUIRE_OK(make(&small, &info, MATH_BF16, 2, 0, &plan));
    CHECK(plan.weights == 30ull * 2 * 3538944);
}

/* A target takes all layers and the output weight in two forms, which with little memory is there for a while
 * only. */
TEST(plan_with_a_target)
{
    struct tap taps[] = {{6, false}, {30, false}, tap_target(30)};
    const struct store_info with = make_info(&small, 512, taps, 3), without = make_info(&small, 512, taps, 2);
    const uint64_t output = 2ull * 4 * 49152 * 576;
    struct plan plan, other;
    REQUIRE_OK(make(&small, &with, MATH_F32, 2, 0, &plan));
    REQUIRE_OK(make(&small, &without, MATH_F32, 2, 0, &other));
    CHECK(plan.layers == 30 && !plan.half && plan.resident);
    CHECK(plan.weights == other.weights + output);
    CHECK(plan.peak > other.peak + output && plan.peak < other.peak + output + (200 << 20));
    const uint64_t memory = plan.peak - 1;
    REQUIRE_OK(make(&small, &with, MATH_F32, 2, memory, &plan));
    CHECK(!plan.resident && plan.peak <= memory);
}

TEST(plan_stops_at_the_last_tap)
{
    struct tap taps[] = {{0, false}, {12, true}};
    const struct store_info info = make_info(&small, 512, taps, 2);
    struct plan plan;
    REQUIRE_OK(make(&small, &info, MATH_F32, 2, 0, &plan));
    CHECK(plan.layers == 12 && plan.half);
    CHECK(plan.weights == 12ull * 4 * 3538944);
}

TEST(plan_every_size_stays_within_a_gigabyte_of_the_weights)
{
    static const int rows[] = {16, 512, 2048, 4096};
    struct tap taps[] = {{6, false}, {12, true}, {30, false}};
    for (int i = 0; i < 4; i++) {
        for (int big = 0; big < 2; big++) {
            const struct model_config *config = big ? &large : &small;
            const struct store_info info = make_info(config, rows[i], taps, 3);
            struct plan plan;
            REQUIRE_OK(make(config, &info, MATH_F32, 4, 0, &plan));
            CHECK(plan.batch >= 1 && plan.jobs >= plan.encoders + 2);
            if (!big || rows[i] <= 512)
                CHECK(plan.peak - plan.weights <= 1000000000);
        }
    }
}

/* A device wants more rows in a call, however short the sequences. */
TEST(plan_fills_what_computes)
{
    struct tap taps[] = {{80, false}};
    const struct store_info info = make_info(&large, 128, taps, 1);
    struct plan_machine machine = {.math = MATH_BF16, .threads = 8, .activations = 64 << 20};
    struct plan cached, device;
    REQUIRE_OK(plan_make(&large, file_of(&large), &info, &machine, &cached, &error));
    machine.activations = (uint64_t)1 << 30;
    REQUIRE_OK(plan_make(&large, file_of(&large), &info, &machine, &device, &error));
    CHECK(cached.batch == 1 && device.batch * 128 > 1024 && device.batch * 128 <= 4096);
}

TEST(plan_little_memory)
{
    struct tap taps[] = {{80, false}};
    const struct store_info info = make_info(&large, 512, taps, 1);
    const uint64_t memory = (uint64_t)16 << 30;
    struct plan plan, more;
    REQUIRE_OK(make(&large, &info, MATH_BF16, 8, memory, &plan));
    CHECK(!plan.resident && plan.group > 1 && plan.peak <= memory && plan.weights > memory);
    REQUIRE_OK(make(&large, &info, MATH_BF16, 8, 2 * memory, &more));
    CHECK(more.group > plan.group && more.peak <= 2 * memory);
    REQUIRE_OK(make(&large, &info, MATH_BF16, 8, (uint64_t)1 << 40, &more));
    CHECK(more.resident && more.group == 1);
    CHECK(make(&large, &info, MATH_BF16, 8, 1 << 30, &plan) < 0);
    CHECK_TEXT(error.text, "this model needs at least ");
}

/* What a device's ops work with, and the embedding, are in its memory, too. */
TEST(plan_of_a_device)
{
    struct tap taps[] = {{40, false}, {80, false}};
    struct codec_choice codec[2];
    struct store_info info = make_info(&large, 512, taps, 2);
    struct plan_machine machine = {.math = MATH_BF16, .threads = 8, .activations = 64 << 20};
    struct plan host, device;
    REQUIRE_OK(codec_parse("raw", &codec[0], &error));
    codec[1] = codec[0];
    info.codec = codec;
    REQUIRE_OK(plan_make(&large, file_of(&large), &info, &machine, &host, &error));
    machine.working = 1 << 30;
    REQUIRE_OK(plan_make(&large, file_of(&large), &info, &machine, &device, &error));
    CHECK(device.peak == host.peak + (1 << 30) + file_of(&large).embedding);
    const uint64_t hidden = (uint64_t)large.hidden, basis = 4 * hidden * (hidden + 1);
    for (int fitted = 0; fitted < 3;
         fitted++) { /* taps whose basis the device holds, and room for what it makes */
        struct plan made;
        for (int tap = 0; tap < 2; tap++)
            REQUIRE_OK(codec_parse(tap < fitted ? "klt:4" : "lossless", &codec[tap], &error));
        REQUIRE_OK(plan_make(&large, file_of(&large), &info, &machine, &made, &error));
        CHECK(made.peak == device.peak + made.call + (uint64_t)fitted * basis);
    }
    machine.memory = host.peak;
    REQUIRE_OK(plan_make(&large, file_of(&large), &info, &machine, &device, &error));
    CHECK(!device.resident && device.peak <= host.peak);
}

/* A plan that turns out not to fit becomes the one that so little memory would have made. */
TEST(plan_streams_later)
{
    struct tap taps[] = {{80, false}};
    const struct store_info info = make_info(&large, 512, taps, 1);
    const uint64_t memory = (uint64_t)16 << 30;
    struct plan plan, later;
    REQUIRE_OK(make(&large, &info, MATH_BF16, 8, memory, &plan));
    REQUIRE_OK(make(&large, &info, MATH_BF16, 8, 0, &later));
    CHECK(later.resident);
    REQUIRE_OK(plan_stream(&later, memory, &error));
    CHECK(!later.resident && later.group == plan.group && later.peak == plan.peak);
    CHECK(plan_stream(&later, later.least - 1, &error) < 0);
    CHECK_TEXT(error.text, "this model needs at least ");
    REQUIRE_OK(plan_stream(&later, later.least, &error));
    CHECK(later.group == 1);
}

TEST(plan_group_hides_loading)
{
    const struct plan plan = {.group = 100, .layers = 10, .layer = 1000, .weights = 10000};
    const struct plan target = {.group = 100, .layers = 10, .layer = 1000, .weights = 15000};
    const struct forward_times slow_disk = {.read = 10, .prepare = 0.1, .call = 1};
    const struct forward_times slow_preparing = {.read = 0.1, .prepare = 1, .call = 1};
    const struct forward_times nothing = {.read = 0, .prepare = 0, .call = 1};
    const struct forward_times hopeless = {.read = 1e6, .prepare = 1e6, .call = 1e-9};
    CHECK(plan_group(&plan, &slow_disk, 1100) == 11); /* 10.1 calls */
    CHECK(plan_group(&plan, &slow_preparing, 1024) == PLAN_PREPARE);
    CHECK(plan_group(&target, &slow_preparing, 1000) == 50); /* 32 (1 + half of 1.1), in 20 parts */
    CHECK(plan_group(&plan, &nothing, 1000) == 1);
    CHECK(plan_group(&plan, &hopeless, 1000) == 100);
    CHECK(plan_group(&plan, &hopeless, 101) == 51); /* two of one size, not 100 and 1 */
    CHECK(plan_group(&plan, &hopeless, 7) == 7 && plan_group(&plan, &hopeless, 0) == 1);
}

/* A model of few layers needs no more than all of them, which may be less than two, one in the making. */
TEST(plan_names_the_least_memory)
{
    struct model_config few = small;
    struct tap taps[] = {{2, false}};
    struct store_info info;
    struct plan plan;
    few.layers = 2;
    info = make_info(&few, 512, taps, 1);
    CHECK(make(&few, &info, MATH_F32, 2, 1, &plan) < 0);
    const char *digits = strpbrk(error.text, "0123456789");
    REQUIRE(digits);
    const uint64_t least = (uint64_t)(atof(digits) * 1e6);
    REQUIRE_OK(make(&few, &info, MATH_F32, 2, least + 100000, &plan));
    CHECK(plan.resident);
}

/* The prediction must not be less than what LMDB takes. */
TEST(plan_tap_bytes_are_an_upper_bound)
{
    enum { SEQUENCES = 300 };
    struct store *store;
    struct codec_worker *worker;
    char path[512];
    json_t *manifest = fixture_manifest(0, 1);
    snprintf(path, sizeof path, "%s/store", test_folder());
    REQUIRE_OK(store_create(path, manifest, &store, &error));
    json_decref(manifest);
    REQUIRE_OK(codec_worker_create(&worker, &error));
    REQUIRE_OK(store_begin(store, &error));
    for (uint64_t i = 0; i < SEQUENCES; i++) {
        const struct sequence sequence = {SPLIT_TRAIN, i};
        REQUIRE_OK(fixture_put_tokens(store, sequence, &error));
        for (int tap = 0; tap < FIXTURE_TAPS; tap++)
            REQUIRE_OK(fixture_put_record(store, worker, tap, sequence, &error));
    }
    REQUIRE_OK(store_commit(store, &error));
    for (int tap = 0; tap < FIXTURE_TAPS; tap++) {
        struct store_usage usage;
        REQUIRE_OK(store_measure(store, tap, &usage, &error));
        CHECK(usage.values == SEQUENCES);
        CHECK(usage.bytes <= plan_tap_bytes(store_info(store), tap, SEQUENCES));
    }
    codec_worker_destroy(worker);
    store_close(store);
}

/* A model so wide, at so many taps, that its states take terabytes. */
TEST(plan_missing_records)
{
    enum { LAYERS = 60, ROWS = 4096, HIDDEN = 65536 };
    struct store *store;
    char path[512], name[16];
    int32_t *ids;
    json_t *taps = json_array();
    for (int i = 0; i < LAYERS; i++) {
        snprintf(name, sizeof name, "%d", i);
        json_array_append_new(taps, json_pack("{s:s, s:s}", "name", name, "codec", "raw:f32"));
    }
    json_t *manifest =
        json_pack("{s:{s:i, s:i, s:i, s:s}, s:i, s:o}", "model", "layers", LAYERS, "hidden", HIDDEN, "vocab",
                  1000, "fingerprint", "0123456789abcdef", "rows", ROWS, "taps", taps);
    snprintf(path, sizeof path, "%s/store", test_folder());
    REQUIRE_OK(store_create(path, manifest, &store, &error));
    json_decref(manifest);
    REQUIRE_OK(array_alloc(&ids, ROWS + 1, &error));
    CHECK(plan_missing_bytes(store) == 0);
    REQUIRE_OK(store_begin(store, &error));
    for (int i = 0; i < 1000; i++)
        REQUIRE_OK(store_put_tokens(store, SPLIT_TRAIN, ids, NULL, 0, &error));
    REQUIRE_OK(store_commit(store, &error));
    const uint64_t missing = plan_missing_bytes(store);
    CHECK(missing > 64424509440000 && missing < 64500000000000); /* 1000 x 60 taps x 4096 x 65536 x 4 bytes */
    free(ids);
    store_close(store);
}

TEST_MAIN
