/* A claim is of one process at a time, whoever else wants it, and whoever of them is killed. */
#include "tests/test.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/file.h"
#include "train/claim.h"

static const char *base_path(char *path, size_t size)
{
    snprintf(path, size, "%s/claim", test_folder());
    return path;
}

/* The file that `number` is the number of. */
static void write_claim(const char *base, int number, const char *text)
{
    struct error error = {0};
    char path[4200];
    snprintf(path, sizeof path, "%s.%d", base, number);
    CHECK(file_write(path, text, strlen(text), &error) == 0);
}

TEST(claim_is_taken_once)
{
    struct error error = {0};
    struct claim claim, other;
    char path[4200], holder[CLAIM_HOLDER_SIZE], self[32];
    const char *base = base_path(path, sizeof path);
    snprintf(self, sizeof self, "process %ld on", (long)getpid());
    CHECK(!claim_is_held(base, holder) && !*holder);
    REQUIRE_OK(claim_take(base, "part 0 of 4", &claim, &error));
    CHECK(!claim_is_lost(&claim));
    CHECK(claim_is_held(base, holder));
    CHECK_TEXT(holder, self);
    CHECK(claim_take(base, "part 0 of 4", &other, &error) < 0);
    CHECK_TEXT(error.text, "part 0 of 4: another train is at work there: process");
    claim_release(&claim);
    CHECK(claim_is_lost(&claim) && !claim_is_held(base, holder));
    REQUIRE_OK(claim_take(base, "part 0 of 4", &claim, &error));
    CHECK(claim.number == 2);
    claim_release(&claim);
}

/* Of one that was killed it is over; of one on another machine nobody can tell, but Slurm says when it has started a job
 * again. */
TEST(claim_of_another_is_judged)
{
    struct error error = {0};
    struct claim claim;
    char path[4200];
    const char *base = base_path(path, sizeof path);
    const pid_t child = fork();
    if (child == 0)
        _exit(claim_take(base, "it", &claim, &error) < 0);
    siginfo_t ended; /* nobody has waited for it: /proc has it still */
    CHECK(waitid(P_PID, (id_t)child, &ended, WEXITED | WNOWAIT) == 0);
    REQUIRE_OK(claim_take(base, "it", &claim, &error));
    CHECK(claim.number == 2);
    claim_release(&claim);
    CHECK(waitpid(child, NULL, 0) == child);

    static const char elsewhere[] =
        "{\"host\": \"node7\", \"process\": 1, \"begun\": 5, \"time\": \"then\", \"machine\": \"x\", "
        "\"slurm_job\": \"12 of c\", \"restarts\": 1, \"released\": false}";
    write_claim(base, 3, elsewhere);
    CHECK(claim_take(base, "it", &claim, &error) < 0);
    CHECK_TEXT(error.text, "process 1 on node7, since then, Slurm job 12 of c");
    CHECK_TEXT(error.text, "claim.* and run the same command again");
    setenv("SLURM_JOB_ID", "12", 1);
    setenv("SLURM_CLUSTER_NAME", "c", 1);
    CHECK(claim_take(base, "it", &claim, &error) < 0); /* its first start is not later than the second */
    setenv("SLURM_RESTART_COUNT", "1", 1);
    CHECK(claim_take(base, "it", &claim, &error) < 0); /* another process of the same start */
    setenv("SLURM_RESTART_COUNT", "2", 1);
    setenv("SLURM_JOB_ID", "13", 1);
    CHECK(claim_take(base, "it", &claim, &error) < 0);
    setenv("SLURM_JOB_ID", "12", 1);
    REQUIRE_OK(claim_take(base, "it", &claim, &error));
    CHECK(claim.number == 4);
    claim_release(&claim);
    unsetenv("SLURM_JOB_ID");
    unsetenv("SLURM_CLUSTER_NAME");
    unsetenv("SLURM_RESTART_COUNT");
}

TEST(claim_that_is_damaged_is_named)
{
    struct error error = {0};
    struct claim claim;
    char path[4200];
    const char *base = base_path(path, sizeof path);
    write_claim(base, 1, "{\"host\"");
    CHECK(claim_take(base, "it", &claim, &error) < 0);
    CHECK_TEXT(error.text, "claim.1");
}

/* Who has lost it knows. */
TEST(claim_that_is_taken_over_is_lost)
{
    struct error error = {0};
    struct claim claim, other;
    char path[4200], file[4300];
    const char *base = base_path(path, sizeof path);
    REQUIRE_OK(claim_take(base, "it", &claim, &error));
    snprintf(file, sizeof file, "%s.1", base);
    REQUIRE_OK(file_remove(file, &error)); /* as the error tells people to */
    CHECK(claim_is_lost(&claim));
    const pid_t child = fork();
    if (child == 0)
        _exit(claim_take(base, "it", &other, &error) < 0);
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(claim_is_lost(&claim));
    claim_release(&claim); /* leaves the other's */
    REQUIRE_OK(claim_take(base, "it", &other, &error));
    CHECK(other.number == 2);
    claim_release(&other);
}

/* One of many processes: adds one to a number in a file, so often, while it has the claim. It may end with the claim, as if it was
 * killed; returns how often it has not done so yet. */
static int add_to(const char *base, const char *count, int times, unsigned seed)
{
    struct error error = {0};
    struct claim claim;
    while (times > 0) {
        if (claim_take(base, "it", &claim, &error) < 0)
            continue;
        char *text, next[32];
        size_t size;
        if (file_read(count, &text, &size, &error) < 0)
            return 255;
        const int length = snprintf(next, sizeof next, "%d", atoi(text) + 1);
        free(text);
        if (file_write(count, next, (size_t)length, &error) < 0)
            return 255;
        times--;
        if (rand_r(&seed) % 4 == 0)
            break;
        claim_release(&claim);
    }
    return times;
}

static void start_adding(const char *base, const char *count, int times, unsigned seed)
{
    if (fork() == 0)
        _exit(add_to(base, count, times, seed));
}

TEST(claim_is_of_one_process_at_a_time)
{
    enum { PROCESSES = 6, TIMES = 12 };
    struct error error = {0};
    char path[4200], count[4300], *text;
    const char *base = base_path(path, sizeof path);
    size_t size;
    int status, running = PROCESSES;
    snprintf(count, sizeof count, "%s.count", base);
    REQUIRE_OK(file_write(count, "0", 1, &error));
    for (int i = 0; i < PROCESSES; i++)
        start_adding(base, count, TIMES, (unsigned)i);
    for (unsigned seed = PROCESSES; running > 0; seed++) {
        REQUIRE(wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) != 255);
        if (WEXITSTATUS(status) > 0)
            start_adding(base, count, WEXITSTATUS(status), seed);
        else
            running--;
    }
    REQUIRE_OK(file_read(count, &text, &size, &error));
    CHECK(atoi(text) == PROCESSES * TIMES);
    free(text);
}

TEST_MAIN
