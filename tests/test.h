/* test.h: the smallest test harness that counts.
 *
 * A test program is one file:
 *     #include "tests/test.h"
 *     TEST(codec_raw_round_trip) { CHECK(size == 64); CHECK_TEXT(error.text, "cut short"); }
 *     TEST_MAIN
 * Tests register themselves and run in the order of the file. `program NAME` runs those whose name
 * contains NAME. The last line is "N passed, N failed, N skipped"; exit 1 when any failed.
 */
#ifndef OFFRAMP_TESTS_TEST_H
#define OFFRAMP_TESTS_TEST_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct test {
    const char *name;
    void (*run)(void);
    struct test *next;
};

void test_register(struct test *test);
void test_fail(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Ends up as "skipped" with its reason; the caller returns. */
void test_skip(const char *reason);
/* An empty folder of this test's own under TMPDIR, removed when the program ends; borrowed. */
const char *test_folder(void);
/* OFFRAMP_TEST_DEVICE names the only device of this run; without it all are wanted but cuda, which
 * tests/cuda (in emulation) and tests/gpu (on a device) ask for. */
bool test_wants_device(const char *device);
/* The demo model's GGUF file (OFFRAMP_TEST_MODEL, set by pipelines/test.sh), or NULL. */
const char *test_model(void);
int test_main(int argc, char **argv);

#define TEST(name)                                                                                             \
    static void test_##name(void);                                                                             \
    __attribute__((constructor)) static void register_##name(void)                                             \
    {                                                                                                          \
        static struct test test = {#name, test_##name, NULL};                                                  \
        test_register(&test);                                                                                  \
    }                                                                                                          \
    static void test_##name(void)

/* A false condition fails the test, which goes on. */
#define CHECK(condition)                                                                                       \
    do {                                                                                                       \
        if (!(condition))                                                                                      \
            test_fail(__FILE__, __LINE__, "%s", #condition);                                                   \
    } while (0)

/* As CHECK, and leaves the test function. */
#define REQUIRE(condition)                                                                                     \
    do {                                                                                                       \
        if (!(condition)) {                                                                                    \
            test_fail(__FILE__, __LINE__, "%s", #condition);                                                   \
            return;                                                                                            \
        }                                                                                                      \
    } while (0)

/* The call must return 0; its error is shown otherwise, and the test function left. */
#define REQUIRE_OK(call)                                                                                       \
    do {                                                                                                       \
        if ((call) < 0) {                                                                                      \
            test_fail(__FILE__, __LINE__, "%s: %s", #call, error.text);                                        \
            return;                                                                                            \
        }                                                                                                      \
    } while (0)

/* text contains part. */
#define CHECK_TEXT(text, part)                                                                                 \
    do {                                                                                                       \
        if (!strstr((text), (part)))                                                                           \
            test_fail(__FILE__, __LINE__, "\"%s\" lacks \"%s\"", (text), (part));                              \
    } while (0)

#define TEST_MAIN                                                                                              \
    int main(int argc, char **argv)                                                                            \
    {                                                                                                          \
        return test_main(argc, argv);                                                                          \
    }

#endif
