#include "tests/test.h"

#include <ftw.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

static struct test *first, **last = &first;
static bool failed, skipped;
static char folder[4096];

void test_register(struct test *test)
{
    *last = test;
    last = &test->next;
}

void test_fail(const char *file, int line, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    printf("  %s:%d: ", file, line);
    vprintf(format, list);
    printf("\n");
    va_end(list);
    failed = true;
}

void test_skip(const char *reason)
{
    printf("  skipped: %s\n", reason);
    skipped = true;
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status, (void)type, (void)walk;
    return remove(path);
}

static void remove_folder(void)
{
    if (folder[0])
        nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    folder[0] = 0;
}

const char *test_folder(void)
{
    const char *top = getenv("TMPDIR");
    remove_folder();
    snprintf(folder, sizeof folder, "%s/offramp-test-XXXXXX", top ? top : "/tmp");
    if (!mkdtemp(folder)) {
        perror(folder);
        exit(1);
    }
    return folder;
}

bool test_wants_device(const char *device)
{
    const char *only = getenv("OFFRAMP_TEST_DEVICE");
    return only && *only ? strcmp(only, device) == 0 : strcmp(device, "cuda") != 0;
}

const char *test_model(void)
{
    const char *path = getenv("OFFRAMP_TEST_MODEL");
    return path && *path ? path : NULL;
}

int test_main(int argc, char **argv)
{
    int counts[3] = {0}; /* passed, failed, skipped */
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (struct test *test = first; test; test = test->next) {
        if (argc > 1 && !strstr(test->name, argv[1]))
            continue;
        failed = skipped = false;
        test->run();
        const char *result = failed ? "FAILED" : skipped ? "skipped" : "ok";
        printf("%-7s %s\n", result, test->name);
        counts[failed ? 1 : skipped ? 2 : 0]++;
    }
    remove_folder();
    printf("%d passed, %d failed, %d skipped\n", counts[0], counts[1], counts[2]);
    return counts[1] > 0;
}
