/* The manifest of a store: JSON, then what the store makes of it; two of them are compared, too. */
#include "common/store/manifest.h"
#include "common/base/json.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error error;
    struct store_info info = {0};
    json_t *manifest = json_parse("manifest", (const char *)data, size, &error);
    if (!manifest)
        return 0;
    if (manifest_parse("manifest", manifest, &info, &error) == 0) {
        json_t *other = json_deep_copy(manifest);
        json_object_set_new(other, "rows", json_integer(7));
        manifest_compare(manifest, other, NULL, &error);
        json_decref(other);
    }
    manifest_free(&info);
    json_decref(manifest);
    return 0;
}
