/* source.c of common/head: which tensors of the model a store keeps, and those that a store of an earlier version gets
 * when it is finished already. */
#include "common/head/source.h"

#include <stdlib.h>
#include <string.h>

#include "common/store/target.h"
#include "tests/make_model.h"
#include "tests/test.h"

enum { LAYERS = 4 };

static const struct made_model made = {.layers = LAYERS,
                                       .hidden = 32,
                                       .attention_heads = 2,
                                       .kv_heads = 1,
                                       .head_size = 16,
                                       .intermediate = 48,
                                       .vocab = 100,
                                       .context = 64,
                                       .seed = 21,
                                       .untied = true};

static const char *const layer_tensors[] = {"attention_norm", "q",        "k",      "v",       "o",
                                            "mlp_norm",       "mlp_gate", "mlp_up", "mlp_down"};

static void open_both(struct model **model, struct store **store)
{
    struct error error;
    char path[4000];
    const char *folder = test_folder();
    snprintf(path, sizeof path, "%.3900s/model", folder);
    REQUIRE_OK(make_model(&made, path, &error));
    REQUIRE_OK(model_open(path, model, &error));
    json_t *config = config_to_json(model_config(*model), &error);
    json_object_set_new(config, "fingerprint", json_string("0123456789abcdef"));
    json_t *manifest = json_pack("{s:o, s:i, s:[{s:s, s:s}, {s:s, s:s}]}", "model", config, "rows", 16, "taps",
                                 "name", "1", "codec", "raw", "name", "final", "codec", "raw");
    snprintf(path, sizeof path, "%.3900s/store", folder);
    REQUIRE_OK(store_create(path, manifest, store, &error));
    json_decref(manifest);
}

static bool has(struct store *store, const char *name)
{
    struct source_shape shape;
    struct error missing;
    return store_find_source(store, name, &shape, &missing) == 0;
}

/* The tensor is there, with the model's bytes. */
static bool is_right(const struct model *model, struct store *store, int layer, enum tensor_role role)
{
    const struct tensor *tensor = model_tensor(model, layer > 0 ? layer - 1 : 0, role);
    char name[SOURCE_NAME_SIZE];
    struct source_shape shape;
    struct error error;
    void *data = NULL;
    source_name(role, layer, name);
    const bool right = store_get_source(store, name, &shape, &data, &error) == 0 &&
                       shape.rows * shape.cols * (int64_t)sizeof(float) == (int64_t)tensor->bytes &&
                       !memcmp(data, tensor->data, tensor->bytes);
    free(data);
    return right;
}

static void check_all(const struct model *model, struct store *store)
{
    char name[SOURCE_NAME_SIZE];
    CHECK(sources_are_there(model, store));
    CHECK(has(store, "embedding") && has(store, "output") && has(store, "final_norm"));
    for (int layer = 1; layer <= LAYERS; layer++) {
        for (int t = 0; t < 9; t++) { /* of layer 1, a tap's, the MLP; of the last two everything */
            snprintf(name, sizeof name, "%d/%s", layer, layer_tensors[t]);
            CHECK(has(store, name) == (layer > LAYERS - SOURCE_LAYERS || (layer == 1 && t >= 5)));
        }
    }
    CHECK(is_right(model, store, 0, ROLE_EMBEDDING) && is_right(model, store, LAYERS, ROLE_Q) &&
          is_right(model, store, LAYERS - 1, ROLE_O) && is_right(model, store, 1, ROLE_MLP_DOWN));
}

TEST(sources_of_a_new_store)
{
    struct error error;
    struct model *model = NULL;
    struct store *store = NULL;
    open_both(&model, &store);
    CHECK(!sources_are_there(model, store));
    REQUIRE_OK(sources_store(model, store, &error));
    check_all(model, store);
    /* the ends, an MLP half, and two layers */
    const uint64_t hidden = 32, mlp = 3 * 48 * hidden + hidden,
                   attention = (32 + 16 + 16 + 32) * hidden + hidden;
    CHECK(sources_bytes(model, store_info(store)) ==
          sizeof(float) * (2 * 100 * hidden + hidden + mlp + 2 * (mlp + attention)));
    store_close(store);
    model_close(model);
}

/* What the version before kept, with its note; finished. */
TEST(sources_of_an_older_store)
{
    struct error error;
    struct model *model = NULL;
    struct store *store = NULL;
    char path[4000];
    open_both(&model, &store);
    const struct tensor *output = model_tensor(model, 0, ROLE_OUTPUT);
    REQUIRE_OK(store_begin(store, &error));
    REQUIRE_OK(
        store_put_source(store, "output", (struct source_shape){DTYPE_F32, 100, 32}, output->data, &error));
    REQUIRE_OK(store_put_note(store, "sources", "complete", 8, &error));
    REQUIRE_OK(store_commit(store, &error));
    REQUIRE_OK(store_seal(store, &error));
    snprintf(path, sizeof path, "%.3900s", store_path(store));
    store_close(store);
    for (int again = 0; again < 2; again++) {
        REQUIRE_OK(store_open(path, STORE_WRITE, &store, &error));
        CHECK(store_is_sealed(store) && has(store, "4/q") == (again == 1));
        REQUIRE_OK(sources_store(model, store, &error));
        store_close(store);
    }
    REQUIRE_OK(store_open(path, STORE_READ, &store, &error));
    CHECK(store_is_sealed(store));
    check_all(model, store);
    store_close(store);
    model_close(model);
}

TEST_MAIN
