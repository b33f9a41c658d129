/* Makes the model and the text of tests/training_model.h in a folder, for tests/interop/training.py. Prints the
 * arguments that make the store, one a line. */
#include <stdio.h>

#include "tests/training_model.h"

#include "common/base/cli.h"

int main(int argc, char **argv)
{
    static const char *const extract[] = {TRAINING_EXTRACT};
    struct error error = {0};
    if (argc != 2) {
        cli_say("usage: training_model FOLDER");
        return 2;
    }
    if (make_training_model(argv[1], &error) < 0) {
        cli_say("%s", error.text);
        return 1;
    }
    for (size_t i = 0; i < sizeof extract / sizeof extract[0]; i++)
        puts(extract[i]);
    return 0;
}
