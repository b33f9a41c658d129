/* training.c: whole runs of train against PyTorch. tests/golden/training.tsv has, of each trial of training.yaml, the
 * losses of its steps as tests/interop/training.py computed them in f64, from the same first values and in the same
 * order. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "tests/process.h"
#include "tests/test.h"
#include "tests/training_model.h"
#include "train/metrics.h"

#define SWEEP     "tests/golden/training.yaml"
#define GOLDEN    "tests/golden/training.tsv"
#define TOLERANCE 1e-5 /* of a step's loss, nats: f32 against f64 is 1e-7 off */

static struct error error;

/* The losses of one trial, which are what follows its name in a line of the golden file. */
static void check_trial(const char *run, const char *device, char *line)
{
    char path[1024], *rest = NULL, *end;
    const char *id = strtok_r(line, "\t", &rest);
    struct metrics metrics = {0};
    size_t step = 0;
    double largest = 0;
    snprintf(path, sizeof path, "%s/trials/%s/metrics.jsonl", run, id);
    if (metrics_read(path, &metrics, &error) < 0)
        test_fail(__FILE__, __LINE__, "%s", error.text);
    /* The point before the first step is an evaluation. */
    while (step < metrics.count && !metrics.point[step].trained)
        step++;
    for (const char *word; (word = strtok_r(NULL, "\t", &rest)) && step < metrics.count; step++) {
        const double expected = strtod(word, &end), difference = metrics.point[step].training.loss - expected;
        if (*end)
            test_fail(__FILE__, __LINE__, GOLDEN ": %s: \"%s\" is not a number", id, word);
        if (!(fabs(difference) <= largest))
            largest = fabs(difference);
    }
    if (strtok_r(NULL, "\t", &rest) || step != metrics.count)
        test_fail(__FILE__, __LINE__, "%s on %s: has %zu points where " GOLDEN " has others", id, device,
                  metrics.count);
    if (!(largest <= TOLERANCE))
        test_fail(__FILE__, __LINE__, "%s on %s: a step's loss is off by %.2g nats", id, device, largest);
    metrics_free(&metrics);
}

/* How many trials the run was of. */
static size_t count_trials(const char *run)
{
    char path[1024];
    size_t count = 0;
    snprintf(path, sizeof path, "%s/run.json", run);
    json_t *facts = json_load_file(path, 0, NULL);
    count = json_array_size(json_object_get(json_object_get(facts, "result"), "trials"));
    json_decref(facts);
    return count;
}

static void check_run(const char *run, const char *device)
{
    char *text = NULL, *rest = NULL;
    size_t size, trials = 0;
    REQUIRE_OK(file_read(GOLDEN, &text, &size, &error));
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        check_trial(run, device, line);
        trials++;
    }
    CHECK(trials > 0 && trials == count_trials(run));
    free(text);
}

TEST(training_golden)
{
    static const char *const devices[] = {"ref", "cpu", "cuda"};
    const char *folder = test_folder();
    char model[512], ids[512], store[512], run[512], log[512];
    snprintf(model, sizeof model, "%s/model", folder);
    snprintf(ids, sizeof ids, "%s/ids.u16", folder);
    REQUIRE_OK(make_training_model(folder, &error));
    for (int i = 0; i < 3; i++) {
        const char *device = devices[i];
        if (!test_wants_device(device))
            continue;
        snprintf(store, sizeof store, "%s/%s.store", folder, device);
        snprintf(run, sizeof run, "%s/%s.run", folder, device);
        snprintf(log, sizeof log, "%s/%s.log", folder, device);
        const char *const extract[] = {TRAINING_EXTRACT, "--device", device,  "--model", model,
                                       "--corpus",       ids,        "--out", store,     NULL};
        const char *const train[] = {"train",   "--device", device,  "--store", store,
                                     "--sweep", SWEEP,      "--out", run,       NULL};
        if (process_run(extract, log, log) && process_run(train, log, log))
            check_run(run, device);
    }
}

TEST_MAIN
