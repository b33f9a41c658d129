/* The parameters of codecs: one value per tap and a copy of it, in the database "codec". */
#include <stdio.h>
#include <string.h>

#include "common/base/memory.h"
#include "common/store/environment.h"
#include "common/store/format.h"
#include "common/store/internal.h"

void parameters_name(const struct store *store, int tap, int copy, char name[PARAMETERS_NAME_SIZE])
{
    char tap_text[TAP_NAME_SIZE];
    tap_name(store->info.tap[tap], store->info.layers, tap_text);
    snprintf(name, PARAMETERS_NAME_SIZE, "codec/%s%s", tap_text, copy > 0 ? "/copy" : "");
}

int parameters_find(const struct store *store, MDB_txn *snapshot, int tap, int copy, MDB_val *parameters,
                    struct error *error)
{
    const void *bytes;
    size_t size;
    char name[PARAMETERS_NAME_SIZE];
    parameters_name(store, tap, copy, name);
    MDB_val key = text_val(PARAMETERS_KEY(name)), value;
    *parameters = (MDB_val){0};
    int code = mdb_get(snapshot, store->parameters, &key, &value);
    if (code == MDB_NOTFOUND)
        return 0;
    if (code)
        return environment_error(error, code, "%s: \"%s\"", store->path, name);
    if (meta_unframe(name, value.mv_data, value.mv_size, &bytes, &size, error) < 0)
        return error_prefix(error, "%s", store->path);
    *parameters = bytes_val(bytes, size);
    return 0;
}

int store_get_parameters(struct store *store, int tap, void **bytes, size_t *size, struct error *error)
{
    MDB_val found;
    MDB_txn *snapshot;
    *bytes = NULL;
    *size = 0;
    if (!store->info.codec[tap].codec->prepare)
        return 0;
    if (store_snapshot(store, &snapshot, error) < 0)
        return -1;
    int result = parameters_find(store, snapshot, tap, 0, &found, error);
    if (result == 0 && found.mv_data) {
        *size = found.mv_size;
        *bytes = memory_alloc(*size, 1, error);
        if (*bytes)
            memcpy(*bytes, found.mv_data, *size);
        else
            result = -1;
    }
    store_end_snapshot(store, snapshot);
    return result;
}

/* Called with the mutex held. parameters NULL: there are none. */
static int make_coder(struct store *store, int tap, const void *parameters, size_t size, struct error *error)
{
    const struct store_info *info = &store->info;
    const struct codec *codec = info->codec[tap].codec;
    char name[TAP_NAME_SIZE];
    tap_name(info->tap[tap], info->layers, name);
    if (codec->prepare && !parameters)
        return error_set(error, "tap %s: %s has no parameters yet: run the command that makes the store again",
                         name, info->codec[tap].name);
    if (coder_create(codec, parameters, size, info->hidden, &store->coder[tap], error) < 0)
        return error_prefix(error, "tap %s", name);
    return 0;
}

static const struct coder *made_coder(struct store *store, int tap)
{
    pthread_mutex_lock(&store->coder_mutex);
    const struct coder *coder = store->coder[tap];
    pthread_mutex_unlock(&store->coder_mutex);
    return coder;
}

/* The parameters are read without the mutex. Reading may wait for a writer, and the writer for a thread that
 * waits for the mutex (snapshot.h). */
int store_coder(struct store *store, int tap, const struct coder **coder, struct error *error)
{
    void *parameters;
    size_t size;
    if ((*coder = made_coder(store, tap)))
        return 0;
    if (store_get_parameters(store, tap, &parameters, &size, error) < 0)
        return -1;
    pthread_mutex_lock(&store->coder_mutex);
    int result = store->coder[tap] ? 0 : make_coder(store, tap, parameters, size, error);
    *coder = store->coder[tap];
    pthread_mutex_unlock(&store->coder_mutex);
    free(parameters);
    return result;
}

/* Makes the tap's coder. */
static int take_coder(struct store *store, int tap, const void *bytes, size_t size, struct error *error)
{
    const struct store_info *info = &store->info;
    if (store->coder[tap])
        return error_set(error, "%s has its parameters already", info->codec[tap].name);
    return coder_create(info->codec[tap].codec, bytes, size, info->hidden, &store->coder[tap], error);
}

int parameters_put(struct store *store, int tap, int copy, MDB_val parameters, struct error *error)
{
    struct string framed = {0};
    char name[PARAMETERS_NAME_SIZE];
    int result = -1;
    parameters_name(store, tap, copy, name);
    meta_frame(name, parameters.mv_data, parameters.mv_size, &framed);
    if (!string_failed(&framed, error))
        result = store_put(store, store->parameters, text_val(PARAMETERS_KEY(name)),
                           bytes_val(framed.data, framed.length), error);
    string_free(&framed);
    return result;
}

int store_put_parameters(struct store *store, int tap, const void *bytes, size_t size, struct error *error)
{
    char name[PARAMETERS_NAME_SIZE];
    void *there;
    size_t there_size;
    int result = -1;
    parameters_name(store, tap, 0, name);
    if (store_check_writing(store, error) < 0 ||
        store_get_parameters(store, tap, &there, &there_size, error) < 0)
        return -1;
    const bool taken = there || !store->info.codec[tap].codec->prepare;
    free(there);
    if (taken)
        return error_set(error, "%s: %s takes no parameters, or has them already", store->path, name);
    pthread_mutex_lock(&store->coder_mutex);
    if (take_coder(store, tap, bytes, size, error) < 0) {
        error_prefix(error, "%s: %s", store->path, name);
        goto done;
    }
    result = 0;
    for (int copy = 0; copy < STORE_PARAMETERS_COPIES && result == 0; copy++)
        result = parameters_put(store, tap, copy, bytes_val(bytes, size), error);
done:
    pthread_mutex_unlock(&store->coder_mutex);
    return result;
}
