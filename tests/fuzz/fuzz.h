/* fuzz.h: a libFuzzer target is one file tests/fuzz/NAME.c with LLVMFuzzerTestOneInput; `make fuzz`
 * builds each with the library under AddressSanitizer and runs it for SECONDS. A crash, a leak, a
 * slow input or an unbounded allocation is a finding; an error text is not. */
#ifndef OFFRAMP_TESTS_FUZZ_FUZZ_H
#define OFFRAMP_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The bytes as a file in memory; path[32] names it while the descriptor is open. */
int fuzz_file(const uint8_t *data, size_t size, char path[32]);

#endif
