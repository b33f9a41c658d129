/* A split that a store is given: which sequences are held out, and how they are numbered then. */
#include <stdio.h>
#include <stdlib.h>

#include "common/base/random.h"
#include "common/store/extend.h"
#include "common/store/runs.h"
#include "common/store/shards.h"
#include "common/store/split_choose.h"
#include "tests/store_fixture.h"
#include "tests/test.h"

/* ---- choosing ---- */

enum { MOST = 400, ROWS = 16 };

/* Whose a sequence is: 't' of training, 'h' held out, '-' left out. */
static void mark(const struct split_list *list, uint64_t sequences, char kind[MOST + 1])
{
    memset(kind, 't', sequences);
    kind[sequences] = 0;
    for (size_t i = 0; i < list->runs; i++)
        for (uint64_t s = list->run[i].from; s < list->run[i].to && s < sequences; s++)
            kind[s] = s >= list->run[i].first && s < list->run[i].end ? 'h' : '-';
}

static uint64_t count(const char *kind, char wanted)
{
    uint64_t found = 0;
    for (; *kind; kind++)
        found += *kind == wanted;
    return found;
}

/* A stretch of documents of up to `longest` rows; document [rows + 1] says which each row and the last label
 * belong to. */
static int make_documents(struct random *random, uint64_t sequences, uint64_t longest, int *document,
                          struct split_chooser *chooser, struct error *error)
{
    const uint64_t rows = sequences * ROWS;
    int number = -1;
    for (uint64_t row = 0, next = 0; row <= rows; row++) {
        if (row == next) {
            number++;
            next += 1 + random_next(random) % longest;
            for (int twice = 0; twice < 2;
                 twice++) /* as the label of one sequence and the first row of the next */
                if (split_chooser_document(chooser, row, error) < 0)
                    return -1;
        }
        document[row] = number;
    }
    return 0;
}

/* No document has rows or labels in both splits. */
static bool documents_are_apart(const char *kind, uint64_t sequences, const int *document)
{
    for (uint64_t h = 0; h < sequences; h++)
        for (uint64_t t = 0; kind[h] == 'h' && t < sequences; t++)
            if (kind[t] == 't' && document[h * ROWS] <= document[t * ROWS + ROWS] &&
                document[t * ROWS] <= document[h * ROWS + ROWS])
                return false;
    return true;
}

TEST(split_by_documents)
{
    struct error error;
    struct random random = {5};
    static int document[MOST * ROWS + 1];
    char kind[MOST + 1];
    int by_documents = 0;
    for (int turn = 0; turn < 400; turn++) {
        const uint64_t sequences = 3 + random_next(&random) % (MOST - 3);
        const double share = 0.01 + (double)(random_next(&random) % 49) / 100;
        struct split_chooser *chooser;
        struct split_list list = {0};
        REQUIRE_OK(split_chooser_create(sequences, ROWS, share, &chooser, &error));
        REQUIRE_OK(make_documents(&random, sequences, (uint64_t)1 << random_next(&random) % 9, document,
                                  chooser, &error));
        const char *by = split_chooser_finish(chooser, &list, &error);
        REQUIRE(by);
        mark(&list, sequences, kind);
        const uint64_t wanted = (uint64_t)((double)sequences * share + 0.5), held_out = count(kind, 'h');
        if (strcmp(by, "documents") == 0) {
            by_documents++;
            if (!documents_are_apart(kind, sequences, document))
                test_fail(__FILE__, __LINE__, "turn %d: a document is in both: %s", turn, kind);
        }
        if (held_out < 1 || count(kind, 't') < 1 || 2 * held_out < wanted ||
            (held_out > 2 * wanted && wanted > 0))
            test_fail(__FILE__, __LINE__, "turn %d: %g of %d sequences: %s", turn, share, (int)sequences, kind);
        split_chooser_free(chooser);
        split_free(&list);
    }
    CHECK(by_documents > 200);
}

/* One document, however long, is split by sequences, and something lies between. */
TEST(split_by_sequences)
{
    struct error error;
    char kind[MOST + 1];
    for (uint64_t sequences = 3; sequences <= MOST; sequences++)
        for (int percent = 1; percent <= 50; percent += 7) {
            struct split_chooser *chooser;
            struct split_list list = {0};
            REQUIRE_OK(split_chooser_create(sequences, ROWS, percent / 100.0, &chooser, &error));
            REQUIRE_OK(split_chooser_document(chooser, 0, &error));
            const char *by = split_chooser_finish(chooser, &list, &error);
            split_chooser_free(chooser);
            REQUIRE(by && strcmp(by, "sequences") == 0);
            mark(&list, sequences, kind);
            if (strstr(kind, "th") || strstr(kind, "ht") || count(kind, 't') < 1 || count(kind, 'h') < 1)
                test_fail(__FILE__, __LINE__, "%d%%: %s", percent, kind);
            uint64_t expected[SPLIT_COUNT];
            runs_count(sequences, percent / 100.0, expected);
            /* A gap before a run that would come behind the last sequence is trained on. */
            const bool last =
                runs_split(sequences - 1, percent / 100.0) == RUNS_GAP && kind[sequences - 1] == 't';
            CHECK(count(kind, 't') == expected[SPLIT_TRAIN] + last &&
                  count(kind, 'h') == expected[SPLIT_HELD_OUT]);
            split_free(&list);
        }
}

TEST(split_of_too_little)
{
    struct error error;
    struct split_chooser *chooser;
    CHECK(split_chooser_create(2, ROWS, 0.05, &chooser, &error) < 0);
    CHECK_TEXT(error.text, "2 sequences are too few");
    CHECK(split_chooser_create(100, ROWS, 0, &chooser, &error) < 0);
    CHECK(split_chooser_create(100, ROWS, 0.51, &chooser, &error) < 0);
    CHECK_TEXT(error.text, "0.51");
}

/* ---- numbering ---- */

TEST(split_numbers)
{
    struct error error;
    struct random random = {9};
    for (int turn = 0; turn < 200; turn++) {
        struct split_list list = {0};
        const uint64_t held_out = random_next(&random) % 4;
        uint64_t train = 0;
        char kind[MOST + 1];
        for (uint64_t at = random_next(&random) % 9; at < MOST - 40; at += random_next(&random) % 40) {
            const uint64_t first = at + random_next(&random) % 3, end = first + 1 + random_next(&random) % 9,
                           to = end + random_next(&random) % 3;
            REQUIRE_OK(split_add(&list, at, first, end, to, &error));
            at = to;
        }
        const uint64_t stored[SPLIT_COUNT] = {MOST, held_out};
        mark(&list, MOST, kind);
        CHECK(split_count(&list, SPLIT_TRAIN, stored) == count(kind, 't'));
        CHECK(split_count(&list, SPLIT_HELD_OUT, stored) == count(kind, 'h') + held_out);
        for (uint64_t i = 0, behind = held_out; i < MOST; i++) {
            if (kind[i] == '-')
                continue;
            const enum split split = kind[i] == 't' ? SPLIT_TRAIN : SPLIT_HELD_OUT;
            const struct sequence found = split_stored(
                &list, (struct sequence){split, split == SPLIT_TRAIN ? train++ : behind++}, held_out);
            CHECK(found.split == SPLIT_TRAIN && found.index == i);
        }
        for (uint64_t i = 0; i < held_out; i++) {
            const struct sequence found = split_stored(&list, (struct sequence){SPLIT_HELD_OUT, i}, held_out);
            CHECK(found.split == SPLIT_HELD_OUT && found.index == i);
        }
        for (int shards = 1; shards < 5; shards++) {
            uint64_t sum[SPLIT_COUNT] = {0};
            for (int shard = 0; shard < shards; shard++) {
                const uint64_t own[SPLIT_COUNT] = {(MOST + (uint64_t)(shards - 1 - shard)) / (uint64_t)shards,
                                                   0};
                for (enum split split = 0; split < SPLIT_COUNT; split++)
                    sum[split] += split_count_shard(&list, split, own, shard, shards);
            }
            CHECK(sum[SPLIT_TRAIN] == count(kind, 't') && sum[SPLIT_HELD_OUT] == count(kind, 'h'));
        }
        split_free(&list);
    }
}

TEST(split_in_a_manifest)
{
    static const char *const bad[] = {
        "{\"split\": 3}",
        "{\"split\": {\"runs\": {}}}",
        "{\"split\": {\"runs\": [[1, 2, 3]]}}",
        "{\"split\": {\"runs\": [[1, 2, 3, 4.5]]}}",
        "{\"split\": {\"runs\": [[1, 2, 3, -4]]}}",
        "{\"split\": {\"runs\": [[2, 1, 3, 4]]}}",
        "{\"split\": {\"runs\": [[1, 2, 2, 4]]}}",
        "{\"split\": {\"runs\": [[1, 2, 3, 2]]}}",
        "{\"split\": {\"runs\": [[1, 2, 3, 4], [3, 4, 5, 6]]}}",
        "{\"split\": {\"runs\": [[1, 2, 3, 99999999999999999999]]}}",
    };
    struct error error;
    struct split_list list = {0}, again = {0};
    REQUIRE_OK(split_add(&list, 0, 1, 3, 4, &error));
    REQUIRE_OK(split_add(&list, 4, 4, 9, 9, &error));
    json_t *manifest = json_pack("{s:o}", "split", split_to_json(&list, 0.1, "sequences", &error));
    REQUIRE_OK(split_parse("here", manifest, &again, &error));
    REQUIRE(again.runs == 2);
    CHECK(memcmp(again.run, list.run, 2 * sizeof *list.run) == 0);
    json_decref(manifest);
    split_free(&list);
    split_free(&again);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        manifest = json_loads(bad[i], 0, NULL);
        if (manifest && split_parse("here", manifest, &list, &error) == 0)
            test_fail(__FILE__, __LINE__, "%s was taken", bad[i]);
        CHECK(list.runs == 0);
        json_decref(manifest);
    }
}

/* ---- stores ---- */

static int give(const char *path, const struct split_list *list, struct error *error)
{
    struct store *store;
    if (store_open(path, STORE_WRITE, &store, error) < 0)
        return -1;
    json_t *manifest = json_deep_copy(store_manifest(store));
    json_object_set_new(manifest, "split", split_to_json(list, 0.1, "sequences", error));
    int result = extend_manifest(store, manifest, error);
    json_decref(manifest);
    store_close(store);
    return result;
}

/* Whatever is read by the split is what is stored there. */
static int check_read(struct shards *shards, const struct split_list *list, enum split split,
                      struct error *error)
{
    struct shards_reader *reader;
    if (shards_reader_open(shards, &reader, error) < 0)
        return -1;
    int result = 0;
    for (uint64_t i = 0; i < shards_sequences(shards, split) && result == 0; i++) {
        const struct sequence stored = split_stored(list, (struct sequence){split, i}, 1);
        float states[FIXTURE_ROWS * FIXTURE_HIDDEN], expected[FIXTURE_ROWS * FIXTURE_HIDDEN];
        int32_t ids[FIXTURE_ROWS + 1], expected_ids[FIXTURE_ROWS + 1];
        fixture_states(0, stored, expected);
        fixture_tokens(stored, expected_ids);
        result = shards_reader_states(reader, 0, (struct sequence){split, i}, states, error);
        if (result == 0)
            result = shards_reader_tokens(reader, (struct sequence){split, i}, ids, error);
        if (result == 0 &&
            (memcmp(states, expected, sizeof states) != 0 || memcmp(ids, expected_ids, sizeof ids) != 0))
            result = error_set(error, "sequence %d is another one", (int)i);
    }
    shards_reader_close(reader);
    return result;
}

TEST(split_of_shards)
{
    enum { SHARDS = 2, TRAIN = 9 };
    struct error error;
    struct shards *shards;
    struct split_list list = {0}, empty = {0};
    char path[SHARDS][4300];
    const char *paths[SHARDS], *folder = test_folder();
    REQUIRE_OK(split_add(&list, 2, 3, 5, 6, &error));
    REQUIRE_OK(split_add(&list, 8, 8, 9, 9, &error));
    for (int i = 0; i < SHARDS; i++) {
        struct store *store;
        json_t *manifest = fixture_manifest(i, SHARDS);
        snprintf(path[i], sizeof path[i], "%s/%d", folder, i);
        paths[i] = path[i];
        REQUIRE_OK(store_create(path[i], manifest, &store, &error));
        json_decref(manifest);
        REQUIRE_OK(fixture_fill(store, SPLIT_TRAIN, i == 0 ? 5 : 4, &error));
        REQUIRE_OK(fixture_fill(store, SPLIT_HELD_OUT, i == 0, &error));
        REQUIRE_OK(store_seal(store, &error));
        store_close(store);
    }
    REQUIRE_OK(give(path[1], &list, &error));
    CHECK(shards_open(paths, SHARDS, &shards, &error) < 0);
    CHECK_TEXT(error.text, "give `cache split` again, with all shards");
    REQUIRE_OK(shards_open_stored(paths, SHARDS, &shards, &error));
    CHECK(shards_sequences(shards, SPLIT_TRAIN) == TRAIN && shards_sequences(shards, SPLIT_HELD_OUT) == 1);
    REQUIRE_OK(shards_check_finished(shards, &error));
    shards_close(shards);
    REQUIRE_OK(give(path[0], &list, &error));
    REQUIRE_OK(shards_open(paths, SHARDS, &shards, &error));
    CHECK(shards_sequences(shards, SPLIT_TRAIN) == 4 && shards_sequences(shards, SPLIT_HELD_OUT) == 4);
    CHECK(shards_progress(shards, 0, SPLIT_TRAIN) == 4 && shards_progress(shards, 0, SPLIT_HELD_OUT) == 4);
    for (enum split split = 0; split < SPLIT_COUNT; split++)
        REQUIRE_OK(check_read(shards, &list, split, &error));
    shards_forget_split(shards);
    CHECK(shards_sequences(shards, SPLIT_TRAIN) == TRAIN);
    REQUIRE_OK(check_read(shards, &empty, SPLIT_TRAIN, &error));
    shards_close(shards);

    /* One that goes beyond what is there. */
    REQUIRE_OK(split_add(&list, 9, 9, 10, 10, &error));
    for (int i = 0; i < SHARDS; i++)
        REQUIRE_OK(give(path[i], &list, &error));
    CHECK(shards_open(paths, SHARDS, &shards, &error) < 0);
    CHECK_TEXT(error.text, "beyond its sequences");
    split_free(&list);
}

TEST_MAIN
