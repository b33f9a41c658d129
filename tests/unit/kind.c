/* kind.c: what files are by name and content: read as what they are, or refused by the name of what they
 * are. */
#include <stdlib.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/string.h"
#include "extract/doubts.h"
#include "extract/kind.h"
#include "tests/corpus_fixture.h"

static struct error error;
/* The documents of a file, each with a bar behind it: the text, or how many ids. */
static int read_file(const char *path, int token_bytes, struct string *documents)
{
    struct corpus_list list = {0};
    struct corpus *corpus = NULL;
    struct part_list parts = {0};
    int result = corpus_list_add(&list, path, false, token_bytes, &error);
    if (result == 0)
        result = corpus_open(&list, &rules, NULL, &corpus, &error);
    if (result == 0)
        result = corpus_read(corpus, both, 1 << 20, &parts, &error);
    for (size_t i = 0; i < parts.count; i++) {
        const struct document_part *part = &parts.part[i];
        if (part->text)
            string_append(documents, part->text, part->size);
        else
            string_print(documents, "%zu", part->ids.count);
        string_print(documents, "|");
    }
    part_list_free(&parts);
    corpus_close(corpus);
    corpus_list_free(&list);
    return result;
}

static void check_file(const char *name, const void *data, size_t size, const char *expected)
{
    struct string documents = {0};
    if (read_file(write_bytes(name, data, size), 0, &documents) < 0)
        test_fail(__FILE__, __LINE__, "%s: %s", name, error.text);
    else if (strcmp(documents.data ? documents.data : "", expected) != 0)
        test_fail(__FILE__, __LINE__, "%s: is %s, not %s", name, documents.data, expected);
    string_free(&documents);
}

static void check_refused(const char *name, const void *data, size_t size, const char *reason)
{
    struct string documents = {0};
    if (read_file(write_bytes(name, data, size), 0, &documents) == 0)
        test_fail(__FILE__, __LINE__, "%s: is read as %s", name, documents.data);
    else {
        CHECK_TEXT(error.text, reason);
        CHECK_TEXT(error.text, name);
        CHECK(!strstr(error.text, "LATIN1"));
    }
    string_free(&documents);
}
#define CHECK_FILE(name, text, expected)  check_file(name, text, sizeof(text) - 1, expected)
#define CHECK_REFUSED(name, text, reason) check_refused(name, text, sizeof(text) - 1, reason)

TEST(kind_json_by_any_name)
{
    static const char *const names[] = {"a.jsonl",     "a.JSONL", "a.ndjson", "a.NDJson",
                                        "a.jsonlines", "a.json",  "A.JSON"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        CHECK_FILE(names[i], "{\"text\": \"a\"}\n{\"text\": \"b\"}\n", "a|b|");
    CHECK_FILE("a.txt", "{\"text\": \"a\"}\n", "{\"text\": \"a\"}\n|");
    CHECK_FILE("jsonl", "{\"text\": \"a\"}\n", "{\"text\": \"a\"}\n|");
}

TEST(kind_json_in_arrays_and_objects)
{
    CHECK_FILE("a.json", "[{\"text\": \"a\"}, {\"text\": \"]}\\\"[{\", \"x\": [{\"y\": [1, \"]\"]}]}]",
               "a|]}\"[{|");
    CHECK_FILE("a.json", " [\r\n  \"a\",\r\n\t\"b\\n\" ,\"\", \"c\"\n]\n\n", "a|b\n|c|");
    CHECK_FILE("a.json", "{\n  \"id\": 1,\n  \"text\": \"a\"\n}\n", "a|");
    CHECK_FILE("a.json", "{\"text\": \"a\"}{\"text\": \"b\"}\n\n \"c\"", "a|b|c|");
    CHECK_FILE("a.json", "[]", "");
    CHECK_FILE("a.json", "", "");
    CHECK_FILE("a.json", " \n", "");
    CHECK_REFUSED("a.json", "[{\"text\": \"a\"}\n\n{\"text\": \"b\"}]", "line 3: no comma");
    CHECK_REFUSED("a.json", "[{\"text\": \"a\"},", "the array does not end");
    CHECK_REFUSED("a.json", "[{\"text\": \"a\"}", "the array does not end");
    CHECK_REFUSED("a.json", "[\"a\"]\n[", "line 2: something stands behind the array");
    CHECK_REFUSED("a.json", "[\"a\",\n\"b", "line 2");
    CHECK_REFUSED("a.json", "[\"a\",\n{\"text\": 1}]", "line 2: \"text\" is not a string");
    CHECK_REFUSED("a.json", "[\"a\",\n{\"text\":\n nope}]", "line 3: column");
    CHECK_REFUSED("a.json", "[1]", "line 1: is not a JSON object (or text)");
    CHECK_REFUSED("a.json", "{\"data\": [{\"text\": \"a\"}]}", "has no \"text\"");
    CHECK_REFUSED("a.json", "Plain words", "is called JSON but begins with neither");
    CHECK_REFUSED("a.jsonl", "[\"a\"]", "line 1: is not a JSON object");
}

/* What Python's json reads line by line. */
TEST(kind_json_lines_as_python_reads_them)
{
    CHECK_FILE("a.jsonl", "{\"x\": 1e400, \"y\": 123456789012345678901234567890, \"text\": \"a\"}\n", "a|");
    CHECK_FILE("a.jsonl", "{\"x\": NaN, \"y\": [Infinity, -Infinity], \"text\": \"a\"}\n", "a|");
    CHECK_FILE("a.jsonl", "{\"x\": \"\\ud800\", \"text\": \"a\", \"\\u0000\": 1}\n", "a|");
    CHECK_FILE("a.jsonl", "{\"text\": \"a\", \"text\": \"b\"}\n", "b|");
    CHECK_FILE("a.jsonl", "{\"te\\u0078t\": \"a\", \"y\": {\"text\": \"no\"}}\n", "a|");
    CHECK_FILE("a.jsonl", "{\"text\": \"a\\ud83d\\ude00b\"}\n", "a\U0001F600b|");
    CHECK_FILE("a.jsonl", "{\"text\": \"a\\ud83d\"}\n", "a\uFFFD|");
    CHECK_FILE("a.jsonl",
               "{\"text\": \"a\"}  \t\r\n\r\n  \n{\"text\": \"b\"}\r{\"text\": \"c\"}\r\r{\"text\": \"\"}\r",
               "a|b|c|");
    CHECK_REFUSED("a.jsonl", "{\"text\":\n\"a\"}", "line 1"); /* a value is on one line */
    CHECK_REFUSED("a.jsonl", "{\"text\": \"a\"} {\"text\": \"b\"}", "line 1");
}

TEST(kind_json_that_cannot_be_read_comes_with_advice)
{
    static const char *const latin[][2] = {
        {"a.jsonl", "{\"text\": \"a\"}\n{\"text\": \"caf\xe9\"}\n"},
        {"a.jsonl", "{\"text\": \"a\"}\n{\"name\": \"caf\xe9\", \"text\": \"b\"}\n"},
        {"a.json", "[\"a\",\n\"caf\xe9 au lait\"]"},
    };
    for (size_t i = 0; i < sizeof latin / sizeof *latin; i++) {
        struct string documents = {0};
        CHECK(read_file(write_bytes(latin[i][0], latin[i][1], strlen(latin[i][1])), 0, &documents) < 0);
        CHECK_TEXT(error.text, "line 2: column");
        CHECK_TEXT(error.text, "convert the file (iconv -f LATIN1 -t UTF-8) or leave it out");
        string_free(&documents);
    }
    CHECK_REFUSED("a.json", "[\"a\",\n\"\xe9\x01\"]", "not text");
    CHECK_REFUSED("a.jsonl", "[{\"text\": \"a\"}]\n", "line 1: is not a JSON object but an array: name a file");
    CHECK_REFUSED("a.jsonl", "{\n  \"text\": \"a\"\n}\n", "is read from a file that is called .json");
    CHECK_REFUSED("a.jsonl", "[\n  {\"text\": \"a\"}\n]\n", "is read from a file that is called .json");
    CHECK_REFUSED("a.jsonl", "{\"text\": \"a\"}\n{\"text\":\n", "line 2: column");
    CHECK(!strstr(error.text, "called .json")); /* it is cut short */
}

static void check_empty(const char *name, const char *text, uint64_t expected)
{
    struct corpus_list list = {0};
    struct corpus *corpus = NULL;
    struct part_list parts = {0};
    if (corpus_list_add(&list, write_bytes(name, text, strlen(text)), false, 0, &error) < 0 ||
        corpus_open(&list, &rules, NULL, &corpus, &error) < 0 ||
        corpus_read(corpus, both, 1 << 20, &parts, &error) < 0)
        test_fail(__FILE__, __LINE__, "%s: %s", name, error.text);
    else if (corpus_tell(corpus).empty != expected)
        test_fail(__FILE__, __LINE__, "%s: %s: %d empty documents, not %d", name, text,
                  (int)corpus_tell(corpus).empty, (int)expected);
    part_list_free(&parts);
    corpus_close(corpus);
    corpus_list_free(&list);
}

TEST(kind_files_with_nothing_in_them_are_counted)
{
    static const char *const names[] = {"a.txt", "a.jsonl", "a.json", "a.u16", "a.u32"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        check_empty(names[i], "", 1);
    check_empty("a.json", "[]", 1);
    check_empty("a.json", " [ ]\n", 1);
    check_empty("a.json", " \n", 1);
    check_empty("a.json", "\xef\xbb\xbf", 1);
    check_empty("a.jsonl", "\xef\xbb\xbf", 1);
    check_empty("a.json", "[\"a\"]", 0);
    check_empty("a.json", "[\"\", \"a\"]", 1);
    check_empty("a.json", "\"a\"\n", 0);
    check_empty("a.jsonl", "{\"text\": \"a\"}", 0);
    check_empty("a.jsonl", "{\"text\": \"\"}\n", 1);
    check_empty("a.u16", "\1\1", 0);
}

/* What is not a number that JSON can hold is not a text either. */
TEST(kind_json_numbers_are_not_text)
{
    static const char *const numbers[] = {"NaN", "Infinity", "-Infinity", "1e400", "-1E+999", "1", "null"};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        char text[64];
        snprintf(text, sizeof text, "{\"text\": %s}\n", numbers[i]);
        check_refused("a.jsonl", text, strlen(text), "line 1: \"text\" is not a string");
        snprintf(text, sizeof text, "[{\"text\": %s}]", numbers[i]);
        check_refused("a.json", text, strlen(text), "line 1: \"text\" is not a string");
        snprintf(text, sizeof text, "[\"hello\", %s]", numbers[i]);
        check_refused("a.json", text, strlen(text), "line 1: is not a JSON object (or text)");
        snprintf(text, sizeof text, "%s\n", numbers[i]);
        check_refused("a.jsonl", text, strlen(text), "line 1: is not a JSON object");
    }
}

static void check_doubt(const char *name, const char *text, bool expected)
{
    struct corpus_list list = {0};
    bool found = !expected;
    if (corpus_list_add(&list, write_bytes(name, text, strlen(text)), false, 0, &error) < 0 ||
        doubts_json_lines(&list.file[0], "text", &found, &error) < 0)
        test_fail(__FILE__, __LINE__, "%s: %s", name, error.text);
    else if (found != expected)
        test_fail(__FILE__, __LINE__, "%s is%s taken for JSON lines: %s", name, found ? "" : " not", text);
    corpus_list_free(&list);
}

TEST(kind_json_lines_called_text_are_doubted)
{
    static const char *const names[] = {"x.jl", "a.jsonl.txt", "part-00000", "a.txt"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        check_doubt(names[i], "{\"text\": \"a\"}\n{\"id\": NaN, \"text\": \"b\"}\n", true);
    check_doubt("a.jsonl", "{\"text\": \"a\"}\n", false);
    check_doubt("a.txt", "{\"text\": \"a\"}", true);
    check_doubt("a.txt", "\xef\xbb\xbf\r\n {\"text\": \"a\"}\r\n\r\n{\"text\": \"b\"}\r\n", true);
    check_doubt("a.txt", "{\"body\": \"a\"}\n", false);
    check_doubt("a.txt", "{\"text\": 1}\n", false);
    check_doubt("a.txt", "{\"text\": \"a\"}\nwords\n", false);
    check_doubt("a.txt", "{\"text\": \"a\"} words\n", false);
    check_doubt("a.txt", "{\n\"text\": \"a\"}\n", false);
    check_doubt("a.txt", "words {\"text\": \"a\"}\n", false);
    check_doubt("a.txt", " \n", false);
    check_doubt("a.txt", "", false);
    struct string line = {0}; /* of more than the first look */
    string_print(&line, "{\"text\": \"%2000d\"}\n", 1);
    string_print(&line, "{\"text\": \"%1100000d\"}\n", 1);
    check_doubt("a.txt", line.data, true);
    check_doubt("a.txt", strchr(line.data, '\n') + 1, false); /* not even one is whole in what is looked at */
    string_free(&line);
}

static void check_file_marked(const char *name, const char *text, const char *expected)
{
    struct string marked = {0};
    string_print(&marked, "\xef\xbb\xbf%s", text);
    check_file(name, marked.data, marked.length, expected);
    string_free(&marked);
}

TEST(kind_byte_order_marks)
{
    check_file_marked("a.jsonl", "{\"text\": \"a\"}\n{\"text\": \"b\"}", "a|b|");
    check_file_marked("a.json", "[{\"text\": \"a\"}, \"b\"]", "a|b|");
    check_file_marked("a.json", "{\"text\": \"a\"}", "a|");
    check_file_marked("a.txt", "words", "words|");
    check_file_marked("a.txt", "", "");
    check_file_marked("a.jsonl", "", "");
    check_file_marked("a.txt", "\xef\xbb\xbfwords", "\xef\xbb\xbfwords|"); /* one belongs to the text */
    CHECK_REFUSED("a.txt", "\xff\xfeh\0i\0", "is UTF-16; write it as UTF-8: iconv -f UTF-16 -t UTF-8");
    CHECK_REFUSED("a.jsonl", "\xfe\xff\0h\0i", "is UTF-16");
    CHECK_REFUSED("a.txt", "\xff\xfe\0\0h\0\0\0", "is UTF-32");
    CHECK_REFUSED("a.txt", "h\0i\0 \0", "is UTF-16LE");
    CHECK_REFUSED("a.jsonl", "\0{\0\"\0t\0e", "is UTF-16BE");
    CHECK_REFUSED("a.txt", "h\0\0\0i\0\0\0", "is UTF-32LE");
    CHECK_REFUSED("a.txt", "\0\0\0h\0\0\0i", "is UTF-32BE");
    CHECK_REFUSED("a.txt", "word\0\0word", "is not text: byte 4 is zero");
    CHECK_REFUSED("a.txt", "\x1a\x04\x40\x04\x38\x04\x32\x04\x35\x04\x42\x04 \0", "is UTF-16LE"); /* Cyrillic */
    CHECK_REFUSED("a.txt", "\xd2\x04\x10\xf1", "not text at all");
    /* Zeros in a text do not make it wide: iconv would destroy it. */
    CHECK_REFUSED("a.txt", "some words\0and more", "is not text: byte 10 is zero");
    CHECK_REFUSED("a.txt", "some word\0and more", "is not text: byte 9 is zero");
    CHECK_REFUSED("a.jsonl", "{\"text\": \"a\0b\"}\n", "is not text: byte 11 is zero");
    CHECK_REFUSED("a.txt", "a line\nwith zeros\0\0\0 three of them", "is not text: byte 17 is zero");
    CHECK_REFUSED("a.txt", "caf\xe9 au lait\0 is Latin", "is not text: byte 12 is zero");
    CHECK_REFUSED("a.txt", "\0", "is not text: byte 0 is zero");
}

TEST(kind_other_files_are_named)
{
    static const struct {
        const char *bytes;
        size_t size;
        const char *name;
    } cases[] = {
        {"PAR1\x15\x04\0", 7, "a Parquet file; write"},
        {"ARROW1\0\0", 8, "an Arrow file"},
        {"\xff\xff\xff\xff\x10\0\0\0", 8, "an Arrow file"},
        {"PK\3\4\x14\0", 6, "a zip archive"},
        {"%PDF-1.4\nplain", 14, "a PDF document"},
        {"%!PS-Adobe\n", 11, "PostScript"},
        {"{\\rtf1\\ansi}", 12, "an RTF document"},
        {"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", 64,
         "a pointer of Git LFS; fetch"},
        {"\x89PNG\r\n\x1a\n\0\0", 10, "a PNG picture"},
        {"\xff\xd8\xff\xe0\0", 5, "a JPEG picture"},
        {"\x93NUMPY\1\0", 8, "a NumPy array"},
        {"\x80\4\x95\0", 4, "a Python pickle"},
        {"SQLite format 3\0\x10", 17, "an SQLite database"},
        {"\x40\0\0\0\0\0\0\0{\"a\":", 13, "a model in safetensors"},
        {"GGUF\3\0\0\0", 8, "a model in GGUF"},
        {"\x7f"
         "ELF\2\1\1\0",
         8, "a program or library (ELF)"},
        {"BZh91AY&SY\xff\0", 12, "compressed by bzip2"},
        {"\xfd"
         "7zXZ\0\0",
         7, "compressed by xz"},
        {"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xde\xc0\xef\xbe\1", 21, "an LMDB database"},
        {"MMIDIDX\0\0\1", 10, "the index of a Megatron data set"},
        {"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0", 9, "an old Office program"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        check_refused("a.txt", cases[i].bytes, cases[i].size, cases[i].name);
        check_refused("a.jsonl", cases[i].bytes, cases[i].size, cases[i].name);
        check_refused("noname", cases[i].bytes, cases[i].size, cases[i].name);
    }
    char tar[512] = "file";
    memcpy(tar + 257, "ustar", 5);
    check_refused("a.tar", tar, sizeof tar, "a tar archive");
    CHECK_REFUSED("a.bin", "PK\3\4\x14\0", "is not a token file but a zip archive");
    CHECK_REFUSED("a.u16", "version https://git-lfs.github.com/spec/v1\n.",
                  "is not a token file but a pointer");
    CHECK_FILE("a.txt", "version https://git-lfs.org", "version https://git-lfs.org|");
    CHECK_REFUSED("a.u16", "GGUF\3\0\0\0", "is not a token file but a model in GGUF");
    /* Texts that begin like them. */
    CHECK_FILE("a.txt", "PK\n", "PK\n|");
    CHECK_FILE("a.txt", "GGUF is a format.", "GGUF is a format.|");
    CHECK_FILE("a.txt", "RIFF and ORCs", "RIFF and ORCs|");
    CHECK_FILE("a.txt", "ORC\x1b[0m \xc3\xa4\n", "ORC\x1b[0m \xc3\xa4\n|");
}

/* A header of llm.c and so many zeros. */
static void check_llmc(const char *name, uint32_t magic, uint32_t version, uint32_t ids, size_t bytes,
                       int token_bytes, const char *expected)
{
    unsigned char file[1024 + 64] = {0};
    struct string documents = {0};
    const uint32_t words[] = {magic, version, ids};
    memcpy(file, words, sizeof words);
    memset(file + 1024, 1, 64);
    for (int i = 0; i < 64 && magic == 20240801; i++)
        file[1024 + i] = i % 4 == 0;
    for (int i = 0; i < 64 && magic == 20240520; i++)
        file[1024 + i] = i % 2 == 0;
    if (read_file(write_bytes(name, file, 1024 + bytes), token_bytes, &documents) < 0)
        CHECK_TEXT(error.text, expected);
    else
        CHECK(strcmp(documents.data ? documents.data : "", expected) == 0);
    string_free(&documents);
}

TEST(kind_token_files_of_llmc)
{
    check_llmc("a.bin", 20240520, 1, 10, 20, 0, "10|");
    check_llmc("a.bin", 20240520, 1, 10, 20, 2, "10|");
    check_llmc("a.u16", 20240520, 1, 10, 20, 0, "10|");
    check_llmc("a.bin", 20240801, 7, 5, 20, 0, "5|");
    check_llmc("a.bin", 20240520, 1, 0, 0, 0, "");
    check_llmc("a.bin", 20240520, 1, 10, 20, 4, "says that ids have 2 bytes, its name or --token-type 4");
    check_llmc("a.u32", 20240520, 1, 10, 20, 0, "says that ids have 2 bytes");
    check_llmc("a.bin", 20240801, 7, 5, 20, 2, "says that ids have 4 bytes");
    check_llmc("a.bin", 20240520, 1, 11, 20, 0, "says that 11 ids follow, but the file has 1044 bytes");
    check_llmc("a.bin", 20240520, 1, 9, 20, 0, "says that 9 ids follow");
    check_llmc("a.bin", 20240520, 1, UINT32_MAX, 20, 0, "says that 4294967295 ids follow");
    check_llmc("a.bin", 20240520, 2, 10, 20, 0, "of version 2; version 1 is known");
    check_llmc("a.bin", 20240326, 3, 10, 20, 0, "is a model, a state or a test of llm.c");
    check_llmc("a.bin", 20240326, 3, 10, 20, 2, "is a model, a state or a test of llm.c");
}

TEST_MAIN
