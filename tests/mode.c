#include "tests/mode.h"

bool test_wants_mode(const char *device, enum math math)
{
    struct error error;
    struct backend *backend;
    if (!test_wants_device(device))
        return false;
    if (strcmp(device, "cpu") != 0 || math != MATH_BF16)
        return true;
    if (backend_open(device, &(struct backend_options){.threads = 1, .math = math}, &backend, &error) == 0) {
        backend_close(backend);
        return true;
    }
    if (!strstr(error.text, "no bf16 products") || !strstr(error.text, "use --math f32"))
        return true; /* the test will fail with this error */
    test_skip(error.text);
    return false;
}
