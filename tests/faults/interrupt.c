/* interrupt.c: SIGINT and SIGTERM at random moments, to extract, train and generate: each ends by its own word,
 * and gives the same bytes afterwards as when nothing disturbs it.
 *
 * oneDNN is held to AVX2: its products use the stack pointer as an ordinary register there (interrupt.h). No
 * thread but the one that listens may be open to a signal; that is looked at in /proc before each is sent.
 */
#include <dirent.h>
#include <stdlib.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/hash.h"
#include "common/store/store.h"
#include "tests/make_model.h"
#include "tests/process.h"

enum { VOCAB = 300, TOKENS = 8000, ROWS = 64, PROMPT = 400 };

static struct error error;

static const struct made_model model = {.layers = 4,
                                        .hidden = 192,
                                        .attention_heads = 4,
                                        .kv_heads = 2,
                                        .head_size = 48,
                                        .intermediate = 768,
                                        .vocab = VOCAB,
                                        .context = 1024,
                                        .seed = 12};

static struct {
    bool ready;
    char model[512], tokens[512], prompt[512], store[512], out[512], text[512], log[512];
    struct random random;
} setup;

/* ---- what the programs work with ---- */

static int write_tokens(void)
{
    uint16_t *ids;
    if (array_alloc(&ids, TOKENS, &error) < 0)
        return -1;
    for (int i = 0; i < TOKENS; i++)
        ids[i] = (uint16_t)(random_next(&setup.random) % VOCAB);
    int result = file_write(setup.tokens, ids, TOKENS * sizeof *ids, &error);
    free(ids);
    return result;
}

/* A token for each printable character, and names for the rest of the vocabulary; 2 ends a text. */
static int write_tokenizer(void)
{
    char path[600], name[16];
    json_t *vocab = json_object();
    for (int id = 0; id < VOCAB; id++) {
        snprintf(name, sizeof name, id > ' ' && id < 127 ? "%c" : "<t%03d>", id);
        json_object_set_new(vocab, name, json_integer(id));
    }
    json_t *root = json_pack("{s: {s: s, s: o, s: []}, s: {s: s, s: b, s: b}, s: {s: s}}", "model", "type",
                             "BPE", "vocab", vocab, "merges", "pre_tokenizer", "type", "ByteLevel",
                             "add_prefix_space", 0, "use_regex", 1, "decoder", "type", "ByteLevel");
    snprintf(path, sizeof path, "%s/tokenizer.json", setup.model);
    int result = json_write(path, root, &error);
    json_decref(root);
    return result;
}

static int write_prompt(void)
{
    char text[PROMPT];
    for (int i = 0; i < PROMPT; i++)
        text[i] = (char)('a' + random_next(&setup.random) % 26);
    return file_write(setup.prompt, text, PROMPT, &error);
}

static int prepare(void)
{
    if (setup.ready)
        return 0;
    const char *folder = test_folder();
    setup.random = (struct random){(uint64_t)time(NULL)};
    printf("  seed %llu\n", (unsigned long long)setup.random.state);
    setenv("ONEDNN_MAX_CPU_ISA", "AVX2", 1);
    snprintf(setup.model, sizeof setup.model, "%s/model", folder);
    snprintf(setup.tokens, sizeof setup.tokens, "%s/tokens.u16", folder);
    snprintf(setup.prompt, sizeof setup.prompt, "%s/prompt", folder);
    snprintf(setup.store, sizeof setup.store, "%s/store", folder);
    snprintf(setup.out, sizeof setup.out, "%s/out", folder);
    snprintf(setup.text, sizeof setup.text, "%s/text", folder);
    snprintf(setup.log, sizeof setup.log, "%s/log", folder);
    if (make_model(&model, setup.model, &error) < 0 || write_tokens() < 0 || write_tokenizer() < 0 ||
        write_prompt() < 0)
        return -1;
    setup.ready = true;
    return 0;
}

/* ---- running a program ---- */

static bool run_to_end(const char *const *arguments)
{
    return process_run(arguments, setup.text, setup.log);
}

/* Whether a thread blocks all that asks a program to stop. */
static bool is_blocked(const char *status_path)
{
    const unsigned long long asking = 1ull << (SIGINT - 1) | 1ull << (SIGTERM - 1) | 1ull << (SIGHUP - 1);
    unsigned long long mask = 0;
    char line[128];
    FILE *file = fopen(status_path, "re");
    if (!file)
        return true; /* it has ended */
    while (fgets(line, sizeof line, file))
        if (!strncmp(line, "SigBlk:", 7))
            mask = strtoull(line + 7, NULL, 16);
    fclose(file);
    return (mask & asking) == asking;
}

/* Threads of a process that are open to some signal; *threads: all it has. */
static int open_threads(pid_t process, int *threads)
{
    char path[64], status[400];
    struct dirent *entry;
    int open = 0;
    *threads = 0;
    snprintf(path, sizeof path, "/proc/%d/task", (int)process);
    DIR *folder = opendir(path);
    while (folder && (entry = readdir(folder))) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(status, sizeof status, "%s/%s/status", path, entry->d_name);
        (*threads)++;
        open += !is_blocked(status);
    }
    if (folder)
        closedir(folder);
    return open;
}

/* Waits until the program listens: its first thread blocks signals, and another waits for them. */
static void await_listening(pid_t process)
{
    int threads;
    for (int i = 0; i < 10000; i++) {
        const int open = open_threads(process, &threads);
        if (threads == 0 || (threads > 1 && open < threads))
            return;
        wait_seconds(1e-3);
    }
}

/* Starts the program and sends it the signal after so many seconds. True: it has stopped with its own word.
 * False: it was faster, or something is wrong: the test has failed then. */
static bool stop_after(const char *const *arguments, double seconds, int number)
{
    char *text, begin[32];
    size_t size;
    int threads, status;
    const pid_t process = process_start(arguments, setup.text, setup.log);
    if (process < 0)
        return false;
    await_listening(process);
    wait_seconds(seconds);
    if (open_threads(process, &threads) > 1)
        test_fail(__FILE__, __LINE__, "%s: a thread that computes is open to signals", arguments[0]);
    kill(process, number);
    status = process_await(process);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return false;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 1 || file_read(setup.log, &text, &size, &error) < 0) {
        test_fail(__FILE__, __LINE__, "%s ended with status %x", arguments[0], (unsigned)status);
        process_print(setup.log);
        return false;
    }
    snprintf(begin, sizeof begin, "%s: ", arguments[0]);
    CHECK_TEXT(text, begin);
    if (!strstr(text, "interrupted") && !strstr(text, "stopped "))
        test_fail(__FILE__, __LINE__, "\"%s\" does not say why it ended", text);
    free(text);
    return true;
}

static int interrupts_wanted(void)
{
    const char *longer = getenv("OFFRAMP_INTERRUPTS"); /* make soak */
    return longer ? atoi(longer) : 20;
}

static void remove_all(const char *path)
{
    char command[600];
    snprintf(command, sizeof command, "rm -rf '%s'", path);
    if (system(command) != 0)
        test_fail(__FILE__, __LINE__, "%s", command);
}

/* ---- what came out ---- */

typedef int hash_function(uint64_t *hash);

static int hash_file(const char *path, uint64_t *hash)
{
    char *text;
    size_t size;
    if (file_read(path, &text, &size, &error) < 0)
        return -1;
    *hash = hash_bytes(text, size, *hash);
    free(text);
    return 0;
}

/* All tokens and records; where they lie in the file depends on when it was committed. */
static int hash_store(uint64_t *hash)
{
    static int32_t ids[ROWS + 1];
    struct store *store = NULL;
    struct reader *reader = NULL;
    const void *record;
    size_t size;
    int result = store_open(setup.out, STORE_READ, &store, &error);
    if (result == 0)
        result = reader_open(store, &reader, &error);
    for (int split = 0; split < SPLIT_COUNT && result == 0; split++)
        for (uint64_t i = 0; i < store_sequences(store, (enum split)split) && result == 0; i++) {
            const struct sequence sequence = {(enum split)split, i};
            result = reader_tokens(reader, sequence, ids, &error);
            *hash = hash_bytes(ids, sizeof ids, *hash);
            for (int tap = 0; tap < store_info(store)->taps && result == 0; tap++) {
                result = reader_record(reader, tap, sequence, &record, &size, &error);
                if (result == 0)
                    *hash = hash_bytes(record, size, *hash);
            }
        }
    reader_close(reader);
    store_close(store);
    return result;
}

static int hash_run(uint64_t *hash)
{
    char command[1200];
    snprintf(command, sizeof command, "cat '%s'/trials/*/head.safetensors >'%s'", setup.out, setup.text);
    if (system(command) != 0)
        return error_set(&error, "%s: no heads", setup.out);
    return hash_file(setup.text, hash);
}

static int hash_text(uint64_t *hash)
{
    return hash_file(setup.text, hash);
}

/* Interrupts the command again and again; what it has made whenever it gets to its end is what it makes
 * undisturbed. */
static void check_command(const char *const *arguments, hash_function *hash)
{
    const int wanted = interrupts_wanted();
    uint64_t whole = 0, other;
    int done = 0, finished = 0;
    remove_all(setup.out);
    const double started = clock_seconds();
    REQUIRE(run_to_end(arguments));
    const double seconds = clock_seconds() - started;
    REQUIRE_OK(hash(&whole));
    remove_all(setup.out);
    for (int tries = 0; done < wanted && tries < 10 * wanted; tries++) {
        const double after = 0.8 * seconds * random_uniform(&setup.random);
        if (stop_after(arguments, after, tries % 2 ? SIGTERM : SIGINT)) {
            done++;
            continue;
        }
        other = 0;
        REQUIRE_OK(hash(&other));
        REQUIRE(other == whole);
        remove_all(setup.out);
        finished++;
    }
    CHECK(done == wanted);
    REQUIRE(run_to_end(arguments));
    other = 0;
    REQUIRE_OK(hash(&other));
    CHECK(other == whole);
    printf("  %s, %.2f s: %d times interrupted, %d times finished\n", arguments[0], seconds, done,
           finished + 1);
}

/* ---- tests ---- */

TEST(interrupt_extract)
{
    REQUIRE_OK(prepare());
    const char *arguments[] = {"extract", "--model", setup.model, "--corpus",  setup.tokens, "--taps",
                               "2,final", "--codec", "klt:4",     "--seq-len", "64",         "--held-out",
                               "0.3",     "--out",   setup.out,   "--threads", "2",          NULL};
    check_command(arguments, hash_store);
}

TEST(interrupt_train)
{
    REQUIRE_OK(prepare());
    const char *extract[] = {"extract", "--model", setup.model, "--corpus", setup.tokens,
                             "--taps",  "2,final", "--seq-len", "64",       "--held-out",
                             "0.3",     "--out",   setup.store, NULL};
    const char *train[] = {"train",  "--store",    setup.store, "--out",     setup.out, "--tap", "2",
                           "--head", "affine",     "--init",    "ridge",     "--steps", "20",    "--checkpoint",
                           "5",      "--evaluate", "10",        "--threads", "2",       NULL};
    REQUIRE(run_to_end(extract));
    check_command(train, hash_run);
}

TEST(interrupt_generate)
{
    REQUIRE_OK(prepare());
    const char *arguments[] = {"generate",   "--model",   setup.model, "--prompt-file",
                               setup.prompt, "--tokens",  "200",       "--temperature",
                               "1",          "--threads", "2",         NULL};
    check_command(arguments, hash_text);
}

TEST_MAIN
