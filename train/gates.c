#include "train/gates.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/file.h"
#include "common/base/memory.h"
#include "common/head/policy.h"
#include "common/model/block.h"
#include "train/exit_cost.h"
#include "train/gate_fit.h"
#include "train/gate_results.h"
#include "train/gate_samples.h"
#include "train/policy_table.h"
#include "train/short_list.h"

/* Bytes of samples that are held at a time; fewer sequences are read where they would have more. */
static const uint64_t samples_most = (uint64_t)512 << 20;

/* ---- can there be gates ---- */

int gates_check(const struct stores *stores, const struct gate_wish *wish, struct error *error)
{
    const uint64_t sequences = stores->sequences[SPLIT_HELD_OUT], tokens = sequences * (uint64_t)stores->rows;
    if (wish->count == 0 || (sequences >= GATES_SEQUENCES && tokens >= GATES_TOKENS))
        return 0;
    return error_set_kind(
        error, ERROR_USAGE,
        "gates are fitted to held-out tokens that no head has seen, and need at least %d in %d "
        "sequences, but the held-out split has %" PRIu64 " in %" PRIu64
        ". Extract with a larger --held-out, or leave `gates` out",
        GATES_TOKENS, GATES_SEQUENCES, tokens, sequences);
}

/* The best finished trial of each tap, by tap. */
static int choose(const struct leaderboard *board, int layers, const struct leaderboard_row **rows,
                  struct error *error)
{
    struct policy_wish all = {.exits = board->count};
    if (array_alloc(&all.exit, board->count, error) < 0)
        return -1;
    for (int i = 0; i < board->count; i++)
        all.exit[i] = board->row[i].config->spec.tap;
    const int count = policy_choose(board, layers, &all, rows);
    free(all.exit);
    return count;
}

bool gates_are_there(const struct run_folder *run, const struct leaderboard *board, int layers,
                     const struct gate_wish *wish)
{
    struct error ignored;
    const struct leaderboard_row **rows;
    if (wish->count == 0)
        return true;
    if (array_alloc(&rows, board->count, &ignored) < 0)
        return false;
    json_t *results = gate_results_read(run);
    const int count = choose(board, layers, rows, &ignored);
    bool there = count >= 0 && results;
    for (int i = 0; i < count && there; i++) {
        for (int g = 0; g < wish->count && there; g++) {
            const struct gate_entry entry =
                gate_entry_of(rows[i]->config->tap, rows[i]->config->id, &wish->spec[g]);
            there = gate_results_have(run, results, &entry);
        }
    }
    json_decref(results);
    free(rows);
    return there;
}

/* ---- where the split is cut ---- */

/* The rows of a held-out sequence at which documents start: whether the first does, and whether there is one. */
static int look_for_start(struct shards_reader *reader, uint64_t index, int rows, bool *first, bool *any,
                          struct error *error)
{
    struct sequence sequence = {SPLIT_HELD_OUT, index};
    struct reader *of = shards_reader_of(reader, &sequence);
    int32_t *starts;
    int count = 0;
    if (array_alloc(&starts, rows + 1, error) < 0)
        return -1;
    int result = reader_starts(of, sequence, starts, &count, error);
    *first = result == 0 && count > 0 && starts[0] == 0;
    *any = result == 0 && count > 0;
    free(starts);
    return result;
}

static int cut_split(const struct stores *stores, uint64_t sequences, struct gate_cut *cut, struct error *error)
{
    struct shards_reader *reader = NULL;
    const uint64_t middle = sequences / 2, least = sequences - middle / 2;
    bool first = false, any = false;
    *cut = (struct gate_cut){.fitted = middle, .scored = middle, .sequences = sequences, .rows = stores->rows};
    if (shards_reader_open(stores->shards, &reader, error) < 0)
        return -1;
    int result = 0;
    while (result == 0 && cut->scored < least && !first) {
        result = look_for_start(reader, cut->scored, stores->rows, &first, &any, error);
        cut->scored += !first;
        first = first || any; /* the one behind it begins with another document, or with one that began there */
    }
    shards_reader_close(reader);
    if (!first) {
        cut->scored = middle + 1;
        cut->shares_document = true;
    }
    return result;
}

/* ---- an exit ---- */

/* What gates of a tap are made from. */
struct maker {
    const struct gates_setting *setting;
    const struct stores *stores;
    json_t *results;
    struct gate_cut cut;
    struct short_list_tokens tokens; /* counted when they are first needed */
    struct gate_candidates *candidates; /* [tokens] of the exit below; NULL: there is none */
    double candidates_cost; /* layers that they take */
    /* of the tap that it is at: */
    const struct trial_config *config;
    struct trial *trial;
    char head[17];
    struct short_list *list;
    struct gate_samples samples;
};

static const unsigned of_list = GATE_CANDIDATES | GATE_SHORT_LIST | GATE_CONFIDENCE; /* features that need it */

static struct gate_entry entry_of(const struct maker *maker, const struct gate_spec *spec)
{
    struct gate_entry entry = gate_entry_of(maker->config->tap, maker->config->id, spec);
    strcpy(entry.head, maker->head);
    return entry;
}

static bool can_be(const struct maker *maker, const struct gate_spec *spec)
{
    return !(spec->features & GATE_CANDIDATES) || maker->candidates;
}

static double head_cost(const struct maker *maker)
{
    return exit_cost(&maker->config->spec, &maker->stores->config).head;
}

/* In layers, as exit_cost.h counts. */
static double gate_cost(const struct maker *maker, const struct gate *gate)
{
    const double hidden = gate->hidden;
    double values = (double)gate->width * (gate->units > 0 ? 2 * (double)gate->units : 1), cost = 0;
    if (gate->spec.features & of_list)
        cost += head_cost(maker);
    if (gate->spec.features & GATE_CANDIDATES) {
        values += GATE_NAMED * hidden;
        cost += maker->candidates_cost;
    }
    if (gate->spec.features & GATE_CONFIDENCE)
        values += (double)gate->vocab * hidden;
    else if (gate->spec.features & GATE_SHORT_LIST)
        values += gate->tokens * hidden;
    return cost + values / (double)block_values(&maker->stores->config);
}

static int set_home(const struct maker *maker, const struct gate_spec *spec, struct gate *gate,
                    struct error *error)
{
    const struct model_config *config = &maker->stores->config;
    *gate = (struct gate){.spec = *spec,
                          .tap = maker->config->spec.tap,
                          .layers = config->layers,
                          .hidden = config->hidden,
                          .vocab = config->vocab};
    strcpy(gate->fingerprint, maker->stores->fingerprint);
    strcpy(gate->head, maker->head);
    if (!(spec->features & of_list))
        return 0;
    gate->tokens = maker->tokens.count;
    if (array_alloc(&gate->token, gate->tokens, error) < 0)
        return -1;
    memcpy(gate->token, maker->tokens.token, (size_t)gate->tokens * sizeof *gate->token);
    return 0;
}

static int save_gate(struct maker *maker, const struct gate *gate, struct gate_entry *entry,
                     struct error *error)
{
    struct gate_score score;
    char hash[17];
    char *path = run_folder_path(maker->setting->run, error, "gates/%s", entry->file);
    int result = path && run_folder_check_claim(maker->setting->run, error) == 0 ? 0 : -1;
    if (result == 0)
        result = gate_measure(&maker->samples, &maker->cut, gate, &score, error);
    if (result == 0)
        result = gate_save(gate, path, error);
    if (result == 0)
        result = policy_hash_file(path, hash, error);
    if (result == 0)
        result = gate_results_put(maker->results, entry, &score, gate_cost(maker, gate), hash, error);
    free(path);
    return result;
}

static int make_gate(struct maker *maker, const struct gate_spec *spec, bool *complete, struct error *error)
{
    struct gate_entry entry = entry_of(maker, spec);
    struct gate gate = {0};
    if (!can_be(maker, spec))
        return gate_results_leave_out(maker->results, &entry,
                                      "candidates come from the exit below, and there is none", error);
    int result = set_home(maker, spec, &gate, error);
    if (result == 0)
        result = gate_fit(&maker->samples, &maker->cut, maker->setting->evaluation->batch->backend,
                          maker->setting->evaluation->seed, &gate, complete, error);
    if (result == 0 && *complete)
        result = save_gate(maker, &gate, &entry, error);
    gate_free(&gate);
    return result < 0 ? error_prefix(error, "gate %s at tap %s", entry.gate, entry.tap) : 0;
}

/* Gates tell two kinds of tokens apart, so there must be both wherever they are fitted and scored. */
static bool has_both(const struct maker *maker, uint64_t first, uint64_t end)
{
    const int64_t rows = maker->cut.rows;
    bool seen[2] = {false, false};
    for (int64_t t = (int64_t)first * rows; t < (int64_t)end * rows; t++)
        seen[maker->samples.agrees[t]] = true;
    return seen[0] && seen[1];
}

static int make_gates(struct maker *maker, bool *complete, struct error *error)
{
    const struct gate_wish *wish = maker->setting->wish;
    const bool both =
        has_both(maker, 0, maker->cut.fitted) && has_both(maker, maker->cut.scored, maker->cut.sequences);
    int result = 0;
    for (int g = 0; g < wish->count && result == 0 && *complete; g++) {
        struct gate_entry entry = entry_of(maker, &wish->spec[g]);
        if (gate_results_have(maker->setting->run, maker->results, &entry))
            continue;
        result = both ? make_gate(maker, &wish->spec[g], complete, error)
                      : gate_results_leave_out(
                            maker->results, &entry,
                            "its head agrees with the full model on all held-out tokens of a part, "
                            "or on none",
                            error);
    }
    return result;
}

/* ---- the exits ---- */

/* The features of the gates that are missing at this tap. */
static unsigned missing_features(const struct maker *maker)
{
    const struct gate_wish *wish = maker->setting->wish;
    unsigned features = 0;
    for (int g = 0; g < wish->count; g++) {
        const struct gate_entry entry = entry_of(maker, &wish->spec[g]);
        if (!gate_results_have(maker->setting->run, maker->results, &entry) && can_be(maker, &wish->spec[g]))
            features |= wish->spec[g].features;
    }
    return features;
}

static bool wants_candidates(const struct gate_wish *wish)
{
    for (int g = 0; g < wish->count; g++)
        if (wish->spec[g].features & GATE_CANDIDATES)
            return true;
    return false;
}

static int open_head(struct maker *maker, struct error *error)
{
    const struct stores *stores = maker->stores;
    char *path = run_folder_trial_path(maker->setting->run, maker->config->id, "head.safetensors", error);
    int result = path ? policy_hash_file(path, maker->head, error) : -1;
    if (result == 0)
        result = trial_open_head(maker->config, path, &stores->config, stores->fingerprint,
                                 maker->setting->evaluation->batch->backend, &maker->trial, error);
    free(path);
    return result;
}

static int read_samples(struct maker *maker, unsigned features, bool *complete, struct error *error)
{
    const struct evaluation_setting *evaluation = maker->setting->evaluation;
    struct gate_source source = {.evaluation = evaluation,
                                 .trial = maker->trial,
                                 .candidates = maker->candidates,
                                 .features = features,
                                 .sequences = maker->cut.sequences};
    int result = 0;
    if ((features & of_list || wants_candidates(maker->setting->wish)) && maker->tokens.count == 0)
        result = short_list_count(maker->stores, evaluation->seed, evaluation->threads, &maker->tokens,
                                  complete, error);
    if (result < 0 || !*complete)
        return result;
    if (maker->tokens.count > 0)
        result = short_list_open(&maker->tokens, maker->trial, maker->stores, &maker->list, error);
    source.list = maker->list;
    return result < 0 ? -1 : gate_samples_read(&source, &maker->samples, complete, error);
}

/* What this exit finds likely is what the next one has as candidates. */
static void pass_candidates(struct maker *maker)
{
    free(maker->candidates);
    maker->candidates = maker->samples.likely;
    maker->samples.likely = NULL;
    maker->candidates_cost = head_cost(maker) + maker->tokens.count * (double)maker->stores->config.hidden /
                                                    (double)block_values(&maker->stores->config);
}

static void close_exit(struct maker *maker)
{
    gate_samples_free(&maker->samples);
    short_list_close(maker->list);
    trial_destroy(maker->trial);
    maker->list = NULL;
    maker->trial = NULL;
}

static int make_exit(struct maker *maker, bool *complete, struct error *error)
{
    if (open_head(maker, error) < 0)
        return -1;
    const unsigned features = missing_features(maker);
    int result = 0;
    if (features)
        cli_say("gates at tap %s: %" PRIu64 " held-out sequences are looked at", maker->config->tap,
                maker->cut.sequences);
    if (features || wants_candidates(maker->setting->wish))
        result = read_samples(maker, features, complete, error);
    if (result == 0 && *complete && maker->samples.tokens > 0)
        result = make_gates(maker, complete, error);
    if (result == 0 && *complete && maker->samples.likely)
        pass_candidates(maker);
    if (result == 0 && *complete)
        result = gate_results_write(maker->setting->run, maker->results, error);
    return result;
}

/* The number of exits up to the last one that lacks a gate. */
static int count_lacking(struct maker *maker, const struct leaderboard_row *const *rows, int count,
                         int *lacking, struct error *error)
{
    *lacking = 0;
    for (int i = 0; i < count; i++) {
        maker->config = rows[i]->config;
        char *path = run_folder_trial_path(maker->setting->run, maker->config->id, "head.safetensors", error);
        int result = path ? policy_hash_file(path, maker->head, error) : -1;
        free(path);
        if (result < 0)
            return -1;
        for (int g = 0; g < maker->setting->wish->count; g++) {
            const struct gate_entry entry = entry_of(maker, &maker->setting->wish->spec[g]);
            if (!gate_results_have(maker->setting->run, maker->results, &entry))
                *lacking = i + 1;
        }
    }
    return 0;
}

/* How many sequences samples are taken of. */
static uint64_t count_sequences(const struct stores *stores, const struct gate_wish *wish)
{
    unsigned features = 0;
    for (int g = 0; g < wish->count; g++)
        features |= wish->spec[g].features;
    const uint64_t sequence = (uint64_t)gate_width(features, stores->config.hidden) * sizeof(float) *
                              (uint64_t)stores->rows,
                   most = samples_most / sequence, all = stores->sequences[SPLIT_HELD_OUT];
    return all < most ? all : most < GATES_SEQUENCES ? GATES_SEQUENCES : most;
}

static int note_split(const struct maker *maker, struct error *error)
{
    const struct gate_cut *cut = &maker->cut;
    json_t *split =
        json_pack("{sI sI sI ss}", "fitted", (json_int_t)cut->fitted, "left_out",
                  (json_int_t)(cut->scored - cut->fitted), "scored", (json_int_t)(cut->sequences - cut->scored),
                  "documents", cut->shares_document ? "shared" : "apart");
    if (json_object_set_new(maker->results, "split", split) <
        0) /* it frees split, also where there are no results */
        return error_set_kind(error, ERROR_NO_MEMORY, "out of memory");
    return 0;
}

static int open_results(struct maker *maker, struct error *error)
{
    struct run_folder *run = maker->setting->run;
    char *folder = run_folder_path(run, error, "gates");
    int result = folder ? directory_create(folder, error) : -1;
    if (result == 0)
        remove_leftovers(folder);
    free(folder);
    if (result < 0 || run_folder_note(run, "gates", gate_wish_to_json(maker->setting->wish), error) < 0 ||
        run_folder_save(run, error) < 0)
        return -1;
    maker->results = gate_results_read(run);
    return note_split(maker, error);
}

int gates_write(const struct gates_setting *setting, const struct leaderboard *board, struct error *error)
{
    const struct stores *stores = setting->evaluation->stores;
    struct maker maker = {.setting = setting, .stores = stores};
    const struct leaderboard_row **rows = NULL;
    bool complete = true;
    int result = -1, count, lacking;
    if (setting->wish->count == 0)
        return 0;
    if (array_alloc(&rows, board->count, error) < 0 ||
        (count = choose(board, stores->config.layers, rows, error)) < 0 ||
        cut_split(stores, count_sequences(stores, setting->wish), &maker.cut, error) < 0 ||
        open_results(&maker, error) < 0 || count_lacking(&maker, rows, count, &lacking, error) < 0)
        goto done;
    result = 0;
    for (int i = 0; i < lacking && result == 0 && complete; i++) {
        maker.config = rows[i]->config;
        result = make_exit(&maker, &complete, error);
        close_exit(&maker);
    }
    if (result == 0 && !complete)
        result = error_set_kind(error, ERROR_INTERRUPTED,
                                "stopped before all gates were fitted; the same command goes on from there");
done:
    json_decref(maker.results);
    short_list_tokens_free(&maker.tokens);
    free(maker.candidates);
    free(rows);
    return result;
}
