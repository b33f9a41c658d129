/* unpack.c: compressed corpora: every size of reading, several parts, going on from any position, and what is
 * damaged. */
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#include "common/base/memory.h"
#include "common/base/random.h"
#include "common/base/string.h"
#include "extract/sample.h"
#include "extract/stream.h"
#include "tests/corpus_fixture.h"

static struct error error;
/* Appends one gzip member or Zstandard frame. */
static void pack(struct string *out, enum compression compression, const char *text, size_t size)
{
    const size_t most = ZSTD_compressBound(size) + compressBound((uLong)size) + 64;
    unsigned char *packed;
    size_t length = 0;
    REQUIRE_OK(array_alloc(&packed, most, &error));
    if (compression == COMPRESSION_ZSTD) {
        ZSTD_CCtx *context = ZSTD_createCCtx();
        ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1); /* as the program writes them */
        length = ZSTD_compress2(context, packed, most, text, size);
        CHECK(!ZSTD_isError(length));
        ZSTD_freeCCtx(context);
    } else {
        z_stream stream = {.next_in = (unsigned char *)text,
                           .avail_in = (uInt)size,
                           .next_out = packed,
                           .avail_out = (uInt)most};
        CHECK(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
        CHECK(deflate(&stream, Z_FINISH) == Z_STREAM_END);
        length = stream.total_out;
        deflateEnd(&stream);
    }
    string_append(out, (const char *)packed, length);
    free(packed);
}

static void make_text(struct string *text, size_t size)
{
    struct random random = {3};
    while (text->length < size)
        string_print(text, "line %x has %x words\n", (unsigned)random_next(&random),
                     (unsigned)random_next(&random) % 99);
}

static int read_stream(const char *path, enum compression compression, size_t size, uint64_t from,
                       size_t at_once, struct string *out)
{
    struct stream *stream;
    char buffer[5000];
    size_t got = 1;
    if (stream_open(path, compression, size, &stream, &error) < 0)
        return -1;
    int result = stream_skip(stream, from, &error);
    while (result == 0 && got > 0 && (result = stream_read(stream, buffer, at_once, &got, &error)) == 0)
        string_append(out, buffer, got);
    if (result == 0)
        CHECK(stream_taken(stream) == size);
    stream_close(stream);
    return result;
}

static bool is_text(const struct string *found, const struct string *text, size_t from)
{
    return found->length == text->length - from && memcmp(found->data, text->data + from, found->length) == 0;
}

static const enum compression kinds[] = {COMPRESSION_GZIP, COMPRESSION_ZSTD};
enum { KINDS = sizeof kinds / sizeof *kinds };

TEST(unpack_parts_and_places)
{
    struct string text = {0};
    make_text(&text, 700000);
    for (int kind = 0; kind < KINDS; kind++) {
        struct string packed = {0};
        pack(&packed, kinds[kind], text.data, 300000);
        pack(&packed, kinds[kind], text.data, 0);
        if (kinds[kind] == COMPRESSION_ZSTD) /* a frame to skip */
            string_append(&packed, "\x53\x2a\x4d\x18\4\0\0\0skip", 12);
        pack(&packed, kinds[kind], text.data + 300000, text.length - 300000);
        if (kinds[kind] == COMPRESSION_GZIP) /* as tapes leave them */
            string_append(&packed, "\0\0\0\0\0\0\0", 7);
        const char *path = write_bytes("packed", packed.data, packed.length);
        CHECK(compression_of((const unsigned char *)packed.data, 4) == kinds[kind]);
        static const size_t froms[] = {0, 1, 299999, 300000, 300001, 690000}, sizes[] = {1000, 4096, 4999};
        for (size_t i = 0; i < 6; i++) {
            struct string found = {0};
            REQUIRE_OK(read_stream(path, kinds[kind], packed.length, froms[i], sizes[i % 3], &found));
            CHECK(is_text(&found, &text, froms[i]));
            string_free(&found);
        }
        struct string found = {0};
        CHECK(read_stream(path, kinds[kind], packed.length, text.length + 1, 1000, &found) < 0);
        CHECK_TEXT(error.text, "unpacks to less than before");
        CHECK(read_stream(path, kinds[kind], packed.length + 1, 0, 1000, &found) < 0);
        CHECK_TEXT(error.text, "changed while it was read");
        string_free(&found);
        string_free(&packed);
    }
    string_free(&text);
}

/* Wherever a file is cut it is refused, but where a part ends; a flipped bit is found, or changes nothing that
 * is read. */
TEST(unpack_damage)
{
    struct string text = {0};
    make_text(&text, 900);
    for (int kind = 0; kind < KINDS; kind++) {
        struct string packed = {0};
        pack(&packed, kinds[kind], text.data, 400);
        const size_t first = packed.length;
        pack(&packed, kinds[kind], text.data + 400, text.length - 400);
        for (size_t size = 1; size < packed.length; size++) {
            struct string found = {0};
            const char *path = write_bytes("cut", packed.data, size);
            const int result = read_stream(path, kinds[kind], size, 0, 700, &found);
            if (size == first)
                CHECK(result == 0 && found.length == 400);
            else if (result == 0)
                test_fail(__FILE__, __LINE__, "cut at %zu of %zu", size, packed.length);
            else
                CHECK_TEXT(error.text, "cut short");
            string_free(&found);
        }
        int found_out = 0;
        for (size_t bit = 0; bit < 8 * packed.length; bit += 5) {
            struct string found = {0};
            packed.data[bit / 8] ^= (char)(1 << bit % 8);
            const int result = read_stream(write_bytes("flip", packed.data, packed.length), kinds[kind],
                                           packed.length, 0, 900, &found);
            found_out += result < 0;
            if (result < 0)
                CHECK_TEXT(error.text, "/flip: byte ");
            packed.data[bit / 8] ^= (char)(1 << bit % 8);
            string_free(&found);
        }
        CHECK(found_out > (int)packed.length * 6 / 5); /* of 8/5 a byte */
        string_append(&packed, "garbage", 7);
        struct string found = {0};
        CHECK(read_stream(write_bytes("more", packed.data, packed.length), kinds[kind], packed.length, 0, 900,
                          &found) < 0);
        CHECK_TEXT(error.text, "/more: byte ");
        string_free(&found);
        string_free(&packed);
    }
    string_free(&text);
}

/* A frame that asks for 2 GB is not given them. */
TEST(unpack_window_of_a_frame)
{
    static const char frame[] = "\x28\xb5\x2f\xfd\0\xa8\1\0\0"; /* exponent 21: 2^31 bytes; an empty block */
    struct string found = {0};
    CHECK(read_stream(write_bytes("wide", frame, 9), COMPRESSION_ZSTD, 9, 0, 100, &found) < 0);
    CHECK_TEXT(error.text, "zstd -d --long=31");
    string_free(&found);
}

/* A folder of each kind of content, plain and compressed, has the same parts from wherever reading goes on. */
static void add_file(struct corpus_list *list, const char *name, const struct string *content, int compression)
{
    struct string packed = {0};
    if (compression < 0)
        string_append(&packed, content->data, content->length);
    else
        pack(&packed, kinds[compression], content->data, content->length);
    REQUIRE_OK(corpus_list_add(list, write_bytes(name, packed.data, packed.length), false, 2, &error));
    string_free(&packed);
}

TEST(unpack_corpus_goes_on_from_every_place)
{
    static const char *const names[4][3] = {{"a.txt", "a.txt.gz", "a.TXT.ZST"},
                                            {"b.jsonl", "b.jsonl.gz", "b.JSONL.zst"},
                                            {"c.json", "c.json.gzip", "c.json.zstd"},
                                            {"d.bin", "d.bin.gz", "d.u16.zst"}};
    struct string content[4] = {{0}, {0}, {0}, {0}};
    make_text(&content[0], 3 * PART_BYTES / 2);
    string_print(&content[1], "\xef\xbb\xbf");
    string_print(&content[2], "\xef\xbb\xbf [");
    for (int i = 0; i < 50; i++) {
        string_print(&content[1], "{\"text\": \"document %d\"}\n", i);
        string_print(&content[2], "%s{\"text\":\n \"value %d\"}\n", i ? "," : "", i);
        string_append(&content[3], (const char[]){(char)(i % 7), 0}, 2);
    }
    string_print(&content[2], "]\n");
    struct part_list whole = {0};
    for (int compression = -1; compression < KINDS; compression++) {
        struct corpus_list list = {0};
        struct corpus_position position = {0};
        struct part_list parts = {0};
        size_t at = 0;
        for (int i = 0; i < 4; i++)
            add_file(&list, names[i][compression + 1], &content[i], compression);
        for (bool more = true; more;) {
            struct corpus *corpus;
            REQUIRE_OK(corpus_open(&list, &rules, &position, &corpus, &error));
            REQUIRE_OK(corpus_read(corpus, both, 1, &parts, &error));
            more = parts.count > 0;
            position = corpus_tell(corpus);
            if (compression < 0 && more) {
                REQUIRE_OK(array_grow(&whole.part, &whole.capacity, whole.count + 1, &error));
                whole.part[whole.count++] = parts.part[0];
                parts.count = 0;
            } else if (more) {
                const struct document_part *a = &whole.part[at++], *b = &parts.part[0];
                REQUIRE(at <= whole.count && parts.count == 1);
                CHECK(a->size == b->size && a->first == b->first && a->last == b->last);
                CHECK(!a->text || memcmp(a->text, b->text, a->size) == 0);
                CHECK(a->ids.count == b->ids.count);
            } else
                CHECK(corpus_bytes_read(corpus) == list.bytes);
            corpus_close(corpus);
            part_list_clear(&parts);
        }
        CHECK(compression < 0 || at == whole.count);
        part_list_free(&parts);
        corpus_list_free(&list);
    }
    CHECK(whole.count > 100 && strcmp(whole.part[1].text, "document 0") == 0);
    part_list_free(&whole);
    for (int i = 0; i < 4; i++)
        string_free(&content[i]);
}

/* An estimate of large files that are read from their beginning: token files, which need no tokenizer. */
TEST(unpack_sample_estimates)
{
    struct string ids = {0};
    struct random random = {5};
    while (ids.length < 24 << 20) {
        const uint64_t next = random_next(&random);
        for (int i = 0; i < 4; i++)
            string_append(&ids, (const char[]){(char)(1 + (next >> 8 * i) % 200), 0}, 2);
    }
    struct corpus_list list = {0};
    struct sample sample;
    add_file(&list, "large.u16.zst", &ids, 1);
    REQUIRE_OK(corpus_sample(&list, &rules, 1, &sample, &error));
    const double tokens = (double)ids.length / 2;
    if (sample.exact || sample.tokens[SPLIT_TRAIN] < 0.9 * tokens || sample.tokens[SPLIT_TRAIN] > 1.1 * tokens)
        test_fail(__FILE__, __LINE__, "%g tokens of %g", sample.tokens[SPLIT_TRAIN], tokens);
    sample_free(&sample);
    corpus_list_free(&list);
    string_free(&ids);
}

/* Ids of which the file unpacks to half of one, or to other than its header says. */
TEST(unpack_token_files_are_checked)
{
    static const unsigned char header[1024] = {0x88, 0xd8, 0x34, 0x01, 1, 0, 0, 0, 3};
    for (int i = 0; i < 3; i++) {
        struct string content = {0};
        struct corpus_list list = {0};
        struct corpus *corpus;
        struct part_list parts = {0};
        if (i > 0)
            string_append(&content, (const char *)header, sizeof header);
        string_append(&content, "\1\0\2\0\3\0\4\0", i == 0 ? 5 : i == 1 ? 6 : 8);
        add_file(&list, "ids.bin.gz", &content, 0);
        REQUIRE_OK(corpus_open(&list, &rules, NULL, &corpus, &error));
        int result = corpus_read(corpus, both, 1 << 20, &parts, &error);
        CHECK(i == 1 ? result == 0 && parts.count == 1 && parts.part[0].ids.count == 3 : result < 0);
        if (i != 1)
            CHECK_TEXT(error.text, i == 0 ? "byte 4: the last token id is cut short"
                                          : "says that 3 ids follow, but there are 4");
        part_list_free(&parts);
        corpus_close(corpus);
        corpus_list_free(&list);
        string_free(&content);
    }
}

TEST_MAIN
