#!/usr/bin/env bash
# mutations.sh: shows that the emulated tests can fail. Each mutation breaks a copy of one source of
# kernels/cuda as a slip would (a barrier gone, a wrong lane, an index one too far); the tests of its ops
# must fail.
#
#   tests/cuda/mutations.sh [all]      one of every kind (for the suite), or every one (make soak)
set -uo pipefail
cd "$(dirname "$0")/../.."
build=${BUILD:-build} which=${1:-few}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags=(-std=c++17 -O1 -g -fPIC -w -DOFFRAMP_CUDA_EMULATED)
if grep -q __asan_init "$build/obj/tests/cuda/emulator.o"; then
    echo "    skipped: mutants tell of the tests, which are the same under AddressSanitizer"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
passed=0 failed=0

# mutate NAME SOURCE BROKEN TESTS MOST-ROWS EDIT: SOURCE is compiled, with the sed script EDIT made on
# BROKEN, itself or a header that it includes.
mutate() {
    local name=$1 source=$2 broken=$3 tests=$4 most=$5 edit=$6 objects
    rm -rf "${work:?}/kernels"
    mkdir -p "$work/kernels/cuda"
    cp kernels/cuda/"$source" "$work/kernels/cuda/"
    sed -E "$edit" "kernels/cuda/$broken" >"$work/kernels/cuda/$broken"
    if cmp -s "kernels/cuda/$broken" "$work/kernels/cuda/$broken"; then
        echo "FAILED  $name: the edit finds nothing to change in $broken"
        failed=$((failed + 1))
        return
    fi
    objects=$(ls "$build"/obj/kernels/cuda/*.emulated.o "$build"/obj/tests/cuda/emulator.o | grep -v "/${source%.cu}\.")
    # shellcheck disable=SC2086 # CXX may be two words, objects are many
    if ! ${CXX:-g++} "${flags[@]}" -I"$work" -I. -include tests/cuda/emulator.h -x c++ -c \
        -o "$work/mutant.o" "$work/kernels/cuda/$source" ||
        ! ${CXX:-g++} "${flags[@]}" -shared -o "$work/mutant.so" "$work/mutant.o" $objects; then
        echo "FAILED  $name: does not compile"
        failed=$((failed + 1))
    elif OFFRAMP_CUDA_LIBRARY=$work/mutant.so OFFRAMP_TEST_DEVICE=cuda OFFRAMP_EMULATOR_SEED=1 \
        OFFRAMP_TEST_BATCH=$most "$build/tests/ops/$tests" match_ref >"$work/log" 2>&1; then
        echo "FAILED  $name: tests/ops/$tests does not notice"
        failed=$((failed + 1))
    else
        echo "ok      $name: $(grep -m1 -E 'emulator:|tests\/[^ ]*\.c:' "$work/log" | cut -c1-150)"
        passed=$((passed + 1))
    fi
}

mutate "a barrier gone: a sum read before it is written" norm.cu reduce.cuh rows 9 \
    '/T block_sum/,/^}/{/partial\[warp\] = value/{n;d}}'
mutate "a wrong lane: half a warp left out of a sum" norm.cu reduce.cuh rows 9 's/int bits = 16/int bits = 8/'
mutate "an index one too far: a value behind a row written" norm.cu norm.cu rows 9 \
    '/__global__ void norm_groups\(/,/^}/{s/i < group(; i \+= blockDim\.x\)$)/i <= group\1/}'
if [ "$which" = all ]; then
    mutate "a wrong parameter: the last of a list updated as the one before it" optimizer.cu optimizer.cu optimizer 9 \
        's/which \+ 1 < parameters/which + 2 < parameters/'
    mutate "a sum added twice: every matrix adds up all of its sum" elementwise.cu elementwise.cu rows 9 \
        '/squares\.one\[i\]\.s == s/{n;d}; s/if \(squares\.one\[i\]\.s == s\)/;/'
    mutate "a barrier gone: a sum overwritten while it is read" norm.cu reduce.cuh rows 9 '/an earlier reduction/d'
    mutate "a barrier gone: scores read before they are written" attention.cu attention.cu attention 3 \
        '/void attend_part/,/^}/{/^    __syncthreads/d}'
    mutate "a barrier gone: the top token read before all have looked" vocab.cu vocab.cu vocab 9 \
        '/atomicMin/{n;d}'
    mutate "a barrier gone: the next best token read before all have looked" vocab.cu vocab.cu vocab 9 \
        '/void best_of_rows/,/^}/{/atomicMin/{n;d}}'
    mutate "a neighbour passed over: equal logits taken once" vocab.cu vocab.cu vocab 9 \
        's/row\[i\] == value \&\& \(int\)i > token/row[i] == value \&\& (int)i < token/'
    mutate "a row of another chunk: its best tokens in the place of the first ones" vocab.cu vocab.cu vocab 20 \
        's/rows_from\(stats->best, first\)/rows_from(stats->best, 0)/'
    mutate "a barrier that not every thread reaches" elementwise.cu elementwise.cu rows 9 \
        '/void mean_squares/,/^}/{s/float sum = 0;/float sum = 0; if (threadIdx.x < 40) __syncthreads();/}'
    mutate "a shuffle whose mask leaves lanes out" elementwise.cu reduce.cuh rows 9 \
        's/value \+= __shfl_xor_sync\(0xffffffffu/value += __shfl_xor_sync(0xffffu/'
    mutate "a wrong lane: a neighbour's value twice" elementwise.cu reduce.cuh rows 9 \
        's/__shfl_xor_sync\(0xffffffffu, value, bits\)/__shfl_xor_sync(0xffffffffu, value, bits \& 30)/'
    mutate "an index one too far: a thread behind the last value" activation.cu activation.cu rows 9 \
        's/index >= rows \* cols/index > rows * cols/'
    mutate "an index one too far: a row of another part" elementwise.cu elementwise.cu rows 1500 \
        's/row < last/row <= last/'
    mutate "an index one too far: a key after the query" attention.cu attention.cu attention 3 \
        's/key <= part.last;/key <= part.last + 1;/'
    mutate "an index one too far: an output behind the last" weight.cu weight.cu products 9 \
        's/lane == 0 && first \+ o < rows/lane == 0/'
    mutate "an index one too far: a value behind a weight" weight.cu weight.cu products 9 \
        '/void expand_part/,/^}/{s/index >= rows \* cols/index > rows * cols/}'
    mutate "a wrong half: nibbles of the other sixteen" weight.cu dequantise.cuh products 9 \
        's/% BLOCK_VALUES < 16/% BLOCK_VALUES < 24/'
    mutate "a wrong index: sines where cosines are" rope.cu rope.cu rows 9 's/angle\[half \+ i\]/angle[i]/'
    mutate "a part forgotten: a window that begins late" attention.cu attention.cu attention 3 \
        's/position \+ 1 - l.window/position + 2 - l.window/'
    mutate "a span taken for its neighbour" attention.cu attention.cu attention 3 \
        's/row >= spans.span\[i\].first \+ spans.span\[i\].queries/row > spans.span[i].first + spans.span[i].queries/'
    mutate "spans taken for neighbours that are not" attention.cu attention.cu attention 3 \
        's/x.offset == first.offset \+/x.offset >= first.offset +/'
    mutate "own keys of the query before" attention.cu attention.cu attention 3 \
        's/rows\.data \+ row \* rows\.stride/rows.data + (row > 0 ? row - 1 : row) * rows.stride/'
    mutate "a part forgotten: own keys behind the first" attention.cu attention.cu attention 3 \
        's/parts_of\(span\.keys\) \+ parts_of\(span\.own\)/parts_of(span.keys)/'
    mutate "own keys left out of a sum" attention.cu attention.cu attention 3 \
        '/void softmax_lines/,/^}/{s/sum \+= __expf\(\(own\[e\] - most\)/sum += 0 * __expf((own[e] - most)/}'
    mutate "a mean of another line" attention.cu attention.cu attention 3 's/means\[index \/ count\]/means[index \/ (count + 1)]/'
    mutate "a head left out of its key head's sum" attention.cu attention.cu attention 3 \
        '/void spread_own/,/^}/{s/j < per/j + 1 < per/}'
    mutate "a sum stored, not added" attention.cu attention.cu attention 3 \
        '/void add_packed/,/^}/{s/\+= from\[index\]/= from[index]/}'
    mutate "tiles that do not add up" attention.cu attention.cu attention 3 \
        '/void spread_tile/,/^}/{s/product\.add = true/product.add = false/}'
    mutate "slopes before the values' gradient has read the weights" attention.cu attention.cu attention 3 \
        '/void attend_backwards/,/^}/{s/weigh_tile\(queue, &t, call\);/weigh_tile(queue, \&t, call); slope_tile(queue, \&t, call, out, dout);/}'
    mutate "gradients taken for neighbours that are not" attention.cu attention.cu attention 3 \
        '/int grad_run_length/,/^}/{s/is_behind_or_none\(dspans\[length\]\.[a-z_]+, dspans->[a-z_]+, length\)/true/g}'
    mutate "an angle turned on, not back" rope.cu rope.cu rows 9 's/pairs, -1\)/pairs, 1)/'
    mutate "a chunk in the place of another" vocab.cu vocab.cu vocab 20 's/rows_from\(stats->lse, first\)/rows_from(stats->lse, 0)/'
    mutate "a row that ends early: a value behind it rounded, too" transfer.cu transfer.cu contract 9 \
        '/void pack_rounded/,/^}/{s/i < 8 \&\& k \+ i < cols/i < 8/}'
    mutate "a row that ends early: a value behind it widened, too" transfer.cu transfer.cu contract 9 \
        '/void widen_rows/,/^}/{s/i < 8 \&\& k \+ i < cols/i < 8/}'
    mutate "a half in the place of its neighbour" transfer.cu transfer.cu contract 9 \
        '/void widen_rows/,/^}/{s/pairs.z << 16/pairs.w << 16/}'
    mutate "a tie that is not rounded to even" transfer.cu device.cuh contract 9 's/ \+ \(bits >> 16 \& 1\)//'
    mutate "an index one too far: an integer behind a row" coding.cu coding.cu coding 9 's/i < c \+ 4 \&\& i < cols/i < c + 4/'
    mutate "an index one too far: a byte behind a row" coding.cu coding.cu coding 9 's/i < 8 \&\& k \+ i < cols/i < 8/'
    mutate "an index one too far: a product of another group" gemm.cu gemm.cu products 9 \
        's/pointers\[2 \* count \+ i\] = matrix_floats\(gemms\[i\]/pointers[2 * count + i] = matrix_floats(gemms[i > 0 ? i - 1 : 0]/'
    mutate "an operand taken for its neighbour" gemm.cu gemm.cu products 9 \
        's/before->buffer == x\.buffer && before->offset == x\.offset/before->buffer == x.buffer || before->offset == x.offset/'
    mutate "a product of rounded operands" coding.cu coding.cu coding 9 's/product\.f32 = true/product.f32 = false/'
    mutate "a shift of another token" vocab.cu vocab.cu vocab 9 's/logits\[i\] \+ shift\[i\]/logits[i] + shift[i > 0 ? i - 1 : i]/'
    mutate "a shift left out of the teacher's logits" vocab.cu vocab.cu vocab 9 's/size : NULL, r\.shift/size : NULL, NULL/'
    mutate "a label's logit with its shift" vocab.cu vocab.cu vocab 9 's/lse - plain\[label\]/lse - row[label]/'
    mutate "a temperature left out of the teacher's logits" vocab.cu vocab.cu vocab 9 's/r\.shift, r\.cold\};/r.shift, 1};/'
    mutate "a label's part at the distillation's temperature" vocab.cu vocab.cu vocab 9 's/value \+= c \* __expf\(row\[i\] - lse\)/value += c * __expf(soft[i] - soft_lse)/'
    mutate "a row's weight from its shifted logits" vocab.cu vocab.cu vocab 9 's/largest_logit\(plain, size, partial\)/most/'
    mutate "a row's weight left out of what u is multiplied by" vocab.cu vocab.cu vocab 9 's/= scale \* d;/= r.scale * d;/'
    mutate "a row's u taken for the first one's" vocab.cu vocab.cu vocab 9 '/void subtract_rows/,/^}/{s/factors\[blockIdx\.x\]/factors[0]/}'
    mutate "labels of another chunk" vocab.cu vocab.cu vocab 20 's/rows_from\(target->labels, first\)/rows_from(target->labels, 0)/'
    mutate "a mix of a row without a label that still has its share" vocab.cu vocab.cu vocab 9 's/c \+ d\) \* __expf\(soft/r.share + d) * __expf(soft/'
    mutate "an index that is not there: a gathered row before a part's first" weight.cu weight.cu products 9 \
        '/void embed_rows/,/^}/{s/if \(id < 0 \|\| id >= rows\)/if (id >= rows)/}'
    mutate "a gathered row in the place of its neighbour" weight.cu weight.cu products 9 \
        '/void embed_rows/,/^}/{s/y \+ blockIdx\.x \* y_stride/y + (blockIdx.x ^ 1) * y_stride/}'
    mutate "a part forgotten: ids of the second taken for the first's" weight.cu weight.cu products 9 \
        '/void embed_parts/,/^}/{s/first \+= weight->part\[i\]\.rows;/;/}'
    mutate "gathered values in the wrong type" weight.cu weight.cu products 9 \
        '/void cuda_gather/,/^}/{s/if \(queue_is_bf16/if (!queue_is_bf16/}'
    mutate "a subset's rows for few taken in the wrong type" weight.cu weight.cu products 9 \
        's/bf16 \? DTYPE_BF16 : DTYPE_F32/bf16 ? DTYPE_F16 : DTYPE_F32/'
    mutate "a moment that is not corrected" optimizer.cu optimizer.cu optimizer 9 's/\(m \* f\.correction1\)/m/'
fi
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
