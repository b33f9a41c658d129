/* packing.c: sequences against their definition: [i T, i T + T] of the stream of documents and ends. */
#include <stdlib.h>

#include "common/base/memory.h"
#include "common/base/random.h"
#include "common/store/runs.h"
#include "extract/packing.h"
#include "tests/test.h"

enum { ROWS = 16, END = 7, MOST = 4096 };

static struct error error;

/* What packing gave away. */
struct taken {
    int32_t ids[SPLIT_COUNT][MOST][ROWS + 1], starts[SPLIT_COUNT][MOST][ROWS];
    int count[SPLIT_COUNT][MOST];
    int sequences[SPLIT_COUNT];
};

static int take(void *context, enum split split, const int32_t *ids, const int32_t *starts, int count,
                struct error *unused)
{
    struct taken *taken = context;
    int n = taken->sequences[split]++;
    (void)unused;
    memcpy(taken->ids[split][n], ids, sizeof taken->ids[split][n]);
    memcpy(taken->starts[split][n], starts, (size_t)count * sizeof *starts);
    taken->count[split][n] = count;
    return 0;
}

static struct packing_rules make_rules(struct taken *taken, uint64_t most)
{
    return (struct packing_rules){
        .rows = ROWS, .end = END, .most = {most, most}, .put = take, .context = taken};
}

/* The documents of the tests: their lengths vary, 0 and several times T among them. */
struct stream {
    int32_t ids[1 << 16];
    bool starts[1 << 16];
    int count;
};

static int document_length(int number)
{
    static const int lengths[] = {5, 1, 40, 15, 16, 17, 0, 100, 2, 31};
    return lengths[number % 10];
}

static int32_t document_id(int number, int index)
{
    return 100 + number * 31 + index;
}

/* Appends document `number` in parts, and to the stream as it should come out. */
static void append_document(struct packing *packing, enum split split, int number, struct stream *stream)
{
    int32_t ids[128];
    int length = document_length(number), at = 0;
    stream->starts[stream->count] = true;
    for (int i = 0; i < length; i++)
        stream->ids[stream->count++] = ids[i] = document_id(number, i);
    stream->ids[stream->count++] = END;
    do {
        int part = number % 3 == 0 ? length : (length - at + 1) / 2;
        REQUIRE_OK(
            packing_append(packing, split, ids + at, (size_t)part, at == 0, at + part == length, &error));
        at += part;
    } while (at < length);
}

static void check_split(const struct taken *taken, enum split split, const struct stream *stream)
{
    int expected = stream->count > 0 ? (stream->count - 1) / ROWS : 0;
    CHECK(taken->sequences[split] == expected);
    for (int n = 0; n < taken->sequences[split] && n < expected; n++) {
        int starts = 0;
        CHECK(memcmp(taken->ids[split][n], stream->ids + n * ROWS, sizeof taken->ids[split][n]) == 0);
        for (int row = 0; row < ROWS; row++)
            if (stream->starts[n * ROWS + row])
                CHECK(starts < taken->count[split][n] && taken->starts[split][n][starts++] == row);
        CHECK(starts == taken->count[split][n]);
    }
}

TEST(packing_sequences_are_the_stream)
{
    struct taken *taken;
    struct stream *streams;
    struct packing *packing;
    REQUIRE_OK(array_alloc(&taken, 1, &error));
    REQUIRE_OK(array_alloc(&streams, SPLIT_COUNT, &error));
    const struct packing_rules rules = make_rules(taken, UINT64_MAX);
    REQUIRE_OK(packing_create(&rules, &packing, &error));
    for (int number = 0; number < 300; number++) {
        enum split split = number % 4 == 1 ? SPLIT_HELD_OUT : SPLIT_TRAIN;
        append_document(packing, split, number, &streams[split]);
    }
    check_split(taken, SPLIT_TRAIN, &streams[SPLIT_TRAIN]);
    check_split(taken, SPLIT_HELD_OUT, &streams[SPLIT_HELD_OUT]);
    CHECK(packing_documents(packing, SPLIT_TRAIN) == 225 && packing_documents(packing, SPLIT_HELD_OUT) == 75);
    CHECK(packing_sequences(packing, SPLIT_TRAIN) == (uint64_t)taken->sequences[SPLIT_TRAIN]);
    packing_destroy(packing);
    free(taken);
    free(streams);
}

TEST(packing_stops_at_the_most)
{
    static const int32_t ids[100] = {1, 2, 3};
    struct taken *taken;
    struct packing *packing;
    REQUIRE_OK(array_alloc(&taken, 1, &error));
    const struct packing_rules rules = make_rules(taken, 3);
    REQUIRE_OK(packing_create(&rules, &packing, &error));
    CHECK(packing_wants(packing, SPLIT_TRAIN));
    REQUIRE_OK(packing_append(packing, SPLIT_TRAIN, ids, 100, true, false, &error));
    CHECK(taken->sequences[SPLIT_TRAIN] == 3);
    CHECK(!packing_wants(packing, SPLIT_TRAIN) && packing_wants(packing, SPLIT_HELD_OUT));
    REQUIRE_OK(packing_append(packing, SPLIT_TRAIN, ids, 100, false, true, &error));
    REQUIRE_OK(packing_append(packing, SPLIT_TRAIN, ids, 100, true, true, &error));
    CHECK(taken->sequences[SPLIT_TRAIN] == 3 && packing_documents(packing, SPLIT_TRAIN) == 1);
    packing_destroy(packing);
    free(taken);
}

/* One stream, whose sequences go to the split that their number says; saved and restored after every
 * document. */
TEST(packing_by_runs)
{
    struct taken *taken;
    struct stream *stream;
    struct packing *packing, *next;
    REQUIRE_OK(array_alloc(&taken, 1, &error));
    REQUIRE_OK(array_alloc(&stream, 1, &error));
    struct packing_rules how = make_rules(taken, UINT64_MAX);
    how.runs = 0.3;
    how.most[SPLIT_HELD_OUT] = 9;
    REQUIRE_OK(packing_create(&how, &packing, &error));
    for (int number = 0; number < 60; number++) {
        CHECK(packing_wants(packing, SPLIT_TRAIN) && !packing_wants(packing, SPLIT_HELD_OUT));
        append_document(packing, SPLIT_TRAIN, number, stream);
        json_t *state = packing_save(packing, &error);
        REQUIRE(state);
        REQUIRE_OK(packing_create(&how, &next, &error));
        REQUIRE_OK(packing_restore(next, state, &error));
        json_decref(state);
        packing_destroy(packing);
        packing = next;
    }
    int found[SPLIT_COUNT + 1] = {0};
    for (int n = 0; n < (stream->count - 1) / ROWS; n++) {
        const enum split split = runs_split((uint64_t)n, 0.3);
        const int index = found[split]++;
        if (split == RUNS_GAP || index >= taken->sequences[split])
            continue;
        CHECK(memcmp(taken->ids[split][index], stream->ids + n * ROWS, sizeof taken->ids[split][index]) == 0);
        for (int i = 0; i < taken->count[split][index]; i++)
            CHECK(stream->starts[n * ROWS + taken->starts[split][index][i]]);
    }
    CHECK(taken->sequences[SPLIT_TRAIN] == found[SPLIT_TRAIN] && found[SPLIT_TRAIN] > 30);
    CHECK(taken->sequences[SPLIT_HELD_OUT] == 9 && found[SPLIT_HELD_OUT] > 9);
    CHECK(packing_sequences(packing, SPLIT_HELD_OUT) == 9 && packing_documents(packing, SPLIT_TRAIN) == 60);
    packing_destroy(packing);
    free(taken);
    free(stream);
}

/* Saved and restored after every document, as if each were another run. */
TEST(packing_goes_on_from_its_state)
{
    struct taken *taken;
    struct stream *stream;
    struct packing *packing, *next;
    REQUIRE_OK(array_alloc(&taken, 1, &error));
    REQUIRE_OK(array_alloc(&stream, 1, &error));
    const struct packing_rules rules = make_rules(taken, UINT64_MAX);
    REQUIRE_OK(packing_create(&rules, &packing, &error));
    for (int number = 0; number < 50; number++) {
        append_document(packing, SPLIT_HELD_OUT, number, stream);
        json_t *state = packing_save(packing, &error);
        REQUIRE(state);
        REQUIRE_OK(packing_create(&rules, &next, &error));
        REQUIRE_OK(packing_restore(next, state, &error));
        json_decref(state);
        packing_destroy(packing);
        packing = next;
    }
    check_split(taken, SPLIT_HELD_OUT, stream);
    CHECK(packing_documents(packing, SPLIT_HELD_OUT) == 50);
    packing_destroy(packing);
    free(taken);
    free(stream);
}

static void check_state_refused(const char *text, const char *reason)
{
    const struct packing_rules rules = make_rules(NULL, UINT64_MAX);
    struct packing *packing;
    json_t *state = json_loads(text, 0, NULL);
    REQUIRE(state);
    REQUIRE_OK(packing_create(&rules, &packing, &error));
    CHECK(packing_restore(packing, state, &error) < 0);
    CHECK_TEXT(error.text, reason);
    packing_destroy(packing);
    json_decref(state);
}

TEST(packing_damaged_state_is_refused)
{
    check_state_refused("[]", "\"sequences\" is missing");
    check_state_refused("[{\"sequences\": -1, \"stream\": 0, \"documents\": 0}]", "\"sequences\" is -1");
    check_state_refused("[{\"sequences\": 0, \"stream\": 0, \"documents\": 0, \"ids\": [1], \"starts\": [1]}]",
                        "starts are damaged");
    check_state_refused("[{\"sequences\": 0, \"stream\": 0, \"documents\": 0, \"ids\": [-1], \"starts\": []}]",
                        "damaged");
    check_state_refused(
        "[{\"sequences\": 0, \"stream\": 0, \"documents\": 0, \"ids\": [1, 2], \"starts\": [1, 0]}]",
        "damaged");
    check_state_refused(
        "[{\"sequences\": 0, \"stream\": 0, \"documents\": 0, \"ids\": [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1], "
        "\"starts\": []}]",
        "damaged");
    check_state_refused("[{\"sequences\": 0, \"stream\": 0, \"documents\": 0, \"ids\": 3, \"starts\": []}]",
                        "damaged");
}

TEST_MAIN
