/* A machine that fails at any point of a run, memory, device or disk, ends it with a reason: no trial is
 * marked, and the same command goes on to the bytes of a run that nobody disturbed. */
#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/file.h"
#include "tests/test.h"
#include "tests/train_fixture.h"
#include "train/training.h"

/* ---- what fails (build.mk gives the linker these names) ---- */

enum fault { FAULT_MEMORY, FAULT_DEVICE, FAULT_WRITE, FAULT_SYNC, FAULT_RENAME, FAULT_KILL, FAULTS };
static const char *const fault_names[FAULTS] = {"memory", "device", "write", "sync", "rename", "kill"};

static struct {
    enum fault what;
    long calls; /* of it so far */
    long first; /* the first one that fails, 0: none */
    bool once; /* and no later one */
    const char *of; /* NULL, or what is in the paths of the files that fail */
    bool removes; /* the folder that a file is to be renamed in, when that fails */
    bool no_exchange; /* the file system cannot exchange folders */
} plan;

static bool fails(enum fault what, const char *path)
{
    if (plan.what != what || (plan.of && !(path && strstr(path, plan.of))))
        return false;
    plan.calls++;
    return plan.first > 0 && (plan.once ? plan.calls == plan.first : plan.calls >= plan.first);
}

/* The same for an open file. */
static bool fails_at(enum fault what, int file)
{
    char name[64], path[4300];
    snprintf(name, sizeof name, "/proc/self/fd/%d", file);
    const ssize_t length = plan.of ? readlink(name, path, sizeof path - 1) : 0;
    path[length > 0 ? length : 0] = 0;
    return fails(what, path);
}

/* Before a call that changes what is on disk. */
static void maybe_killed(void)
{
    if (fails(FAULT_KILL, NULL))
        _exit(9);
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_realloc(void *block, size_t size);
void *__wrap_realloc(void *block, size_t size);
int __real_posix_memalign(void **block, size_t alignment, size_t size);
int __wrap_posix_memalign(void **block, size_t alignment, size_t size);
int __real_queue_wait(struct queue *queue, struct error *error);
int __wrap_queue_wait(struct queue *queue, struct error *error);
size_t __real_fwrite(const void *data, size_t size, size_t count, FILE *file);
size_t __wrap_fwrite(const void *data, size_t size, size_t count, FILE *file);
int __real_fflush(FILE *file);
int __wrap_fflush(FILE *file);
int __wrap_fsync(int file);
int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);
int __real_renameat2(int folder, const char *from, int other, const char *to, unsigned flags);
int __wrap_renameat2(int folder, const char *from, int other, const char *to, unsigned flags);
int __real_unlink(const char *name);
int __wrap_unlink(const char *name);
int __real_unlinkat(int folder, const char *name, int flags);
int __wrap_unlinkat(int folder, const char *name, int flags);

void *__wrap_malloc(size_t size)
{
    return fails(FAULT_MEMORY, NULL) ? NULL : __real_malloc(size);
}

void *__wrap_realloc(void *block, size_t size)
{
    return fails(FAULT_MEMORY, NULL) ? NULL : __real_realloc(block, size);
}

int __wrap_posix_memalign(void **block, size_t alignment, size_t size)
{
    return fails(FAULT_MEMORY, NULL) ? ENOMEM : __real_posix_memalign(block, alignment, size);
}

int __wrap_queue_wait(struct queue *queue, struct error *error)
{
    return fails(FAULT_DEVICE, NULL) ? error_set_kind(error, ERROR_DEVICE, "the device is lost")
                                     : __real_queue_wait(queue, error);
}

size_t __wrap_fwrite(const void *data, size_t size, size_t count, FILE *file)
{
    if (fails_at(FAULT_WRITE, fileno(file))) {
        errno = ENOSPC;
        return 0;
    }
    maybe_killed();
    return __real_fwrite(data, size, count, file);
}

int __wrap_fflush(FILE *file)
{
    if (file && file != stderr && file != stdout && fails_at(FAULT_WRITE, fileno(file))) {
        errno = ENOSPC;
        return EOF;
    }
    if (file && file != stderr && file != stdout)
        maybe_killed(); /* a line of metrics is not written then */
    return __real_fflush(file);
}

int __wrap_fsync(int file)
{
    if (fails_at(FAULT_SYNC, file)) {
        errno = plan.of ? EDQUOT : EIO;
        return -1;
    }
    return 0; /* syncing takes most of a run's time, and the machine stays up */
}

static void remove_folder_of(const char *path)
{
    char command[4400];
    snprintf(command, sizeof command, "rm -rf \"$(dirname '%s')\"", path);
    if (system(command) != 0)
        test_fail(__FILE__, __LINE__, "the folder of %s is not removed", path);
}

int __wrap_rename(const char *from, const char *to)
{
    if (fails(FAULT_RENAME, to)) {
        if (plan.removes)
            remove_folder_of(to);
        errno = plan.removes ? ENOENT : plan.of ? EACCES : ENOSPC;
        return -1;
    }
    maybe_killed();
    return __real_rename(from, to);
}

int __wrap_renameat2(int at, const char *from, int other, const char *to, unsigned flags)
{
    if (plan.no_exchange) {
        errno = EINVAL;
        return -1;
    }
    if (fails(FAULT_RENAME, to)) {
        errno = plan.of ? EACCES : ENOSPC;
        return -1;
    }
    maybe_killed();
    return __real_renameat2(at, from, other, to, flags);
}

int __wrap_unlink(const char *name)
{
    maybe_killed();
    return __real_unlink(name);
}

int __wrap_unlinkat(int at, const char *name, int flags)
{
    maybe_killed();
    return __real_unlinkat(at, name, flags);
}

/* ---- a run ---- */

#define STEPS 6
/* The second trial's rate is far too high: it is best before its first step. */
static const char sweep_format[] = "steps: %d\nsequences: 2\nevaluate: 3\nsample: 4\ncheckpoint: 2\ntrials:\n"
                                   "  - {tap: 1, head: affine, init: ridge}\n"
                                   "  - {tap: 2, head: norm, loss: cross-entropy, rate: 9, warmup: 0}\n"
                                   "  - {tap: 2.mid, head: mlp}\n"
                                   "  - {tap: 3, head: affine, init: random, output: untied}\n";

/* Three trials of a tap, of which one goes on to the end. */
static const char waves_format[] =
    "steps: %d\nsequences: 2\nevaluate: 3\ncheckpoint: 2\nhalving: 2\npatience: 2\n"
    "trials:\n"
    "  - {tap: 1, head: affine, init: ridge}\n"
    "  - {tap: 1, head: norm, loss: cross-entropy, rate: 9, warmup: 0}\n"
    "  - {tap: 2.mid, head: mlp}\n"
    "  - {tap: 1, head: affine, init: copy}\n";

static struct {
    const char *format; /* of the sweep */
    int parallel; /* trials at a time; 0: all */
} sort = {sweep_format, 0};

static char store[4200], whole[4200], folder[4200]; /* the latter for runs that are disturbed */

static int run_for(const char *out, int steps, double agreement, struct error *error)
{
    char text[1000];
    const char *const stores[] = {store};
    const struct training_options options = {.store = stores,
                                             .stores = 1,
                                             .out = out,
                                             .device = {.name = "ref", .backend = {.threads = 1}},
                                             .max_parallel = sort.parallel,
                                             .wish = {.agreement = agreement, .threshold = NAN}};
    struct sweep sweep;
    struct training *training;
    const long first = plan.first;
    plan.first = 0; /* the command line is not what is tested here */
    snprintf(text, sizeof text, sort.format, steps);
    int result = sweep_parse("faults.yaml", text, strlen(text), &sweep, error);
    plan.first = first;
    plan.calls = 0;
    if (result < 0)
        return -1;
    result = training_open(&options, &sweep, &training, error);
    if (result == 0 && training_left(training) == LEFT_TRAINING)
        result = training_train(training, error);
    if (result == 0 && training_left(training) != LEFT_NOTHING)
        result = training_finish(training, error);
    training_close(training);
    plan.first = 0;
    sweep_free(&sweep);
    return result;
}

static int run(const char *out, struct error *error)
{
    return run_for(out, STEPS, NAN, error);
}

static bool same_file(const char *a, const char *b)
{
    struct error error;
    char *left = NULL, *right = NULL;
    size_t left_size = 0, right_size = 0;
    const bool same = file_read(a, &left, &left_size, &error) == 0 &&
                      file_read(b, &right, &right_size, &error) == 0 && left_size == right_size &&
                      !memcmp(left, right, left_size);
    free(left);
    free(right);
    return same;
}

/* Files of both runs that match the pattern are there and the same. */
static int count_same(const char *a, const char *b, const char *pattern)
{
    char path[4300], other[4300];
    glob_t found;
    int same = 0;
    snprintf(path, sizeof path, "%s/%s", a, pattern);
    if (glob(path, 0, NULL, &found) != 0)
        return 0;
    for (size_t i = 0; i < found.gl_pathc; i++) {
        snprintf(other, sizeof other, "%s%s", b, found.gl_pathv[i] + strlen(a));
        same += same_file(found.gl_pathv[i], other);
    }
    globfree(&found);
    return same;
}

static int count_files(const char *run, const char *pattern)
{
    char path[4300];
    glob_t found;
    snprintf(path, sizeof path, "%s/%s", run, pattern);
    const int count = glob(path, 0, NULL, &found) == 0 ? (int)found.gl_pathc : 0;
    if (count > 0)
        globfree(&found);
    return count;
}

/* Cuts from each line of metrics what it took. Returns the new size. */
static size_t cut_times(char *text, size_t size)
{
    size_t kept = 0;
    bool cut = false;
    for (size_t i = 0; i < size; i++) {
        cut = text[i] != '\n' && (cut || (size - i > 19 && !memcmp(text + i, ", \"tokens_per_second", 19)));
        if (!cut)
            text[kept++] = text[i];
    }
    return kept;
}

/* Trials of both runs whose metrics say the same, but for what the lines took. */
static int count_same_metrics(const char *a, const char *b)
{
    char path[4300], other[4300];
    struct error error;
    glob_t found;
    int same = 0;
    snprintf(path, sizeof path, "%s/trials/*/metrics.jsonl", a);
    if (glob(path, 0, NULL, &found) != 0)
        return 0;
    for (size_t i = 0; i < found.gl_pathc; i++) {
        char *left = NULL, *right = NULL;
        size_t left_size, right_size;
        snprintf(other, sizeof other, "%s%s", b, found.gl_pathv[i] + strlen(a));
        if (file_read(found.gl_pathv[i], &left, &left_size, &error) == 0 &&
            file_read(other, &right, &right_size, &error) == 0) {
            left_size = cut_times(left, left_size);
            right_size = cut_times(right, right_size);
            same += left_size == right_size && !memcmp(left, right, left_size);
        }
        free(left);
        free(right);
    }
    globfree(&found);
    return same;
}

/* The run in `folder` has ended as the one that nobody disturbed. */
static bool ends_as_whole(void)
{
    return count_same_metrics(whole, folder) == 4 &&
           count_same(whole, folder, "trials/*/head.safetensors") == 4 &&
           count_same(whole, folder, "leaderboard.tsv") == 1 &&
           count_same(whole, folder, "policy/policy.json") == 1 &&
           count_files(folder, "trials/*/last.ckpt") == 0;
}

/* Lines of all metrics that have a key. */
static int count_lines(const char *key)
{
    char command[4400];
    snprintf(command, sizeof command, "cat '%s'/trials/*/metrics.jsonl 2>/dev/null | grep -c '\"%s\"'", folder,
             key);
    FILE *pipe = popen(command, "r");
    int count = -1;
    if (!pipe || fscanf(pipe, "%d", &count) != 1)
        count = -1;
    if (pipe)
        pclose(pipe);
    return count;
}

static void remove_run(void)
{
    char command[4300];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    if (system(command) != 0)
        test_fail(__FILE__, __LINE__, "%s is not removed", folder);
}

static bool is_machine(enum fault what, enum error_kind kind)
{
    switch (what) {
    case FAULT_MEMORY: return kind == ERROR_NO_MEMORY;
    case FAULT_SYNC:
    case FAULT_DEVICE: return kind == ERROR_DEVICE;
    default: return kind == ERROR_NO_SPACE;
    }
}

/* Two runs that fail from call `first` on, and one that ends. */
static void check_fault(enum fault what, long first, bool once)
{
    struct error error = {0};
    for (int attempt = 0; attempt < 2; attempt++) {
        plan.what = what;
        plan.first = first;
        plan.once = once;
        const int result = run(folder, &error);
        if (result < 0 && !is_machine(what, error.kind))
            test_fail(__FILE__, __LINE__, "%s fails at call %ld: kind %d: %s", fault_names[what], first,
                      (int)error.kind, error.text);
        if (count_lines("failed") > 0)
            test_fail(__FILE__, __LINE__, "%s fails at call %ld: a trial is marked", fault_names[what], first);
    }
    if (run(folder, &error) < 0)
        test_fail(__FILE__, __LINE__, "%s failed at call %ld: the run does not go on: %s", fault_names[what],
                  first, error.text);
    if (!ends_as_whole())
        test_fail(__FILE__, __LINE__, "%s failed at call %ld: the run ends otherwise", fault_names[what],
                  first);
    remove_run();
}

static int prepare(struct error *error)
{
    const char *top = test_folder();
    snprintf(store, sizeof store, "%s/store", top);
    snprintf(whole, sizeof whole, "%s/whole", top);
    snprintf(folder, sizeof folder, "%s/run", top);
    return train_fixture_create(&small_fixture, store, error) < 0 ? -1 : run(whole, error);
}

/* At `points` points of the calls of a run, spread evenly, the first and the last among them. */
static void check_points(enum fault what, int points, bool once)
{
    struct error error = {0};
    REQUIRE_OK(prepare(&error));
    plan.what = what;
    plan.first = 0;
    REQUIRE_OK(run(folder, &error));
    const long calls = plan.calls;
    remove_run();
    REQUIRE(calls > points);
    for (int p = 0; p < points; p++)
        check_fault(what, 1 + (calls - 1) * p / (points - 1), once);
}

TEST(memory_is_out)
{
    check_points(FAULT_MEMORY, 16, false);
}

TEST(memory_is_out_for_a_moment)
{
    check_points(FAULT_MEMORY, 40, true);
}

TEST(the_device_is_lost)
{
    check_points(FAULT_DEVICE, 16, false);
}

TEST(the_disk_is_full)
{
    check_points(FAULT_WRITE, 16, false);
    check_points(FAULT_RENAME, 12, false);
}

TEST(the_disk_fails)
{
    check_points(FAULT_SYNC, 12, false);
}

/* What could not be written is written a moment later. */
TEST(the_disk_is_full_for_a_moment)
{
    check_points(FAULT_WRITE, 24, true);
    check_points(FAULT_RENAME, 12, true);
}

/* ---- one trial alone ---- */

#define TROUBLED "2.mid-mlp-copy-distillation-0.001"

/* Lines of both runs that are not the same, but for times, in the metrics of all trials but the troubled one. */
static bool others_have_same_metrics(const char *of)
{
    char command[13000];
    snprintf(command, sizeof command,
             "bash -c 'for t in \"%s\"/trials/*; do id=${t##*/}; case %s in $id/*) continue ;; esac; "
             "cmp <(sed \"s/, .tokens_per_second.*//\" \"$t/metrics.jsonl\") "
             "<(sed \"s/, .tokens_per_second.*//\" \"%s/trials/$id/metrics.jsonl\") || exit 1; done'",
             whole, of, folder);
    return system(command) == 0;
}

/* One file of one trial cannot be written from the call `first` on: it fails and all others end as they would have.
 * kept: that can be told in its metrics. */
static void check_own_fault(enum fault what, const char *of, long first, bool kept)
{
    struct error error = {0};
    plan.what = what;
    plan.of = of;
    plan.first = first;
    plan.once = false;
    const int result = run(folder, &error);
    plan.of = NULL;
    if (result < 0)
        test_fail(__FILE__, __LINE__, "%s of %s fails at call %ld: %s", fault_names[what], of, first,
                  error.text);
    else if (count_lines("failed") != kept || count_same(whole, folder, "trials/*/head.safetensors") != 3 ||
             !others_have_same_metrics(of))
        test_fail(__FILE__, __LINE__, "%s of %s fails at call %ld: %d trials are marked, %d are the same",
                  fault_names[what], of, first, count_lines("failed"),
                  count_same(whole, folder, "trials/*/head.safetensors"));
    /* Where nothing says that it has failed, the same command tries it again. */
    if (!kept && result == 0 && (run(folder, &error) < 0 || !ends_as_whole()))
        test_fail(__FILE__, __LINE__, "%s of %s failed at call %ld: the run ends otherwise", fault_names[what],
                  of, first);
    remove_run();
}

TEST(one_trials_files_cannot_be_written)
{
    struct error error = {0};
    REQUIRE_OK(prepare(&error));
    for (long first = 1; first <= 3; first++) {
        check_own_fault(FAULT_WRITE, TROUBLED "/last.ckpt", first, true);
        check_own_fault(FAULT_RENAME, TROUBLED "/last.ckpt", first, true);
        check_own_fault(FAULT_SYNC, TROUBLED "/last.ckpt", first, true);
    }
    check_own_fault(FAULT_WRITE, TROUBLED "/head.safetensors", 1, true);
    check_own_fault(FAULT_RENAME, TROUBLED "/head.safetensors", 2, true);
    check_own_fault(FAULT_SYNC, TROUBLED "/metrics.jsonl", 3, true);
    for (long first = 1; first <= 16; first += 5)
        check_own_fault(FAULT_WRITE, TROUBLED "/metrics.jsonl", first, false);
}

/* A folder that somebody removes while the trial is trained: the others end, and the same command begins it again. */
TEST(one_trials_folder_vanishes)
{
    struct error error = {0};
    REQUIRE_OK(prepare(&error));
    plan.removes = true;
    for (long first = 1; first <= 4; first++)
        check_own_fault(FAULT_RENAME, TROUBLED "/last.ckpt", first, false);
    plan.removes = false;
}

/* ---- waves ---- */

/* Two trials at a time: more is opened, closed and written. The bytes are the same. */
TEST(waves_meet_faults)
{
    sort.parallel = 2;
    check_points(FAULT_WRITE, 8, false);
    check_points(FAULT_RENAME, 8, true);
    check_points(FAULT_DEVICE, 8, false);
    check_points(FAULT_MEMORY, 12, true);
    for (long first = 1; first <= 3; first++) {
        check_own_fault(FAULT_WRITE, TROUBLED "/last.ckpt", first, true);
        check_own_fault(FAULT_WRITE, "1-affine-ridge-distillation-0.001/last.ckpt", first, true);
    }
    sort.parallel = 0;
}

/* ---- kills ---- */

/* Goes on with the run in `folder` in a process that is killed at the call `first`. */
static void run_killed(long first, int steps, double agreement)
{
    struct error error = {0};
    int status;
    plan.what = FAULT_KILL;
    plan.first = first;
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0)
        _exit(run_for(folder, steps, agreement, &error) < 0);
    plan.first = 0;
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 9)
        test_fail(__FILE__, __LINE__, "the kill at call %ld did not happen", first);
}

/* Puts a copy of a run at `to`, instead of what is there. */
static void copy_run(const char *from, const char *to)
{
    char command[13000];
    snprintf(command, sizeof command, "rm -rf '%s' && cp -r '%s' '%s'", to, from, to);
    if (system(command) != 0)
        test_fail(__FILE__, __LINE__, "%s is not copied", from);
}

/* The run `from` goes on to `steps` and is killed at `points` of its calls (0: at each): it ends as the one in
 * `whole`. */
static void check_kills_of(const char *from, int steps, int points)
{
    struct error error = {0};
    copy_run(from, folder);
    plan.what = FAULT_KILL;
    plan.first = 0;
    REQUIRE_OK(run_for(folder, steps, NAN, &error));
    const long calls = plan.calls;
    CHECK(ends_as_whole());
    REQUIRE(calls > points);
    points = points > 0 ? points : (int)calls;
    for (int p = 0; p < points; p++) {
        const long first = 1 + (calls - 1) * p / (points - 1);
        copy_run(from, folder);
        run_killed(first, steps, NAN);
        if (run_for(folder, steps, NAN, &error) < 0)
            test_fail(__FILE__, __LINE__, "killed at call %ld: %s", first, error.text);
        if (!ends_as_whole())
            test_fail(__FILE__, __LINE__, "killed at call %ld of %ld: the run ends otherwise", first, calls);
    }
}

TEST(more_steps_after_a_kill)
{
    struct error error = {0};
    char done[4300];
    REQUIRE_OK(prepare(&error));
    snprintf(done, sizeof done, "%s.done", whole);
    copy_run(whole, done);
    REQUIRE(count_files(done, "trials/*/last.ckpt") == 0);
    REQUIRE_OK(run_for(whole, STEPS + 4, NAN, &error));
    REQUIRE(count_same(done, whole, "trials/*/head.safetensors") == 1); /* the one that is best at its start */
    check_kills_of(done, STEPS + 4, 40);
}

/* At every call from the last checkpoints on: the last evaluations, the kept heads on the whole split, the end of
 * each trial, the results. */
TEST(the_end_after_a_kill)
{
    struct error error = {0};
    char last[4300];
    long first;
    REQUIRE_OK(prepare(&error));
    snprintf(last, sizeof last, "%s.last", whole);
    plan.what = FAULT_KILL;
    plan.first = 0;
    REQUIRE_OK(run(folder, &error));
    for (first = plan.calls; first > 1 && count_lines("whole") > 0; first--) {
        remove_run();
        run_killed(first, STEPS, NAN);
    }
    copy_run(folder, last);
    remove_run();
    check_kills_of(last, STEPS, 0);
}

TEST(a_deleted_trial_after_a_kill)
{
    struct error error = {0};
    char done[4300], command[4400];
    REQUIRE_OK(prepare(&error));
    snprintf(done, sizeof done, "%s.done", whole);
    copy_run(whole, done);
    snprintf(command, sizeof command, "rm -r '%s'/trials/1-affine*", done);
    REQUIRE(system(command) == 0);
    check_kills_of(done, STEPS, 20);
}

/* ---- waves ---- */

/* Two trials at a time; at the rungs two of them stop. */
static void begin_waves(void)
{
    sort.format = waves_format;
    sort.parallel = 2;
}

TEST(waves_after_a_kill)
{
    struct error error = {0};
    char nothing[4300];
    begin_waves();
    REQUIRE_OK(prepare(&error));
    snprintf(nothing, sizeof nothing, "%s.nothing", whole);
    REQUIRE_OK(directory_create(nothing, &error));
    check_kills_of(nothing, STEPS, 60);
    sort.parallel = 0; /* the bytes of waves are those of all at a time */
    remove_run();
    REQUIRE_OK(run(folder, &error));
    CHECK(ends_as_whole());
}

TEST(waves_with_faults)
{
    begin_waves();
    check_points(FAULT_MEMORY, 16, true);
    check_points(FAULT_WRITE, 10, false);
    check_points(FAULT_SYNC, 8, true);
}

/* ---- the policy's folder ---- */

/* The policy is whole and one of these two: its number; -1: it is neither. */
static int which_policy(char *const texts[2])
{
    struct error error = {0};
    struct policy policy;
    char path[4300], json[8600], *text = NULL;
    size_t size;
    int which = -1;
    snprintf(path, sizeof path, "%s/policy", folder);
    if (policy_read(path, &policy, &error) < 0) {
        test_fail(__FILE__, __LINE__, "%s", error.text);
        return -1;
    }
    snprintf(json, sizeof json, "%s/policy.json", policy.folder);
    if (file_read(json, &text, &size, &error) == 0)
        which = !strcmp(text, texts[0]) ? 0 : !strcmp(text, texts[1]) ? 1 : -1;
    free(text);
    policy_free(&policy);
    return which;
}

static const double agreements[] = {0.95, 0.5};

/* Killed at the call `first` while the other policy is put in the place of policy `before`. The next command
 * gets what it asks for: the old one, or the new one. */
static void check_kill(long first, int before, char *const texts[2])
{
    struct error error = {0};
    const int asked[] = {before, !before};
    for (int i = 0; i < 2; i++) {
        run_killed(first, STEPS, agreements[!before]);
        if (which_policy(texts) < 0)
            test_fail(__FILE__, __LINE__, "killed at call %ld: neither the old policy nor the new one", first);
        if (run_for(folder, STEPS, agreements[asked[i]], &error) < 0)
            test_fail(__FILE__, __LINE__, "killed at call %ld: %s", first, error.text);
        if (which_policy(texts) != asked[i] || count_files(folder, "policy.*") > 0)
            test_fail(__FILE__, __LINE__, "killed at call %ld: the next run does not end with the %s one",
                      first, i ? "new" : "old");
    }
}

static void check_kills(bool no_exchange)
{
    struct error error = {0};
    char *texts[2] = {NULL}, path[4300];
    size_t size;
    long calls = 0;
    REQUIRE_OK(prepare(&error));
    snprintf(path, sizeof path, "%s/policy/policy.json", folder);
    plan.what = FAULT_KILL;
    plan.no_exchange = no_exchange;
    REQUIRE_OK(run(folder, &error));
    for (int i = 1; i >= 0; i--) {
        REQUIRE_OK(run_for(folder, STEPS, agreements[i], &error));
        calls = plan.calls;
        REQUIRE_OK(file_read(path, &texts[i], &size, &error));
    }
    REQUIRE(strcmp(texts[0], texts[1]) != 0 && calls > 10);
    for (long k = 1, before = 0; k <= calls; k++, before = !before)
        check_kill(k, (int)before, texts);
    plan.no_exchange = false;
    free(texts[0]);
    free(texts[1]);
}

TEST(a_policy_is_the_old_or_the_new_one)
{
    check_kills(false);
}

TEST(a_policy_is_the_old_or_the_new_one_without_exchange)
{
    check_kills(true);
}

TEST_MAIN
