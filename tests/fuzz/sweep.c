/* A sweep file, as it is given and for a model of the demo's shape. */
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "tests/small_config.h"
#include "train/sweep.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error error = {0};
    struct sweep sweep;
    if (sweep_parse("sweep.yaml", (const char *)data, size, &sweep, &error) == 0 && sweep.trials == 0)
        abort();
    if (sweep.trials > 0 && sweep_resolve(&sweep, &small, &error) == 0 &&
        (sweep_fit(&sweep, 64, &error) == 0) != (sweep.sequences <= 64))
        abort();
    for (int i = 0; i < sweep.trials; i++) {
        json_t *config = trial_config_to_json(&sweep.trial[i], &error);
        if (!config || !(trial_rate(&sweep.trial[i], 1, 10) >= 0))
            abort();
        json_decref(config);
    }
    sweep_free(&sweep);
    return 0;
}
