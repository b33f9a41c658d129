/* The prompt of generate, from a pipe, a file and a terminal. */
#include "generate/prompt.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/file.h"
#include "tests/test.h"

static void check_prompt(const struct generate_options *options, const char *expected)
{
    struct string text = {0};
    struct error error = {0};
    if (prompt_read(options, &text, &error) < 0)
        test_fail(__FILE__, __LINE__, "%s", error.text);
    else if (text.length != strlen(expected) || memcmp(text.data ? text.data : "", expected, text.length) != 0)
        test_fail(__FILE__, __LINE__, "\"%s\", not \"%s\"", text.data ? text.data : "", expected);
    string_free(&text);
}

/* The last line's end ends the line; what else is there is the prompt's. */
static const struct {
    const char *written, *prompt;
} texts[] = {
    {"hello", "hello"},     {"hello\n", "hello"}, {"hello\r\n", "hello"}, {"hello\n\n", "hello\n"},
    {"a\r\nb\n", "a\r\nb"}, {"\n", ""},           {"\r\n", ""},           {"", ""},
    {"hello\r", "hello\r"}, {" a \n", " a "},     {"\u20ac\n", "\u20ac"}, {"\r", "\r"},
};

TEST(prompt_of_a_file)
{
    char path[4400];
    struct error error;
    snprintf(path, sizeof path, "%s/prompt", test_folder());
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        REQUIRE_OK(file_write(path, texts[i].written, strlen(texts[i].written), &error));
        check_prompt(&(struct generate_options){.prompt_file = path}, texts[i].prompt);
    }
}

/* What is not UTF-8 is not a prompt. */
TEST(prompt_refuses_what_is_not_text)
{
    static const struct {
        const char *written, *where;
    } cases[] = {
        {"a\xe9z", "byte 2 (0xe9)"},
        {"\xff\xfeh", "byte 1 (0xff)"}, /* UTF-16 */
        {"\x1f\x8b\x08", "byte 2 (0x8b)"}, /* gzip */
        {"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n", "byte 11 (0xe2)"},
        {"cut \xe2\x82\n", "byte 5 (0xe2)"},
        {"\xed\xa0\x80", "byte 1 (0xed)"}, /* half a surrogate pair */
    };
    char path[4400];
    const int kept = dup(STDIN_FILENO);
    snprintf(path, sizeof path, "%s/prompt", test_folder());
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error error = {0};
        struct string text = {0};
        REQUIRE_OK(file_write(path, cases[i].written, strlen(cases[i].written), &error));
        CHECK(prompt_read(&(struct generate_options){.prompt_file = path}, &text, &error) < 0);
        CHECK_TEXT(error.text, cases[i].where);
        CHECK_TEXT(error.text, path);
        string_free(&text);
        const int file = open(path, O_RDONLY);
        dup2(file, STDIN_FILENO);
        close(file);
        CHECK(prompt_read(&(struct generate_options){0}, &text, &error) < 0);
        CHECK_TEXT(error.text, cases[i].where);
        CHECK_TEXT(error.text, "standard input: ");
        string_free(&text);
    }
    dup2(kept, STDIN_FILENO);
    close(kept);
}

TEST(prompt_of_the_command_line)
{
    check_prompt(&(struct generate_options){.prompt = "hello\n"}, "hello\n");
}

TEST(prompt_of_a_pipe)
{
    const int kept = dup(STDIN_FILENO);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        int ends[2];
        const ssize_t size = (ssize_t)strlen(texts[i].written);
        REQUIRE(pipe(ends) == 0 && write(ends[1], texts[i].written, (size_t)size) == size);
        close(ends[1]);
        dup2(ends[0], STDIN_FILENO);
        close(ends[0]);
        check_prompt(&(struct generate_options){0}, texts[i].prompt);
    }
    dup2(kept, STDIN_FILENO);
    close(kept);
}

/* One Ctrl-D ends it, at the beginning of a line and within one. */
TEST(prompt_of_a_terminal)
{
    static const struct {
        const char *typed, *prompt;
    } cases[] = {{"hello\n\x04", "hello"},
                 {"hello\x04", "hello"},
                 {"a\nb\n\x04", "a\nb"},
                 {"a\nb\x04", "a\nb"},
                 {"\x04", ""}};
    const int kept = dup(STDIN_FILENO);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const int terminal = posix_openpt(O_RDWR | O_NOCTTY);
        if (terminal < 0 || grantpt(terminal) < 0 || unlockpt(terminal) < 0) {
            test_skip("this machine gives no terminal");
            return;
        }
        const int user = open(ptsname(terminal), O_RDWR | O_NOCTTY);
        const ssize_t size = (ssize_t)strlen(cases[i].typed);
        REQUIRE(user >= 0 && write(terminal, cases[i].typed, (size_t)size) == size);
        dup2(user, STDIN_FILENO);
        alarm(20); /* who waits for more waits for good */
        check_prompt(&(struct generate_options){0}, cases[i].prompt);
        alarm(0);
        close(user);
        close(terminal);
    }
    dup2(kept, STDIN_FILENO);
    close(kept);
}

TEST_MAIN
