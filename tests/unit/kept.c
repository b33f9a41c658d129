/* kept.c: the pilot's states serve the run: every sequence runs through the model once, and the records are
 * those of a run that computes all of them. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/head/source.h"
#include "extract/codec_pilot.h"
#include "extract/run.h"
#include "tests/make_model.h"
#include "tests/test.h"

enum { ROWS = 16, VOCAB = 100, TRAIN = 96, HELD_OUT = 7, PILOT = 16 }; /* PILOT: tokens of 8 for every value */

static struct error error;

static const struct made_model made = {.layers = 24,
                                       .hidden = 32,
                                       .attention_heads = 2,
                                       .kv_heads = 2,
                                       .head_size = 16,
                                       .intermediate = 128,
                                       .vocab = VOCAB,
                                       .context = 64,
                                       .seed = 21};

static struct {
    struct model *model;
    struct backend *backend;
    char folder[512];
} setup;

static int prepare(void)
{
    char path[600];
    const char *device = getenv("OFFRAMP_TEST_DEVICE");
    if (setup.model)
        return 0;
    snprintf(setup.folder, sizeof setup.folder, "%s", test_folder());
    snprintf(path, sizeof path, "%s/model", setup.folder);
    return make_model(&made, path, &error) < 0 || model_open(path, &setup.model, &error) < 0
               ? -1
               : backend_open(device ? device : "cpu", &(struct backend_options){.threads = 2}, &setup.backend,
                              &error);
}

/* ---- stores ---- */

static json_t *make_manifest(int shard, int shards)
{
    json_t *model = config_to_json(model_config(setup.model), &error);
    json_object_set_new(model, "fingerprint", json_string("0123456789abcdef"));
    return json_pack(
        "{s:o, s:i, s:[{s:s, s:s}, {s:s, s:s}, {s:s, s:s}, {s:s, s:s}, {s:s, s:s, s:o}], s:{s:i, s:i}}",
        "model", model, "rows", ROWS, "taps", "name", "0", "codec", "raw:f32", "name", "1.mid", "codec", "q8",
        "name", "2", "codec", "lossless", "name", "final", "codec", "klt:4", "name", "target", "codec", "klt:5",
        "columns", columns_to_json(target_columns()), "shard", "index", shard, "count", shards);
}

static void make_tokens(struct sequence sequence, int seed, int32_t ids[ROWS + 1])
{
    struct random random = {sequence.index * 2 + (uint64_t)sequence.split + (uint64_t)seed * 100000};
    for (int i = 0; i <= ROWS; i++)
        ids[i] = (int32_t)(random_next(&random) % VOCAB);
}

/* A store with the tokens of that many sequences, and no records. */
static int make_store(const char *name, uint64_t train, uint64_t held_out, int shard, int shards,
                      struct store **store)
{
    const uint64_t counts[SPLIT_COUNT] = {train, held_out};
    char path[600];
    snprintf(path, sizeof path, "%s/%s", setup.folder, name);
    json_t *manifest = make_manifest(shard, shards);
    int result = store_create(path, manifest, store, &error);
    json_decref(manifest);
    if (result < 0 || sources_store(setup.model, *store, &error) < 0 || store_begin(*store, &error) < 0)
        return -1;
    for (enum split split = 0; split < SPLIT_COUNT; split++)
        for (uint64_t i = 0; i < counts[split] && result == 0; i++) {
            int32_t ids[ROWS + 1];
            make_tokens((struct sequence){split, i * (uint64_t)shards + (uint64_t)shard}, 0, ids);
            result = store_put_tokens(*store, split, ids, NULL, 0, &error);
        }
    return result < 0 ? -1 : store_commit(*store, &error);
}

/* ---- running ---- */

static int run_pilot(struct store *store, bool keep, struct codec_pilot_result *pilot)
{
    const struct codec_pilot_job job = {.model = setup.model,
                                        .backend = setup.backend,
                                        .store = store,
                                        .threads = 2,
                                        .alone = true,
                                        .keep = keep};
    return codec_pilot_run(&job, pilot, &error);
}

/* memory 0: all layers stay; else they take turns. *tokens: that ran through the model. */
static int run_rest(struct store *store, struct kept *kept, uint64_t memory, uint64_t *tokens)
{
    struct plan plan;
    struct run_report report;
    const struct plan_machine machine = plan_machine(setup.backend, 2, memory);
    if (plan_make(model_config(setup.model), plan_file(setup.model), store_info(store), &machine, &plan,
                  &error) < 0)
        return -1;
    plan.batch = 5; /* calls that begin and end anywhere between the kept ones */
    const struct run_job job = {.title = "test",
                                .model = setup.model,
                                .backend = setup.backend,
                                .store = store,
                                .plan = &plan,
                                .kept = kept};
    const int result = run_model(&job, &report, &error);
    *tokens = report.tokens;
    return result;
}

/* The least memory that a run does with: its layers take turns then. */
static uint64_t little_memory(const struct store *store)
{
    struct plan plan;
    const struct plan_machine machine = plan_machine(setup.backend, 2, 0);
    plan_make(model_config(setup.model), plan_file(setup.model), store_info(store), &machine, &plan, &error);
    return plan.peak - 1;
}

/* Two stores have the same parameters and records, byte for byte. */
static void compare_stores(struct store *one, struct store *other)
{
    const struct store_info *info = store_info(one);
    struct reader *first, *second;
    const void *a, *b;
    size_t a_size, b_size;
    REQUIRE_OK(reader_open(one, &first, &error));
    REQUIRE_OK(reader_open(other, &second, &error));
    for (int tap = 0; tap < info->taps; tap++)
        for (enum split split = 0; split < SPLIT_COUNT; split++) {
            REQUIRE(store_progress(one, tap, split) == store_sequences(one, split));
            REQUIRE(store_progress(other, tap, split) == store_sequences(one, split));
            for (uint64_t i = 0; i < store_sequences(one, split); i++) {
                const struct sequence sequence = {split, i * (uint64_t)info->shards + (uint64_t)info->shard};
                REQUIRE_OK(reader_record(first, tap, sequence, &a, &a_size, &error));
                REQUIRE_OK(reader_record(second, tap, sequence, &b, &b_size, &error));
                if (a_size != b_size || memcmp(a, b, a_size) != 0)
                    test_fail(__FILE__, __LINE__, "tap %d, %s sequence %llu differs", tap, split_name(split),
                              (unsigned long long)i);
            }
        }
    reader_close(first);
    reader_close(second);
}

static uint64_t all_tokens(uint64_t train)
{
    return (train + HELD_OUT) * ROWS;
}

/* A store that a pilot and a run made each by itself. */
static int make_plain(const char *name, uint64_t train, uint64_t held_out, int shard, int shards,
                      struct store **store)
{
    struct codec_pilot_result pilot;
    uint64_t tokens;
    if (make_store(name, train, held_out, shard, shards, store) < 0 || run_pilot(*store, false, &pilot) < 0 ||
        run_rest(*store, NULL, 0, &tokens) < 0)
        return -1;
    CHECK(!pilot.kept && pilot.tokens > 0 && tokens == (train + held_out) * ROWS);
    return 0;
}

/* ---- tests ---- */

TEST(kept_states_serve_the_run)
{
    struct store *plain, *store;
    struct codec_pilot_result pilot;
    uint64_t tokens;
    REQUIRE_OK(prepare());
    REQUIRE_OK(make_plain("plain", TRAIN, HELD_OUT, 0, 1, &plain));
    for (int little = 0; little < 2; little++) {
        REQUIRE_OK(make_store(little ? "little" : "enough", TRAIN, HELD_OUT, 0, 1, &store));
        REQUIRE_OK(run_pilot(store, true, &pilot));
        REQUIRE(pilot.kept);
        CHECK(pilot.tokens == PILOT * ROWS);
        REQUIRE_OK(run_rest(store, pilot.kept, little ? little_memory(store) : 0, &tokens));
        printf("  %llu tokens in the pilot, %llu behind it\n", (unsigned long long)pilot.tokens,
               (unsigned long long)tokens);
        CHECK(pilot.tokens + tokens == all_tokens(TRAIN));
        compare_stores(plain, store);
        kept_close(pilot.kept);
        store_close(store);
    }
    store_close(plain);
}

/* Every training sequence is the pilot's; with nothing held out nothing is left to compute. */
TEST(kept_states_are_all_there_are)
{
    for (uint64_t held_out = 0; held_out < 2; held_out++) {
        struct store *plain, *store;
        struct codec_pilot_result pilot;
        uint64_t tokens;
        REQUIRE_OK(prepare());
        REQUIRE_OK(make_plain(held_out ? "plain-few" : "plain-all", PILOT, held_out, 0, 1, &plain));
        REQUIRE_OK(make_store(held_out ? "few" : "all", PILOT, held_out, 0, 1, &store));
        REQUIRE_OK(run_pilot(store, true, &pilot));
        REQUIRE_OK(run_rest(store, pilot.kept, 0, &tokens));
        CHECK(pilot.tokens == PILOT * ROWS && tokens == held_out * ROWS);
        compare_stores(plain, store);
        kept_close(pilot.kept);
        store_close(plain);
        store_close(store);
    }
}

/* A process that was killed behind the pilot leaves its states to the next. */
TEST(kept_states_outlive_a_kill)
{
    struct store *plain, *store;
    struct codec_pilot_result pilot, again;
    uint64_t tokens;
    REQUIRE_OK(prepare());
    REQUIRE_OK(make_plain("plain-killed", TRAIN, HELD_OUT, 0, 1, &plain));
    REQUIRE_OK(make_store("killed", TRAIN, HELD_OUT, 0, 1, &store));
    REQUIRE_OK(run_pilot(store, true, &pilot));
    kept_close(pilot.kept);
    REQUIRE_OK(run_pilot(store, true, &again));
    REQUIRE(again.kept);
    CHECK(again.tokens == 0 && again.seconds == 0);
    REQUIRE_OK(run_rest(store, again.kept, 0, &tokens));
    CHECK(pilot.tokens + tokens == all_tokens(TRAIN));
    compare_stores(plain, store);
    kept_close(again.kept);
    store_close(plain);
    store_close(store);
}

TEST(kept_states_of_a_shard)
{
    struct store *plain, *store;
    struct codec_pilot_result pilot;
    uint64_t tokens;
    REQUIRE_OK(prepare());
    REQUIRE_OK(make_plain("plain-shard", TRAIN, HELD_OUT, 1, 3, &plain));
    REQUIRE_OK(make_store("shard", TRAIN, HELD_OUT, 1, 3, &store));
    REQUIRE_OK(run_pilot(store, true, &pilot));
    REQUIRE(pilot.kept);
    CHECK(kept_has(pilot.kept, (struct sequence){SPLIT_TRAIN, 3 * 3 + 1}));
    CHECK(!kept_has(pilot.kept, (struct sequence){SPLIT_HELD_OUT, 3 * 3 + 1}));
    REQUIRE_OK(run_rest(store, pilot.kept, 0, &tokens));
    CHECK(pilot.tokens + tokens == all_tokens(TRAIN));
    compare_stores(plain, store);
    kept_close(pilot.kept);
    store_close(plain);
    store_close(store);
}

/* States of other tokens, and those of a pilot that was not finished, cannot be used: they are computed
 * again. */
TEST(kept_states_of_something_else_are_removed)
{
    char pilot_path[700], command[1500];
    struct store *store, *other;
    struct codec_pilot_result pilot;
    uint64_t tokens;
    REQUIRE_OK(prepare());
    REQUIRE_OK(make_store("other", TRAIN, HELD_OUT, 0, 3, &other)); /* each third sequence */
    REQUIRE_OK(run_pilot(other, true, &pilot));
    kept_close(pilot.kept);
    REQUIRE_OK(make_store("mixed", TRAIN, HELD_OUT, 0, 1, &store));
    REQUIRE_OK(run_pilot(store, true, &pilot));
    kept_close(pilot.kept);
    snprintf(pilot_path, sizeof pilot_path, "%s/pilot", store_path(store));
    snprintf(command, sizeof command, "rm -r '%s' && cp -r '%s/pilot' '%s'", pilot_path, store_path(other),
             pilot_path);
    REQUIRE(system(command) == 0);
    REQUIRE_OK(run_pilot(store, true, &pilot));
    CHECK(!pilot.kept && !file_exists(pilot_path));
    REQUIRE_OK(run_rest(store, pilot.kept, 0, &tokens));
    CHECK(tokens == all_tokens(TRAIN));
    store_close(store);
    store_close(other);
}

/* Flips a bit in the middle of the record of a tap and sequence in the pilot's store of `store`. */
static void damage_record(const struct store *store, int tap, uint64_t number)
{
    char folder[700], data[800], *bytes;
    const void *record;
    struct reader *reader;
    struct store *own;
    size_t size, all;
    snprintf(folder, sizeof folder, "%s/pilot", store_path(store));
    snprintf(data, sizeof data, "%s/data.mdb", folder);
    REQUIRE_OK(store_open(folder, STORE_READ, &own, &error));
    REQUIRE_OK(reader_open(own, &reader, &error));
    REQUIRE_OK(file_read(data, &bytes, &all, &error));
    REQUIRE_OK(reader_record(reader, tap, (struct sequence){SPLIT_TRAIN, number}, &record, &size, &error));
    char *found = memmem(bytes, all, record, size);
    reader_close(reader);
    store_close(own);
    REQUIRE(found);
    found[size / 2] ^= 1;
    REQUIRE_OK(file_write(data, bytes, all, &error));
    free(bytes);
}

static void check_advice(const struct store *store)
{
    char advice[900];
    snprintf(advice, sizeof advice, "Remove the folder %s/pilot; the same command then goes on",
             store_path(store));
    CHECK(error.kind == ERROR_DAMAGED);
    CHECK_TEXT(error.text, "train sequence 7: ");
    CHECK_TEXT(error.text, advice);
}

/* Whoever meets a damaged record of the pilot's says what helps: the run, and the fitting of a process that goes on with
 * the pilot of one that was killed. */
TEST(kept_states_that_are_damaged)
{
    char command[1500];
    struct store *store, *killed;
    struct codec_pilot_result pilot;
    uint64_t tokens;
    REQUIRE_OK(prepare());
    REQUIRE_OK(make_store("damaged", TRAIN, HELD_OUT, 0, 1, &store));
    REQUIRE_OK(run_pilot(store, true, &pilot));
    kept_close(pilot.kept);
    damage_record(store, 3, 7);
    REQUIRE_OK(make_store("damaged-killed", TRAIN, HELD_OUT, 0, 1, &killed));
    snprintf(command, sizeof command, "cp -r '%s/pilot' '%s'", store_path(store), store_path(killed));
    REQUIRE(system(command) == 0);
    CHECK(run_pilot(killed, true, &pilot) < 0);
    check_advice(killed);
    REQUIRE_OK(run_pilot(store, true, &pilot));
    CHECK(run_rest(store, pilot.kept, 0, &tokens) < 0);
    check_advice(store);
    kept_close(pilot.kept);
    store_close(killed);
    store_close(store);
}

/* What lies behind a link is somebody's: a pilot neither uses nor removes it. */
TEST(kept_states_behind_a_link)
{
    char link[700], elsewhere[700], data[800];
    struct store *store;
    struct codec_pilot_result pilot;
    REQUIRE_OK(prepare());
    REQUIRE_OK(make_store("linked", TRAIN, HELD_OUT, 0, 1, &store));
    REQUIRE_OK(run_pilot(store, true, &pilot));
    kept_close(pilot.kept);
    snprintf(link, sizeof link, "%s/pilot", store_path(store));
    snprintf(elsewhere, sizeof elsewhere, "%s/elsewhere", setup.folder);
    snprintf(data, sizeof data, "%s/data.mdb", elsewhere);
    REQUIRE(rename(link, elsewhere) == 0 && symlink(elsewhere, link) == 0);
    CHECK(run_pilot(store, true, &pilot) < 0);
    CHECK_TEXT(error.text, link);
    CHECK_TEXT(error.text, "is a symbolic link");
    CHECK(codec_pilot_remove(store_path(store), &error) < 0);
    CHECK_TEXT(error.text, "is a symbolic link");
    CHECK(store_remove(link, &error) < 0);
    CHECK_TEXT(error.text, "is a symbolic link");
    CHECK(file_exists(data));
    REQUIRE(unlink(link) == 0);
    REQUIRE_OK(run_pilot(store, true, &pilot));
    CHECK(!pilot.kept);
    store_close(store);
}

TEST(kept_states_pay_from_a_share_on)
{
    CHECK(!kept_pays(0, 0) && !kept_pays(0, 10));
    CHECK(kept_pays(1, 1) && kept_pays(1, KEPT_LEAST) && !kept_pays(1, KEPT_LEAST + 1));
    CHECK(kept_pays(1000, 1000 * KEPT_LEAST) && !kept_pays(999, 1000 * KEPT_LEAST));
}

TEST_MAIN
