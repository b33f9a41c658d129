/* emulator.cpp: the scheduler, runtime and products behind emulator.h. */
#include "tests/cuda/emulator.h"

#include <malloc.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <vector>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;
int emulator_current;

/* The section of static shared memory; the linker knows its ends. */
extern "C" __attribute__((visibility("hidden"))) uint64_t __start_emulator_shared[], __stop_emulator_shared[];

/* ---- stacks ---- */

/* Puts the running stack aside, its place into *from, and goes on where `to` was put aside. Written by
 * hand: a switch happens at every shuffle of every thread, swapcontext makes a system call, and under
 * AddressSanitizer longjmp clears whole stacks. */
extern "C" __attribute__((visibility("hidden"))) void emulator_switch(void **from, void *to);

namespace
{
constexpr size_t STACK = 256 * 1024;
[[noreturn]] void stack_main();
} // namespace

#ifdef __x86_64__
asm(R"(
    .text
    .hidden emulator_switch
    .globl emulator_switch
    .type emulator_switch, @function
emulator_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size emulator_switch, . - emulator_switch
)");

/* The place of a stack that begins with stack_main. */
static void *stack_prepare(char *memory)
{
    void **place = (void **)(memory + STACK - 8 * sizeof(void *));
    memset(place, 0, 8 * sizeof(void *));
    place[6] = (void *)&stack_main;
    return place;
}
#else
#include <ucontext.h>

void emulator_switch(void **from, void *to)
{
    ucontext_t here;
    *from = &here; /* on the stack that is put aside */
    swapcontext(&here, (ucontext_t *)to);
}

static void *stack_prepare(char *memory)
{
    ucontext_t *place = new ucontext_t;
    getcontext(place);
    place->uc_stack.ss_sp = memory;
    place->uc_stack.ss_size = STACK;
    place->uc_link = nullptr;
    makecontext(place, (void (*)())stack_main, 0);
    return place;
}
#endif

/* ---- threads ---- */

namespace
{

enum state { FRESH, RUNNING, BLOCK_WAIT, WARP_WAIT, DONE };

struct thread {
    uint3 index;
    state what;
    void *place; /* of its stack, while it waits */
    unsigned mask; /* WARP_WAIT: of this warp's lanes; with what it gives and the lane it asks */
    int kind, source;
    int line; /* of the barrier or exchange */
    uint64_t value;
};

struct {
    const char *kernel = "";
    bool faulted; /* a kernel named by OFFRAMP_EMULATOR_FAULT was launched: waiting fails from then on */
    const std::function<void()> *body;
    std::vector<thread> threads;
    std::vector<int> ready, late; /* threads that can run; those of them whose turn comes last */
    uint64_t slow; /* which threads are late, see slow_draw */
    int slow_group;
    std::vector<int> warp_waiting; /* how many lanes of each warp wait */
    int block_waiting, done;
    std::vector<void *> idle; /* places of stacks without a thread */
    size_t stacks;
    void *launcher; /* place of the stack that launched the kernel */
    std::vector<unsigned char> shared;
    uint64_t random = 0;
} now;

/* Below n. */
size_t next_random(size_t n)
{
    now.random = now.random * 6364136223846793005u + 1442695040888963407u; /* Knuth's */
    return (size_t)((now.random >> 32) * n >> 32);
}

/* From one block barrier to the next, some warps, or some threads, or none, run only when all others
 * wait: the race behind a missing barrier needs one to be far ahead of another, which equal chances
 * hardly ever give. */
void slow_draw()
{
    const size_t kind = next_random(3);
    now.slow = kind == 0 ? 0 : (uint64_t)next_random(1u << 31) << 32 | next_random(1u << 31);
    now.slow_group = kind == 1 ? 32 : 1;
}

void make_ready(int index)
{
    (now.slow >> index / now.slow_group % 64 & 1 ? now.late : now.ready).push_back(index);
}

/* A stack for a thread that begins. Tops are staggered: at the same place of a page they would all
 * compete for the same lines of the caches. */
void *idle_stack()
{
    if (now.idle.empty()) {
        const size_t stagger = now.stacks++ % 64 * 192;
        void *memory = mmap(nullptr, STACK + 64 * 192, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) {
            perror("emulator: stacks");
            abort();
        }
        return stack_prepare((char *)memory + stagger);
    }
    void *place = now.idle.back();
    now.idle.pop_back();
    return place;
}

/* Takes one of the threads that can run, at random, and makes it the current one. */
thread &next_thread()
{
    if (now.ready.empty())
        now.ready.swap(now.late);
    if (now.ready.empty())
        emulator_fail("threads wait for others that never come (a divergent barrier or shuffle)");
    size_t pick = next_random(now.ready.size());
    emulator_current = now.ready[pick];
    now.ready[pick] = now.ready.back();
    now.ready.pop_back();
    thread &next = now.threads[emulator_current];
    threadIdx = next.index;
    return next;
}

/* Puts the current thread aside and lets another run. */
void yield(thread &self)
{
    thread &next = next_thread();
    if (&next != &self)
        emulator_switch(&self.place, next.what == FRESH ? idle_stack() : next.place);
    self.what = RUNNING;
}

/* What a stack does: runs a thread to its end, then another. */
void stack_main()
{
    for (;;) {
        now.threads[emulator_current].what = RUNNING;
        (*now.body)();
        now.threads[emulator_current].what = DONE;
        void *to = now.launcher;
        if (++now.done < (int)now.threads.size()) {
            thread &next = next_thread();
            if (next.what == FRESH)
                continue;
            to = next.place;
        }
        now.idle.push_back(nullptr);
        emulator_switch(&now.idle.back(), to);
    }
}

/* The lanes of a warp's mask that there are. */
unsigned mask_lanes(unsigned mask, int first)
{
    int lanes = (int)now.threads.size() - first;
    return lanes < 32 ? mask & ((1u << lanes) - 1) : mask;
}

/* Frees the lanes of the current thread's mask when all of them wait for the same exchange, and gives
 * each the value of the lane it asks. */
void release_warp(const thread &self, unsigned lanes, int first)
{
    thread *warp = &now.threads[first];
    for (int lane = 0; lane < 32; lane++)
        if ((lanes >> lane & 1) && (warp[lane].what != WARP_WAIT || warp[lane].mask != self.mask ||
                                    warp[lane].kind != self.kind || warp[lane].line != self.line))
            return;
    uint64_t given[32];
    for (int lane = 0; lane < 32; lane++)
        given[lane] = lanes >> lane & 1 ? warp[lane].value : 0;
    for (int lane = 0; lane < 32; lane++) {
        if (!(lanes >> lane & 1))
            continue;
        if (!(lanes >> warp[lane].source & 1))
            emulator_fail("a shuffle reads a lane outside its mask");
        warp[lane].value = given[warp[lane].source];
        make_ready(first + lane);
        now.warp_waiting[first / 32]--;
    }
}

/* What an earlier kernel may have left in shared memory: 1.3e36 as f32. AddressSanitizer's red zones lie
 * between the variables. */
__attribute__((no_sanitize("address"))) void spoil_shared()
{
    for (volatile uint64_t *word = __start_emulator_shared; word + 1 <= __stop_emulator_shared; word++)
        *word = 0x7b7b7b7b7b7b7b7b;
}

void run_block()
{
    const int count = (int)now.threads.size();
    spoil_shared();
    slow_draw();
    for (int i = 0; i < count; i++) {
        now.threads[i].what = FRESH;
        make_ready(i);
    }
    now.warp_waiting.assign((size_t)(count + 31) / 32, 0);
    now.block_waiting = now.done = 0;
    next_thread();
    emulator_switch(&now.launcher, idle_stack());
}

} // namespace

void emulator_fail(const char *what)
{
    fprintf(stderr, "emulator: kernel %s, block (%u, %u, %u): %s\n", now.kernel, blockIdx.x, blockIdx.y,
            blockIdx.z, what);
    static const char *const names[] = {"not begun", "running", "at a block barrier", "at a warp exchange",
                                        "done"};
    for (size_t i = 0; i < now.threads.size() && i < 64; i++)
        fprintf(stderr, "  thread %zu: %s, line %d\n", i, names[now.threads[i].what], now.threads[i].line);
    fflush(stdout);
    _exit(70); /* not exit: what it calls may not run on this stack */
}

/* OFFRAMP_EMULATOR_LAUNCHES names a file that gets a line for each launch. */
static void note_launch(const char *kernel)
{
    const char *path = getenv("OFFRAMP_EMULATOR_LAUNCHES");
    FILE *file = path && *path ? fopen(path, "a") : nullptr;
    if (file) {
        fprintf(file, "%s\n", kernel);
        fclose(file);
    }
}

void emulator_launch(const char *kernel, dim3 grid, dim3 block, size_t shared,
                     const std::function<void()> &body)
{
    static std::mutex one; /* weights are prepared by another thread than that which computes */
    const std::lock_guard<std::mutex> held(one);
    const size_t threads = (size_t)block.x * block.y * block.z;
    const char *seed = getenv("OFFRAMP_EMULATOR_SEED");
    const char *fault = getenv("OFFRAMP_EMULATOR_FAULT");
    note_launch(kernel);
    now.kernel = kernel;
    now.faulted = now.faulted || (fault && *fault && strstr(kernel, fault));
    now.threads.resize(threads <= 1024 ? threads : 0);
    if (threads == 0 || threads > 1024 || grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 ||
        grid.z > 65535 || shared > 227 * 1024)
        emulator_fail("a launch that no device accepts");
    now.body = &body;
    now.random = seed ? strtoull(seed, nullptr, 10) : 1;
    for (unsigned i = 0; i < threads; i++)
        now.threads[i].index = uint3{i % block.x, i / block.x % block.y, i / (block.x * block.y)};
    blockDim = block;
    gridDim = grid;
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                blockIdx = uint3{x, y, z};
                /* exact size and fresh, so that AddressSanitizer sees an access past it */
                std::vector<unsigned char>(shared, 0xff).swap(now.shared);
                run_block();
            }
}

void *emulator_dynamic_shared(void)
{
    return now.shared.data();
}

void emulator_block_barrier(int line)
{
    thread &self = now.threads[emulator_current];
    self.what = BLOCK_WAIT;
    self.line = line;
    if (++now.block_waiting == (int)now.threads.size()) {
        now.block_waiting = 0;
        slow_draw();
        for (int i = 0; i < (int)now.threads.size(); i++) {
            if (now.threads[i].line != line)
                emulator_fail("threads of a block wait at barriers of different lines");
            make_ready(i);
        }
    }
    yield(self);
}

uint64_t emulator_warp_exchange(unsigned mask, uint64_t value, int source, int kind, int line)
{
    const int lane = emulator_lane(), first = emulator_current - lane;
    thread &self = now.threads[emulator_current];
    if (!(mask >> lane & 1))
        emulator_fail("a thread takes part in a warp exchange whose mask leaves it out");
    self.what = WARP_WAIT;
    self.mask = mask;
    self.value = value;
    self.source = source;
    self.kind = kind;
    self.line = line;
    const unsigned lanes = mask_lanes(mask, first);
    if (++now.warp_waiting[first / 32] >= (lanes == ~0u ? 32 : __builtin_popcount(lanes)))
        release_warp(self, lanes, first);
    yield(self);
    return self.value;
}

/* ---- runtime ---- */

struct emulator_stream {
    int unused;
};
struct emulator_event {
    double seconds;
};
struct emulator_blas {
    int unused;
};

const char *cudaGetErrorString(cudaError_t error)
{
    return error == cudaErrorMemoryAllocation ? "out of memory"
           : error == cudaErrorIllegalAddress ? "an illegal memory access was encountered"
           : error == cudaSuccess             ? "no error"
                                              : "invalid value";
}
cudaError_t cudaGetLastError(void)
{
    return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 1;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int)
{
    return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int)
{
    *properties = cudaDeviceProp{};
    snprintf(properties->name, sizeof properties->name, "emulated");
    properties->major = 9;
    properties->multiProcessorCount = 4;
    properties->totalGlobalMem = (size_t)8 << 30;
    properties->sharedMemPerBlockOptin = 227 * 1024;
    properties->l2CacheSize = 1 << 20;
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = 13000;
    return cudaSuccess;
}
/* Bytes of the device's memory, now and at most; the latter is written to the file OFFRAMP_EMULATOR_PEAK names,
 * if it is set. */
static std::atomic<size_t> allocated, peak;
static struct peak_writer {
    ~peak_writer()
    {
        const char *path = getenv("OFFRAMP_EMULATOR_PEAK");
        FILE *file = path ? fopen(path, "w") : nullptr;
        if (file)
            fprintf(file, "%zu\n", peak.load());
        if (file)
            fclose(file);
    }
} peak_writer;
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    *total = (size_t)8 << 30;
    *free_bytes = *total - allocated;
    return cudaSuccess;
}
/* An allocation lies between two guards, the first of which holds its size; where AddressSanitizer
 * watches they are not needed. */
#ifdef __SANITIZE_ADDRESS__
constexpr size_t GUARD = 0;
#else
constexpr size_t GUARD = 64;
#endif
constexpr int GUARD_BYTE = 0xa5;

cudaError_t emulator_malloc(void **pointer, size_t bytes)
{
    /* So that running out can be tested: OFFRAMP_EMULATOR_MEMORY bounds a single allocation,
     * OFFRAMP_EMULATOR_TOTAL all together; cudaMemGetInfo knows of neither, as of memory that another process
     * takes later. */
    const char *limit = getenv("OFFRAMP_EMULATOR_MEMORY"), *total = getenv("OFFRAMP_EMULATOR_TOTAL");
    const bool none = (limit && bytes > strtoull(limit, nullptr, 10)) ||
                      (total && allocated + bytes > strtoull(total, nullptr, 10));
    char *block = none ? nullptr : (char *)malloc(bytes + 2 * GUARD + 1);
    *pointer = nullptr;
    if (!block)
        return cudaErrorMemoryAllocation;
    memset(block, GUARD_BYTE, bytes + 2 * GUARD);
    if (GUARD)
        memcpy(block, &bytes, sizeof bytes);
    memset(block + GUARD, 0xff, bytes);
    const size_t all = allocated += malloc_usable_size(block);
    for (size_t most = peak; all > most && !peak.compare_exchange_weak(most, all);)
        ;
    *pointer = block + GUARD;
    return cudaSuccess;
}
cudaError_t cudaFree(void *pointer)
{
    char *block = (char *)pointer - GUARD;
    size_t bytes = 0;
    if (!pointer)
        return cudaSuccess;
    if (GUARD)
        memcpy(&bytes, block, sizeof bytes);
    for (size_t i = sizeof bytes; i < GUARD; i++)
        if ((unsigned char)block[i] != GUARD_BYTE ||
            (unsigned char)block[GUARD + bytes + i - sizeof bytes] != GUARD_BYTE) {
            fprintf(stderr,
                    "emulator: a kernel wrote outside a buffer of %zu bytes; AddressSanitizer shows which\n",
                    bytes);
            exit(70);
        }
    allocated -= malloc_usable_size(block);
    free(block);
    return cudaSuccess;
}
cudaError_t cudaFreeAsync(void *pointer, cudaStream_t)
{
    return cudaFree(pointer);
}
cudaError_t emulator_malloc_host(void **pointer, size_t bytes)
{
    *pointer = malloc(bytes);
    if (*pointer)
        memset(*pointer, 0xff, bytes);
    return *pointer ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t cudaFreeHost(void *pointer)
{
    free(pointer);
    return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize(void)
{
    return now.faulted ? cudaErrorIllegalAddress : cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind, cudaStream_t)
{
    memcpy(to, from, bytes);
    return cudaSuccess;
}
cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind, cudaStream_t)
{
    for (size_t row = 0; row < height; row++)
        memcpy((char *)to + row * to_pitch, (const char *)from + row * from_pitch, width);
    return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t)
{
    memset(to, value, bytes);
    return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned)
{
    *stream = new emulator_stream();
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    delete stream;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t)
{
    return now.faulted ? cudaErrorIllegalAddress : cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned)
{
    return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned)
{
    *event = new emulator_event();
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    return cudaEventCreateWithFlags(event, 0);
}
cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    delete event;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    event->seconds = (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
    return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t)
{
    return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to)
{
    *milliseconds = (float)(1e3 * (to->seconds - from->seconds));
    return cudaSuccess;
}
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t *pool, int)
{
    *pool = nullptr;
    return cudaSuccess;
}
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, size_t)
{
    return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void *)
{
    return cudaSuccess;
}

/* ---- cuBLAS ---- */

const char *cublasGetStatusString(cublasStatus_t status)
{
    return status == CUBLAS_STATUS_SUCCESS ? "success" : "invalid value";
}
cublasStatus_t cublasCreate(cublasHandle_t *handle)
{
    *handle = new emulator_blas();
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasDestroy(cublasHandle_t handle)
{
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetStream(cublasHandle_t, cudaStream_t)
{
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetMathMode(cublasHandle_t, cublasMath_t)
{
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetWorkspace(cublasHandle_t, void *, size_t)
{
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetProperty(libraryPropertyType which, int *value)
{
    *value = which == MAJOR_VERSION ? 13 : 0;
    return CUBLAS_STATUS_SUCCESS;
}

static double element(const void *data, cudaDataType_t type, long long index)
{
    return type == CUDA_R_16BF ? __bfloat162float(((const __nv_bfloat16 *)data)[index])
                               : ((const float *)data)[index];
}

/* To the 10 bits behind the point that tensor cores take of an f32 operand. */
static double tf32(double value)
{
    const float single = (float)value;
    uint32_t bits;
    memcpy(&bits, &single, sizeof bits);
    return __int_as_float((int)((bits + 0xfff + (bits >> 13 & 1)) & ~0x1fffu));
}

/* A column-major [rows, cols] operand, or its transpose, as doubles [cols, rows], row-major. */
static std::vector<double> columns_of(const void *data, cudaDataType_t type, cublasComputeType_t compute,
                                      long long first, int ld, cublasOperation_t transpose, int rows, int cols)
{
    std::vector<double> out((size_t)rows * (size_t)cols);
    for (int col = 0; col < cols; col++)
        for (int row = 0; row < rows; row++)
            out[(size_t)col * rows + row] = element(
                data, type,
                first + (transpose == CUBLAS_OP_N ? row + (long long)col * ld : col + (long long)row * ld));
    if (compute == CUBLAS_COMPUTE_32F_FAST_TF32)
        std::transform(out.begin(), out.end(), out.begin(), tf32);
    return out;
}

cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t, cublasOperation_t transpose_a,
                                          cublasOperation_t transpose_b, int m, int n, int k, const void *alpha,
                                          const void *a, cudaDataType_t a_type, int lda, long long a_step,
                                          const void *b, cudaDataType_t b_type, int ldb, long long b_step,
                                          const void *beta, void *c, cudaDataType_t c_type, int ldc,
                                          long long c_step, int batch, cublasComputeType_t compute,
                                          cublasGemmAlgo_t)
{
    if (lda < (transpose_a == CUBLAS_OP_N ? m : k) || ldb < (transpose_b == CUBLAS_OP_N ? k : n) || ldc < m ||
        m < 0 || n < 0 || k < 0 || a_type != b_type)
        return CUBLAS_STATUS_INVALID_VALUE;
    const double scale = *(const float *)beta;
    std::vector<double> sums((size_t)m);
    for (int item = 0; item < batch; item++) {
        const std::vector<double> left = columns_of(a, a_type, compute, item * a_step, lda, transpose_a, m, k),
                                  right = columns_of(b, b_type, compute, item * b_step, ldb, transpose_b, k, n);
        for (int column = 0; column < n; column++) {
            std::fill(sums.begin(), sums.end(), 0.0);
            for (int i = 0; i < k; i++) {
                const double factor = right[(size_t)column * k + i], *from = &left[(size_t)i * m];
                for (int row = 0; row < m; row++)
                    sums[row] += factor * from[row];
            }
            for (int row = 0; row < m; row++) {
                const long long place = item * c_step + row + (long long)column * ldc;
                const double value =
                    *(const float *)alpha * sums[row] + (scale != 0 ? scale * element(c, c_type, place) : 0);
                if (c_type == CUDA_R_16BF)
                    ((__nv_bfloat16 *)c)[place] = __float2bfloat16_rn((float)value);
                else
                    ((float *)c)[place] = (float)value;
            }
        }
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmBatchedEx(cublasHandle_t handle, cublasOperation_t transpose_a,
                                   cublasOperation_t transpose_b, int m, int n, int k, const void *alpha,
                                   const void *const *a, cudaDataType_t a_type, int lda, const void *const *b,
                                   cudaDataType_t b_type, int ldb, const void *beta, void *const *c,
                                   cudaDataType_t c_type, int ldc, int batch, cublasComputeType_t compute,
                                   cublasGemmAlgo_t algorithm)
{
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
    for (int item = 0; item < batch && status == CUBLAS_STATUS_SUCCESS; item++)
        status = cublasGemmStridedBatchedEx(handle, transpose_a, transpose_b, m, n, k, alpha, a[item], a_type,
                                            lda, 0, b[item], b_type, ldb, 0, beta, c[item], c_type, ldc, 0, 1,
                                            compute, algorithm);
    return status;
}
