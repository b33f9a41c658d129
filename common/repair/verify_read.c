/* The children of verify. They read, and may die of what they read. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/memory.h"
#include "common/lmdb/pages.h"
#include "common/repair/verify_internal.h"
#include "common/store/environment.h"
#include "common/store/format.h"
#include "common/store/internal.h"

#define UNIT_VALUES 64

void verify_send(int pipe, bool fatal, const struct verify_problem *problem)
{
    struct verify_message message = {fatal, *problem};
    if (write(pipe, &message, sizeof message) != sizeof message)
        _exit(2); /* the parent is gone */
}

__attribute__((format(printf, 2, 3))) static void send_structure(int pipe, const char *format, ...)
{
    struct verify_problem problem = {.kind = VERIFY_STRUCTURE};
    va_list list;
    va_start(list, format);
    vsnprintf(problem.text, sizeof problem.text, format, list);
    va_end(list);
    verify_send(pipe, false, &problem);
}

/* ---- units ---- */

bool verify_unit_at(const struct verify_shared *shared, uint64_t number, struct verify_unit *unit)
{
    for (int database = 0; database <= shared->taps; database++) {
        if (database > 0 && shared->unreadable[database - 1])
            continue;
        for (enum split split = 0; split < SPLIT_COUNT; split++) {
            uint64_t count = shared->count[database][split], units = (count + UNIT_VALUES - 1) / UNIT_VALUES;
            if (number < units) {
                uint64_t first = number * UNIT_VALUES, left = count - first;
                *unit = (struct verify_unit){UNIT_SEQUENCES, database, split, first,
                                             left < UNIT_VALUES ? left : UNIT_VALUES};
                return true;
            }
            number -= units;
        }
        if (shared->damaged)
            continue;
        if (number == 0) {
            *unit = (struct verify_unit){.kind = UNIT_REST, .database = database};
            return true;
        }
        number--;
    }
    *unit = (struct verify_unit){.kind = number == 0 ? UNIT_SOURCE : UNIT_PARAMETERS};
    return number <= 1 && !shared->damaged;
}

/* A database of sequences as readers name it. */
static int tap_of(int database)
{
    return database == 0 ? STORE_TOKENS : database - 1;
}

static struct sequence sequence_at(const struct verify_shared *shared, enum split split, uint64_t number)
{
    return shard_sequence(shared->shard, shared->shards, split, number);
}

static void name_database(const struct verify_shared *shared, int database, char name[TAP_NAME_SIZE + 8])
{
    char tap[TAP_NAME_SIZE];
    if (database == 0) {
        snprintf(name, TAP_NAME_SIZE + 8, "tokens");
        return;
    }
    tap_name(shared->tap[database - 1], shared->layers, tap);
    snprintf(name, TAP_NAME_SIZE + 8, "tap %s", tap);
}

void verify_problem_at(const struct verify_shared *shared, const struct verify_unit *unit, uint64_t value,
                       struct verify_problem *problem)
{
    char name[TAP_NAME_SIZE + 8];
    *problem = (struct verify_problem){.kind = unit->kind == UNIT_SOURCE ? VERIFY_SOURCE : VERIFY_STRUCTURE};
    name_database(shared, unit->database, name);
    if (unit->kind == UNIT_SEQUENCES) {
        problem->kind = unit->database == 0 ? VERIFY_TOKENS : VERIFY_RECORD;
        problem->tap = unit->database - 1;
        if (problem->kind == VERIFY_RECORD)
            tap_name(shared->tap[problem->tap], shared->layers, problem->tap_name);
        problem->sequence = sequence_at(shared, unit->split, unit->first + value);
        snprintf(problem->text, sizeof problem->text, "%s, %s sequence %" PRIu64, name, split_name(unit->split),
                 problem->sequence.index);
    } else
        snprintf(problem->text, sizeof problem->text, "%s",
                 unit->kind == UNIT_SOURCE       ? "source"
                 : unit->kind == UNIT_PARAMETERS ? "parameters of codecs"
                                                 : name);
}

/* ---- reading ---- */

struct verifier {
    struct verify_shared *shared;
    struct verify_slot *slot;
    int pipe;
    struct store *store;
    struct reader *reader;
    float *states; /* [rows, hidden]; NULL: records are not decoded */
    struct pages_map map;
};

static void send_problem(const struct verifier *verifier, const struct verify_unit *unit, uint64_t value,
                         const struct error *error)
{
    struct verify_problem problem;
    verify_problem_at(verifier->shared, unit, value, &problem);
    snprintf(problem.text, sizeof problem.text, "%s", error->text);
    verify_send(verifier->pipe, false, &problem);
}

static void count_value(struct verifier *verifier, size_t size)
{
    atomic_fetch_add(&verifier->shared->values, 1);
    atomic_fetch_add(&verifier->shared->bytes, size);
}

/* Where the structure is damaged, the survey has said so already. */
static int check_pages(const struct verifier *verifier, const void *value, size_t size, struct error *error)
{
    if (verifier->shared->damaged || pages_value_is_right(&verifier->map, value, size))
        return 0;
    return error_set_kind(error, ERROR_DAMAGED, "the page before the value is damaged");
}

static int check_value(struct verifier *verifier, int database, struct sequence sequence, const void *value,
                       size_t size, struct error *error)
{
    const int tap = tap_of(database);
    const struct record_parts parts = {.states = verifier->states};
    if (reader_check(verifier->reader, tap, sequence, value, size, &parts, error) < 0)
        return -1;
    if (check_pages(verifier, value, size, error) < 0) {
        char name[TAP_NAME_SIZE + 8];
        name_database(verifier->shared, database, name);
        return error_prefix(error, "%s, %s sequence %" PRIu64, name, split_name(sequence.split),
                            sequence.index);
    }
    count_value(verifier, size);
    return 0;
}

/* Asks the disk for values `first` to `last` of a unit. Not in a damaged structure: looking for a value may end
 * this process, and the value that it is at would be blamed. */
static void ask_ahead(const struct verifier *verifier, const struct verify_unit *unit, uint64_t first,
                      uint64_t last)
{
    const int tap = tap_of(unit->database);
    for (uint64_t i = first; i <= last && i < unit->count && !verifier->shared->damaged; i++)
        reader_ahead(verifier->reader, tap, sequence_at(verifier->shared, unit->split, unit->first + i));
}

static void read_sequences(struct verifier *verifier, const struct verify_unit *unit, uint64_t from)
{
    enum { AHEAD = 16 };
    struct error error;
    for (uint64_t i = from; i < unit->count; i++) {
        struct sequence sequence = sequence_at(verifier->shared, unit->split, unit->first + i);
        const void *value;
        size_t size;
        atomic_store(&verifier->slot->value, i);
        ask_ahead(verifier, unit, i == from ? i : i + AHEAD, i + AHEAD);
        if (reader_record(verifier->reader, tap_of(unit->database), sequence, &value, &size, &error) < 0 ||
            check_value(verifier, unit->database, sequence, value, size, &error) < 0)
            send_problem(verifier, unit, i, &error);
    }
}

static int open_cursor(const struct verifier *verifier, MDB_dbi database, MDB_cursor **cursor,
                       uint64_t *entries, struct error *error)
{
    MDB_stat stat;
    int code = mdb_stat(verifier->reader->snapshot, database, &stat);
    if (code == 0)
        code = mdb_cursor_open(verifier->reader->snapshot, database, cursor);
    *entries = code ? 0 : stat.ms_entries;
    return code ? environment_error(error, code, "cannot be walked") : 0;
}

/* A value behind those that must be there, such as a record that waits for its progress mark. */
static int check_rest(struct verifier *verifier, int database, const MDB_val *key, const MDB_val *value,
                      struct error *error)
{
    uint64_t number;
    if (key->mv_size != SEQUENCE_KEY_SIZE)
        return error_set_kind(error, ERROR_DAMAGED, "a key of %zu bytes", key->mv_size);
    struct sequence sequence = sequence_of_key(key->mv_data);
    if (store_number(verifier->store, sequence, &number, error) < 0)
        return -1;
    return check_value(verifier, database, sequence, value->mv_data, value->mv_size, error);
}

/* Reads what lies behind the counted sequences of each split. Then every entry of the database was read. */
static void read_rest(struct verifier *verifier, const struct verify_unit *unit)
{
    const uint64_t *count = verifier->shared->count[unit->database];
    const struct store *store = verifier->store;
    uint64_t entries, found = 0;
    struct error error;
    MDB_cursor *cursor;
    if (open_cursor(verifier, unit->database == 0 ? store->tokens : store->tap[unit->database - 1], &cursor,
                    &entries, &error) < 0) {
        send_problem(verifier, unit, 0, &error);
        return;
    }
    for (enum split split = 0; split < SPLIT_COUNT; split++) {
        unsigned char first[SEQUENCE_KEY_SIZE];
        MDB_val key = {sizeof first, first}, value;
        sequence_key(sequence_at(verifier->shared, split, count[split]), first);
        int code = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
        for (; code == 0 && *(unsigned char *)key.mv_data >> 7 == split; found++) {
            if (check_rest(verifier, unit->database, &key, &value, &error) < 0)
                send_problem(verifier, unit, 0, &error);
            code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
        }
        found += count[split];
    }
    mdb_cursor_close(cursor);
    char name[TAP_NAME_SIZE + 8];
    name_database(verifier->shared, unit->database, name);
    if (found != entries) {
        error_set_kind(&error, ERROR_DAMAGED, "%s: has %" PRIu64 " entries where %" PRIu64 " belong", name,
                       entries, found);
        send_problem(verifier, unit, 0, &error);
    }
}

/* One value of the source database. */
static int check_part_value(struct verifier *verifier, const MDB_val *key, const MDB_val *value,
                            struct source_part *part, struct error *error)
{
    if (source_verify(key->mv_data, key->mv_size, value->mv_data, value->mv_size, part, error) < 0 ||
        check_pages(verifier, value->mv_data, value->mv_size, error) < 0)
        return error_prefix(error, "source");
    count_value(verifier, value->mv_size);
    return 0;
}

static void read_source(struct verifier *verifier, const struct verify_unit *unit)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    struct error error;
    struct source_part part, tensor = {0};
    uint64_t entries;
    uint32_t found = 0;
    if (open_cursor(verifier, verifier->store->source, &cursor, &entries, &error) < 0) {
        send_problem(verifier, unit, 0, &error);
        return;
    }
    int code = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    for (;; code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        if (code == 0 && check_part_value(verifier, &key, &value, &part, &error) < 0) {
            send_problem(verifier, unit, 0, &error);
            continue; /* whose part it is is not known */
        }
        if (found > 0 && (code != 0 || strcmp(part.name, tensor.name) != 0)) {
            error_set_kind(&error, ERROR_DAMAGED, "source: %s has %" PRIu32 " of its %" PRIu32 " parts",
                           tensor.name, found, tensor.parts);
            if (found != tensor.parts)
                send_problem(verifier, unit, 0, &error);
            found = 0;
        }
        if (code != 0)
            break;
        tensor = part;
        found++;
    }
    mdb_cursor_close(cursor);
}

/* The parameters of one tap. *there: whether it has any, right or wrong. A tap with records must have some. */
static int check_parameters(struct verifier *verifier, int tap, int copy, bool *there, struct error *error)
{
    const struct store *store = verifier->store;
    char name[PARAMETERS_NAME_SIZE];
    parameters_name(store, tap, copy, name);
    MDB_val key = text_val(PARAMETERS_KEY(name)), value, found;
    const struct coder *coder;
    int code = mdb_get(verifier->reader->snapshot, store->parameters, &key, &value);
    *there = code == 0;
    if (code == MDB_NOTFOUND && store_progress(store, tap, SPLIT_TRAIN) == 0)
        return 0;
    if (copy == 0 && store_coder(verifier->store, tap, &coder, error) < 0)
        return -1;
    if (parameters_find(store, verifier->reader->snapshot, tap, copy, &found, error) < 0)
        return -1;
    if (!found.mv_data)
        return error_set_kind(error, ERROR_DAMAGED, "%s: is missing", name);
    if (check_pages(verifier, value.mv_data, value.mv_size, error) < 0)
        return error_prefix(error, "%s", name);
    count_value(verifier, value.mv_size);
    return 0;
}

static void read_parameters(struct verifier *verifier)
{
    const struct store_info *info = store_info(verifier->store);
    struct verify_problem problem = {.kind = VERIFY_PARAMETERS};
    struct store_usage usage;
    struct error error;
    uint64_t found = 0;
    for (int i = 0; i < info->taps * STORE_PARAMETERS_COPIES; i++) {
        bool there = false;
        problem.tap = i / STORE_PARAMETERS_COPIES;
        if (info->codec[problem.tap].codec->prepare &&
            check_parameters(verifier, problem.tap, i % STORE_PARAMETERS_COPIES, &there, &error) < 0) {
            snprintf(problem.text, sizeof problem.text, "%s", error.text);
            tap_name(info->tap[problem.tap], info->layers, problem.tap_name);
            verify_send(verifier->pipe, false, &problem);
        }
        found += there;
    }
    if (store_measure(verifier->store, STORE_PARAMETERS, &usage, &error) == 0 && usage.values != found)
        send_structure(verifier->pipe, "parameters of codecs: %" PRIu64 " entries where %" PRIu64 " belong",
                       usage.values, found);
}

static int verifier_open(struct verifier *verifier, const char *path, struct error *error)
{
    if (store_open(path, STORE_READ, &verifier->store, error) < 0 ||
        reader_open(verifier->store, &verifier->reader, error) < 0 ||
        store_find_map(verifier->store, verifier->reader->snapshot, &verifier->map, error) < 0)
        return -1;
    const struct store_info *info = store_info(verifier->store);
    if (!verifier->shared->decode)
        return 0;
    return array_alloc(&verifier->states, (size_t)info->rows * (size_t)info->hidden, error);
}

int verify_read(const char *path, struct verify_shared *shared, struct verify_slot *slot, int pipe,
                struct error *error)
{
    struct verifier verifier = {.shared = shared, .slot = slot, .pipe = pipe};
    struct verify_unit unit;
    int result = verifier_open(&verifier, path, error);
    bool resumed = atomic_load(&slot->busy);
    while (result == 0) {
        uint64_t from = resumed ? atomic_load(&slot->value) + 1 : 0;
        if (!resumed)
            atomic_store(&slot->unit, atomic_fetch_add(&shared->next_unit, 1));
        if (!verify_unit_at(shared, atomic_load(&slot->unit), &unit))
            break;
        atomic_store(&slot->value, from);
        atomic_store(&slot->busy, true);
        if (unit.kind == UNIT_SEQUENCES)
            read_sequences(&verifier, &unit, from);
        else if (!resumed && unit.kind == UNIT_REST)
            read_rest(&verifier, &unit);
        else if (!resumed && unit.kind == UNIT_SOURCE)
            read_source(&verifier, &unit);
        else if (!resumed)
            read_parameters(&verifier);
        resumed = false;
        atomic_store(&slot->busy, false);
    }
    reader_close(verifier.reader);
    store_close(verifier.store);
    free(verifier.states);
    return result;
}

/* ---- the survey ---- */

static void report_page(void *context, const char *problem)
{
    send_structure(*(const int *)context, "structure: %s", problem);
}

/* The trees of a transaction that a reader keeps open, so that its pages stay. For that, LMDB reads only its
 * meta pages. */
static int survey_pages(const char *path, struct verify_shared *shared, int pipe, struct error *error)
{
    MDB_env *env;
    MDB_txn *snapshot;
    int problems = 0, result = -1;
    char *data = path_join(path, DATA_FILE, error);
    if (!data || environment_open(path, STORE_READ, &env, error) < 0) {
        free(data);
        return -1;
    }
    int code = mdb_txn_begin(env, NULL, MDB_RDONLY, &snapshot);
    if (code)
        environment_error(error, code, "%s: cannot be read", path);
    else {
        result = pages_check(data, mdb_txn_id(snapshot), report_page, &pipe, &problems, error);
        mdb_txn_abort(snapshot);
    }
    shared->damaged = problems > 0;
    mdb_env_close(env);
    free(data);
    return result;
}

/* meta must have no other keys: a key that a flipped bit renamed is one. */
static void survey_meta(const struct store *store, const struct reader *reader, int pipe)
{
    static const char *const known[] = {"manifest", "state", "version"};
    MDB_cursor *cursor;
    MDB_val key;
    if (mdb_cursor_open(reader->snapshot, store->meta, &cursor) != 0)
        return;
    for (int code = mdb_cursor_get(cursor, &key, NULL, MDB_FIRST); code == 0;
         code = mdb_cursor_get(cursor, &key, NULL, MDB_NEXT)) {
        size_t i = 0;
        while (i < 3 && (key.mv_size != strlen(known[i]) || memcmp(key.mv_data, known[i], key.mv_size) != 0))
            i++;
        if (i == 3)
            send_structure(pipe, "structure: there is a key in meta that does not belong there");
    }
    mdb_cursor_close(cursor);
}

/* Bad parameters of a tap are one problem, not one for every record. */
static void survey_parameters(struct store *store, struct verify_shared *shared)
{
    struct error ignored;
    const struct coder *coder;
    for (int tap = 0; tap < shared->taps; tap++)
        shared->unreadable[tap] = !shared->damaged && shared->count[1 + tap][SPLIT_TRAIN] > 0 &&
                                  store_coder(store, tap, &coder, &ignored) < 0;
}

static int survey_counts(const struct store *store, struct verify_shared *shared, struct error *error)
{
    const struct store_info *info = store_info(store);
    struct store_usage source, parameters;
    if (store_measure(store, STORE_SOURCE, &source, error) < 0 ||
        store_measure(store, STORE_PARAMETERS, &parameters, error) < 0)
        return -1;
    shared->total = source.values + parameters.values;
    shared->taps = info->taps;
    shared->layers = info->layers;
    shared->shard = info->shard;
    shared->shards = info->shards;
    memcpy(shared->tap, info->tap, (size_t)info->taps * sizeof *info->tap);
    for (enum split split = 0; split < SPLIT_COUNT; split++) {
        shared->count[0][split] = store_sequences(store, split);
        for (int tap = 0; tap < info->taps; tap++)
            shared->count[1 + tap][split] = store_progress(store, tap, split);
        for (int database = 0; database <= info->taps; database++)
            shared->total += shared->count[database][split];
    }
    return 0;
}

int verify_survey(const char *path, struct verify_shared *shared, struct verify_slot *slot, int pipe,
                  struct error *error)
{
    (void)slot;
    if (!store_exists(path))
        return error_set(error, "%s: there is no store here (no %s)", path, DATA_FILE);
    struct store *store = NULL;
    struct reader *reader = NULL;
    int result = survey_pages(path, shared, pipe, error);
    if (result == 0)
        result = store_open(path, STORE_READ, &store, error);
    if (result == 0)
        result = reader_open(store, &reader, error);
    if (result == 0) {
        survey_meta(store, reader, pipe);
        result = survey_counts(store, shared, error);
        survey_parameters(store, shared);
    }
    reader_close(reader);
    store_close(store);
    return result;
}
