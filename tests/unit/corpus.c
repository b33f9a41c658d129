/* corpus.c: reading corpora of every format, where documents are cut, which are held out, what is refused. */
#include <stdlib.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/memory.h"
#include "common/base/random.h"
#include "common/base/string.h"
#include "tests/corpus_fixture.h"

static struct error error;

static const char *write_text(const char *name, const char *text)
{
    return write_bytes(name, text, strlen(text));
}

/* All parts of a file, read `bytes` at a time. */
static int read_all(const struct corpus_list *list, const struct corpus_rules *how, size_t bytes,
                    struct part_list *parts)
{
    struct corpus *corpus;
    if (corpus_open(list, how, NULL, &corpus, &error) < 0)
        return -1;
    int result = 0;
    for (size_t before = SIZE_MAX; result == 0 && before != parts->count;) {
        before = parts->count;
        parts->bytes = 0;
        result = corpus_read(corpus, both, bytes, parts, &error);
    }
    corpus_close(corpus);
    return result;
}

static int read_file(const char *path, const struct corpus_rules *how, struct part_list *parts)
{
    struct corpus_list list = {0};
    int result = corpus_list_add(&list, path, false, 0, &error);
    if (result == 0)
        result = read_all(&list, how, 1, parts);
    corpus_list_free(&list);
    return result;
}

static bool part_is(const struct document_part *part, const char *text)
{
    return part->text && part->size == strlen(text) && memcmp(part->text, text, part->size) == 0;
}

/* The file is refused for this reason. */
static void check_refused(const char *path, const char *reason)
{
    struct part_list parts = {0};
    CHECK(read_file(path, &rules, &parts) < 0);
    CHECK_TEXT(error.text, reason);
    CHECK_TEXT(error.text, path);
    part_list_free(&parts);
}

TEST(corpus_folder_is_sorted_and_hidden_files_are_left_out)
{
    struct corpus_list list = {0};
    char path[512];
    snprintf(path, sizeof path, "%s/f/b", corpus_folder());
    REQUIRE_OK(directory_create(path, &error));
    write_text("f/c.txt", "c");
    write_text("f/a.jsonl", "{\"text\": \"a\"}");
    write_text("f/b/b", "b");
    write_text("f/.hidden", "h");
    write_bytes("f/d.u32", "\1\0\0\0", 4);
    snprintf(path, sizeof path, "%s/f", corpus_folder());
    REQUIRE_OK(corpus_list_add(&list, path, false, 0, &error));
    REQUIRE(list.count == 4);
    CHECK_TEXT(list.file[0].path, "/f/a.jsonl");
    CHECK(list.file[0].kind == CORPUS_JSON_LINES);
    CHECK_TEXT(list.file[1].path, "/f/b/b");
    CHECK_TEXT(list.file[2].path, "/f/c.txt");
    CHECK(list.file[2].kind == CORPUS_TEXT);
    CHECK(list.file[3].kind == CORPUS_TOKENS && list.file[3].token_bytes == 4);
    CHECK(list.bytes == 1 + 13 + 1 + 4);
    corpus_list_free(&list);
}

TEST(corpus_missing_and_unfit_paths_are_named)
{
    struct corpus_list list = {0};
    char path[512];
    snprintf(path, sizeof path, "%s/none", corpus_folder());
    CHECK(corpus_list_add(&list, path, false, 0, &error) < 0);
    CHECK_TEXT(error.text, "/none: No such file");
    CHECK(corpus_list_add(&list, "/dev/null", false, 0, &error) < 0);
    CHECK_TEXT(error.text, "neither a file nor a folder");
    CHECK(corpus_list_add(&list, write_bytes("x.bin", "\1\0", 2), false, 0, &error) < 0);
    CHECK_TEXT(error.text, "--token-type");
    CHECK(corpus_list_add(&list, write_bytes("x.u16", "\1\0\1", 3), false, 0, &error) < 0);
    CHECK_TEXT(error.text, "3 bytes are not a whole number of 2-byte token ids");
    snprintf(path, sizeof path, "%s/empty", corpus_folder());
    REQUIRE_OK(directory_create(path, &error));
    CHECK(corpus_list_add(&list, path, false, 0, &error) < 0);
    CHECK_TEXT(error.text, "no files");
    snprintf(path, sizeof path, "%s/loop", corpus_folder());
    REQUIRE_OK(directory_create(path, &error));
    snprintf(path, sizeof path, "%s/loop/again", corpus_folder());
    REQUIRE(symlink(".", path) == 0);
    snprintf(path, sizeof path, "%s/loop", corpus_folder());
    CHECK(corpus_list_add(&list, path, false, 0, &error) < 0);
    CHECK_TEXT(error.text, "loop");
    corpus_list_free(&list);
}

static void identify(const char *path, char fingerprint[17])
{
    struct corpus_list list = {0};
    REQUIRE_OK(corpus_list_add(&list, path, false, 2, &error));
    REQUIRE_OK(corpus_list_identify(&list, &error));
    memcpy(fingerprint, list.fingerprint, 17);
    corpus_list_free(&list);
}

TEST(corpus_fingerprint_sees_changes_but_no_names)
{
    static char large[1 << 20];
    char a[17], b[17];
    identify(write_text("one", "some text"), a);
    identify(write_text("other", "some text"), b);
    CHECK(strcmp(a, b) == 0);
    identify(write_text("one", "some Text"), b);
    CHECK(strcmp(a, b) != 0);
    identify(write_text("one.bin", "some text2"), b);
    identify(write_text("one.txt", "some text2"), a);
    CHECK(strcmp(a, b) != 0);
    memset(large, 'x', sizeof large);
    identify(write_bytes("large", large, sizeof large), a);
    large[sizeof large / 2 + 5] = 'y';
    identify(write_bytes("large", large, sizeof large), b);
    CHECK(strcmp(a, b) != 0);
    large[sizeof large - 1] = 'y';
    identify(write_bytes("large", large, sizeof large), a);
    CHECK(strcmp(a, b) != 0);
}

TEST(corpus_text_is_one_document)
{
    struct part_list parts = {0};
    REQUIRE_OK(read_file(write_text("text", "Zwei\nZeilen \xc3\xa4\n"), &rules, &parts));
    REQUIRE(parts.count == 1);
    CHECK(part_is(&parts.part[0], "Zwei\nZeilen \xc3\xa4\n"));
    CHECK(parts.part[0].first && parts.part[0].last);
    part_list_free(&parts);
}

TEST(corpus_text_must_be_utf8)
{
    check_refused(write_text("bad", "good\xffthen bad"), "byte 4: is not UTF-8");
    check_refused(write_text("cut", "ends early \xc3"), "byte 11");
}

/* The parts of one document of any kind, put together again. */
static bool joins_to(const struct part_list *parts, const char *text, size_t size)
{
    size_t at = 0;
    for (size_t i = 0; i < parts->count; i++) {
        const struct document_part *part = &parts->part[i];
        if (part->first != (i == 0) || part->last != (i + 1 == parts->count) || at + part->size > size ||
            memcmp(text + at, part->text, part->size) != 0)
            return false;
        at += part->size;
    }
    return at == size;
}

/* A tokenizer of GPT-2's pretokens that knows "a" only. */
static int open_tokenizer(struct corpus_rules *how, struct tokenizer **tokenizer)
{
    static const char json[] = "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": []}, "
                               "\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false}, "
                               "\"decoder\": {\"type\": \"ByteLevel\"}}";
    write_text("tokenizer.json", json);
    *how = rules;
    const int result = tokenizer_open(NULL, corpus_folder(), tokenizer, &error);
    how->tokenizer = *tokenizer;
    return result;
}

TEST(corpus_long_text_is_cut_where_tokens_end)
{
    struct part_list parts = {0};
    struct string text = {0};
    struct corpus_rules how;
    struct tokenizer *tokenizer;
    REQUIRE_OK(open_tokenizer(&how, &tokenizer));
    for (int i = 0; text.length < 5 * (PART_BYTES / 2); i++)
        string_print(&text, "line %d\xe2\x82\xac\r\n%s%s", i, i % 3 ? "\n" : "", i % 5 ? "  indented\n" : "");
    REQUIRE_OK(read_file(write_bytes("long", text.data, text.length), &how, &parts));
    CHECK(parts.count == 3);
    CHECK(joins_to(&parts, text.data, text.length));
    for (size_t i = 1; i < parts.count; i++) {
        CHECK(parts.part[i - 1].size > PART_BYTES - 64 && parts.part[i - 1].size <= PART_BYTES);
        CHECK(!strchr(" \r\n", parts.part[i - 1].text[parts.part[i - 1].size - 1]));
    }
    part_list_free(&parts);
    tokenizer_close(tokenizer);
    string_free(&text);
}

/* Sizes next to a part's: nothing may be lost, given twice, or left without its end. The only cut is early, or
 * where a second part begins; without one there is one part. */
TEST(corpus_sizes_around_a_part)
{
    struct corpus_rules how;
    struct tokenizer *tokenizer;
    REQUIRE_OK(open_tokenizer(&how, &tokenizer));
    for (int more = -1; more <= 2; more++)
        for (int where = 0; where < 3; where++)
            for (int json = 0; json < 2; json++) {
                const size_t size = PART_BYTES + (size_t)more, cut = where == 1 ? 7 : PART_BYTES + 100;
                struct part_list parts = {0};
                struct string text = {0};
                string_print(&text, json ? "{\"text\": \"" : "");
                const size_t first = text.length, length = where == 2 ? 2 * size : size;
                while (text.length < first + length)
                    string_append(&text, "x", 1);
                if (where > 0)
                    text.data[first + cut] = ' ';
                struct string copy = {0};
                string_append(&copy, text.data + first, length);
                string_print(&text, json ? "\"}\n" : "");
                REQUIRE_OK(read_file(write_bytes(json ? "sized.jsonl" : "sized", text.data, text.length), &how,
                                     &parts));
                CHECK(joins_to(&parts, copy.data, copy.length));
                CHECK(parts.count == (where == 0 || more <= 0 ? 1 : 2));
                CHECK(parts.count == 1 || parts.part[0].size == cut);
                part_list_free(&parts);
                string_free(&text);
                string_free(&copy);
            }
    tokenizer_close(tokenizer);
}

/* A character that is cut off at the end of what was read is not an error, but one that the file cuts off
 * is. */
TEST(corpus_characters_across_the_end_of_what_is_read)
{
    for (size_t shift = 0; shift < 4; shift++) {
        struct part_list parts = {0};
        struct string text = {0};
        for (size_t i = 0; i < shift; i++)
            string_print(&text, "x");
        while (text.length < 2 * PART_BYTES)
            string_print(&text, "\U0001F600");
        REQUIRE_OK(read_file(write_bytes("wide", text.data, text.length), &rules, &parts));
        CHECK(parts.count == 1 && joins_to(&parts, text.data, text.length));
        part_list_free(&parts);
        check_refused(write_bytes("wide", text.data, text.length - 1), "is not UTF-8");
        string_free(&text);
    }
}

TEST(corpus_json_lines)
{
    struct part_list parts = {0};
    const char *path = write_text("lines.jsonl", "{\"text\": \"one\\nline\", \"more\": [1]}\r\n"
                                                 "\n"
                                                 "  \t\n"
                                                 "{\"text\": \"\"}\n"
                                                 "{\"id\": 2, \"text\": \"tw\\u00f6\\u0000\"}");
    REQUIRE_OK(read_file(path, &rules, &parts));
    REQUIRE(parts.count == 2);
    CHECK(part_is(&parts.part[0], "one\nline"));
    CHECK(parts.part[1].size == 5 && memcmp(parts.part[1].text, "tw\xc3\xb6", 5) == 0);
    part_list_free(&parts);
    struct corpus_rules other = rules;
    other.field = "body";
    path = write_text("body.jsonl", "{\"body\": \"b\"}\n");
    REQUIRE_OK(read_file(path, &other, &parts));
    CHECK(parts.count == 1 && part_is(&parts.part[0], "b"));
    part_list_free(&parts);
}

TEST(corpus_bad_json_lines_are_named)
{
    check_refused(write_text("a.jsonl", "{\"text\": \"a\"}\n\n{\"text\": }\n"), "line 3: column 10");
    check_refused(write_text("a.jsonl", "{\"text\": \"a\"}\n{\"body\": \"b\"}\n"), "line 2: has no \"text\"");
    check_refused(write_text("a.jsonl", "{\"text\": 5}"), "line 1: \"text\" is not a string");
    check_refused(write_text("a.jsonl", "[\"text\"]"), "line 1: is not a JSON object");
    check_refused(write_text("a.jsonl", "{\"text\": \"\xff\"}"), "line 1");
    check_refused(write_text("a.jsonl", "{\"text\": \"open"), "line 1");
}

/* Line ends of every kind, one of them where what is read at once ends. */
TEST(corpus_json_line_ends)
{
    static const char *const ends[] = {"\n", "\r", "\r\n", "\r\n\r\n"};
    for (int end = 0; end < 4; end++)
        for (int more = -3; more <= 3; more++) {
            const size_t length = 2 * PART_BYTES - strlen("{\"text\": \"\"}") + (size_t)more;
            struct part_list parts = {0};
            struct string text = {0};
            string_print(&text, "{\"text\": \"%*s\"}%s{\"text\": \"b\"}%s{\"text\": 5}", (int)length, "x",
                         ends[end], ends[end]);
            const char *path = write_bytes("ends.jsonl", text.data, text.length);
            CHECK(read_file(path, &rules, &parts) < 0);
            CHECK_TEXT(error.text,
                       end < 3 ? "line 3: \"text\" is not a string" : "line 5: \"text\" is not a string");
            CHECK(parts.count == 2 && parts.part[0].size == length && part_is(&parts.part[1], "b"));
            part_list_free(&parts);
            string_free(&text);
        }
}

TEST(corpus_long_json_line)
{
    struct part_list parts = {0};
    struct string text = {0}, line = {0};
    struct corpus_rules how;
    struct tokenizer *tokenizer;
    REQUIRE_OK(open_tokenizer(&how, &tokenizer));
    while (text.length < 3 * PART_BYTES)
        string_print(&text, "word %zu\n", text.length);
    string_print(&line, "{\"text\": \"short\"}\n{\"text\": \"");
    for (size_t i = 0; i < text.length; i++)
        string_append(&line, text.data[i] == '\n' ? "\\n" : &text.data[i], text.data[i] == '\n' ? 2 : 1);
    string_print(&line, "\"}\n{\"text\": \"after\"}\n");
    REQUIRE_OK(read_file(write_bytes("long.jsonl", line.data, line.length), &how, &parts));
    REQUIRE(parts.count > 4);
    tokenizer_close(tokenizer);
    CHECK(part_is(&parts.part[0], "short"));
    CHECK(part_is(&parts.part[parts.count - 1], "after"));
    struct part_list middle = {.part = parts.part + 1, .count = parts.count - 2};
    CHECK(joins_to(&middle, text.data, text.length));
    part_list_free(&parts);
    string_free(&text);
    string_free(&line);
}

TEST(corpus_token_file_is_cut_at_the_end_of_text)
{
    static const unsigned char ids[] = {5, 0, 6, 0, 0, 0, 0, 0, 231, 3, 0, 0, 7, 0};
    struct part_list parts = {0};
    REQUIRE_OK(read_file(write_bytes("t.u16", ids, sizeof ids), &rules, &parts));
    REQUIRE(parts.count == 3);
    CHECK(parts.part[0].ids.count == 2 && parts.part[0].ids.data[0] == 5 && parts.part[0].ids.data[1] == 6);
    CHECK(parts.part[1].ids.count == 1 && parts.part[1].ids.data[0] == 999);
    CHECK(parts.part[2].ids.count == 1 && parts.part[2].ids.data[0] == 7);
    for (size_t i = 0; i < parts.count; i++)
        CHECK(!parts.part[i].text && parts.part[i].first && parts.part[i].last);
    part_list_free(&parts);

    static const unsigned char wide[] = {5, 0, 0, 0, 0, 0, 0, 0, 231, 3, 0, 0};
    REQUIRE_OK(read_file(write_bytes("t.u32", wide, sizeof wide), &rules, &parts));
    REQUIRE(parts.count == 2);
    CHECK(parts.part[1].ids.count == 1 && parts.part[1].ids.data[0] == 999);
    part_list_free(&parts);
}

TEST(corpus_token_outside_the_vocabulary)
{
    static const unsigned char ids[] = {5, 0, 6, 0, 232, 3};
    check_refused(write_bytes("t.u16", ids, sizeof ids),
                  "byte 4: token id 1000 is outside the model's vocabulary");
    static const unsigned char wide[] = {5, 0, 0, 0, 255, 255, 255, 255};
    check_refused(write_bytes("t.u32", wide, sizeof wide), "byte 4: token id 4294967295");
}

/* Documents that end before, at and behind the edge of a part, and the file with them. */
TEST(corpus_long_token_documents)
{
    for (int more = -2; more <= 2; more++) {
        for (int tail = 0; tail <= 2; tail++) { /* nothing, an end, an end and one token */
            size_t length = (size_t)(PART_BYTES / 2 + more), count = length + (size_t)tail, got = 0, ends = 0;
            struct part_list parts = {0};
            uint16_t *ids;
            REQUIRE_OK(array_alloc(&ids, count, &error));
            for (size_t i = 0; i < length; i++)
                ids[i] = (uint16_t)(1 + i % 999);
            if (tail == 2)
                ids[count - 1] = 7;
            REQUIRE_OK(read_file(write_bytes("edge.u16", ids, count * 2), &rules, &parts));
            for (size_t i = 0; i < parts.count; i++) {
                for (size_t k = 0; k < parts.part[i].ids.count; k++, got++)
                    CHECK(parts.part[i].ids.data[k] == ids[got + (got >= length)]);
                CHECK(parts.part[i].first == (i == 0 || parts.part[i - 1].last));
                ends += parts.part[i].last;
            }
            CHECK(got == length + (tail == 2));
            CHECK(ends == (tail == 2 ? 2u : 1u));
            part_list_free(&parts);
            free(ids);
        }
    }
}

/* The second document begins where what was read ahead holds exactly one part. */
TEST(corpus_token_document_behind_one_of_a_part)
{
    enum { FIRST = PART_BYTES / 2 - 1, SECOND = PART_BYTES / 2 + 100, COUNT = FIRST + 1 + SECOND };
    static uint16_t ids[COUNT];
    struct part_list parts = {0};
    for (int i = 0; i < COUNT; i++)
        ids[i] = i == FIRST ? 0 : 5;
    REQUIRE_OK(read_file(write_bytes("two.u16", ids, sizeof ids), &rules, &parts));
    REQUIRE(parts.count == 3);
    CHECK(parts.part[0].ids.count == FIRST && parts.part[0].last);
    CHECK(parts.part[1].first && !parts.part[1].last && parts.part[2].last);
    CHECK(parts.part[1].ids.count + parts.part[2].ids.count == SECOND);
    part_list_free(&parts);
}

TEST(corpus_held_out_share_is_stable)
{
    int held_out = 0;
    for (uint64_t n = 0; n < 10000; n++) {
        enum split split = document_split(n, 0.05);
        held_out += split == SPLIT_HELD_OUT;
        /* A larger share keeps what a smaller one has chosen. */
        CHECK(split == SPLIT_TRAIN || document_split(n, 0.1) == SPLIT_HELD_OUT);
        CHECK(document_split(n, 0) == SPLIT_TRAIN);
    }
    CHECK(held_out > 420 && held_out < 580); /* 500 expected, deviation 22 */
    /* These very numbers are part of what a store is made of. */
    uint64_t first = 0;
    while (document_split(first, 0.05) == SPLIT_TRAIN)
        first++;
    CHECK(first == 10);
}

/* Three files of all kinds, read in one go and with a stop after every part. */
TEST(corpus_goes_on_from_every_place)
{
    struct corpus_list list = {0};
    struct corpus_rules half;
    struct tokenizer *tokenizer;
    struct string text = {0}, lines = {0};
    uint16_t ids[3000];
    REQUIRE_OK(open_tokenizer(&half, &tokenizer));
    half.held_out = 0.5;
    while (text.length < 3 * PART_BYTES / 2)
        string_print(&text, "word %zu\n", text.length);
    for (int i = 0; i < 40; i++)
        string_print(&lines, "{\"text\": \"document %d\"}\n%s", i, i % 7 ? "" : "\n{\"text\": \"\"}\n");
    for (int i = 0; i < 3000; i++)
        ids[i] = (uint16_t)(i % 97 % 53);
    REQUIRE_OK(corpus_list_add(&list, write_bytes("a.jsonl", lines.data, lines.length), false, 0, &error));
    REQUIRE_OK(corpus_list_add(&list, write_bytes("b.txt", text.data, text.length), false, 0, &error));
    REQUIRE_OK(corpus_list_add(&list, write_bytes("c.u16", ids, sizeof ids), false, 0, &error));
    REQUIRE_OK(corpus_list_add(&list, write_text("d.txt", "held out"), true, 0, &error));

    struct part_list whole = {0}, parts = {0};
    REQUIRE_OK(read_all(&list, &half, 1u << 30, &whole));
    struct corpus_position position = {0};
    size_t at = 0;
    for (bool more = true; more;) {
        struct corpus *corpus;
        REQUIRE_OK(corpus_open(&list, &half, &position, &corpus, &error));
        REQUIRE_OK(corpus_read(corpus, both, 1, &parts, &error));
        more = parts.count > 0;
        for (size_t i = 0; i < parts.count; i++, at++) {
            const struct document_part *a = &whole.part[at], *b = &parts.part[i];
            REQUIRE(at < whole.count);
            CHECK(a->split == b->split && a->first == b->first && a->last == b->last && a->size == b->size);
            CHECK(!a->text || (b->text && memcmp(a->text, b->text, a->size) == 0));
            CHECK(a->ids.count == b->ids.count);
        }
        position = corpus_tell(corpus);
        if (!more)
            CHECK(corpus_bytes_read(corpus) == list.bytes);
        corpus_close(corpus);
        part_list_clear(&parts);
    }
    CHECK(at == whole.count);
    tokenizer_close(tokenizer);
    CHECK(position.empty >= 6); /* the JSON lines' and between the tokens' ends */
    CHECK(whole.part[whole.count - 1].split == SPLIT_HELD_OUT);
    part_list_free(&whole);
    part_list_free(&parts);
    corpus_list_free(&list);
    string_free(&text);
    string_free(&lines);
}

TEST(corpus_unwanted_splits_are_passed_over)
{
    static const bool held_out_only[SPLIT_COUNT] = {false, true};
    struct corpus_list list = {0};
    struct corpus_rules half = rules;
    struct string lines = {0};
    struct corpus *corpus;
    struct part_list all = {0}, some = {0};
    half.held_out = 0.5;
    for (int i = 0; i < 40; i++)
        string_print(&lines, "{\"text\": \"document %d\"}\n", i);
    REQUIRE_OK(corpus_list_add(&list, write_bytes("a.jsonl", lines.data, lines.length), false, 0, &error));
    REQUIRE_OK(corpus_list_add(&list, write_text("b", "b"), false, 0, &error));
    REQUIRE_OK(read_all(&list, &half, 1u << 30, &all));
    REQUIRE_OK(corpus_open(&list, &half, NULL, &corpus, &error));
    REQUIRE_OK(corpus_read(corpus, held_out_only, 1u << 30, &some, &error));
    CHECK(corpus_tell(corpus).document == 41);
    size_t at = 0;
    for (size_t i = 0; i < all.count; i++)
        if (all.part[i].split == SPLIT_HELD_OUT && at < some.count)
            CHECK(part_is(&some.part[at++], all.part[i].text));
    CHECK(at == some.count && at > 5 && at < 35);
    corpus_close(corpus);
    part_list_free(&all);
    part_list_free(&some);
    corpus_list_free(&list);
    string_free(&lines);
}

TEST(corpus_position_outside_is_refused)
{
    struct corpus_list list = {0};
    struct corpus *corpus;
    REQUIRE_OK(corpus_list_add(&list, write_text("a", "text"), false, 0, &error));
    CHECK(corpus_open(&list, &rules, &(struct corpus_position){.file = 2}, &corpus, &error) < 0);
    CHECK(corpus_open(&list, &rules, &(struct corpus_position){.offset = 5}, &corpus, &error) < 0);
    CHECK(corpus_open(&list, &rules, &(struct corpus_position){.file = 1, .inside = true}, &corpus, &error) <
          0);
    CHECK_TEXT(error.text, "no file 1");
    corpus_list_free(&list);
}

TEST(corpus_file_that_changes_is_noticed)
{
    struct corpus_list list = {0};
    struct part_list parts = {0};
    REQUIRE_OK(corpus_list_add(&list, write_text("a", "text"), false, 0, &error));
    write_text("a", "longer text");
    CHECK(read_all(&list, &rules, 1, &parts) < 0);
    CHECK_TEXT(error.text, "changed while it was read");
    write_text("a", "tex");
    CHECK(read_all(&list, &rules, 1, &parts) < 0);
    CHECK_TEXT(error.text, "changed while it was read");
    part_list_free(&parts);
    corpus_list_free(&list);
}

TEST_MAIN
