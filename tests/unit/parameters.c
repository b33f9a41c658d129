/* Parameters of codecs in a store: there before the first record, put once, checked, the same in all shards. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "common/repair/repair.h"
#include "common/repair/verify.h"
#include "common/store/internal.h"
#include "common/store/shards.h"
#include "tests/codec_fixture.h"
#include "tests/store_fixture.h"
#include "tests/test.h"

enum { KLT = 1 }; /* the tap that has parameters, by index */

static int create(const char *path, int shard, int shards, struct store **store, struct error *error)
{
    json_t *manifest = fixture_manifest(shard, shards);
    size_t i;
    json_t *tap;
    json_array_foreach(json_object_get(manifest, "taps"), i, tap)
    {
        if (strcmp(json_string_value(json_object_get(tap, "name")), "2") == 0)
            json_object_set_new(tap, "codec", json_string("klt:4"));
    }
    int result = store_create(path, manifest, store, error);
    json_decref(manifest);
    return result;
}

/* Fitted to the states of the fixture. */
static int fit(double spacing, struct string *parameters, struct error *error)
{
    float states[FIXTURE_ROWS * FIXTURE_HIDDEN];
    fixture_states(KLT, (struct sequence){SPLIT_TRAIN, 0}, states);
    return codec_fixture_fit(codec_find_id(5), states, FIXTURE_ROWS, FIXTURE_HIDDEN, spacing, parameters,
                             error);
}

static int put(struct store *store, const struct string *parameters, struct error *error)
{
    if (store_begin(store, error) < 0)
        return -1;
    if (store_put_parameters(store, KLT, parameters->data, parameters->length, error) < 0)
        return -1;
    return store_commit(store, error);
}

static int create_filled(const char *path, int shard, int shards, double spacing, struct error *error)
{
    struct string parameters = {0};
    struct store *store;
    int result = create(path, shard, shards, &store, error);
    if (result == 0)
        result = fit(spacing, &parameters, error);
    if (result == 0)
        result = put(store, &parameters, error);
    if (result == 0)
        result = fixture_fill(store, SPLIT_TRAIN, 3, error);
    store_close(store);
    string_free(&parameters);
    return result;
}

TEST(parameters_come_first_and_once)
{
    char path[4200];
    struct error error;
    struct store *store;
    struct string parameters = {0};
    const struct coder *coder;
    void *bytes;
    size_t size;
    snprintf(path, sizeof path, "%s/store", test_folder());
    REQUIRE_OK(create(path, 0, 1, &store, &error));
    CHECK(strcmp(store_info(store)->codec[KLT].name, "klt:4") == 0);
    REQUIRE_OK(store_get_parameters(store, KLT, &bytes, &size, &error));
    CHECK(bytes == NULL);
    CHECK(store_coder(store, KLT, &coder, &error) < 0);
    CHECK_TEXT(error.text, "tap 2: klt:4 has no parameters yet");
    CHECK(fixture_fill(store, SPLIT_TRAIN, 1, &error) < 0);
    CHECK_TEXT(error.text, "no parameters yet");
    store_close(store);

    REQUIRE_OK(store_open(path, STORE_WRITE, &store, &error));
    REQUIRE_OK(fit(0.1, &parameters, &error));
    REQUIRE_OK(store_begin(store, &error));
    CHECK(store_put_parameters(store, KLT, parameters.data, parameters.length - 1, &error) < 0);
    CHECK_TEXT(error.text, "codec/2: parameters of klt: ");
    CHECK(store_put_parameters(store, 0, parameters.data, parameters.length, &error) < 0);
    CHECK_TEXT(error.text, "codec/2.mid");
    REQUIRE_OK(store_put_parameters(store, KLT, parameters.data, parameters.length, &error));
    CHECK(store_put_parameters(store, KLT, parameters.data, parameters.length, &error) < 0);
    REQUIRE_OK(store_commit(store, &error));
    CHECK(put(store, &parameters, &error) < 0);
    CHECK_TEXT(error.text, "has them already");
    store_close(store);

    REQUIRE_OK(store_open(path, STORE_READ, &store, &error));
    REQUIRE_OK(store_get_parameters(store, KLT, &bytes, &size, &error));
    CHECK(size == parameters.length && memcmp(bytes, parameters.data, size) == 0);
    REQUIRE_OK(store_coder(store, KLT, &coder, &error));
    CHECK(coder_hash(coder) != 0);
    free(bytes);
    store_close(store);
    string_free(&parameters);
}

TEST(parameters_serve_records)
{
    char path[4200];
    struct error error;
    struct store *store;
    struct reader *reader;
    struct verify_result result;
    const struct verify_options options = {.processes = 1};
    float states[FIXTURE_ROWS * FIXTURE_HIDDEN], expected[FIXTURE_ROWS * FIXTURE_HIDDEN];
    double lost = 0, whole = 0;
    snprintf(path, sizeof path, "%s/store", test_folder());
    REQUIRE_OK(create_filled(path, 0, 1, 0.1, &error));
    REQUIRE_OK(store_open(path, STORE_READ, &store, &error));
    REQUIRE_OK(reader_open(store, &reader, &error));
    fixture_states(KLT, (struct sequence){SPLIT_TRAIN, 2}, expected);
    REQUIRE_OK(reader_states(reader, KLT, (struct sequence){SPLIT_TRAIN, 2}, states, &error));
    for (int i = 0; i < FIXTURE_ROWS * FIXTURE_HIDDEN; i++) {
        lost += pow(states[i] - expected[i], 2);
        whole += pow(expected[i], 2);
    }
    CHECK(lost > 0 && lost < whole * 0.1 * 0.1 / 12 * 1.1);
    reader_close(reader);
    store_close(store);
    REQUIRE_OK(store_verify(path, &options, &result, &error));
    CHECK(result.problems == 0 && result.values == 3 * (FIXTURE_TAPS + 1) + STORE_PARAMETERS_COPIES);
}

static void append_text(void *context, const struct verify_problem *problem)
{
    string_print(context, "%d %s\n", problem->kind, problem->text);
}

/* Flips one bit of the parameters that lie behind `at`. Returns where. */
static off_t damage_next(const char *data, const struct string *parameters, off_t at)
{
    unsigned char bytes[64];
    int file = open(data, O_RDWR | O_CLOEXEC);
    while (pread(file, bytes, sizeof bytes, at) == sizeof bytes &&
           memcmp(bytes, parameters->data, sizeof bytes) != 0)
        at += 8;
    bytes[40] ^= 1;
    CHECK(pwrite(file, bytes, sizeof bytes, at) == sizeof bytes);
    close(file);
    return at;
}

static bool repairs(const char *path)
{
    struct error error;
    struct store *store;
    bool mended = false;
    if (store_open(path, STORE_WRITE, &store, &error) < 0)
        return false;
    const bool done = repair_begin(store, &error) == 0 && repair_parameters(store, KLT, &mended, &error) == 0 &&
                      store_commit(store, &error) == 0 && repair_finish(store, &error) == 0;
    store_close(store);
    return done && mended;
}

/* Whichever of the parameters and their copy is damaged, the other serves. */
TEST(parameters_have_a_copy)
{
    char path[4200], data[4300];
    struct error error;
    struct string parameters = {0};
    struct verify_result result;
    const struct verify_options options = {.processes = 1};
    snprintf(path, sizeof path, "%s/store", test_folder());
    snprintf(data, sizeof data, "%s/data.mdb", path);
    REQUIRE_OK(create_filled(path, 0, 1, 0.1, &error));
    REQUIRE_OK(fit(0.1, &parameters, &error));
    damage_next(data, &parameters, 0);
    REQUIRE_OK(store_verify(path, &options, &result, &error));
    CHECK(result.problems == 1 && repairs(path));
    REQUIRE_OK(store_verify(path, &options, &result, &error));
    CHECK(result.problems == 0 && result.values == 3 * (FIXTURE_TAPS + 1) + STORE_PARAMETERS_COPIES);
    snprintf(path, sizeof path, "%s/other", test_folder());
    snprintf(data, sizeof data, "%s/data.mdb", path);
    REQUIRE_OK(create_filled(path, 0, 1, 0.1, &error));
    off_t first = damage_next(data, &parameters, 0);
    damage_next(data, &parameters, first + 8);
    REQUIRE_OK(store_verify(path, &options, &result, &error));
    CHECK(result.problems == 2 && !repairs(path));
    string_free(&parameters);
}

/* One bit of the basis: verify names it once, and the tap's records cannot be read. */
TEST(parameters_that_are_damaged_are_found)
{
    char path[4200], data[4300];
    struct error error;
    struct store *store;
    struct reader *reader;
    struct string parameters = {0}, text = {0};
    struct verify_result result;
    const struct verify_options options = {.processes = 1, .report = append_text, .context = &text};
    float states[FIXTURE_ROWS * FIXTURE_HIDDEN];
    snprintf(path, sizeof path, "%s/store", test_folder());
    snprintf(data, sizeof data, "%s/data.mdb", path);
    REQUIRE_OK(create_filled(path, 0, 1, 0.1, &error));
    REQUIRE_OK(fit(0.1, &parameters, &error));
    damage_next(data, &parameters, 0);

    REQUIRE_OK(store_open(path, STORE_READ, &store, &error));
    REQUIRE_OK(reader_open(store, &reader, &error));
    CHECK(reader_states(reader, KLT, (struct sequence){SPLIT_TRAIN, 0}, states, &error) < 0);
    CHECK_TEXT(error.text, "\"codec/2\" is damaged");
    CHECK(reader_states(reader, 0, (struct sequence){SPLIT_TRAIN, 0}, states, &error) == 0);
    reader_close(reader);
    store_close(store);
    REQUIRE_OK(store_verify(path, &options, &result, &error));
    CHECK(result.problems == 1);
    CHECK(VERIFY_PARAMETERS == 4);
    CHECK_TEXT(text.data, "4 ");
    CHECK_TEXT(text.data, "\"codec/2\" is damaged");
    string_free(&text);
    string_free(&parameters);
}

TEST(parameters_of_shards_must_agree)
{
    char text[3][4200];
    const char *same[] = {text[0], text[1]}, *other[] = {text[0], text[2]};
    struct error error;
    struct shards *shards;
    const char *folder = test_folder();
    for (int i = 0; i < 3; i++) {
        snprintf(text[i], sizeof text[i], "%s/%d", folder, i);
        REQUIRE_OK(create_filled(text[i], i > 0, 2, i < 2 ? 0.1 : 0.11, &error));
    }
    REQUIRE_OK(shards_open(same, 2, &shards, &error));
    shards_close(shards);
    CHECK(shards_open(other, 2, &shards, &error) < 0);
    CHECK_TEXT(error.text, "parameters of klt:4 differ");
}

TEST_MAIN
