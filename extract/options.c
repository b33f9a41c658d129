#include "extract/options.h"

#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/memory.h"
#include "common/base/option.h"
#include "common/base/string.h"
#include "common/device/options.h"
#include "common/store/codecs.h"

#define HELD_OUT_SHARE 0.05
#define ROWS           512
#define LEAST_ROWS     16 /* more than MATMUL_FEW_ROWS: rows do not depend on each other then */
#define MOST_ROWS      32768
#define MOST_SHARDS    (1 << 20)

_Static_assert(LEAST_ROWS > MATMUL_FEW_ROWS, "a call of one sequence must run the kernels of many rows");

enum {
    OPTION_MODEL = 256,
    OPTION_CORPUS,
    OPTION_HELD_OUT_CORPUS,
    OPTION_HELD_OUT,
    OPTION_TOKENS,
    OPTION_HELD_OUT_TOKENS,
    OPTION_FIELD,
    OPTION_TOKEN_TYPE,
    OPTION_END_OF_TEXT,
    OPTION_TAPS,
    OPTION_NO_TARGET,
    OPTION_CODEC,
    OPTION_PILOT,
    OPTION_PILOT_OUT,
    OPTION_SCOUT,
    OPTION_SUMS,
    OPTION_SVG,
    OPTION_OUT,
    OPTION_SHARD,
    OPTION_SEQ_LEN,
    OPTION_MEMORY,
    OPTION_DRY_RUN,
    OPTION_FORCE,
    OPTION_JSON
};

enum { SCOUT_GROUP = 4, LAST_GROUP = DEVICE_OPTIONS_GROUP + 1 };
_Static_assert((int)SCOUT_GROUP < (int)DEVICE_OPTIONS_GROUP, "groups are printed in their order");

static const struct argp_option option_list[] = {
    {"model", OPTION_MODEL, "PATH", 0, "A GGUF file, or a folder with config.json and safetensors", 1},
    {"out", OPTION_OUT, "STORE", 0, "The folder that gets the states; with --scout, a file that gets sums", 1},
    {"shard", OPTION_SHARD, "I/N", 0,
     "Make a store of every N-th sequence only, from I on (0 .. N-1); train reads the N stores as one", 1},
    {"corpus", OPTION_CORPUS, "PATH...", 0,
     "Files or folders: texts, JSON (lines, too), token files; see below", 2},
    {"held-out-corpus", OPTION_HELD_OUT_CORPUS, "PATH...", 0, "The same, for evaluation only", 2},
    {"held-out", OPTION_HELD_OUT, "SHARE", 0,
     "Share of --corpus kept for evaluation (default: 0.05; with --held-out-corpus 0)", 2},
    {"tokens", OPTION_TOKENS, "N", 0, "At most so many training tokens (default: all)", 2},
    {"held-out-tokens", OPTION_HELD_OUT_TOKENS, "N", 0, "At most so many held-out tokens (default: all)", 2},
    {"field", OPTION_FIELD, "NAME", 0, "The member of a JSON line that holds the text (default: text)", 2},
    {"token-type", OPTION_TOKEN_TYPE, "TYPE", 0, "u16 or u32: the ids of *.bin files, little-endian", 2},
    {"end-of-text", OPTION_END_OF_TEXT, "ID", 0, "The token between documents (default: the model's own)", 2},
    {"seq-len", OPTION_SEQ_LEN, "T", 0, "Tokens per sequence (default: 512)", 3},
    {"taps", OPTION_TAPS, "LIST", 0,
     "Where to read: 12: after layer 12, 12.mid: between its attention and its MLP, final; such as "
     "6,12.mid,final "
     "(default: four, evenly spaced)",
     3},
    {"no-target", OPTION_NO_TARGET, NULL, 0,
     "With final: leave out what the full model says of each token, which heads are trained and measured by",
     3},
    {"codec", OPTION_CODEC, "LIST", 0,
     "How states are stored: raw:f32, raw (bf16), lossless (bf16), q8, klt:BITS or klt:kl=NATS; TAP=CODEC for "
     "one tap, such as klt:4,12=lossless (default: lossless)",
     3},
    {"pilot", OPTION_PILOT, "FILE", 0, "Take the parameters of codecs from FILE, as all shards must", 3},
    {"pilot-out", OPTION_PILOT_OUT, "FILE", 0,
     "Write the parameters of codecs to FILE; with --dry-run nothing else", 3},
    {"scout", OPTION_SCOUT, NULL, 0,
     "Store nothing: say how well heads without training do at every layer, and propose taps", SCOUT_GROUP},
    {"sums", OPTION_SUMS, "FILE...", 0,
     "With --scout: take the sums of these files, one of each shard, which --scout --shard I/N --out FILE "
     "wrote",
     SCOUT_GROUP},
    {"svg", OPTION_SVG, "FILE", 0, "With --scout: draw a picture, agreement by layer", SCOUT_GROUP},
    {"memory", OPTION_MEMORY, "SIZE", 0,
     "Stay within SIZE, such as 8G: weights are loaded layer by layer if need be", DEVICE_OPTIONS_GROUP},
    {"dry-run", OPTION_DRY_RUN, NULL, 0,
     "Say how large the store will be and how long it takes, from a short run", LAST_GROUP},
    {"force", OPTION_FORCE, NULL, 0, "Start although the disk will become full", LAST_GROUP},
    {"json", OPTION_JSON, NULL, 0, "Print the summary, or the forecast, as JSON", LAST_GROUP},
    {0}};

struct parse {
    struct extract_options *options;
    struct path_list *paths; /* what a bare argument is added to; NULL: nothing */
    bool held_out_given, codec_given;
};

/* An empty one comes of a variable of the shell that is not set. */
static char *check_path(const char *name, char *path, struct argp_state *state)
{
    if (!*path)
        argp_error(state, "--%s: the path is empty", name);
    return path;
}

static void add_path(struct parse *parse, char *path, struct argp_state *state)
{
    struct path_list *list = parse->paths;
    struct error error;
    check_path(list == &parse->options->corpus ? "corpus"
               : list == &parse->options->sums ? "sums"
                                               : "held-out-corpus",
               path, state);
    if (array_grow(&list->path, &list->capacity, list->count + 1, &error) < 0)
        argp_failure(state, EXIT_FAILED, 0, "%s", error.text);
    list->path[list->count++] = path;
}

static void check_codec(const char *name, struct argp_state *state)
{
    struct error error;
    if (codecs_check(name, &error) < 0)
        argp_error(state, "--codec: %s", error.text);
}

/* What --scout goes with, and what goes with it alone. */
static void check_scout(const struct parse *parse, struct argp_state *state)
{
    const struct extract_options *options = parse->options;
    if (!options->scout && (options->sums.count > 0 || options->svg))
        argp_error(state, "--%s: is for --scout", options->svg ? "svg" : "sums");
    if (!options->scout)
        return;
    if (options->taps || options->no_target || options->pilot || options->pilot_out || parse->codec_given)
        argp_error(
            state,
            "--scout looks at every layer and stores no states: --taps, --no-target, --codec and --pilot "
            "are not for it");
    if (options->shards > 1 && (!options->out || options->svg || options->sums.count > 0))
        argp_error(
            state,
            "--scout --shard: makes a file of sums (--out FILE), which --scout --sums adds up and draws");
    if (options->sums.count > 0 && options->out)
        argp_error(state, "--sums: the files hold what --out would write");
}

/* What can only be checked once every option is there. */
static void check_all(struct parse *parse, struct argp_state *state)
{
    struct extract_options *options = parse->options;
    if (!options->model || !(options->out || options->scout) || options->corpus.count == 0)
        argp_error(state, "--model, --corpus and --out are wanted");
    check_scout(parse, state);
    if (options->held_out_corpus.count > 0 && parse->held_out_given)
        argp_error(state, "--held-out and --held-out-corpus are two ways to choose what is held out: give one");
    if (options->pilot && options->pilot_out)
        argp_error(state, "--pilot reads what --pilot-out writes: give one");
    if (!parse->held_out_given)
        options->held_out = options->held_out_corpus.count > 0 ? 0 : HELD_OUT_SHARE;
    for (int split = 0; split < SPLIT_COUNT; split++)
        if (options->tokens[split] < (uint64_t)options->rows)
            argp_error(state, "--%s: is less than one sequence of %d tokens",
                       split == SPLIT_TRAIN ? "tokens" : "held-out-tokens", options->rows);
}

static error_t parse_corpus_option(int key, char *text, struct parse *parse, struct argp_state *state)
{
    static const char *const token_types[] = {"u16", "u32", NULL};
    struct extract_options *options = parse->options;
    switch (key) {
    case OPTION_CORPUS:
    case OPTION_HELD_OUT_CORPUS:
        parse->paths = key == OPTION_CORPUS ? &options->corpus : &options->held_out_corpus;
        add_path(parse, text, state);
        break;
    case OPTION_HELD_OUT:
        options->held_out = option_number(state, "held-out", text, 0, 0.999);
        parse->held_out_given = true;
        break;
    case OPTION_TOKENS: options->tokens[SPLIT_TRAIN] = option_size(state, "tokens", text, false); break;
    case OPTION_HELD_OUT_TOKENS:
        options->tokens[SPLIT_HELD_OUT] = option_size(state, "held-out-tokens", text, false);
        break;
    case OPTION_FIELD: options->field = text; break;
    case OPTION_TOKEN_TYPE:
        options->token_bytes = option_word(state, "token-type", text, token_types) == 0 ? 2 : 4;
        break;
    case OPTION_END_OF_TEXT:
        options->end_of_text = option_integer(state, "end-of-text", text, 0, INT32_MAX);
        break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* "1/4" */
static void parse_shard(const char *text, struct extract_options *options, struct argp_state *state)
{
    const char *slash = strchr(text, '/');
    char first[16];
    if (!slash || slash - text >= (ptrdiff_t)sizeof first)
        argp_error(state, "--shard: \"%s\" is not I/N, such as 0/4 for the first of four", text);
    snprintf(first, sizeof first, "%.*s", (int)(slash - text), text);
    options->shards = (int)option_integer(state, "shard", slash + 1, 1, MOST_SHARDS);
    options->shard = (int)option_integer(state, "shard", first, 0, options->shards - 1);
}

static error_t parse_run_option(int key, char *text, struct parse *parse, struct argp_state *state)
{
    struct extract_options *options = parse->options;
    switch (key) {
    case OPTION_MODEL: options->model = check_path("model", text, state); break;
    case OPTION_OUT: options->out = check_path("out", text, state); break;
    case OPTION_SHARD: parse_shard(text, options, state); break;
    case OPTION_SEQ_LEN:
        options->rows = (int)option_integer(state, "seq-len", text, LEAST_ROWS, MOST_ROWS);
        break;
    case OPTION_TAPS: options->taps = text; break;
    case OPTION_NO_TARGET: options->no_target = true; break;
    case OPTION_CODEC:
        check_codec(text, state);
        options->codec = text;
        parse->codec_given = true;
        break;
    case OPTION_PILOT: options->pilot = check_path("pilot", text, state); break;
    case OPTION_PILOT_OUT: options->pilot_out = check_path("pilot-out", text, state); break;
    case OPTION_SCOUT: options->scout = true; break;
    case OPTION_SUMS:
        parse->paths = &options->sums;
        add_path(parse, text, state);
        break;
    case OPTION_SVG: options->svg = check_path("svg", text, state); break;
    case OPTION_MEMORY: options->memory = option_size(state, "memory", text, true); break;
    case OPTION_DRY_RUN: options->dry_run = true; break;
    case OPTION_FORCE: options->force = true; break;
    case OPTION_JSON: options->json = true; break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct parse *parse = state->input;
    if (key == ARGP_KEY_INIT) {
        state->child_inputs[0] = &parse->options->device;
        return 0;
    }
    if (key == ARGP_KEY_ARG) {
        if (!parse->paths)
            argp_error(state, "unexpected argument \"%s\"", text);
        add_path(parse, text, state);
        return 0;
    }
    if (key == ARGP_KEY_END) {
        check_all(parse, state);
        return 0;
    }
    if (key >= OPTION_MODEL)
        parse->paths = NULL;
    error_t result = parse_corpus_option(key, text, parse, state);
    return result == ARGP_ERR_UNKNOWN ? parse_run_option(key, text, parse, state) : result;
}

/* The line as a shell would take it. */
static char *join_arguments(int argc, char **argv)
{
    struct string line = {0};
    struct error error;
    for (int i = 0; i < argc; i++) {
        bool plain = argv[i][0] && !strpbrk(argv[i], " \t\n'\"\\$`*?[]{}()<>|&;#~!");
        string_print(&line, "%s", i > 0 ? " " : "");
        if (!plain)
            string_print(&line, "'");
        for (const char *c = argv[i]; *c; c++) {
            if (*c == '\'')
                string_print(&line, "'\\'");
            string_append(&line, c, 1);
        }
        if (!plain)
            string_print(&line, "'");
    }
    if (!string_failed(&line, &error))
        return line.data;
    string_free(&line);
    return NULL;
}

void extract_options_parse(int argc, char **argv, struct extract_options *options)
{
    static const struct argp_child children[] = {{.argp = &device_argp}, {0}};
    static const struct argp argp = {
        option_list,
        parse_option,
        NULL,
        "Run a model over a corpus and store its hidden states at chosen taps."
        "\vWhat a file of the corpus is goes by its name, in capitals or not:\n"
        "  .jsonl .ndjson .jsonlines  JSON objects, a document a line\n"
        "  .json                      an array of objects or texts, or one after another\n"
        "  .u16 .u32 .bin             token ids, little-endian, raw or with llm.c's\n"
        "                             header; documents end at the end-of-text id\n"
        "  all others                 UTF-8 text, one document\n"
        "Each may be compressed (.gz, .zst). Texts are tokenized with the model's own tokenizer, which puts a "
        "begin-of-text token before each where the model was taught so (--dry-run tells); token files need "
        "none.\n"
        "\n"
        "A share of the documents is held out. Where documents are too few for that, it is runs of sequences, "
        "and the sequences beside them are left out.\n"
        "\n"
        "The same command again goes on where a run was stopped, or behind the old end of a corpus that "
        "has grown there.",
        children,
        NULL,
        NULL};
    struct parse parse = {.options = options};
    *options = (struct extract_options){.field = "text",
                                        .end_of_text = -1,
                                        .tokens = {UINT64_MAX, UINT64_MAX},
                                        .codec = DEFAULT_CODEC,
                                        .rows = ROWS,
                                        .shards = 1,
                                        .device = {.name = "auto", .backend = {.timed = true}}};
    cli_parse(&argp, argc, argv, ARGP_IN_ORDER, &parse);
    options->command = join_arguments(argc, argv);
}

void extract_options_free(struct extract_options *options)
{
    free(options->corpus.path);
    free(options->held_out_corpus.path);
    free(options->sums.path);
    free(options->command);
}
