/* cache verify: reads everything and names what is damaged. */
#include "common/repair/verify.h"
#include "common/base/json.h"

#include <argp.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "cache/commands.h"
#include "common/base/cli.h"
#include "common/base/clock.h"
#include "common/base/option.h"

struct verify_command {
    struct cache_stores stores;
    int processes;
    bool json, decode;
    json_t *problems; /* of the store that is being verified, with --json */
};

enum { OPTION_PROCESSES = 256, OPTION_DECODE, OPTION_JSON };

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct verify_command *command = state->input;
    switch (key) {
    case OPTION_PROCESSES: command->processes = (int)option_integer(state, "processes", text, 1, 256); return 0;
    case OPTION_DECODE: command->decode = true; return 0;
    case OPTION_JSON: command->json = true; return 0;
    default: return cache_take_stores(&command->stores, key, state);
    }
}

static json_t *problem_to_json(const struct verify_problem *problem)
{
    static const char *const kinds[] = {"structure", "tokens", "record", "source", "parameters"};
    json_t *object = json_pack("{s:s, s:s}", "kind", kinds[problem->kind], "text", problem->text);
    if (problem->kind == VERIFY_RECORD || problem->kind == VERIFY_PARAMETERS)
        json_object_set_new(object, "tap", json_string(problem->tap_name));
    if (problem->kind == VERIFY_TOKENS || problem->kind == VERIFY_RECORD) {
        json_object_set_new(object, "split", json_string(split_name(problem->sequence.split)));
        json_object_set_new(object, "sequence", json_integer((json_int_t)problem->sequence.index));
    }
    return object;
}

static void print_problem(void *context, const struct verify_problem *problem)
{
    struct verify_command *command = context;
    if (command->json)
        json_array_append_new(command->problems, problem_to_json(problem));
    else
        printf("%s\n", problem->text);
}

static int print_json(const char *path, const struct verify_command *command,
                      const struct verify_result *result, struct error *error)
{
    json_t *object = json_pack("{s:s, s:I, s:I, s:O}", "store", path, "values", (json_int_t)result->values,
                               "bytes", (json_int_t)result->bytes, "problems", command->problems);
    if (json_array_size(command->problems) < result->problems) { /* there was no memory for some of them */
        json_decref(object);
        object = NULL;
    }
    return json_print(path, object, stdout, error);
}

static void print_result(const char *path, const struct verify_result *result, double seconds)
{
    char bytes[32], rate[32], time[32];
    format_bytes((double)result->bytes, bytes, sizeof bytes);
    format_bytes(seconds > 0 ? (double)result->bytes / seconds : 0, rate, sizeof rate);
    format_duration(seconds, time, sizeof time);
    printf("%s: %" PRIu64 " values (%s) are right, %" PRIu64 " problem%s; %s, %s/s\n", path, result->values,
           bytes, result->problems, result->problems == 1 ? "" : "s", time, rate);
    if (result->problems > 0)
        cli_say("`cache repair --model MODEL %s` mends what can be mended", path);
}

static int verify_one(struct verify_command *command, const char *path, uint64_t *problems, struct error *error)
{
    const struct verify_options options = {command->processes, print_problem, command, command->decode};
    struct verify_result result = {0};
    double started = clock_seconds();
    command->problems = json_array();
    int failed = store_verify(path, &options, &result, error);
    if (failed == 0 && command->json)
        failed = print_json(path, command, &result, error);
    else if (failed == 0)
        print_result(path, &result, clock_seconds() - started);
    json_decref(command->problems);
    *problems += result.problems;
    return failed;
}

int cache_verify(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"processes", OPTION_PROCESSES, "N", 0, "Processes that read at once (default: one per processor)", 0},
        {"decode", OPTION_DECODE, NULL, 0, "Decode every record, too", 0},
        {"json", OPTION_JSON, NULL, 0, "Print the result as JSON", 0},
        {0}};
    static const struct argp argp = {
        .options = options,
        .parser = parse_option,
        .args_doc = "STORE...",
        .doc = "Read everything in a store and name what is damaged."
               "\vRecords, tokens, tensors and parameters are hashed, LMDB's own pages are walked. "
               "Each problem is a line on standard output. The exit code is 1 when there is any.",
    };
    struct verify_command command = {0};
    struct error error;
    uint64_t problems = 0;
    int result = 0;
    cli_parse(&argp, argc, argv, 0, &command);
    for (int i = 0; i < command.stores.count && result == 0; i++)
        result = verify_one(&command, command.stores.path[i], &problems, &error);
    int code = cache_finish(argv[0], result, &error);
    return code == EXIT_DONE && problems > 0 ? EXIT_FAILED : code;
}
